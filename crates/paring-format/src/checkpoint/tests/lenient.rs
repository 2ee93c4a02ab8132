//! Files that disagree, and tensors that go by two names.

use super::*;

const A: &str = r#"{"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#;

/// Two files with a tensor `a` each, of which the first has other numbers, and one with `b`.
fn two_of_a(map: &str) -> TempDir {
    let mut first = raw(A, 4);
    let end = first.len();
    first[end - 4..].fill(9);
    folder(&[
        (CONFIG, b"{}"),
        (INDEX, format!(r#"{{"weight_map": {map}}}"#).as_bytes()),
        ("1.safetensors", &first),
        ("2.safetensors", &raw(A, 4)),
        ("3.safetensors", &raw(&A.replace("\"a\"", "\"b\""), 4)),
    ])
}

fn lenient(dir: &TempDir) -> Checkpoint {
    Checkpoint::open_with(dir.path(), OpenOptions { lenient: true }).unwrap()
}

#[test]
fn of_two_tensors_the_one_that_is_listed_counts() {
    for (map, bytes, file) in [
        (r#"{"a": "1.safetensors", "x": "2.safetensors", "b": "3.safetensors"}"#, [9, 9, 9, 9], "1.safetensors"),
        (r#"{"x": "1.safetensors", "a": "2.safetensors", "b": "3.safetensors"}"#, [0, 1, 2, 3], "2.safetensors"),
        // Listed nowhere, it is that of the last file.
        (r#"{"x": "1.safetensors", "y": "2.safetensors", "b": "3.safetensors"}"#, [0, 1, 2, 3], "2.safetensors"),
    ] {
        let dir = two_of_a(map);
        assert!(matches!(Checkpoint::open(dir.path()), Err(Error::Disagreement { .. })));
        let checkpoint = lenient(&dir);
        assert_eq!(checkpoint.read("a").unwrap(), bytes, "{map}");
        assert!(checkpoint.is_lenient());
        let [absent, twice] = checkpoint.notes() else { panic!("{:?}", checkpoint.notes()) };
        assert!(absent.contains("tensors that model.safetensors.index.json lists are in none of its files: x"));
        let says = format!("1 tensors are in two files, of which the one that is listed counts: a of {file}");
        assert_eq!(*twice, says);
    }
    // A tensor that is found in another file than the one that is listed is there all the same.
    let dir = two_of_a(r#"{"b": "3.safetensors", "a": "3.safetensors"}"#);
    assert!(lenient(&dir).info("a").is_none());
    let dir = two_of_a(r#"{"b": "2.safetensors", "x": "3.safetensors"}"#);
    let checkpoint = lenient(&dir);
    assert_eq!(checkpoint.info("b").unwrap().file, "3.safetensors");
    assert_eq!(checkpoint.notes().len(), 1, "{:?}", checkpoint.notes());
}

#[test]
fn a_checkpoint_that_agrees_has_nothing_to_note() {
    let dir = two_of_a(r#"{"a": "2.safetensors", "b": "3.safetensors"}"#);
    for checkpoint in [Checkpoint::open(dir.path()).unwrap(), lenient(&dir)] {
        assert!(checkpoint.notes().is_empty());
        assert_eq!(checkpoint.index_path(), Some(dir.path().join(INDEX)));
        assert_eq!(checkpoint.files().collect::<Vec<_>>(), ["2.safetensors", "3.safetensors"]);
    }
    assert!(!Checkpoint::open(dir.path()).unwrap().is_lenient());
    let dir = folder(&[(CONFIG, b"{}"), (SINGLE, &raw(A, 4))]);
    assert_eq!(Checkpoint::open(dir.path()).unwrap().index_path(), None);
    let built_in = Checkpoint::from_memory("demo", "{}", &[]).unwrap();
    assert_eq!((built_in.index_path(), built_in.dir(), built_in.describe()), (None, None, "demo (built in)".into()));
    assert_eq!(built_in.config_path(), Path::new("demo/config.json"));
    assert!(built_in.read("x").unwrap_err().to_string().contains("it has none at all"));
}

#[test]
fn removed_names_lead_to_the_tensors_that_were_kept() {
    let header = r#"{"__metadata__":{"head":"a","b":"a","c":"gone","format":"pt"},
        "a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"I8","shape":[2],"data_offsets":[4,6]}}"#;
    let checkpoint = open(&raw(header, 6)).unwrap();
    assert_eq!(checkpoint.read("head").unwrap(), [0, 1, 2, 3]);
    assert_eq!(checkpoint.read("b").unwrap(), [4, 5], "it is there itself");
    assert!(checkpoint.info("c").is_none() && checkpoint.info("format").is_none());
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!([checkpoint.stored_as("head"), checkpoint.stored_as("a")], [Some("a".into()), None]);
    // The first of several counts.
    checkpoint.also_named("tail", "b");
    checkpoint.also_named("tail", "a");
    checkpoint.also_named("a", "b");
    assert_eq!((checkpoint.read("tail").unwrap(), checkpoint.stored_as("a")), (vec![4, 5], None));
}

#[test]
fn long_lists_are_cut() {
    assert_eq!(
        (few::<&str>(&[]), few(&["a"]), few(&["a", "b", "c", "d"])),
        ("".into(), "a".into(), "a; b; c; d".into())
    );
    assert_eq!(few(&["a", "b", "c", "d", "e", "f"]), "a; b; c; d; 2 more");
    for (name, hint) in [("flax_model.msgpack", "it has flax_model.msgpack: convert it"), ("notes.txt", "or its index")]
    {
        let dir = folder(&[(CONFIG, b"{}"), (name, b"")]);
        check_error(Checkpoint::open(dir.path()), &[hint]);
    }
}
