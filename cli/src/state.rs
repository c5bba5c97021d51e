//! `hurtig state`: what a checkpoint or savepoint holds, read without the program that has taken it.

mod json;

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use hurtig::dataflow::graph::OperatorId;
use hurtig::dataflow::key::KeyGroupRange;
use hurtig::dataflow::snapshot::{RowLayout, StateKind, StateSnapshot};
use hurtig::dataflow::state::{StoredRow, stored_rows};
use hurtig_state::{CheckpointMetadata, CheckpointStore};
use serde_json::{Value, json};

use crate::table::{Column, Table};

/// Look into checkpoints and savepoints
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List operators and their states
    Ls {
        #[command(flatten)]
        place: Place,
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Show one state: its rows per key group, and the first of them
    Show {
        #[command(flatten)]
        place: Place,
        /// The operator's uid
        operator: String,
        /// The state's name
        state: String,
        /// How many rows to show
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Print all rows, each as JSON on a line of its own
    Export {
        #[command(flatten)]
        place: Place,
        /// Only those of the operator with this uid
        #[arg(long, value_name = "UID")]
        operator: Option<String>,
        /// Only those of the state with this name
        #[arg(long, value_name = "NAME")]
        state: Option<String>,
    },
}

/// Where it lies
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// Folder of a checkpoint or savepoint, or its `_metadata` file
    #[arg(value_name = "PATH")]
    path: String,
}

/// What is known of a state when all its subtasks have been read.
#[derive(Default)]
struct Summary {
    kind: &'static str,
    rows: u64,
    bytes: u64,
    groups: BTreeMap<u16, (u64, u64)>,
}

impl Summary {
    fn add(&mut self, state: &StateSnapshot, rows: &[StoredRow]) {
        self.kind = match (state.kind, state.layout) {
            (StateKind::Keyed, RowLayout::Table) => "keyed",
            (StateKind::Keyed, RowLayout::Namespaced) => "keyed, by window",
            (StateKind::Keyed, RowLayout::Timers) => "timers",
            (StateKind::Keyed, RowLayout::PerGroup) => "per key group",
            (StateKind::List, _) => "list",
            (StateKind::Union, _) => "union list",
            (StateKind::Broadcast, _) => "broadcast",
        };
        for row in rows {
            let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len) as u64;
            let bytes = length(&row.key) + length(&row.value);
            (self.rows, self.bytes) = (self.rows + 1, self.bytes + bytes);
            if let Some(group) = row.group {
                let of_group = self.groups.entry(group).or_default();
                *of_group = (of_group.0 + 1, of_group.1 + bytes);
            }
        }
    }
}

/// A checkpoint that is being read.
struct Read {
    store: CheckpointStore,
    metadata: CheckpointMetadata,
}

impl Read {
    async fn open(place: &Place) -> anyhow::Result<Self> {
        let (store, metadata) = CheckpointStore::load(&place.path).await?;
        Ok(Read { store, metadata })
    }

