//! Single files, in place of their own kind alone.

use super::*;

fn is_own(head: &[u8]) -> bool {
    head.starts_with(b"made here")
}

#[test]
fn a_named_file_replaces_its_own_kind_alone() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut inputs = InputFiles::default();
    fs::write(at("input"), "made here, and read").unwrap();
    fs::hard_link(at("input"), at("second name")).unwrap();
    inputs.add(&at("input"));
    let write = |name: &str, overwrite: bool| {
        let path = at(name);
        let file = NamedFile { path: &path, inputs: &inputs, is_own: &is_own, overwrite };
        file.write(9, |file| file.write_all(b"made here")).map_err(|error| error.to_string())
    };
    fs::write(at("theirs"), "mine").unwrap();
    fs::write(at("new.tmp"), "mine").unwrap();
    fs::create_dir(at("folder")).unwrap();
    write("new", false).unwrap();
    write("new", false).unwrap();
    assert_eq!(fs::read(at("new")).unwrap(), b"made here");
    for (name, overwrite, words) in [
        ("theirs", false, "exists, and this command did not write it"),
        ("input", true, "is read as"),
        ("second name", true, "is read as"),
        ("folder", true, "a folder, expected a file"),
    ] {
        let text = write(name, overwrite).unwrap_err();
        assert!(text.contains(words), "{name}: {text}");
    }
    assert_eq!(
        (fs::read(at("theirs")).unwrap(), fs::read(at("new.tmp")).unwrap()),
        (b"mine".to_vec(), b"mine".to_vec())
    );
    write("theirs", true).unwrap();
    assert_eq!(names(dir.path()), ["folder", "input", "new", "new.tmp", "second name", "theirs"]);
}

#[cfg(unix)]
#[test]
fn links_and_devices_are_not_files_of_ones_own() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("target"), "made here").unwrap();
    symlink("target", at("link")).unwrap();
    symlink("/dev/null", at("device")).unwrap();
    let write = |name: &str, overwrite: bool| {
        let path = at(name);
        let file = NamedFile { path: &path, inputs: &InputFiles::default(), is_own: &is_own, overwrite };
        file.write(3, |file| file.write_all(b"new")).map_err(|error| error.to_string())
    };
    assert!(write("link", false).unwrap_err().contains("exists, and this command did not write it"));
    assert!(write("device", true).unwrap_err().contains("a device or a pipe, expected a file"));
    write("link", true).unwrap();
    assert_eq!(
        (fs::read(at("link")).unwrap(), fs::read(at("target")).unwrap()),
        (b"new".to_vec(), b"made here".to_vec())
    );
}

#[test]
fn files_of_an_output_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(CONFIG);
    let mut writer = Writer::create(&Destination::new(dir.path(), 1)).unwrap();
    writer.shard(0, some()).unwrap();
    writer.finish(&json!({}), &[]).unwrap();
    let file = NamedFile { path: &path, inputs: &InputFiles::default(), is_own: &|_| true, overwrite: true };
    let text = file.check().unwrap_err().to_string();
    assert!(text.contains("a file of the output in"), "{text}");
}
