//! Outputs that replace earlier ones, and files of a person's beside them.

use super::*;

pub(super) const RUN: RunFiles = RunFiles { names: &["report.html"], prefix: Some(".state") };

pub(super) fn over(dir: &Path, shards: usize) -> Destination {
    Destination {
        run: RUN,
        overwrite: true,
        companions: vec!["tokenizer.json".into()],
        ..Destination::new(dir, shards)
    }
}

/// Writes an output of one tensor that `seed` decides, with a list of its files. Returns its place, unpublished.
pub(super) fn write(destination: &Destination, seed: u64) -> Result<Arc<Place>> {
    write_with(destination, seed, "{}")
}

/// As [`write`], with this text in the files beside the weights.
pub(super) fn write_with(destination: &Destination, seed: u64, text: &str) -> Result<Arc<Place>> {
    let mut writer = Writer::create(destination)?;
    let place = writer.place();
    for i in 0..destination.shards {
        writer.shard(i, vec![tensor(&format!("t{i}"), Dtype::F32, &[4], seed)])?;
    }
    let companions: Vec<_> = destination.companions.iter().map(|name| (name.clone(), text.into())).collect();
    let summary = writer.finish(&json!({"seed": seed}), &companions)?;
    let text = json!({"program": "paring 0.1.0", FILES: listed(&summary.files)}).to_string();
    write_beside(&place.dir().join(MANIFEST), text.len(), |file| file.write_all(text.as_bytes()))?;
    fs::write(place.dir().join("report.html"), format!("{seed}")).unwrap();
    Ok(place)
}

pub(super) fn made(dir: &Path, shards: usize, seed: u64) {
    write(&over(dir, shards), seed).unwrap().publish().unwrap();
}

pub(super) fn seed(dir: &Path) -> Value {
    Checkpoint::open(dir).unwrap().config()["seed"].clone()
}

#[test]
fn an_output_takes_the_place_of_an_earlier_one() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    made(&out, 3, 1);
    for name in ["notes.txt", "vocab.json", "model-00009-of-00009.safetensors", "config.json.tmp", ".state-notes"] {
        fs::write(out.join(name), "mine").unwrap();
    }
    fs::create_dir(out.join("logs")).unwrap();
    fs::write(out.join("logs/1"), "mine").unwrap();
    let place = write(&over(&out, 2), 2).unwrap();
    // Until the exchange the earlier one is there, whole.
    assert_eq!((seed(&out), Checkpoint::open(&out).unwrap().names().count()), (json!(1), 3));
    assert_eq!(names(parent.path()), [".out.paring-new", "out"]);
    place.publish().unwrap();
    drop(place);
    assert_eq!((seed(&out), Checkpoint::open(&out).unwrap().names().count()), (json!(2), 2));
    assert_eq!(names(parent.path()), ["out"]);
    let theirs =
        [".state-notes", "config.json.tmp", "logs", "model-00009-of-00009.safetensors", "notes.txt", "vocab.json"];
    let ours = [CONFIG, "report.html", &shard_name(0, 2), &shard_name(1, 2), INDEX, MANIFEST, "tokenizer.json"];
    let mut all: Vec<&str> = theirs.iter().chain(&ours).copied().collect();
    all.sort();
    assert_eq!(names(&out), all);
    for name in theirs.iter().filter(|name| **name != "logs") {
        assert_eq!(fs::read(out.join(name)).unwrap(), b"mine", "{name}");
    }
    assert!(fs::symlink_metadata(out.join("logs")).unwrap().is_dir(), "the folder itself, no link");
    assert!(!fs::exists(out.join(LOCK)).unwrap());
}

