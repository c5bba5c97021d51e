//! `hurtig top`: what runs on the cluster and what holds it back, as it changes.

use std::process::ExitCode;
use std::time::Duration;

use console::{Term, style};
use hurtig::clock::Clock;
use hurtig::daemon::client::{ClientError, ClusterClient};
use hurtig::dataflow::error::describe;
use hurtig::protocol::Overview;
use hurtig_rest::view::View;
use serde_json::{Value, json};

use crate::daemons::{Common, asked_to_end};
use crate::jobs::with_client;
use crate::table::{Column, Table};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Width of a bar that shows a share of time.
const BAR: usize = 10;

/// Show jobs and their vertices as they change: rates, who is busy, who is held back; Ctrl-C ends it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this job, with each subtask: its id, or the beginning of it
    job: Option<String>,
    /// Show it once, as where standard output is no terminal
    #[arg(long)]
    once: bool,
    /// Once, as JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

async fn look(client: &ClusterClient, args: &Args) -> Result<(Overview, Vec<View>), ClientError> {
    let overview = client.overview().await?;
    let jobs = match &args.job {
        Some(job) => vec![client.info(job).await?.0],
        None => client.list().await?.into_iter().filter(|job| !job.state.is_terminal()).collect(),
    };
    let mut views = Vec::new();
    for job in jobs {
        let job = match client.observe(job.id, None).await {
            // It is forgotten meanwhile.
            Err(ClientError::Refused(_)) if args.job.is_none() => continue,
            observed => observed?,
        };
        views.push(View { job, now: Clock::new().now() });
    }
    Ok((overview, views))
}

fn bar(share: f64) -> String {
    let full = (share * BAR as f64).round() as usize;
    format!("{}{} {:>3.0} %", "#".repeat(full.min(BAR)), "-".repeat(BAR.saturating_sub(full)), share * 100.0)
}

fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{:.2} M/s", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.1} k/s", rate / 1e3),
        rate => format!("{rate:.0} /s"),
    }
}

/// What was seen, as lines of at most so many characters.
fn shown(overview: &Overview, views: &[View], has_subtasks: bool, width: usize) -> String {
    let slots: usize = overview.task_managers.iter().map(|manager| manager.slots).sum();
    let used: usize = overview.task_managers.iter().map(|manager| manager.used).sum();
    let mut text = format!(
        "{} TaskManagers, {used} of {slots} slots used, {} jobs run\n",
        overview.task_managers.len(),
        views.iter().filter(|view| !view.job.status.state.is_terminal()).count(),
    );
    for view in views {
        let status = &view.job.status;
        text += &format!(
            "\n{} {} {}, {} restarts, {} checkpoints",
            status.id,
            style(&status.name).bold(),
            status.state,
            status.restarts,
            status.checkpoints_completed,
        );
        if let Some(last) = &status.last_checkpoint {
            text += &format!(", the last in {} ms", last.duration_ms);
        }
        if let Some(failure) = &status.failure {
            text += &format!("\nlast failure: {failure}");
        }
        text += "\n";
        let mut table = Table::new(vec![
            Column::filling("VERTEX"),
            Column::fixed("SUBTASKS"),
            Column::fixed("BUSY"),
            Column::fixed("HELD BACK"),
            Column::fixed("IN"),
            Column::fixed("OUT"),
        ]);
        for vertex in 0..view.job.graph.vertices.len() {
            let (summary, rates) = (view.summary(vertex), view.rates(vertex));
            let count = summary.parallelism.to_string();
            let mut row = |name: &str, count: &str, rates: hurtig_rest::view::Rates| {
                let read = rates.records_in + rates.records_read;
                let cells = [bar(rates.busy), bar(rates.backpressured), rate(read), rate(rates.records_out)];
                table.row([name, count].into_iter().chain(cells.iter().map(String::as_str)));
            };
            row(&summary.name, &count, rates);
            if has_subtasks && summary.parallelism > 1 {
                for subtask in view.subtasks(vertex) {
                    row("", &format!("  {}", subtask.index + 1), subtask.rates);
                }
            }
        }
        text += &table.render(width);
    }
    text
}

fn as_json(overview: &Overview, views: &[View]) -> Value {
    let rates = |rates: hurtig_rest::view::Rates| {
        json!({
            "busy": rates.busy, "backpressured": rates.backpressured, "idle": rates.idle,
            "records_in_per_second": rates.records_in + rates.records_read,
            "records_out_per_second": rates.records_out,
        })
    };
    let vertex = |view: &View, vertex: usize| {
        let mut row = rates(view.rates(vertex));
        row["name"] = view.summary(vertex).name.clone().into();
        row["subtasks"] = view.subtasks(vertex).map(|subtask| rates(subtask.rates)).collect();
        row
    };
    let job = |view: &View| {
        let status = &view.job.status;
        let vertices = (0..view.job.graph.vertices.len()).map(|at| vertex(view, at));
        json!({
            "id": status.id.to_string(), "name": status.name, "state": status.state,
            "vertices": vertices.collect::<Vec<_>>(),
        })
    };
    let managers = overview.task_managers.iter();
    json!({
        "taskmanagers": managers.map(|manager| json!({ "name": manager.name, "slots": manager.slots, "used": manager.used })).collect::<Vec<_>>(),
        "jobs": views.iter().map(job).collect::<Vec<_>>(),
    })
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    let term = Term::stdout();
    with_client(&config, async |client| {
        if args.json || args.once || !term.is_term() {
            let (overview, views) = look(client, args).await?;
            match args.json {
                true => println!("{}", as_json(&overview, &views)),
                false => print!("{}", shown(&overview, &views, args.job.is_some(), 120)),
            }
            return Ok(());
        }
        let watch = async {
            loop {
                let (height, width) = term.size();
                let text = match look(client, args).await {
                    Ok((overview, views)) => shown(&overview, &views, args.job.is_some(), width.into()),
                    Err(refused @ ClientError::Refused(_)) => return Err(refused.into()),
                    // It may come back.
                    Err(error) => format!("{}\n", describe(&error)),
                };
                term.clear_screen()?;
                // What does not fit would scroll.
                for line in text.lines().take(usize::from(height).saturating_sub(1)) {
                    term.write_line(&console::truncate_str(line, width.into(), "…"))?;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            result = watch => result,
            asked = asked_to_end() => asked,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
