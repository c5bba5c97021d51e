//! How results are shown.

use hurtig::sql::TableCollector;
use hurtig::sql::connector::ChangeKind;
use std::collections::HashMap;
use std::io::Write;

/// How results are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Rows under each other in a frame, with what happened to them
    #[default]
    Tableau,
    /// A line for each change: +I[1, a]
    Changelog,
    /// The table that the changes make, at the end
    Table,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Tableau => "tableau",
            Mode::Changelog => "changelog",
            Mode::Table => "table",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [Mode::Tableau, Mode::Changelog, Mode::Table]
            .into_iter()
            .find(|mode| mode.name().eq_ignore_ascii_case(name))
    }
}

/// Columns are at least and at most so wide.
const WIDTHS: (usize, usize) = (8, 30);

type Row = Vec<Option<String>>;

/// Shows what a query gives.
pub(super) struct Shower {
    mode: Mode,
    /// Whether rows are never taken back.
    is_batch: bool,
    columns: Vec<(String, String)>,
    collector: TableCollector,
    widths: Vec<usize>,
    rows: usize,
    /// In table mode: rows in the order of their first appearance, and how often they are there.
    order: Vec<Row>,
    counts: HashMap<Row, i64>,
}

impl Shower {
    pub(super) fn new(
        mode: Mode,
        is_batch: bool,
        columns: Vec<(String, String)>,
        collector: TableCollector,
    ) -> Self {
        Shower {
            mode,
            is_batch,
            columns,
            collector,
            widths: Vec::new(),
            rows: 0,
            order: Vec::new(),
            counts: HashMap::new(),
        }
    }

    /// Shows what has come.
    pub(super) fn show(&mut self) -> anyhow::Result<()> {
        let rows = self.collector.take_rows()?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut out = String::new();
        if self.mode == Mode::Tableau && self.rows == 0 {
            out.push_str(&self.head(&rows));
        }
        self.rows += rows.len();
        for (kind, row) in rows {
            match self.mode {
                Mode::Tableau => out.push_str(&self.line(kind.symbol(), &row)),
                Mode::Changelog => {
                    let cells: Vec<&str> = row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect();
                    out.push_str(&format!("{}[{}]\n", kind.symbol(), cells.join(", ")));
                }
                Mode::Table => self.count(kind, row),
            }
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(out.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }

    fn count(&mut self, kind: ChangeKind, row: Row) {
        let weight = match kind {
            ChangeKind::Insert | ChangeKind::UpdateAfter => 1,
            ChangeKind::UpdateBefore | ChangeKind::Delete => -1,
        };
        match self.counts.get_mut(&row) {
            Some(count) => *count += weight,
            None => {
                self.counts.insert(row.clone(), weight);
                self.order.push(row);
            }
        }
    }

    fn head(&mut self, rows: &[(ChangeKind, Row)]) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let width = |at: usize, name: &str| {
            let cells = rows.iter().take(100).map(|(_, row)| row[at].as_deref().unwrap_or("NULL"));
            let widest = cells.chain([name]).map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.clamp(WIDTHS.0, WIDTHS.1)
        };
        self.widths = names.iter().enumerate().map(|(at, name)| width(at, name)).collect();
        let names: Row = names.into_iter().map(|name| Some(name.to_string())).collect();
        let rule = self.rule();
        format!("{rule}{}{rule}", self.line("op", &names))
    }

    fn rule(&self) -> String {
        let op = (!self.is_batch).then_some(2);
        let dashes = op.iter().chain(&self.widths).map(|width| "-".repeat(width + 2));
        format!("+{}+\n", dashes.collect::<Vec<_>>().join("+"))
    }

    fn line(&self, op: &str, row: &Row) -> String {
        let cell = |(cell, width): (&Option<String>, &usize)| {
            let text: String = cell.as_deref().unwrap_or("NULL").replace(['\n', '\r', '\t'], " ");
            let count = text.chars().count();
            match count > *width {
                true => format!("{}...", text.chars().take(width - 3).collect::<String>()),
                false => format!("{}{text}", " ".repeat(width - count)),
            }
        };
        let cells = row.iter().zip(&self.widths).map(cell);
        let op = (!self.is_batch).then(|| format!("{op:<2}"));
        format!("| {} |\n", op.into_iter().chain(cells).collect::<Vec<_>>().join(" | "))
    }

    /// Shows what is left, and how much it was.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        match self.mode {
            Mode::Tableau if self.rows > 0 => println!("{}{}", self.rule(), counted(self.rows)),
            Mode::Tableau => println!("no rows"),
            Mode::Changelog => {}
            Mode::Table => {
                let names: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
                let mut rows = Vec::new();
                for row in &self.order {
                    let count = self.counts.get(row).copied().unwrap_or(0).max(0) as usize;
                    let cells: Vec<String> =
                        row.iter().map(|cell| cell.clone().unwrap_or_else(|| "NULL".into())).collect();
                    rows.extend(std::iter::repeat_n(cells, count));
                }
                print!("{}", grid(&names, &rows));
            }
        }
        Ok(())
    }
}

fn counted(rows: usize) -> String {
    format!("{rows} {}", if rows == 1 { "row" } else { "rows" })
}

/// Rows in a frame.
pub(super) fn grid(columns: &[String], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            let cells = rows.iter().map(|row| &row[at]).chain([&columns[at]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let rule =
        format!("+{}+\n", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+"));
    let line = |row: &[String]| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let body: String = rows.iter().map(|row| line(row)).collect();
    format!("{rule}{}{rule}{body}{rule}{}\n", line(columns), counted(rows.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_framed() {
        let shown = grid(&["name".into()], &[vec!["a".into()], vec!["longer".into()]]);
        assert_eq!(shown, "+--------+\n| name   |\n+--------+\n| a      |\n| longer |\n+--------+\n2 rows\n");
    }
}
