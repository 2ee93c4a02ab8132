//! Names in a journal that lead elsewhere.

use std::fs;
use std::path::Path;

use super::blocks_done;

/// Shards are read and activations removed by the names that stand in a journal.
#[test]
fn names_stay_in_the_folder() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/fuzz/journal/one-block");
    let good = fs::read_to_string(path).unwrap();
    assert_eq!(blocks_done(good.as_bytes()), Ok(1));
    for (name, other) in [
        (".activations-00001", "../.activations-00001"),
        (".activations-00001", "/tmp/.activations"),
        (".activations-00001", "notes.txt"),
        (".activations-00001", ".activations/../../x"),
        ("model-00001-of-00005.safetensors", "../model-00001-of-00005.safetensors"),
        ("model-00001-of-00005.safetensors", ""),
    ] {
        let from = format!("\"name\":\"{name}\"");
        assert_eq!(good.matches(&from).count(), 1);
        let reason = blocks_done(good.replace(&from, &format!("\"name\":\"{other}\"")).as_bytes()).unwrap_err();
        assert_eq!(reason, format!("line 2: {other:?} is not the name of a file of a run in this folder"));
    }
}
