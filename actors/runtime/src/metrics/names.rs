//! Every metric there is: its name, kind, unit and meaning, and how its value is taken. What is exported, answered over
//! REST and documented is made from these lists.
//!
//! A name is Flink's where Flink has the metric: then it is exported under Flink's prefix as well, with Flink's labels, so
//! that dashboards made for it show hurtig.

use super::sight::{Cluster, Job, Sight, Task};
use crate::status::JobState;
use hurtig_dataflow::time::{MAX_TIMESTAMP, MIN_TIMESTAMP};

/// How a metric changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows, from zero, as long as an attempt lasts.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Records.
    Records,
    /// Records per second.
    RecordsPerSecond,
    /// Batches.
    Batches,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Milliseconds.
    Milliseconds,
    /// Milliseconds of each second.
    MillisecondsPerSecond,
    /// Nanoseconds.
    Nanoseconds,
    /// Milliseconds since 1970.
    Time,
    /// A number of things that the name says.
    Count,
    /// 0 or 1.
    Flag,
}

/// A metric that is taken from a sight of the kind `S`.
pub struct Metric<S: Sight> {
    /// Its name.
    pub name: &'static str,
    /// How it changes.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// What it means.
    pub meaning: &'static str,
    /// Whether Flink has it, under the same name.
    pub is_flinks: bool,
    /// Takes it.
    pub of: for<'a> fn(&S::At<'a>) -> f64,
}

macro_rules! metrics {
    ($(#[$doc:meta])* $list:ident of $sight:ty { $($name:literal $owner:ident $kind:ident $unit:ident $meaning:literal => $of:expr;)* }) => {
        $(#[$doc])*
        pub const $list: &[Metric<$sight>] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            meaning: $meaning,
            is_flinks: metrics!(@$owner),
            of: $of,
        },)*];
    };
    (@flink) => { true };
    (@hurtig) => { false };
}

metrics! {
    /// Of each subtask.
    TASK of Task {
        "numRecordsIn" flink Counter Records "Records read." => |s| s.seen.report.records_in() as f64;
        "numRecordsOut" flink Counter Records "Records written to other subtasks." => |s| s.seen.report.records_out as f64;
        "numRecordsInPerSecond" flink Gauge RecordsPerSecond "Records read per second." => |s| s.rates.records_in;
        "numRecordsOutPerSecond" flink Gauge RecordsPerSecond "Records written to other subtasks per second." => |s| s.rates.records_out;
        "numBytesIn" flink Counter Bytes "Bytes that came over links." => |s| s.seen.report.bytes_in as f64;
        "numBytesOut" flink Counter Bytes "Bytes that went over links." => |s| s.seen.report.bytes_out as f64;
        "numBytesInPerSecond" flink Gauge BytesPerSecond "Bytes that came over links per second." => |s| s.rates.bytes_in;
        "numBytesOutPerSecond" flink Gauge BytesPerSecond "Bytes that went over links per second." => |s| s.rates.bytes_out;
        "numBuffersIn" hurtig Counter Batches "Batches taken from the input channels." => |s| s.seen.report.batches_in as f64;
        "numBuffersOut" flink Counter Batches "Batches sent." => |s| s.seen.report.batches_out as f64;
        "busyTimeMsPerSecond" flink Gauge MillisecondsPerSecond "Time at work." => |s| s.rates.busy * 1_000.0;
        "idleTimeMsPerSecond" flink Gauge MillisecondsPerSecond "Time without input." => |s| s.rates.idle * 1_000.0;
        "backPressuredTimeMsPerSecond" flink Gauge MillisecondsPerSecond "Time without credit." => |s| s.rates.backpressured * 1_000.0;
        "softBackPressuredTimeMsPerSecond" flink Gauge MillisecondsPerSecond "Time without credit: the same, a subtask never blocks." => |s| s.rates.backpressured * 1_000.0;
        "hardBackPressuredTimeMsPerSecond" flink Gauge MillisecondsPerSecond "Time blocked by backpressure: never, a subtask's handler does not wait." => |_| 0.0;
        "isBackPressured" flink Gauge Flag "Whether it waits for credit for more than a tenth of its time." => |s| f64::from(u8::from(s.rates.backpressured > 0.1));
        "accumulateBusyTimeMs" flink Counter Milliseconds "Time at work, in all." => |s| s.seen.report.busy_ns as f64 / 1e6;
        "accumulateIdleTimeMs" flink Counter Milliseconds "Time without input, in all." => |s| s.seen.report.idle_ns() as f64 / 1e6;
        "accumulateBackPressuredTimeMs" flink Counter Milliseconds "Time without credit, in all." => |s| s.seen.report.backpressured_ns as f64 / 1e6;
        "creditWaits" hurtig Counter Count "How often it had to wait for credit." => |s| s.seen.report.credit_waits as f64;
        "currentInputWatermark" flink Gauge Time "The watermark of its input." => |s| s.seen.report.input_watermark as f64;
        "currentOutputWatermark" hurtig Gauge Time "The watermark that has passed its last operator." => |s| s.seen.report.watermark as f64;
        "watermarkLag" flink Gauge Milliseconds "How far the watermark of its input is behind the clock; 0 where there is none." => |s| match s.seen.report.input_watermark {
            MIN_TIMESTAMP | MAX_TIMESTAMP => 0.0,
            watermark => (s.now - watermark) as f64,
        };
        "numLateRecordsDropped" flink Counter Records "Late records dropped." => |s| s.seen.report.late_dropped() as f64;
        "checkpointAlignmentTime" flink Gauge Nanoseconds "How long the last alignment took." => |s| s.seen.report.alignment_ms as f64 * 1e6;
        "mailboxQueueSize" flink Gauge Batches "Batches that wait in its input channels." => |s| s.seen.report.queued_batches as f64;
        "outputQueueLength" hurtig Gauge Count "Elements that wait for credit in its output channels." => |s| s.seen.report.waiting_elements as f64;
        "initializationTime" flink Gauge Milliseconds "From deployment to its first work." => |s| {
            use crate::observe::subtasks::SubtaskState::Running;
            s.seen.entered(Running).map_or(0.0, |at| (at - s.seen.started_at()) as f64)
        };
    }
}

