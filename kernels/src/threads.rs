//! Threads beside those of the pool. A system may refuse them, at any moment: the caller gets back what the thread was to work
//! on, and does the work itself.

use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// Tells whether the calling thread is all of the pool. While it waits for another thread, nobody would do what that one asks
/// of the pool.
fn is_whole_pool() -> bool {
    rayon::current_num_threads() == 1 && rayon::current_thread_index().is_some()
}

/// Calls `work` with `state` on a thread of its own. Returns the state where there is none to be had.
pub fn spawn<S: Send + 'static, T: Send + 'static>(
    state: S,
    work: impl FnOnce(S) -> T + Send + 'static,
) -> Result<JoinHandle<T>, S> {
    begin(state, |state| Builder::new().spawn(move || work(state.get())))
}

/// [`spawn`] in a scope.
pub fn spawn_scoped<'scope, S: Send + 'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    state: S,
    work: impl FnOnce(S) -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, S> {
    begin(state, |state| Builder::new().spawn_scoped(scope, move || work(state.get())))
}

/// A state on its way to a thread.
struct StateOf<S>(Receiver<S>);

impl<S> StateOf<S> {
    fn get(self) -> S {
        self.0.recv().expect("a state is sent to every thread")
    }
}

/// Hands `state` to a thread that `spawn` begins. The thread only has a way to get the
/// state, which a refusal would lose.
fn begin<S, H>(state: S, spawn: impl FnOnce(StateOf<S>) -> io::Result<H>) -> Result<H, S> {
    if is_whole_pool() {
        return Err(state);
    }
    let (sender, receiver) = sync_channel(1);
    match spawn(StateOf(receiver)) {
        Ok(thread) => {
            sender.send(state).unwrap_or(());
            Ok(thread)
        }
        Err(_) => Err(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_on_a_thread_or_given_back() {
        assert_eq!(spawn(vec![1, 2], |v| v.len()).unwrap().join().unwrap(), 2);
        let text = String::from("ab");
        let made =
            std::thread::scope(|scope| spawn_scoped(scope, &text, |text: &String| text.len()).unwrap().join().unwrap());
        assert_eq!(made, 2);
        // A thread that is the whole pool does everything itself.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let refused = pool.install(|| spawn(7, |n| n).map(drop).unwrap_err());
        assert_eq!(refused, 7);
        let refused = pool.install(|| std::thread::scope(|scope| spawn_scoped(scope, 7, |n| n).map(drop).unwrap_err()));
        assert_eq!(refused, 7);
    }
}
