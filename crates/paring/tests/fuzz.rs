//! Replays what fuzz targets begin with and what was found by them, and holds each to its memory. `fuzz/soak` looks for
//! more.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/src/bodies/mod.rs"]
mod bodies;
#[path = "../../../fuzz/src/counted.rs"]
mod counted;

#[global_allocator]
static ALLOCATOR: counted::Counted = counted::Counted;

/// The only test of this program: what others allocate would be counted too.
#[test]
fn inputs_that_were_found_stay_harmless() {
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
    }
    bodies::clean();
}
