//! `hurtig config`: every configuration key, made from the runtime's own list.

use std::io::Write;
use std::path::PathBuf;

use hurtig::config::{Config, Described};
use serde_json::json;

use crate::table::{Column, Table};

/// List every configuration key with its type, default and meaning
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,

    /// Show the values that hold here and where each comes from, instead of the defaults
    #[arg(long)]
    current: bool,

    /// Configuration file to read instead of $HURTIG_CONFIG or ./hurtig.yaml
    #[arg(long, value_name = "FILE", requires = "current")]
    config: Option<PathBuf>,

    /// Set a key, as for a program
    #[arg(short = 'D', value_name = "KEY=VALUE", requires = "current")]
    define: Vec<String>,
}

pub(crate) fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = if args.current { current(&args)? } else { Config::default() };
    let keys = config.describe();
    match (args.json, args.current) {
        (true, current) => writeln!(out, "{}", as_json(&keys, current)?)?,
        (false, false) => write!(out, "{}", list(&keys).render(width()))?,
        (false, true) => write!(out, "{}", values(&keys).render(width()))?,
    }
    Ok(())
}

fn current(args: &Args) -> anyhow::Result<Config> {
    let mut builder = Config::builder().process();
    if let Some(path) = &args.config {
        builder = builder.file(path);
    }
    for assignment in &args.define {
        builder = builder.flag(assignment);
    }
    Ok(builder.build()?)
}

fn list(keys: &[Described]) -> Table {
    let mut table = Table::new(vec![
        Column::fixed("KEY"),
        Column::at_most("TYPE", 26),
        Column::fixed("DEFAULT"),
        Column::filling("MEANING"),
    ]);
    for key in keys {
        table.row([
            key.entry.name,
            &key.entry.value_type,
            key.entry.default.as_deref().unwrap_or("unset"),
            &key.entry.meaning,
        ]);
    }
    table
}

fn values(keys: &[Described]) -> Table {
    let mut table =
        Table::new(vec![Column::fixed("KEY"), Column::at_most("VALUE", 60), Column::filling("SET")]);
    for key in keys {
        table.row([key.entry.name, key.value.as_deref().unwrap_or("unset"), &key.origin.to_string()]);
    }
    table
}

fn as_json(keys: &[Described], with_values: bool) -> serde_json::Result<String> {
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            let mut row = json!({
                "key": key.entry.name,
                "type": key.entry.value_type,
                "default": key.entry.default,
                "meaning": key.entry.meaning,
                "variable": key.entry.variable(),
            });
            if with_values {
                row["value"] = json!(key.value);
                row["set"] = json!(key.origin.to_string());
            }
            row
        })
        .collect();
    serde_json::to_string_pretty(&rows)
}

/// Characters a line may have: the terminal's where the shell says so.
fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(120)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(args: Args) -> String {
        let mut out = Vec::new();
        run(args, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn plain() -> Args {
        Args { json: false, current: false, config: None, define: vec![] }
    }

    #[test]
    fn the_table_has_every_key_and_lines_up() {
        let text = output(plain());
        for entry in Config::entries() {
            assert_eq!(text.lines().filter(|line| line.split(' ').next() == Some(entry.name)).count(), 1);
        }
        let meaning = text.find("MEANING").unwrap();
        for line in text.lines() {
            assert_eq!(line.chars().nth(meaning - 1).unwrap_or(' '), ' ', "{line}");
        }
    }

    #[test]
    fn json_has_every_key_with_type_default_and_meaning() {
        let rows: serde_json::Value = serde_json::from_str(&output(Args { json: true, ..plain() })).unwrap();
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), Config::entries().len());
        let interval = rows.iter().find(|row| row["key"] == "checkpoint.interval").unwrap();
        assert_eq!(interval["type"], "duration");
        assert_eq!(interval["default"], serde_json::Value::Null);
        assert_eq!(interval["variable"], "HURTIG_CHECKPOINT_INTERVAL");
        assert!(interval["meaning"].as_str().unwrap().contains("none are taken"));
    }

    #[test]
    fn current_values_come_with_their_source() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my.yaml");
        std::fs::write(&file, "exchange.credits: 3").unwrap();
        let args = Args {
            current: true,
            config: Some(file),
            define: vec!["checkpoint.interval=1s".into()],
            ..plain()
        };
        let text = output(args);
        let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        assert!(line("exchange.credits").contains(" 3 "), "{text}");
        assert!(line("exchange.credits").contains("in file"), "{text}");
        assert!(line("checkpoint.interval").contains("in flag -D"), "{text}");
        assert!(line("checkpoint.mode").contains("by default"), "{text}");
    }
}
