//! The target that the variable `TARGET` names, on libFuzzer's inputs. Without it, prints the names of all
//! targets, one a line; with `SEEDS`, writes a folder of inputs there for each target, made of the golden files in `GOLDEN`.

#![no_main]

use std::path::Path;
use std::process::exit;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use paring_data::worker;
use paring_fuzz::{bodies, counted, seeds};

#[global_allocator]
static ALLOCATOR: counted::Counted = counted::Counted;

static TARGET: OnceLock<String> = OnceLock::new();

/// Setup before the first input.
fn begin() {
    if std::env::args_os().nth(1).is_some_and(|first| first == worker::ARGUMENT) {
        worker::main();
    }
    // Rust's own start of a program does so, which libFuzzer's `main` is not: a worker that ended is an error of a write.
    // SAFETY: nothing else runs yet, and no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let known = bodies::targets();
    if let (Some(to), Some(golden)) = (std::env::var_os("SEEDS"), std::env::var_os("GOLDEN")) {
        seeds::write(Path::new(&to), Path::new(&golden)).expect("inputs made of golden files");
        exit(0);
    }
    let Ok(name) = std::env::var("TARGET") else {
        known.iter().for_each(|name| println!("{name}"));
        exit(0);
    };
    assert!(known.contains(&name), "TARGET={name}, expected one of {}", known.join(", "));
    TARGET.get_or_init(|| name);
}

fuzz_target!(init: begin(), |data: &[u8]| {
    let target = TARGET.get().map_or("", String::as_str);
    let (peak, _) = counted::peak(|| bodies::run(target, data));
    let limit = bodies::memory(target, data.len());
    assert!(peak <= limit, "{target}: {peak} bytes of memory for an input of {}, at most {limit}", data.len());
});
