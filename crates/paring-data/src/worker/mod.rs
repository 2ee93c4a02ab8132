//! Tokenizers and templates of models where they can fail alone: a process of its own, which the system keeps from taking
//! more than its share of memory, and which is ended when it takes too long.
//!
//! * [`Isolation`]: the way to start one; [`main`]: the life of the process.
//! * `client`: the side that asks, `serve` the side that answers, `frame` what goes between them.

mod client;
mod frame;
mod limits;
mod process;
mod serve;
#[cfg(test)]
mod tests;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use client::{Answer, BATCH, BATCH_BYTES, Question, Worker};
pub use process::{ARGUMENT, main};

/// The place where the tokenizer and the chat template of a model run. Both are what others wrote, and a file of a few
/// bytes can make them take all memory, overflow the stack or never end.
#[derive(Clone, Debug, Default)]
pub enum Isolation {
    /// A process of its own. It may use 1 GiB more memory than its files and the texts justify (on Linux), takes its time
    /// and no more, and whatever ends it is an error of one line.
    Process {
        /// A program that calls [`main`] if its first argument is [`ARGUMENT`], before anything else.
        program: PathBuf,
        /// Time for any text and for opening; more is added by their lengths.
        patience: Duration,
    },
    /// A thread of this process. Panics are caught; text that takes too long is an error, although the thread is not
    /// ended; memory is not bounded, and an overflow of its stack ends the process. For models that one trusts.
    #[default]
    Thread,
}

/// Time for any text and for opening a tokenizer, more than which none takes that is meant well.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of the worker's stack.
const STACK: usize = 16 << 20;

/// Memory and time that a request may take.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    /// Bytes beyond those of a worker that was just started.
    memory: u64,
    time: Duration,
}

impl Allowance {
    /// For a tokenizer whose files have so many bytes, and texts of so many, of which the longest may be all. Measured
    /// where they are large, a byte of file takes 12 bytes, a byte of text 175, or twice that where every letter is a
    /// word; a busy processor reads a million bytes of text in a second.
    fn new(files: u64, text: u64, time: Duration) -> Self {
        let memory = (1 << 30) + files.saturating_mul(16) + text.saturating_mul(512);
        Self { memory, time }
    }

    fn to_open(files: u64, patience: Duration) -> Self {
        Self::new(files, 0, patience.saturating_add(Duration::from_secs(files / 1_000_000)))
    }

    fn to_encode(files: u64, text: u64, patience: Duration) -> Self {
        Self::new(files, text, patience.saturating_add(Duration::from_secs(text / 200_000)))
    }
}
