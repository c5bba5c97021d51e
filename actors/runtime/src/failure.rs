//! What went wrong in a subtask, told so that a user finds the place.

use hurtig_dataflow::ids::SubtaskId;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

/// A failed subtask.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The subtask, if it is one that failed.
    pub subtask: Option<SubtaskId>,
    /// Where: vertex, subtask and operator in words.
    pub place: String,
    /// What.
    pub message: String,
    /// Whether trying again is pointless: the program or its input is at fault in a way that stays.
    pub fatal: bool,
}

impl Failure {
    /// A failure outside any subtask.
    pub fn of(place: &str, message: impl Into<String>) -> Self {
        Failure { subtask: None, place: place.to_string(), message: message.into(), fatal: false }
    }

    /// The same, not to be tried again.
    pub fn fatal(mut self) -> Self {
        self.fatal = true;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for Failure {}

thread_local! {
    /// `Some` while this thread runs code whose panics are caught and told; then what the hook saw.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs user code. A panic becomes a sentence with its message and place instead of output on the terminal.
///
/// # Errors
/// The panic.
pub fn catch_panic<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let told = CAUGHT.with_borrow_mut(|caught| match caught {
                Some(text) => {
                    let place = info.location().map(|at| format!(" at {at}")).unwrap_or_default();
                    *text = format!("panicked{place}: {}", payload_text(info.payload()));
                    true
                }
                None => false,
            });
            if !told {
                before(info);
            }
        }));
    });
    let outer = CAUGHT.replace(Some(String::new()));
    let result = std::panic::catch_unwind(AssertUnwindSafe(body));
    let caught = CAUGHT.replace(outer);
    result.map_err(|_| caught.filter(|text| !text.is_empty()).unwrap_or_else(|| "panicked".into()))
}

fn payload_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_message_and_place() {
        let told = catch_panic(|| panic!("boom {}", 7)).unwrap_err();
        assert!(
            told.starts_with("panicked at ") && told.contains("failure.rs:") && told.ends_with(": boom 7"),
            "{told}"
        );
    }
}