    /// Calls `each` with each state of each subtask and its rows, one subtask after the other.
    async fn each_state(
        &self,
        wanted: impl Fn(&str) -> bool,
        mut each: impl FnMut(&str, &StateSnapshot, &[StoredRow]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let groups = KeyGroupRange::all(self.metadata.max_parallelism);
        for vertex in &self.metadata.vertices {
            if !vertex.operators.iter().any(|operator| wanted(&operator.uid)) {
                continue;
            }
            for (index, subtask) in vertex.subtasks.iter().enumerate() {
                // State without key groups is the same in all subtasks.
                let read =
                    self.store.read_snapshot(&self.metadata, &subtask.snapshot, Some(groups), index == 0);
                for operator in read.await?.operators.iter().filter(|operator| wanted(&operator.uid)) {
                    for state in &operator.states {
                        each(&operator.uid, state, &stored_rows(state)?)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn operators(&self) -> impl Iterator<Item = &OperatorId> {
        self.metadata.operators()
    }

    /// An error that says what there is instead.
    fn unknown(&self, uid: &str) -> anyhow::Error {
        let known: Vec<&str> = self.operators().map(|operator| operator.uid.as_str()).collect();
        anyhow::anyhow!("{} has no operator '{uid}', but {}", self.metadata.location, known.join(", "))
    }
}

pub(crate) fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    hurtig::runtime()?.block_on(async {
        match verb {
            Verb::Ls { place, json } => list(&Read::open(&place).await?, json).await,
            Verb::Show { place, operator, state, limit, json } => {
                show(&Read::open(&place).await?, &operator, &state, limit, json).await
            }
            Verb::Export { place, operator, state } => {
                export(&Read::open(&place).await?, operator.as_deref(), state.as_deref()).await
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(read: &Read, as_json: bool) -> anyhow::Result<()> {
    let mut states: BTreeMap<(String, String), Summary> = BTreeMap::new();
    let add = |uid: &str, state: &StateSnapshot, rows: &[StoredRow]| {
        states.entry((uid.to_string(), state.name.clone())).or_default().add(state, rows);
        Ok(())
    };
    read.each_state(|_| true, add).await?;
    let metadata = &read.metadata;
    let of = |uid: &str| {
        let uid = uid.to_string();
        states.range((uid.clone(), String::new())..).take_while(move |((other, _), _)| *other == uid)
    };
    if as_json {
        let operator = |operator: &OperatorId| {
            let states = of(&operator.uid).map(|((_, name), state)| {
                json!({
                    "name": name, "kind": state.kind, "rows": state.rows, "bytes": state.bytes,
                    "key_groups": state.groups.len(),
                })
            });
            json!({
                "uid": operator.uid, "name": operator.name, "parallelism": operator.parallelism,
                "states": states.collect::<Vec<_>>(),
            })
        };
        let sources =
            metadata.sources.iter().map(|source| json!({ "uid": source.uid, "bytes": source.bytes.len() }));
        let all = json!({
            "location": metadata.location, "job": metadata.job.to_string(), "checkpoint": metadata.checkpoint,
            "savepoint": metadata.savepoint, "completed_at": metadata.completed_at, "version": metadata.version,
            "max_parallelism": metadata.max_parallelism,
            "operators": read.operators().map(operator).collect::<Vec<_>>(),
            "sources": sources.collect::<Vec<_>>(),
        });
        println!("{all}");
        return Ok(());
    }
    let what = if metadata.savepoint { "savepoint" } else { "checkpoint" };
    println!("{}", metadata.location);
    println!(
        "{what} {} of job {}, {} key groups, format {}\n",
        metadata.checkpoint, metadata.job, metadata.max_parallelism, metadata.version
    );
    let mut table = Table::new(vec![
        Column::at_most("OPERATOR", 40),
        Column::fixed("SUBTASKS"),
        Column::at_most("STATE", 40),
        Column::fixed("KIND"),
        Column::fixed("ROWS"),
        Column::fixed("BYTES"),
        Column::fixed("KEY GROUPS"),
    ]);
    for operator in read.operators() {
        let subtasks = operator.parallelism.to_string();
        let mut is_stateless = true;
        for ((uid, name), state) in of(&operator.uid) {
            is_stateless = false;
            let numbers =
                [state.rows, state.bytes, state.groups.len() as u64].map(|number| number.to_string());
            let [rows, bytes, groups] = &numbers;
            table.row([uid, subtasks.as_str(), name, state.kind, rows, bytes, groups]);
        }
        if is_stateless {
            table.row([operator.uid.as_str(), &subtasks, "-", "", "", "", ""]);
        }
    }
    print!("{}", table.render(160));
    Ok(())
}

fn row_as_json(row: &StoredRow) -> anyhow::Result<serde_json::Map<String, Value>> {
    let mut fields = serde_json::Map::new();
    if let Some(group) = row.group {
        fields.insert("group".into(), group.into());
    }
    if let Some(time) = row.time {
        fields.insert("time".into(), time.into());
    }
    for (name, bytes) in [("key", &row.key), ("value", &row.value)] {
        if let Some(bytes) = bytes {
            fields.insert(name.into(), json::of_message_pack(bytes).context("a row cannot be read")?);
        }
    }
    Ok(fields)
}

async fn show(read: &Read, uid: &str, name: &str, limit: usize, as_json: bool) -> anyhow::Result<()> {
    if !read.operators().any(|operator| operator.uid == uid) {
        return Err(read.unknown(uid));
    }
    let (mut summary, mut first, mut known) = (None::<Summary>, Vec::new(), Vec::new());
    let add = |_: &str, state: &StateSnapshot, rows: &[StoredRow]| {
        if !known.contains(&state.name) {
            known.push(state.name.clone());
        }
        if state.name == name {
            summary.get_or_insert_default().add(state, rows);
            for row in rows.iter().take(limit - first.len()) {
                first.push(Value::Object(row_as_json(row)?));
            }
        }
        Ok(())
    };
    read.each_state(|other| other == uid, add).await?;
    let Some(summary) = summary else {
        match known.is_empty() {
            true => bail!("the operator '{uid}' has no state"),
            false => bail!("the operator '{uid}' has no state '{name}', but {}", known.join(", ")),
        }
    };
    if as_json {
        let group = |(group, (rows, bytes)): (&u16, &(u64, u64))| json!({ "group": group, "rows": rows, "bytes": bytes });
        let all = json!({
            "operator": uid, "state": name, "kind": summary.kind, "rows": summary.rows, "bytes": summary.bytes,
            "groups": summary.groups.iter().map(group).collect::<Vec<_>>(), "first": first,
        });
        println!("{all}");
        return Ok(());
    }
    println!("{uid} / {name}: {}, {} rows, {} bytes\n", summary.kind, summary.rows, summary.bytes);
    if !summary.groups.is_empty() {
        let mut table =
            Table::new(vec![Column::fixed("KEY GROUP"), Column::fixed("ROWS"), Column::fixed("BYTES")]);
        for (group, (rows, bytes)) in &summary.groups {
            table.row([group.to_string().as_str(), &rows.to_string(), &bytes.to_string()]);
        }
        println!("{}", table.render(120));
    }
    first.iter().for_each(|row| println!("{row}"));
    let left = summary.rows - first.len() as u64;
    if left > 0 {
        println!("and {left} more: `hurtig state export` prints all");
    }
    Ok(())
}

async fn export(read: &Read, uid: Option<&str>, name: Option<&str>) -> anyhow::Result<()> {
    if let Some(uid) = uid
        && !read.operators().any(|operator| operator.uid == uid)
    {
        return Err(read.unknown(uid));
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let write = |operator: &str, state: &StateSnapshot, rows: &[StoredRow]| {
        if name.is_some_and(|name| name != state.name) {
            return Ok(());
        }
        for row in rows {
            let mut line = row_as_json(row)?;
            line.insert("operator".into(), operator.into());
            line.insert("state".into(), state.name.clone().into());
            writeln!(out, "{}", Value::Object(line))?;
        }
        Ok(())
    };
    read.each_state(|other| uid.is_none_or(|uid| uid == other), write).await?;
    Ok(out.flush()?)
}
