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

fuzz_target!(|data: &[u8]| {
    let target = TARGET.as_str();
    let (peak, _) = counted::peak(|| bodies::run(target, data));
    let limit = bodies::memory(target, data.len());
    assert!(peak <= limit, "{target}: {peak} bytes of memory for an input of {}, at most {limit}", data.len());
});
