//! Tables that line up: columns as wide as what they hold, long cells wrapped under themselves.

/// One column.
pub(crate) struct Column {
    title: &'static str,
    limit: Limit,
}

#[derive(Clone, Copy)]
enum Limit {
    /// As wide as its widest cell.
    Fixed,
    /// The same, but never wider than this.
    AtMost(usize),
    /// What the line has left.
    Filling,
}

/// A filling column is never narrower than this, even if lines then are too long for the terminal.
const NARROWEST_FILLING: usize = 24;
const GAP: usize = 2;

impl Column {
    /// As wide as its widest cell: for what must not be broken.
    pub(crate) fn fixed(title: &'static str) -> Self {
        Self { title, limit: Limit::Fixed }
    }

    /// As wide as its widest cell up to this width, wrapped beyond.
    pub(crate) fn at_most(title: &'static str, width: usize) -> Self {
        Self { title, limit: Limit::AtMost(width) }
    }

    /// Takes what the others leave of the line: for text.
    pub(crate) fn filling(title: &'static str) -> Self {
        Self { title, limit: Limit::Filling }
    }
}

/// Rows under titled columns.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        let titles = columns.iter().map(|column| column.title.to_owned()).collect();
        Self { columns, rows: vec![titles] }
    }

    /// Adds a row, one cell a column.
    pub(crate) fn row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        self.rows.push(cells.into_iter().map(str::to_owned).collect());
    }

    /// The table as lines of at most `width` characters where the columns allow that.
    pub(crate) fn render(&self, width: usize) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<Vec<String>> =
                row.iter().zip(&widths).map(|(cell, width)| wrap(cell, *width)).collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(0);
            for line in 0..height {
                let mut rendered = String::new();
                for (cell, width) in cells.iter().zip(&widths) {
                    let part = cell.get(line).map_or("", String::as_str);
                    rendered.push_str(&format!("{part:<width$}{:GAP$}", ""));
                }
                text.push_str(rendered.trim_end());
                text.push('\n');
            }
        }
        text
    }

    fn widths(&self, line_width: usize) -> Vec<usize> {
        let widest = |index: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(index))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| match column.limit {
                Limit::Fixed => widest(index),
                Limit::AtMost(limit) => widest(index).min(limit),
                Limit::Filling => 0,
            })
            .collect();
        let taken: usize = widths.iter().map(|width| width + GAP).sum();
        for (index, column) in self.columns.iter().enumerate() {
            if matches!(column.limit, Limit::Filling) {
                let left = line_width.saturating_sub(taken).max(NARROWEST_FILLING);
                widths[index] = widest(index).min(left);
            }
        }
        widths
    }
}

/// Breaks text after spaces and bars so that lines hold `width` characters; a longer word stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive([' ', '|']) {
        let current = lines.last().map_or(0, |line| line.chars().count());
        if current > 0 && current + word.trim_end().chars().count() > width {
            lines.push(word.to_owned());
        } else if let Some(last) = lines.last_mut() {
            last.push_str(word);
        }
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_long_cells_wrap_under_themselves() {
        let mut table =
            Table::new(vec![Column::fixed("KEY"), Column::at_most("TYPE", 8), Column::filling("MEANING")]);
        table.row(["a.long.key", "this|that|other", "One two three four five six."]);
        table.row(["b", "path", "Seven."]);
        assert_eq!(
            table.render(46),
            "KEY         TYPE      MEANING\n\
             a.long.key  this|     One two three four five\n\
             \x20           that|     six.\n\
             \x20           other\n\
             b           path      Seven.\n"
        );
    }

    #[test]
    fn a_word_longer_than_its_column_stays_whole() {
        assert_eq!(wrap("a verylongword b", 4), ["a", "verylongword", "b"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
