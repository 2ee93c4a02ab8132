//! A watch over time.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The time is counted in steps of this length: a program that is stopped meanwhile has all of its time left, and one
/// that hardly gets a processor has more.
const STEP: Duration = Duration::from_millis(50);

/// Ends what takes longer than it may.
pub(super) struct Watch(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Time that is left; `None` while nothing is to be watched.
    left: Option<Duration>,
    late: bool,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches until the end, and calls `end` if something is late.
    fn run(&self, end: &dyn Fn()) {
        let mut state = self.lock();
        while !state.over {
            let waited = self.changed.wait_timeout(state, STEP);
            state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
            state.left = state.left.map(|left| left.saturating_sub(STEP));
            if state.left == Some(Duration::ZERO) && !state.over {
                (state.left, state.late) = (None, true);
                end();
            }
        }
    }
}

impl Watch {
    /// Begins a watch that calls `end` when something is late. Errors when the system has no thread for it.
    pub fn start(end: Box<dyn Fn() + Send>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let of_thread = shared.clone();
        thread::Builder::new().name("watch".into()).spawn(move || of_thread.run(&end))?;
        Ok(Self(shared))
    }

    /// Something begins that may take so much time.
    pub fn begin(&self, time: Duration) {
        self.0.lock().left = Some(time);
    }

    /// It is done.
    pub fn rest(&self) {
        self.0.lock().left = None;
    }

    /// True if it was late.
    pub fn is_late(&self) -> bool {
        self.0.lock().late
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}
