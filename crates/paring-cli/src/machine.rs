//! Threads and devices that the command line asks for.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use paring::pipeline::device::DeviceBudget;
use paring::request::open_device;
use paring::{Error, Result};
use paring_kernels::matmul;
use rayon::{ThreadBuilder, ThreadPoolBuilder};

use crate::args::Running;

/// Threads for each processor, at most: those beyond wait for their turn, and hold memory meanwhile.
const EACH: usize = 8;

/// Sets up the threads that a command uses: as many as asked for, or one per processor. Returns notes on what is not as asked.
/// Errors when `isa`, or the environment, asks for instructions that the processor does not have.
pub fn threads(asked: Option<u16>, isa: Option<&str>) -> Result<Vec<String>> {
    isa.map_or(Ok(()), |name| matmul::choose("--isa ", name.into())).map_err(Error::Misuse)?;
    matmul::arithmetic().map_err(Error::Misuse)?;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let wanted = asked.map_or(processors, usize::from);
    let most = wanted.min(EACH * processors);
    let mut notes = Vec::new();
    if most < wanted {
        notes.push(format!("--threads {wanted}: {most} are used, {EACH} for each processor; more would only wait"));
    }
    let got = pool(most)?;
    if got < most {
        notes.push(format!("the system allows {got} of {most} threads; the result does not depend on it"));
    }
    Ok(notes)
}

/// Makes the pool, of as many threads as the system has and at most `most`. Returns how many.
///
/// This thread is one of them, so that it does not wait for others to wake up: but not the only one, for it also waits for threads
/// that may ask for work to be done. Where the system has no other for it, it is, and
/// [`paring_kernels::threads`] starts none.
fn pool(most: usize) -> Result<usize> {
    // Threads that exist cannot be refused in the middle of making the pool, which can be tried only once.
    let mut waiting = waiting(most.saturating_sub(1).max(1));
    let takes_part = most > 1 || waiting.is_empty();
    let got = waiting.len() + usize::from(takes_part);
    let mut pool = ThreadPoolBuilder::new().num_threads(got);
    if takes_part {
        pool = pool.use_current_thread();
    }
    let hand_over = move |work: ThreadBuilder| {
        let thread = waiting.pop().ok_or(io::ErrorKind::NotFound)?;
        thread.send(work).map_err(|_| io::ErrorKind::BrokenPipe.into())
    };
    let made = pool.spawn_handler(hand_over).build_global();
    made.map_err(|e| Error::Plan(format!("cannot start threads: {e}")))?;
    Ok(got)
}

/// Up to `most` threads, each of which waits for its part in a pool.
fn waiting(most: usize) -> Vec<Sender<ThreadBuilder>> {
    let one = |_| {
        let (work, coming) = channel::<ThreadBuilder>();
        let run = move || coming.recv().map_or((), ThreadBuilder::run);
        thread::Builder::new().spawn(run).ok().map(|_| work)
    };
    (0..most).map_while(one).collect()
}

/// The device that was asked for, and how much of it may be filled.
pub fn budget(running: &Running) -> Result<DeviceBudget> {
    DeviceBudget::new(&open_device(running.place.device)?, running.max_vram)
}
