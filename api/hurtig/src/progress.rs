//! Shows how far a job has come, on a terminal.

use hurtig_runtime::{JobClient, JobStatus};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::time::Duration;

const WITH_SIZE: &str = "{msg} [{bar:30}] {percent:>3} %  {elapsed} (still {eta})";
const WITHOUT_SIZE: &str = "{spinner} {msg}  {elapsed}";

/// A line on standard error that says how a job is doing; nothing where that is no terminal.
pub struct ProgressLine {
    quiet: bool,
    bar: ProgressBar,
    /// What was printed last, where there is no terminal.
    printed: Option<RefCell<String>>,
    with_size: ProgressStyle,
    without_size: ProgressStyle,
}

impl ProgressLine {
    /// A line that says nothing yet; a quiet one never will.
    pub fn new(quiet: bool) -> Self {
        let style = |template: &str| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ")
        };
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        ProgressLine {
            quiet,
            bar,
            printed: None,
            with_size: style(WITH_SIZE),
            without_size: style(WITHOUT_SIZE),
        }
    }

    /// Lets it say when the job's state changes also where there is no terminal: for jobs that run elsewhere, of which
    /// nothing else is seen. A quiet one stays quiet.
    pub fn told_in_lines(mut self) -> Self {
        self.printed = (!self.quiet && self.bar.is_hidden()).then(RefCell::default);
        self
    }

    /// Says how the job is doing.
    pub fn show(&self, status: &JobStatus) {
        match status.progress() {
            Some((read, size)) => {
                self.bar.set_style(self.with_size.clone());
                self.bar.set_length(size);
                self.bar.set_position(read);
            }
            None => self.bar.set_style(self.without_size.clone()),
        }
        self.bar.set_message(headline(status));
        self.bar.tick();
        // How it has ended is told by whoever waits for it.
        if status.state.is_terminal() {
            return;
        }
        self.print(match status.restarts {
            0 => format!("{}: {}", status.name, status.state),
            restarts => format!("{}: {}, restarted {restarts} times", status.name, status.state),
        });
    }

    /// Says why it is not known how the job is doing.
    pub fn show_unknown(&self, reason: &str) {
        self.bar.set_style(self.without_size.clone());
        self.bar.set_message(reason.to_owned());
        self.bar.tick();
        self.print(reason.to_owned());
    }

    fn print(&self, line: String) {
        if let Some(printed) = &self.printed
            && *printed.borrow() != line
        {
            eprintln!("{line}");
            printed.replace(line);
        }
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Shows a job of this process until it has ended.
pub(crate) async fn follow(job: &JobClient, quiet: bool) {
    let line = ProgressLine::new(quiet);
    let mut status = job.subscribe();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        let now = status.borrow_and_update().clone();
        line.show(&now);
        if now.state.is_terminal() {
            break;
        }
        tick.tick().await;
        if status.changed().await.is_err() {
            break;
        }
    }
    line.finish();
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