#[test]
fn what_no_run_wrote_is_not_overwritten() {
    let parent = tempfile::tempdir().unwrap();
    for (name, files, words) in [
        ("model", &[("config.json", "{}"), ("notes.txt", "")][..], "holds a model, and nothing says"),
        ("notes", &[("notes.txt", "")], "holds notes.txt, and nothing says"),
        // What tells most is named.
        ("weights", &[("notes.txt", ""), ("a.txt", ""), (SINGLE, "")], "holds a model"),
        ("other", &[(MANIFEST, r#"{"program": "other 1"}"#), (CONFIG, "{}")], "holds a model"),
        ("damaged", &[(MANIFEST, "{"), (CONFIG, "{}")], "holds a model"),
        ("journal", &[(JOURNAL, "today\n"), (CONFIG, "{}")], "holds a model"),
        ("line", &[(JOURNAL, "{\"line\": \"run\", \"program\": \"other\"}\n")], "holds journal.jsonl"),
    ] {
        let dir = parent.path().join(name);
        fs::create_dir(&dir).unwrap();
        files.iter().for_each(|(file, text)| fs::write(dir.join(file), text).unwrap());
        let text = Writer::create(&over(&dir, 1)).unwrap_err().to_string();
        assert!(text.contains(words), "{name}: {text}");
        assert!(files.iter().all(|(file, text)| fs::read_to_string(dir.join(file)).unwrap() == *text), "{name}");
        assert_eq!(names(&dir).len(), files.len(), "{name}");
    }
}

/// A manifest of ours that a link leads to says nothing of the folder of the link.
#[cfg(unix)]
#[test]
fn a_linked_manifest_is_none() {
    let parent = tempfile::tempdir().unwrap();
    let (ours, mine) = (parent.path().join("ours"), parent.path().join("mine"));
    made(&ours, 1, 1);
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join(CONFIG), "{}").unwrap();
    std::os::unix::fs::symlink(ours.join(MANIFEST), mine.join(MANIFEST)).unwrap();
    let text = Writer::create(&over(&mine, 1)).unwrap_err().to_string();
    assert!(text.contains("nothing says"), "{text}");
    assert_eq!(fs::read_to_string(mine.join(CONFIG)).unwrap(), "{}");
}

#[cfg(unix)]
#[test]
fn a_persons_file_in_the_way_is_told_before_the_work() {
    let parent = tempfile::tempdir().unwrap();
    let (out, elsewhere) = (parent.path().join("out"), parent.path().join("elsewhere"));
    fs::write(&elsewhere, "mine").unwrap();
    made(&out, 1, 1);
    fs::rename(out.join("report.html"), out.join("page.html")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, out.join("report.html")).unwrap();
    let text = Writer::create(&over(&out, 1)).unwrap_err().to_string();
    assert!(text.contains("report.html: no run of paring wrote this"), "{text}");
    fs::remove_file(out.join("report.html")).unwrap();
    // A shard of the next output, which the last did not have.
    fs::write(out.join(shard_name(1, 2)), "mine").unwrap();
    let text = Writer::create(&over(&out, 2)).unwrap_err().to_string();
    assert!(text.contains("model-00002-of-00002.safetensors: no run of paring wrote this"), "{text}");
    made(&out, 1, 3);
    assert_eq!(fs::read(out.join(shard_name(1, 2))).unwrap(), b"mine");
    // The folder for the next output is a person's.
    let staging = parent.path().join(".out.paring-new");
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("x"), "mine").unwrap();
    let text = Writer::create(&over(&out, 1)).unwrap_err().to_string();
    assert!(text.contains(".out.paring-new: in the way"), "{text}");
    assert_eq!((fs::read(staging.join("x")).unwrap(), seed(&out)), (b"mine".to_vec(), json!(3)));
}

#[test]
fn files_that_changed_are_kept_under_another_name() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    made(&out, 1, 1);
    // As long as what the run wrote, so that only the digest tells.
    let mut bytes = fs::read(out.join(SINGLE)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(out.join(SINGLE), &bytes).unwrap();
    fs::write(out.join("model.safetensors.kept"), "mine").unwrap();
    made(&out, 1, 2);
    assert_eq!(seed(&out), 2);
    assert_eq!(fs::read(out.join("model.safetensors.kept")).unwrap(), b"mine");
    assert_eq!(fs::read(out.join("model.safetensors.kept-2")).unwrap(), bytes);
}

#[test]
fn inputs_are_not_removed_under_any_name() {
    let parent = tempfile::tempdir().unwrap();
    let (out, model) = (parent.path().join("out"), parent.path().join("model"));
    made(&out, 1, 1);
    fs::create_dir(&model).unwrap();
    fs::hard_link(out.join("tokenizer.json"), model.join("tokenizer.json")).unwrap();
    let mut inputs = InputFiles::default();
    inputs.add(&model);
    let destination = Destination { inputs, ..over(&out, 1) };
    let text = Writer::create(&destination).unwrap_err().to_string();
    assert!(text.contains("out/tokenizer.json: would be removed, and is read as") && text.contains("model"), "{text}");
    assert_eq!(seed(&out), 1);
}

/// Folders as kills leave them.
#[test]
fn broken_exchanges_are_completed() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let (new, old) = (parent.path().join(".out.paring-new"), parent.path().join(".out.paring-old"));
    made(&out, 1, 1);
    fs::write(out.join("notes.txt"), "mine").unwrap();
    fs::create_dir(out.join("logs")).unwrap();
    let check = |seed_now: u64| {
        assert_eq!((seed(&out), fs::read(out.join("notes.txt")).unwrap()), (json!(seed_now), b"mine".to_vec()));
        assert!(fs::symlink_metadata(out.join("logs")).unwrap().is_dir());
        assert_eq!(names(parent.path()), ["out"]);
    };
    // Before the exchange: second names are made, and the marks are there. It is made anew.
    let place = write(&over(&out, 1), 2).unwrap();
    fs::hard_link(out.join("notes.txt"), new.join("notes.txt")).unwrap();
    drop(place);
    made(&out, 1, 3);
    check(3);
    // As soon as the folder is made, before its mark.
    fs::create_dir(&new).unwrap();
    fs::write(new.join("..paring-staged.1f-0.paring.tmp"), "").unwrap();
    made(&out, 1, 3);
    check(3);
    // After the exchange, before anything else.
    let place = write(&over(&out, 1), 4).unwrap();
    fs::hard_link(out.join("notes.txt"), new.join("notes.txt")).unwrap();
    let own = [CONFIG, SINGLE, "tokenizer.json", "report.html", MANIFEST];
    let mark = json!({"program": "paring 0.1.0", "out": "out", "own": own}).to_string();
    fs::write(out.join(crate::names::REPLACED), &mark).unwrap();
    drop(place);
    let aside = parent.path().join("aside");
    fs::rename(&out, &aside).unwrap();
    fs::rename(&new, &out).unwrap();
    fs::rename(&aside, &new).unwrap();
    let resumed = Place::begun(&over(&out, 1)).unwrap().unwrap();
    assert!(!resumed.is_staged());
    drop(resumed);
    check(4);
    // Between two renames, where folders cannot be exchanged.
    drop(write(&over(&out, 1), 5).unwrap());
    fs::write(out.join(crate::names::REPLACED), &mark).unwrap();
    fs::rename(&out, &old).unwrap();
    let resumed = Place::begun(&over(&out, 1)).unwrap().unwrap();
    assert!(resumed.is_staged());
    resumed.publish().unwrap();
    drop(resumed);
    check(5);
}

