//! When a part file is closed and the next one begun.

use std::time::Duration;

/// When a part file is closed and the next one begun: whichever comes first.
#[derive(Debug, Clone, Copy)]
pub struct RollingPolicy {
    /// It has this size.
    pub bytes: u64,
    /// This time has passed since its first record, in processing time.
    pub every: Option<Duration>,
    /// A checkpoint is taken.
    pub on_checkpoint: bool,
}

impl Default for RollingPolicy {
    /// At 128 MiB and at every checkpoint.
    fn default() -> Self {
        RollingPolicy { bytes: 128 << 20, every: None, on_checkpoint: true }
    }
}
