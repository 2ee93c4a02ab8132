//! Replays what fuzz targets begin with and what was found by them, and holds each to its memory. `fuzz/soak` looks for
//! more.

use std::fs;
use std::path::Path;

use paring_data::worker;

#[path = "../../../fuzz/src/bodies/mod.rs"]
mod bodies;
#[path = "../../../fuzz/src/counted.rs"]
mod counted;

#[global_allocator]
static ALLOCATOR: counted::Counted = counted::Counted;

/// A program without a harness: what other tests allocate would be counted too, and it is the worker of its own targets.
fn main() {
    if std::env::args_os().nth(1).is_some_and(|first| first == worker::ARGUMENT) {
        worker::main();
    }
    let mut replayed = 0;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/fuzz");
    for target in bodies::targets() {
        let folder = root.join(&target);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut accepted = 0;
        for file in &files {
            let data = fs::read(file).unwrap();
            let (peak, good) = counted::peak(|| bodies::run(&target, &data));
            let limit = bodies::memory(&target, data.len());
            assert!(peak <= limit, "{}: {peak} bytes of memory, at most {limit}", file.display());
            accepted += usize::from(good);
        }
        // Otherwise nothing beyond the first check would be replayed.
        assert!(accepted > 0, "none of {} inputs of {target} is a good one", files.len());
        replayed += files.len();
    }
    bodies::clean();
    println!("{replayed} inputs of {} fuzz targets are harmless", bodies::targets().len());
}