/// On a file system that cannot exchange folders.
#[test]
fn two_renames_do_where_nothing_better_is() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    made(&out, 1, 1);
    fs::create_dir(out.join("logs")).unwrap();
    let destination = over(&out, 1);
    let place = write(&destination, 2).unwrap();
    super::super::staging::publish(place.dir(), &destination, false).unwrap();
    assert_eq!(seed(&out), 2);
    assert!(fs::symlink_metadata(out.join("logs")).unwrap().is_dir());
    assert_eq!(names(parent.path()), ["out"]);
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    use std::os::unix::fs::symlink;
    let parent = tempfile::tempdir().unwrap();
    let (dir, outside) = (parent.path().join("out"), parent.path().join("outside"));
    fs::create_dir(&dir).unwrap();
    fs::write(&outside, b"mine").unwrap();
    let mut writer = Writer::create(&Destination::new(&dir, 1)).unwrap();
    for name in ["model.safetensors", "model.safetensors.tmp", "tokenizer.json"] {
        symlink(&outside, dir.join(name)).unwrap();
    }
    writer.shard(0, some()).unwrap();
    writer.finish(&json!({}), &[("tokenizer.json".to_string(), b"new".to_vec())]).unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"mine");
    assert_eq!(fs::read(dir.join("tokenizer.json")).unwrap(), b"new");
    assert!(!fs::symlink_metadata(dir.join(SINGLE)).unwrap().is_symlink());
    assert!(fs::symlink_metadata(dir.join("model.safetensors.tmp")).unwrap().is_symlink());
}

/// A folder that is reached through a link is exchanged where it lies.
#[cfg(unix)]
#[test]
fn the_folder_behind_a_link_is_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let (real, link) = (parent.path().join("disk/real"), parent.path().join("link"));
    fs::create_dir_all(&real).unwrap();
    std::os::unix::fs::symlink("disk/real", &link).unwrap();
    made(&link, 1, 1);
    made(&link, 1, 2);
    assert_eq!((seed(&link), seed(&real)), (json!(2), json!(2)));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names(&parent.path().join("disk")), ["real"]);
}

/// An output of a program that kept no list has the files that it is known to write.
#[test]
fn earlier_outputs_are_known_by_names() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    made(&out, 2, 1);
    fs::write(out.join(MANIFEST), r#"{"version": 1, "program": "paring 0.1.0", "digests": {}}"#).unwrap();
    for name in ["merges.txt", "model-00001-of-00009.safetensors", "notes.txt"] {
        fs::write(out.join(name), "x").unwrap();
    }
    made(&out, 1, 2);
    let left = names(&out);
    assert!(!left.iter().any(|name| name == "merges.txt"), "{left:?}");
    for name in ["model-00001-of-00009.safetensors", "notes.txt"] {
        assert!(left.iter().any(|other| other == name), "{left:?}");
    }
    assert!(!left.contains(&shard_name(0, 2)), "{left:?}");
}

