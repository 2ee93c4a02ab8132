//! The target that the variable `TARGET` names, on whatever libFuzzer makes up.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use paring_fuzz::{bodies, counted};

#[global_allocator]
static ALLOCATOR: counted::Counted = counted::Counted;

static TARGET: LazyLock<String> = LazyLock::new(|| {
    let name = std::env::var("TARGET").unwrap_or_default();
    let known = bodies::targets();
    assert!(known.contains(&name), "TARGET={name}, expected one of {}", known.join(", "));
    name
});

/// Bytes of memory that a target may take at once for an input of this length.
fn memory(target: &str, len: usize) -> usize {
    match target {
        // A pattern may take a few megabytes before it is refused.
        "checkpoint" | "config" => (64 << 20) + 1000 * len,
        // A bit may be a weight, of which there are codes, floats, and all again for what is read back.
        _ => (2 << 20) + 400 * len,
    }
}

fuzz_target!(|data: &[u8]| {
    let target = TARGET.as_str();
    let (peak, _) = counted::peak(|| bodies::run(target, data));
    let limit = memory(target, data.len());
    assert!(peak <= limit, "{target}: {peak} bytes of memory for an input of {}, at most {limit}", data.len());
});