metrics! {
    /// Of each job.
    JOB of Job {
        "numRestarts" flink Counter Count "How often the job was tried again." => |s| f64::from(s.job.status.restarts);
        "numRescales" flink Counter Count "How often the job's parallelism was changed while it ran." => |s| {
            let rescaled = s.job.call.as_ref().and_then(|call| call.rescaled.as_ref());
            f64::from(rescaled.map_or(0, |rescaled| rescaled.times))
        };
        "uptime" flink Gauge Milliseconds "How long the job has run without interruption." => |s| s.time_in(JobState::Running);
        "downtime" flink Gauge Milliseconds "How long the job has not run, while it is not running." => |s| {
            s.time_in(JobState::Failing) + s.time_in(JobState::Restarting)
        };
        "runningTime" flink Gauge Milliseconds "How long the job has been running." => |s| s.time_in(JobState::Running);
        "restartingTime" flink Gauge Milliseconds "How long the job has waited to be tried again." => |s| s.time_in(JobState::Restarting);
        "failingTime" flink Gauge Milliseconds "How long an attempt has been stopped after a failure." => |s| s.time_in(JobState::Failing);
        "cancellingTime" flink Gauge Milliseconds "How long the job has been cancelled." => |s| s.time_in(JobState::Cancelling);
        "createdTime" flink Gauge Milliseconds "How long the job has been deployed." => |s| s.time_in(JobState::Created);
        "totalNumberOfCheckpoints" flink Counter Count "Checkpoints triggered." => |s| s.job.seen.checkpoints.triggered as f64;
        "numberOfCompletedCheckpoints" flink Counter Count "Checkpoints completed." => |s| s.job.seen.checkpoints.completed as f64;
        "numberOfFailedCheckpoints" flink Counter Count "Checkpoints that have failed." => |s| s.job.seen.checkpoints.failed as f64;
        "numberOfInProgressCheckpoints" flink Gauge Count "Checkpoints under way." => |s| s.job.seen.checkpoints.in_progress() as f64;
        "lastCompletedCheckpointId" flink Gauge Count "Number of the last checkpoint completed." => |s| s.last_checkpoint().map_or(-1.0, |last| last.id as f64);
        "lastCheckpointCompletedTimestamp" flink Gauge Time "When the last checkpoint was complete." => |s| s.last_checkpoint().map_or(-1.0, |last| last.ended_at.unwrap_or(-1) as f64);
        "lastCheckpointDuration" flink Gauge Milliseconds "From trigger to completion of the last checkpoint." => |s| s.last_checkpoint().map_or(-1.0, |last| last.duration_ms() as f64);
        "lastCheckpointSize" flink Gauge Bytes "Bytes that were written for the last checkpoint." => |s| s.last_checkpoint().map_or(-1.0, |last| last.written_bytes as f64);
        "lastCheckpointFullSize" flink Gauge Bytes "Bytes of the last checkpoint." => |s| s.last_checkpoint().map_or(-1.0, |last| last.bytes as f64);
        "lastCheckpointAlignment" hurtig Gauge Milliseconds "Longest alignment of a subtask in the last checkpoint." => |s| s.last_checkpoint().map_or(-1.0, |last| last.alignment_ms as f64);
        "lastCheckpointRestoreTimestamp" flink Gauge Time "When the job last began from a checkpoint." => |s| s.job.seen.checkpoints.last_restored.as_ref().map_or(-1.0, |last| last.at as f64);
    }
}

metrics! {
    /// Of the cluster.
    CLUSTER of Cluster {
        "taskSlotsTotal" flink Gauge Count "Slots of all TaskManagers." => |s| s.overview.task_managers.iter().map(|t| t.slots).sum::<usize>() as f64;
        "taskSlotsAvailable" flink Gauge Count "Slots that are free." => |s| s.overview.task_managers.iter().map(|t| t.slots - t.used).sum::<usize>() as f64;
        "numRegisteredTaskManagers" flink Gauge Count "TaskManagers." => |s| s.overview.task_managers.len() as f64;
        "numRunningJobs" flink Gauge Count "Jobs that have not ended." => |s| s.jobs.iter().filter(|job| !job.state.is_terminal()).count() as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_metric_is_explained() {
        fn check<S: Sight>(list: &[Metric<S>]) {
            let names: std::collections::BTreeSet<_> = list.iter().map(|metric| metric.name).collect();
            assert_eq!(names.len(), list.len());
            assert!(list.iter().all(|metric| metric.meaning.ends_with('.')));
            assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric())));
        }
        check(TASK);
        check(JOB);
        check(CLUSTER);
    }
}
