//! The life of a process that was started as a worker.

use std::io::{BufWriter, Write, stdin, stdout};
use std::process::exit;
use std::thread;

use super::serve::serve;
use super::{STACK, limits};
use crate::guard::guarded;

/// The first argument of a process that is to call [`main`]. No person types it, and no help names it.
pub const ARGUMENT: &str = "__tokenizer-worker";

/// Answers requests on stdin until it is closed, in a thread with a large stack, and ends the process; also when nobody
/// reads its answers any more, whatever it is doing.
pub fn main() -> ! {
    limits::no_core();
    let answering = thread::Builder::new().stack_size(STACK).spawn(|| {
        let served = guarded(|| serve(&mut stdin().lock(), &mut BufWriter::with_capacity(1 << 16, stdout()), true));
        let reason = match served {
            Ok(Ok(())) => exit(0),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        complain(&reason)
    });
    match answering {
        Ok(answering) => {
            await_end();
            // Where the system does not say that nobody listens.
            let _ = answering.join();
            exit(1)
        }
        Err(error) => complain(&error.to_string()),
    }
}

/// Ends the process with a line for the process that started it, if that still reads.
fn complain(reason: &str) -> ! {
    let _ = writeln!(std::io::stderr(), "{reason}");
    exit(1)
}

/// Waits until the other side is gone, and ends the process then.
#[cfg(unix)]
fn await_end() {
    use rustix::event::{PollFd, PollFlags, poll};
    let output = stdout();
    loop {
        // Nothing is asked for: only that nobody reads is reported then.
        let mut watched = [PollFd::new(&output, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(_) if watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) => exit(1),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(not(unix))]
fn await_end() {}
