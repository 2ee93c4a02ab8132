//! Limits that a worker's process sets on itself.

/// The memory that the process may take.
#[cfg(target_os = "linux")]
pub(super) struct Memory {
    /// Bytes of addresses that it took at its start.
    start: u64,
    /// The limit that its program has.
    most: Option<u64>,
    granted: u64,
}

#[cfg(target_os = "linux")]
impl Memory {
    /// Of a process that has opened nothing yet.
    pub fn new() -> Self {
        use rustix::process::{Resource, getrlimit};
        Self { start: taken(), most: getrlimit(Resource::As).current, granted: 0 }
    }

    /// Allows the process this many bytes more than at its start, or as many as before. Returns how many they are where
    /// a limit on the program leaves it fewer.
    pub fn allow(&mut self, bytes: u64) -> Option<u64> {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        self.granted = self.granted.max(bytes);
        let wanted = self.start.saturating_add(self.granted);
        let limit = self.most.map_or(wanted, |most| wanted.min(most));
        let maximum = getrlimit(Resource::As).maximum;
        // A limit that cannot be set is lower already.
        let _ = setrlimit(Resource::As, Rlimit { current: Some(limit), maximum });
        (limit < wanted).then(|| limit.saturating_sub(self.start))
    }
}

/// Bytes of addresses that this process has taken; 0 where the system does not say.
#[cfg(target_os = "linux")]
fn taken() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.map_or(0, |kilobytes| kilobytes * 1024)
}

/// Nothing: other systems do not keep limits on addresses.
#[cfg(not(target_os = "linux"))]
pub(super) struct Memory;

#[cfg(not(target_os = "linux"))]
impl Memory {
    pub fn new() -> Self {
        Self
    }

    pub fn allow(&mut self, _: u64) -> Option<u64> {
        None
    }
}

/// Has the process leave no image of its memory on disk when it crashes.
pub(super) fn no_core() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Core);
        limit.current = Some(0);
        // A system that does not let it has reasons, and may write the image.
        let _ = setrlimit(Resource::Core, limit);
    }
}
