//! Threads and devices that the command line asks for.

use paring::pipeline::device::DeviceBudget;
use paring::request::open_device;
use paring::{Error, Result};
use paring_kernels::matmul;

use crate::args::Running;

/// Sets up the threads that a run uses. This one is one of them, so that it does not wait for others to wake up: but not the
/// only one, for it also waits for threads that may ask for work to be done.
pub fn threads(running: &Running) -> Result<()> {
    matmul::arithmetic().map_err(Error::Misuse)?;
    let failed = |e: &dyn std::fmt::Display| Error::Plan(format!("cannot start threads: {e}"));
    let asked = match running.threads {
        Some(n) => usize::from(n),
        None => std::thread::available_parallelism().map_err(|e| failed(&e))?.get(),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(asked);
    let pool = if asked > 1 { pool.use_current_thread() } else { pool };
    pool.build_global().map_err(|e| failed(&e))
}

/// The device that was asked for, and how much of it may be filled.
pub fn budget(running: &Running) -> Result<DeviceBudget> {
    DeviceBudget::new(&open_device(running.place.device)?, running.max_vram)
}
