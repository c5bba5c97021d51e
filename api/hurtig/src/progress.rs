//! Shows how far a job has come, on a terminal.

use crate::args::Ui;
use hurtig_runtime::{JobClient, JobStatus};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::time::Duration;

const WITH_SIZE: &str = "{msg} [{bar:30}] {percent:>3} %  {bytes} of {total_bytes}  {elapsed} (still {eta})";
const WITHOUT_SIZE: &str = "{spinner} {msg}  {elapsed}";

/// Shows a progress bar on standard error until the job has ended; nothing where that is no terminal.
pub(crate) async fn show(job: &JobClient, ui: Ui) {
    if ui.quiet {
        return;
    }
    let bar = ProgressBar::new(0);
    let style = |template: &str| {
        ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ")
    };
    let (sized, unsized_style) = (style(WITH_SIZE), style(WITHOUT_SIZE));
    let mut status = job.subscribe();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        let now = status.borrow_and_update().clone();
        match now.progress() {
            Some((read, size)) => {
                bar.set_style(sized.clone());
                bar.set_length(size);
                bar.set_position(read);
            }
            None => bar.set_style(unsized_style.clone()),
        }
        bar.set_message(headline(&now));
        if now.state.is_terminal() {
            break;
        }
        tick.tick().await;
        if status.changed().await.is_err() {
            break;
        }
    }
    bar.finish_and_clear();
}

fn headline(status: &JobStatus) -> String {
    let mut text = format!("{}: {}", status.name, status.state);
    if status.restarts > 0 {
        text.push_str(&format!(", restarted {} times", status.restarts));
    }
    let records = status.records_read();
    if records > 0 {
        text.push_str(&format!(", {} records", HumanCount(records)));
    }
    let late = status.late_dropped();
    if late > 0 {
        text.push_str(&format!(", {} late records dropped", HumanCount(late)));
    }
    if status.checkpoints_completed > 0 {
        text.push_str(&format!(", {} checkpoints", status.checkpoints_completed));
    }
    text
}
