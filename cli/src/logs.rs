//! `hurtig logs`: what the processes of a job, or a daemon, have written.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use hurtig::daemon::client::{ClientError, ClusterClient};
use hurtig::protocol::LogFile;
use serde_json::{Value, json};

use crate::daemons::Common;
use crate::jobs::with_client;
use crate::table::{Column, Table};

/// Between two looks at files that may have grown.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Show what the processes of a job have written, or list the log files of the cluster
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The job's id, or the beginning of it
    #[arg(conflicts_with = "of")]
    job: Option<String>,
    /// A daemon instead: 'jobmanager', or the name of a TaskManager
    #[arg(long, value_name = "DAEMON")]
    of: Option<String>,
    /// Only files in whose name this text is, such as 'worker' or '.out'
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// List the files, and show none
    #[arg(long)]
    list: bool,
    /// Go on with what is written from now on
    #[arg(short, long, conflicts_with = "list")]
    follow: bool,
    /// Lines to show of each file
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: usize,
    /// As JSON, for scripts
    #[arg(long, requires = "list")]
    json: bool,
    #[command(flatten)]
    common: Common,
}

/// A log file, and the TaskManager that has it; none for the JobManager.
struct Found {
    of: Option<String>,
    file: LogFile,
    /// Up to where it was shown.
    shown: Option<u64>,
}

impl Found {
    fn daemon(&self) -> &str {
        self.of.as_deref().unwrap_or("jobmanager")
    }
}

/// The files that are meant. A TaskManager that is gone has none.
async fn find(client: &ClusterClient, args: &Args, folder: &str) -> anyhow::Result<Vec<Found>> {
    let daemons = match args.of.as_deref() {
        Some("jobmanager") => vec![None],
        Some(name) => vec![Some(name.to_owned())],
        None => {
            let task_managers = client.overview().await?.task_managers;
            [None].into_iter().chain(task_managers.into_iter().map(|found| Some(found.name))).collect()
        }
    };
    let mut all = Vec::new();
    for of in daemons {
        let files = match client.logs(of.as_deref(), folder).await {
            Ok(files) => files,
            Err(ClientError::Refused(_)) if args.of.is_none() => continue,
            Err(error) => return Err(error.into()),
        };
        let is_meant =
            |file: &LogFile| args.name.as_ref().is_none_or(|text| file.name.contains(text.as_str()));
        let files = files.into_iter().filter(is_meant);
        all.extend(files.map(|file| Found { of: of.clone(), file, shown: None }));
    }
    Ok(all)
}

/// The last lines of a text.
fn last_lines(text: &str, count: usize) -> &str {
    let mut breaks = text.trim_end_matches('\n').rmatch_indices('\n');
    match count.checked_sub(1) {
        None => "",
        Some(before) => breaks.nth(before).map_or(text, |(at, _)| &text[at + 1..]),
    }
}

async fn show(client: &ClusterClient, found: &mut Found, args: &Args) -> anyhow::Result<()> {
    let part = match client.log(found.of.as_deref(), &found.file.name, found.shown).await {
        // It is deleted meanwhile.
        Err(ClientError::Refused(_)) => return Ok(()),
        part => part?,
    };
    let text = String::from_utf8_lossy(&part.bytes);
    let is_first = found.shown.is_none();
    found.shown = Some(part.offset + part.bytes.len() as u64);
    let text = if is_first { last_lines(&text, args.lines) } else { &text };
    if !text.is_empty() {
        let mut out = std::io::stdout().lock();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        write!(out, "==> {} on {} <==\n{text}{end}", found.file.name, found.daemon())?;
    }
    Ok(())
}

/// Shows what is written from now on, until the user ends it.
async fn follow(
    client: &ClusterClient,
    args: &Args,
    folder: &str,
    mut found: Vec<Found>,
) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for new in find(client, args, folder).await? {
            let is_it = |known: &&mut Found| known.of == new.of && known.file.name == new.file.name;
            if let Some(known) = found.iter_mut().find(is_it) {
                if known.shown != Some(new.file.size_bytes) {
                    // One that is shorter was copied, and begins anew.
                    known.shown = known.shown.filter(|shown| *shown < new.file.size_bytes).or(Some(0));
                    show(client, known, args).await?;
                }
                continue;
            }
            let mut new = Found { shown: Some(0), ..new };
            show(client, &mut new, args).await?;
            found.push(new);
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    with_client(&config, async |client| {
        let folder = match &args.job {
            Some(job) => format!("jobs/{}/", client.info(job).await?.0.id),
            None => String::new(),
        };
        let mut found = find(client, args, &folder).await?;
        if args.list || args.job.is_none() && args.of.is_none() {
            list(&found, args.json);
            return Ok(());
        }
        anyhow::ensure!(!found.is_empty(), "there are no such log files: `hurtig logs` lists all");
        // The one written last comes last.
        found.sort_by_key(|found| found.file.modified_at);
        for file in &mut found {
            show(client, file, args).await?;
        }
        if args.follow {
            follow(client, args, &folder, found).await?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn list(found: &[Found], as_json: bool) {
    if as_json {
        let row = |found: &Found| {
            let LogFile { name, size_bytes, modified_at } = &found.file;
            json!({ "name": name, "on": found.daemon(), "size_bytes": size_bytes, "modified_at": modified_at })
        };
        println!("{}", found.iter().map(row).collect::<Value>());
        return;
    }
    let mut table = Table::new(vec![Column::filling("FILE"), Column::fixed("ON"), Column::fixed("SIZE")]);
    for found in found {
        let size = indicatif::HumanBytes(found.file.size_bytes).to_string();
        table.row([found.file.name.as_str(), found.daemon(), &size]);
    }
    print!("{}", table.render(120));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_as_many_as_are_wanted_or_there_are() {
        for (count, expected) in [(0, ""), (1, "c\n"), (2, "b\nc\n"), (3, "a\nb\nc\n"), (9, "a\nb\nc\n")] {
            assert_eq!(last_lines("a\nb\nc\n", count), expected);
        }
        assert_eq!(last_lines("a\nb", 1), "b");
        assert_eq!(last_lines("", 3), "");
    }
}
