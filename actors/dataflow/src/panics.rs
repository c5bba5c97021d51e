//! Panics of user code, told with their message and place instead of printed.

use crate::error::OpResult;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

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

/// Runs a future of user code. A panic in it becomes an error with its message and place.
///
/// # Errors
/// The future's own, or its panic.
pub async fn catch_panic_of<T>(future: impl Future<Output = OpResult<T>>) -> OpResult<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_panic(|| future.as_mut().poll(cx)) {
        Ok(polled) => polled,
        Err(panic) => Poll::Ready(Err(panic.into())),
    })
    .await
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
            told.starts_with("panicked at ") && told.contains("panics.rs:") && told.ends_with(": boom 7"),
            "{told}"
        );
    }
}
