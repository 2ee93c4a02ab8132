//! Replays what fuzz targets begin with and what was found by them. `scripts/fuzz` looks for more.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/src/bodies.rs"]
mod bodies;

#[test]
fn inputs_that_were_found_stay_harmless() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/fuzz");
    for target in bodies::targets() {
        let folder = root.join(&target);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let accepted = files.iter().filter(|file| bodies::run(&target, &fs::read(file).unwrap())).count();
        // Otherwise nothing beyond the first check would be replayed.
        assert!(accepted > 0, "none of {} inputs of {target} is a good one", files.len());
    }
    bodies::clean();
}