#[test]
fn an_output_that_is_given_up_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let (fresh, out) = (parent.path().join("fresh"), parent.path().join("out"));
    made(&out, 1, 1);
    for dir in [&fresh, &out] {
        let mut writer = Writer::create(&over(dir, 2)).unwrap();
        let place = writer.place();
        writer.shard(0, vec![tensor("a", Dtype::F32, &[2], 1)]).unwrap();
        place.discard().unwrap();
    }
    assert!(names(&fresh).is_empty());
    assert_eq!((seed(&out), names(parent.path())), (json!(1), vec!["fresh".to_string(), "out".to_string()]));
    // One that was killed is known by its list.
    let mut writer = Writer::create(&over(&fresh, 2)).unwrap();
    writer.shard(0, vec![tensor("a", Dtype::F32, &[2], 1)]).unwrap();
    drop(writer);
    let again = Destination { overwrite: false, ..over(&fresh, 1) };
    assert!(matches!(Writer::create(&again), Err(Error::OutputNotEmpty { own: true, .. })));
    made(&fresh, 1, 3);
    assert_eq!(seed(&fresh), 3);
}

/// A model's folder may hold the folder of its output.
#[test]
fn an_output_below_the_model_is_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    made(&out, 1, 1);
    let mut inputs = InputFiles::default();
    inputs.add(parent.path());
    write(&Destination { inputs, ..over(&out, 1) }, 2).unwrap().publish().unwrap();
    assert_eq!(seed(&out), 2);
}

/// An output that lost its config is no unfinished one: what changed in it is still somebody's.
#[test]
fn an_output_without_a_config_is_replaced_too() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    made(&out, 1, 1);
    fs::remove_file(out.join(CONFIG)).unwrap();
    fs::write(out.join(SINGLE), "mine").unwrap();
    made(&out, 1, 2);
    assert_eq!((seed(&out), fs::read(out.join("model.safetensors.kept")).unwrap()), (json!(2), b"mine".to_vec()));
}

/// Marks and lists lead to no other folder, no matter which program wrote them.
#[test]
fn lists_have_plain_names_alone() {
    let parent = tempfile::tempdir().unwrap();
    let (out, new, mine) =
        (parent.path().join("out"), parent.path().join(".out.paring-new"), parent.path().join("mine.txt"));
    fs::write(&mine, "mine").unwrap();
    made(&out, 1, 1);
    fs::create_dir(&new).unwrap();
    for kept in [json!([]), json!([["a", "../mine.txt"]])] {
        let own = if kept == json!([]) { json!(["../mine.txt"]) } else { json!([]) };
        let mark = json!({"program": "paring 0", "out": "out", "own": own, "kept": kept}).to_string();
        fs::write(new.join(crate::names::REPLACED), mark).unwrap();
        fs::write(new.join("a"), "theirs").unwrap();
        assert!(!Place::is_pending(&out));
        assert!(Writer::create(&over(&out, 1)).is_err());
    }
    let other = parent.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("a"), "of a run").unwrap();
    fs::write(other.join(MANIFEST), json!({"program": "paring 0", WRITES: ["../mine.txt", "a"]}).to_string()).unwrap();
    Writer::create(&over(&other, 1)).unwrap().place().discard().unwrap();
    assert!(names(&other).is_empty());
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
}

/// Files that a run wrote into folders below go with the rest; a folder with something else in it is a person's.
#[test]
fn folders_of_an_output_are_replaced_with_it() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let with_folder = |text: &str| {
        let destination =
            Destination { companions: vec!["templates/a".into(), "templates/deep/b".into()], ..over(&out, 1) };
        write_with(&destination, 1, text)?.publish()
    };
    for text in ["first", "second"] {
        with_folder(text).unwrap();
        assert_eq!(fs::read_to_string(out.join("templates/a")).unwrap(), text);
        assert_eq!(fs::read_to_string(out.join("templates/deep/b")).unwrap(), text);
        assert_eq!(names(parent.path()), ["out"]);
    }
    fs::write(out.join("templates/mine"), "mine").unwrap();
    let error = with_folder("third").unwrap_err().to_string();
    assert!(error.contains("templates/a: no run of paring wrote this"), "{error}");
    made(&out, 1, 3);
    assert_eq!(fs::read(out.join("templates/mine")).unwrap(), b"mine");
    assert_eq!((seed(&out), names(parent.path())), (json!(3), vec!["out".to_string()]));
}
