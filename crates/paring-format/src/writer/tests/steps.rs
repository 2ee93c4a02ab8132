//! Single steps on files, and the names that are taken for them.

use super::super::files::{create_numbered, probe};
use super::super::inputs::is_same;
use super::*;

#[test]
fn removing_tells_a_file_that_is_gone_from_one_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "x").unwrap();
    fs::create_dir_all(at("a/b")).unwrap();
    disk::remove(&at("file")).unwrap();
    disk::remove(&at("file")).unwrap();
    assert!(disk::remove(&at("a")).is_err());
    // Folders go with their last file, and no further up than that.
    for name in ["a/b/c", "a/b/d", "a/e"] {
        fs::write(at(name), "x").unwrap();
    }
    disk::remove_in(dir.path(), "a/b/c").unwrap();
    assert!(at("a/b/d").is_file());
    disk::remove_in(dir.path(), "a/b/d").unwrap();
    assert!(!at("a/b").exists() && at("a/e").is_file());
    disk::remove_in(dir.path(), "a/e").unwrap();
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_probe_leaves_nothing_and_fails_where_nothing_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    probe(dir.path()).unwrap();
    assert!(names(dir.path()).is_empty());
    assert!(probe(&dir.path().join("none")).is_err());
    assert!(disk::is_writable(dir.path()) && !disk::is_writable(&dir.path().join("none")));
}

/// Small pieces are gathered; one who flushes them, to look at the file, finds them there.
#[test]
fn what_is_flushed_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let there = || fs::read_dir(dir.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    let mut seen: Vec<Vec<Vec<u8>>> = Vec::new();
    let made = write_beside(&dir.path().join("state"), 6, |file| {
        file.write_all(b"one")?;
        seen.push(there());
        file.flush()?;
        seen.push(there());
        file.write_all(b"two")
    });
    assert_eq!(seen, [[b"".to_vec()], [b"one".to_vec()]]);
    assert_eq!((there(), made.unwrap().digest), (vec![b"onetwo".to_vec()], xxh3_64(b"onetwo")));
}

/// A temporary file never gets a name that is taken, and names that are all taken do not keep a run busy for ever.
#[test]
fn names_of_temporary_files_are_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    for number in 0..16 {
        let taken = crate::names::temporary_name("state".as_ref(), (std::process::id(), number));
        fs::write(dir.path().join(taken), "mine").unwrap();
    }
    let (mut file, fresh) = create_numbered(&path, 1..).unwrap();
    let name = crate::names::temporary_name("state".as_ref(), (std::process::id(), 16));
    assert_eq!(fresh, dir.path().join(name));
    io::Write::write_all(&mut file, b"new").unwrap();
    let mine = |entry: io::Result<fs::DirEntry>| fs::read(entry.unwrap().path()).unwrap() == b"mine";
    assert_eq!(fs::read_dir(dir.path()).unwrap().filter_map(|entry| mine(entry).then_some(())).count(), 16);
    assert_eq!(create_numbered(&path, 0..).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_ne!(create_fresh(&path).unwrap().1, create_fresh(&path).unwrap().1);
    // Where there is no folder, nothing is tried again.
    let mut tried = 0;
    let numbers = std::iter::repeat_with(|| tried += 1).map(|()| 0);
    assert_eq!(create_numbered(&dir.path().join("none/state"), numbers).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(tried, 1);
}

#[cfg(unix)]
#[test]
fn inputs_are_known_whatever_their_names() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    let mut writer = create(&at("model"), 1).unwrap();
    writer.shard(0, some()).unwrap();
    writer.finish(&json!({}), &[]).unwrap();
    fs::hard_link(at("model/config.json"), at("second")).unwrap();
    std::os::unix::fs::symlink("model/config.json", at("link")).unwrap();
    fs::write(at("other"), "{}").unwrap();
    let inputs = InputFiles::of(&Checkpoint::open(&at("model")).unwrap());
    for name in ["second", "link", "model/config.json"] {
        assert_eq!(inputs.find(&at(name)), Some(at("model/config.json").as_path()), "{name}");
    }
    assert_eq!(inputs.find(&at("model")), Some(at("model").as_path()));
    assert_eq!((inputs.find(&at("other")), inputs.find(&at("none"))), (None, None));
    // A link is another file than what it leads to, unless it is followed.
    assert!(is_same(&at("second"), &at("model/config.json")) && leads_to_same(&at("second"), &at("model/config.json")));
    assert!(!is_same(&at("link"), &at("second")) && leads_to_same(&at("link"), &at("second")));
    assert!(!is_same(&at("other"), &at("second")) && !leads_to_same(&at("other"), &at("second")));
    assert!(!is_same(&at("none"), &at("none")) && !leads_to_same(&at("none"), &at("other")));
}

/// A link to a folder in the place of one of the output's may lead anywhere.
#[cfg(unix)]
#[test]
fn folders_of_an_output_are_not_links() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, outside) = (parent.path().join("out"), parent.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    let mut writer = create(&dir, 1).unwrap();
    std::os::unix::fs::symlink(&outside, dir.join("a")).unwrap();
    let error = writer.extra("a/b", b"x").unwrap_err();
    assert!(matches!(&error, Error::OutputExists { path } if *path == dir.join("a")), "{error}");
    assert!(names(&outside).is_empty());
}

#[test]
fn parts_of_a_module_get_its_name() {
    let part = |byte: u8| LayoutPart { dtype: Dtype::I8, shape: vec![1], bytes: vec![byte] };
    let parts = LayoutParts::from([("weight", part(1)), ("weight_scale", part(2))]);
    let made = NamedTensor::of_module("model.layers.0.q", parts);
    let named = |name: &str, byte: u8| NamedTensor {
        name: format!("model.layers.0.q.{name}"),
        dtype: Dtype::I8,
        shape: vec![1],
        bytes: vec![byte],
    };
    assert_eq!(made, [named("weight", 1), named("weight_scale", 2)]);
}

/// A file of any name has the bytes of a shard, and metadata of its own.
#[test]
fn tensors_in_a_file_of_any_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calib.safetensors");
    fs::write(&path, "earlier").unwrap();
    write_file(&path, some()).unwrap();
    let mut writer = create(&dir.path().join("out"), 1).unwrap();
    writer.shard(0, some()).unwrap();
    let written = fs::read(&path).unwrap();
    assert_eq!(written, fs::read(dir.path().join("out").join(SINGLE)).unwrap());
    let (pieces, bytes) = tensor_file("x", some(), &[]).unwrap();
    assert_eq!((pieces.concat(), bytes), (written.clone(), written.len()));
    assert_eq!(written.iter().position(|&b| b == b'}').map(|_| pieces[0].len() % 8), Some(0), "aligned");
    let (pieces, bytes) = tensor_file("x", some(), &[("made", "by hand")]).unwrap();
    assert_eq!(pieces.concat().len(), bytes);
    let header: Value = serde_json::from_slice(&pieces[0][8..]).unwrap();
    assert_eq!(header["__metadata__"], json!({"format": "pt", "made": "by hand"}));
    let wrong = NamedTensor { shape: vec![4], ..tensor("t", Dtype::F32, &[3], 1) };
    assert!(tensor_file("x", vec![wrong], &[]).unwrap_err().to_string().starts_with("x: t: 12 bytes do not make"));
}
