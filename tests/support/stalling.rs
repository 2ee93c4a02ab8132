//! Runs that stop by themselves at a given point: their events go into a pipe that nobody reads, and which has room for so
//! many bytes of them. So a test meets a run in the middle of its work however fast the machine is.

use std::fs;
use std::io::{PipeReader, Read, Write, pipe};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::Sandbox;

/// Bytes that a pipe holds.
const CAPACITY: usize = 64 << 10;

/// A run of the binary with its events in a pipe.
pub struct Stalling {
    child: Child,
    events: PipeReader,
    filled: usize,
}

impl Stalling {
    /// Begins a run, which stalls at the latest when it has told `room` bytes of events.
    pub fn begin(sandbox: &Sandbox, arguments: &str, room: usize) -> Self {
        let (events, mut into) = pipe().unwrap();
        let filled = CAPACITY.saturating_sub(room);
        into.write_all(&vec![b'\n'; filled]).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_paring"));
        command.args(arguments.split_whitespace()).args(["--log-json", "-"]).current_dir(sandbox.path(""));
        let child = command.stdout(Stdio::null()).stderr(into).spawn().unwrap();
        Self { child, events, filled }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the run stalls, or has ended. Returns whether it stalls.
    pub fn wait(&mut self) -> bool {
        // All threads sleep, and still do so at the next look.
        let mut idle = 0;
        while idle < 3 {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            idle = if self.sleeps() { idle + 1 } else { 0 };
            sleep(Duration::from_millis(1));
        }
        true
    }

    /// Tells whether no thread of the process or of one that works for it runs, wants to, or waits for a disk.
    fn sleeps(&self) -> bool {
        sleeps(self.child.id())
    }

    /// Kills the run if it has not ended, and returns how it ended and its events.
    pub fn kill(mut self) -> (ExitStatus, String) {
        // Fails when it has ended.
        self.child.kill().unwrap_or(());
        self.finish()
    }

    /// Lets the run continue to its end; returns how it ended and what it told.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let mut told = Vec::new();
        self.events.read_to_end(&mut told).unwrap();
        let told = String::from_utf8(told.split_off(self.filled)).unwrap();
        (self.child.wait().unwrap(), told)
    }
}

/// Tells whether all threads of a process and of its children sleep.
fn sleeps(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    threads.map(|thread| Some(thread.ok()?.path())).all(|thread| {
        let Some(thread) = thread else { return false };
        // The state follows the name, which is in parentheses.
        let state = fs::read_to_string(thread.join("stat")).unwrap_or_default();
        let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
        state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
            && children.split_whitespace().filter_map(|child| child.parse().ok()).all(sleeps)
    })
}

/// The events of a run that must succeed: how much there is to tell.
pub fn told(sandbox: &Sandbox, arguments: &str) -> String {
    sandbox.ok(&format!("{arguments} --log-json -")).stderr
}
