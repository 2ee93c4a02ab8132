//! Names that decide whose a file is, what is removed, and what reaches a terminal.

use std::ffi::OsStr;

use super::*;

#[test]
fn temporary_names_say_what_they_are_for() {
    for (name, unique) in [("config.json", (0x1f, 0)), ("a.b", (u32::MAX, u64::MAX)), (".hidden", (1, 0xab))] {
        let temporary = temporary_name(OsStr::new(name), unique).into_string().unwrap();
        assert_eq!(temporary, format!(".{name}.{:x}-{:x}.paring.tmp", unique.0, unique.1));
        assert_eq!(temporary_of(&temporary), Some(name));
    }
    // A person's file is not taken for one.
    for name in [
        "config.json",
        "x.1f-0.paring.tmp",
        ".x.1f-0.tmp",
        ".x.1f0.paring.tmp",
        ".x.-0.paring.tmp",
        ".x.1f-.paring.tmp",
        ".x.1g-0.paring.tmp",
        ".x.1f-g.paring.tmp",
        ".paring.tmp",
        ".1f-0.paring.tmp",
    ] {
        assert_eq!(temporary_of(name), None, "{name}");
    }
}

#[test]
fn shards_have_the_names_of_transformers() {
    assert_eq!([shard_name(0, 1), shard_name(0, 2)], [SINGLE, "model-00001-of-00002.safetensors"]);
    assert_eq!(shard_name(122_999, 123_456), "model-123000-of-123456.safetensors");
    for name in [SINGLE, "model-00001-of-00002.safetensors", "model-123000-of-123456.safetensors"] {
        assert!(is_weights(name), "{name}");
    }
    for name in [
        "model-1-of-2.safetensors",
        "model-00001-of-2.safetensors",
        "model-1-of-00002.safetensors",
        "model-0000a-of-00002.safetensors",
        "model-00001-of-0000b.safetensors",
        "model-00001.safetensors",
        "model-00001-of-00002.bin",
        "adapter_model.safetensors",
        INDEX,
    ] {
        assert!(!is_weights(name), "{name}");
    }
}

#[test]
fn files_of_a_run_are_known_by_name_or_number() {
    let run = RunFiles { names: &["report.json"], prefix: Some(".activations") };
    for name in ["report.json", ".activations", ".activations.tmp", ".activations-00001", ".activations-123456.tmp"] {
        assert!(run.has(name), "{name}");
    }
    for name in [
        "report.html",
        "report.json.tmp",
        ".activations-",
        ".activations-0001",
        ".activations-0000x",
        ".activations_00001",
        ".activationsx",
        "activations",
    ] {
        assert!(!run.has(name), "{name}");
    }
    assert!(!RunFiles::default().has(".activations") && !RunFiles::default().has(""));
}

#[test]
fn plain_names_lead_nowhere_else() {
    for name in ["a", "a.json", "...", ".hidden", "a b"] {
        assert!(is_plain_name(name) && is_plain_path(name) && is_plain_path(&format!("d/{name}")), "{name}");
    }
    for name in ["", ".", "..", "a/b", "/a", "a\\b", "c:d", "a\0"] {
        assert!(!is_plain_name(name), "{name:?}");
    }
    for path in ["a//b", "a/../b", "/a", "a/", "a/.", "a\\b/c"] {
        assert!(!is_plain_path(path), "{path:?}");
    }
}

#[test]
fn what_a_terminal_obeys_is_seen() {
    let obeyed = "\u{7}\u{1b}\u{9b}\u{7f}\n\t\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202c}\u{202e}\
        \u{2060}\u{2066}\u{2068}\u{2069}\u{feff}";
    for c in obeyed.chars() {
        assert!(is_obeyed(c), "{c:?}");
    }
    for c in "a Ä中אע\u{301}\u{200d}\u{2027}\u{202f}\u{2065}\u{206a}".chars() {
        assert!(!is_obeyed(c), "{c:?}");
    }
}
