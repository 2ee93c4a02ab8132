//! Calls of a library that panics on some of what a file may say.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// True while panics of this thread are caught below.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// The result of `body`, or the message of its panic, which is not printed. What `body` changes must not be used after a
/// panic.
pub(super) fn guarded<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                before(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let made = panic::catch_unwind(AssertUnwindSafe(body));
    GUARDED.set(outer);
    made.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it gives no reason").to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_errors() {
        assert_eq!(guarded(|| 7), Ok(7));
        let list = [1, 2, 3];
        let error = guarded(|| list[std::hint::black_box(5)]).unwrap_err();
        assert!(error.contains("index out of bounds"), "{error}");
        // Inside another one, and after it.
        assert_eq!(guarded(|| guarded(|| -> u8 { panic!("inner") }).unwrap_err()), Ok("inner".to_string()));
        assert!(!GUARDED.get());
    }
}
