//! The folder beside an output, and what is found there or in its place.

use super::super::staging::{exchanges, publish};
use super::overwrite::{RUN, made, over, seed, write, write_with};
use super::*;

#[test]
fn a_run_writes_these_files() {
    let dir = Path::new("out");
    assert_eq!(Destination::new(dir, 1).writes(), [SINGLE, CONFIG, MANIFEST]);
    let writes = [&shard_name(0, 2), &shard_name(1, 2), INDEX, CONFIG, MANIFEST, "report.html", "tokenizer.json"];
    assert_eq!(over(dir, 2).writes(), writes);
    // Their number is not known yet.
    assert_eq!(Destination::new(dir, 0).writes(), [INDEX, CONFIG, MANIFEST]);
}

/// An output that was begun beside a folder counts as begun, no matter what became of the folder.
#[test]
fn an_output_that_is_made_beside_is_not_begun_again_unasked() {
    let parent = tempfile::tempdir().unwrap();
    let (out, new) = (parent.path().join("out"), parent.path().join(".out.paring-new"));
    let asked = |overwrite: bool| Destination { overwrite, ..over(&out, 1) };
    assert!(!Place::is_pending(&out));
    made(&out, 1, 1);
    assert!(!Place::is_pending(&out));
    assert!(matches!(asked(false).check(), Err(Error::OutputNotEmpty { own: true, .. })));
    drop(write(&asked(true), 2).unwrap());
    assert!(Place::is_pending(&out));
    let unfinished = |path: &Path| match asked(false).check() {
        Err(Error::Unfinished { path: named }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    };
    for name in names(&out) {
        fs::remove_file(out.join(name)).unwrap();
    }
    // The folder is empty, and then it is gone.
    unfinished(&new);
    assert!(asked(true).check().is_ok());
    fs::remove_dir(&out).unwrap();
    unfinished(&new);
    assert!(asked(true).check().is_ok() && Place::is_pending(&out));
    // A person who put a journal there will look for it there.
    fs::create_dir(&out).unwrap();
    fs::write(out.join(JOURNAL), "of another program").unwrap();
    unfinished(&out);
}

/// Folders that change places, to see whether they do, are made each time.
#[test]
fn what_is_in_the_way_of_a_probe_is_an_error() {
    let parent = tempfile::tempdir().unwrap();
    assert!(exchanges(parent.path()).unwrap());
    assert!(names(parent.path()).is_empty());
    fs::create_dir(parent.path().join(".paring-probe-a")).unwrap();
    assert!(exchanges(parent.path()).unwrap());
    assert!(names(parent.path()).is_empty());
    fs::write(parent.path().join(".paring-probe-a"), "x").unwrap();
    assert!(matches!(exchanges(parent.path()), Err(Error::Unwritable { .. })));
}

/// Leftovers of an earlier exchange are removed, and a person's files stay.
#[cfg(unix)]
#[test]
fn an_unfinished_folder_is_cleared_of_what_runs_made() {
    let parent = tempfile::tempdir().unwrap();
    let (out, new) = (parent.path().join("out"), parent.path().join(".out.paring-new"));
    made(&out, 1, 1);
    fs::write(out.join("notes.txt"), "mine").unwrap();
    fs::create_dir(out.join("logs")).unwrap();
    let killed = || {
        drop(write(&over(&out, 1), 2).unwrap());
        fs::create_dir(new.join(".paring-probe-a")).unwrap();
        fs::create_dir(new.join(".paring-probe-b")).unwrap();
        fs::hard_link(out.join("notes.txt"), new.join("notes.txt")).unwrap();
        for (to, name) in [(".out.paring-new", "logs"), (".out.paring-old", "was-there")] {
            std::os::unix::fs::symlink(Path::new("..").join(to).join(name), new.join(name)).unwrap();
        }
    };
    killed();
    made(&out, 1, 3);
    assert_eq!((seed(&out), fs::read(out.join("notes.txt")).unwrap()), (json!(3), b"mine".to_vec()));
    assert_eq!(names(parent.path()), ["out"]);
    assert!(out.join("logs").is_dir() && !out.join("was-there").exists());
    for put in ["theirs.txt", ".paring-probe-a/theirs.txt", "link"] {
        killed();
        match put {
            "link" => std::os::unix::fs::symlink("../elsewhere/logs", new.join(put)).unwrap(),
            file => fs::write(new.join(file), "theirs").unwrap(),
        }
        let text = write(&over(&out, 1), 4).unwrap_err().to_string();
        assert!(text.contains("holds files that no run of paring wrote, so that it stays"), "{put}: {text}");
        assert!(fs::symlink_metadata(new.join(put)).is_ok(), "{put}");
        assert_eq!((seed(&out), names(&new).len()), (json!(3), 1), "{put}");
        fs::remove_dir_all(&new).unwrap();
    }
}

/// The mark that says whose folder it is goes last.
#[test]
fn an_unfinished_folder_is_known_to_the_last() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    made(&out, 1, 1);
    let place = write(&over(&out, 1), 2).unwrap();
    let before = disk::recording::steps(parent.path()).len();
    place.discard().unwrap();
    let steps = disk::recording::steps(parent.path())[before..].to_vec();
    let removed = |name: &str| format!("remove .out.paring-new/{name}");
    assert_eq!(steps[0], removed(CONFIG));
    assert_eq!(steps[steps.len() - 3..], [removed(LOCK), removed(".paring-staged"), "sync folder ".to_string()]);
}

/// Between the check and the end of a run of hours a person may have put anything in the place of the output.
#[test]
fn what_took_the_place_of_the_earlier_output_meanwhile_stays() {
    let parent = tempfile::tempdir().unwrap();
    let (out, new, old) =
        (parent.path().join("out"), parent.path().join(".out.paring-new"), parent.path().join(".out.paring-old"));
    let destination = over(&out, 1);
    made(&out, 1, 1);
    let place = write(&destination, 2).unwrap();
    fs::remove_dir_all(&out).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.txt"), "mine").unwrap();
    let text = place.publish().unwrap_err().to_string();
    assert!(text.contains("in the way of the new output, which is finished in"), "{text}");
    assert_eq!((names(&out), seed(&new)), (vec!["thesis.txt".to_string()], json!(2)));
    // A file under one of the new output's names, of an output that is still a run's.
    fs::remove_dir_all(&out).unwrap();
    fs::rename(&new, parent.path().join("aside")).unwrap();
    drop(place);
    made(&out, 1, 1);
    let place = write(&destination, 2).unwrap();
    fs::create_dir(out.join("new-folder")).unwrap();
    fs::write(new.join("new-folder"), "of the new output").unwrap();
    let text = place.publish().unwrap_err().to_string();
    assert!(text.contains("out/new-folder: in the way of the new output"), "{text}");
    fs::remove_dir(out.join("new-folder")).unwrap();
    fs::remove_file(new.join("new-folder")).unwrap();
    // With two renames the earlier output needs a name for a moment.
    fs::create_dir(&old).unwrap();
    let text = publish(&new, &destination, false).unwrap_err().to_string();
    assert!(text.contains(".out.paring-old: in the way"), "{text}");
    fs::remove_dir(&old).unwrap();
    // An empty folder is in nobody's way, and none at all is not either.
    fs::remove_dir_all(&out).unwrap();
    fs::create_dir(&out).unwrap();
    assert_eq!(place.publish().unwrap(), Vec::<String>::new());
    drop(place);
    let place = write(&destination, 5).unwrap();
    fs::remove_dir_all(&out).unwrap();
    place.publish().unwrap();
    drop(place);
    assert_eq!((seed(&out), names(parent.path())), (json!(5), vec!["aside".to_string(), "out".to_string()]));
    assert!(!out.join(".paring-staged").exists());
}

/// Files that were changed get another name, and a note says so.
#[test]
fn renamed_files_are_noted() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    made(&out, 1, 1);
    fs::write(out.join("tokenizer.json"), "changed").unwrap();
    let destination = over(&out, 1);
    let place = write(&destination, 2).unwrap();
    assert!(place.is_staged() && place.notes().is_empty());
    // A name that an earlier attempt gave the same file, and one that is taken in the new folder.
    fs::hard_link(out.join("tokenizer.json"), place.dir().join("tokenizer.json.kept-2")).unwrap();
    fs::write(place.dir().join("tokenizer.json.kept"), "of the new output").unwrap();
    let notes = place.publish().unwrap();
    let kept = "it is kept as tokenizer.json.kept-2";
    assert_eq!(notes, [format!("tokenizer.json of the earlier output was changed after it was written: {kept}")]);
    assert_eq!(fs::read(out.join("tokenizer.json.kept-2")).unwrap(), b"changed");
    assert_eq!(fs::read(out.join("tokenizer.json.kept")).unwrap(), b"of the new output");
    // Nothing is replaced in a new folder, and nothing said.
    let fresh = Writer::create(&over(&parent.path().join("fresh"), 1)).unwrap().place();
    assert!(!fresh.is_staged() && fresh.notes().is_empty() && fresh.publish().unwrap().is_empty());
}

/// A resumed run finds its folder beside the output again, with the mark that says so.
#[test]
fn a_folder_beside_stays_marked_when_it_is_resumed() {
    let parent = tempfile::tempdir().unwrap();
    let (out, new) = (parent.path().join("out"), parent.path().join(".out.paring-new"));
    let destination = Destination { has_journal: true, ..over(&out, 2) };
    assert!(Place::begun(&destination).unwrap().is_none());
    made(&out, 1, 1);
    let mut writer = Writer::create(&destination).unwrap();
    let closed = writer.shard(0, vec![tensor("t0", Dtype::F32, &[4], 2)]).unwrap();
    fs::write(new.join(JOURNAL), json!({"line": "run", "program": "paring 0", "shards": 2}).to_string()).unwrap();
    fs::write(new.join(".x.1f-0.paring.tmp"), "").unwrap();
    drop(writer);
    let place = Place::begun(&destination).unwrap().unwrap();
    assert!(place.is_staged() && place.dir() == new);
    let mut writer = Writer::resume(Arc::new(place), 2, &[closed], None).unwrap();
    assert_eq!(names(&new), [".paring-staged", JOURNAL, &shard_name(0, 2)]);
    writer.shard(1, vec![tensor("t1", Dtype::F32, &[4], 2)]).unwrap();
    let place = writer.place();
    writer.finish(&json!({"seed": 2}), &[]).unwrap();
    place.publish().unwrap();
    assert_eq!((seed(&out), names(parent.path())), (json!(2), vec!["out".to_string()]));
    assert!(!out.join(".paring-staged").exists());
}

/// A run leaves its lock and files that it began in an output that is finished.
#[test]
fn a_finished_output_is_tidied() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    made(&out, 1, 1);
    let whole = names(&out);
    Place::tidy(&out, RUN).unwrap();
    for leftovers in [&[".state.1f-0.paring.tmp", ".paring-replaced"][..], &[LOCK], &[LOCK, ".paring-staged"]] {
        leftovers.iter().for_each(|name| fs::write(out.join(name), "").unwrap());
        fs::write(out.join("mine.tmp"), "mine").unwrap();
        Place::tidy(&out, RUN).unwrap();
        assert!(!out.join(LOCK).exists());
        fs::remove_file(out.join("mine.tmp")).unwrap();
        assert_eq!(names(&out), whole);
    }
    // Nothing is begun where there is nothing to do; otherwise another run is waited for.
    let lock = Lock::take(&out).unwrap();
    assert!(matches!(Place::tidy(&out, RUN), Err(Error::Locked { .. })));
    drop(lock);
    assert!(Place::tidy(&parent.path().join("none"), RUN).is_err());
}

/// A folder of an output belongs to it while everything in it does.
#[cfg(unix)]
#[test]
fn folders_with_changed_files_are_a_persons() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let destination = Destination { companions: vec!["a/b".into(), "a/c".into()], ..over(&out, 1) };
    let make = || write_with(&destination, 1, "made")?.publish();
    make().unwrap();
    // A file that a run began there, and did not finish, is nobody's.
    fs::write(out.join("a/.b.1f-0.paring.tmp"), "").unwrap();
    make().unwrap();
    assert_eq!(names(&out.join("a")), ["b", "c"]);
    let refused = || {
        let text = make().unwrap_err().to_string();
        assert!(text.contains("a/b: no run of paring wrote this"), "{text}");
    };
    fs::write(out.join("a/b"), "changed").unwrap();
    refused();
    fs::write(out.join("a/b"), "made").unwrap();
    make().unwrap();
    fs::remove_file(out.join("a/b")).unwrap();
    std::os::unix::fs::symlink("c", out.join("a/b")).unwrap();
    refused();
    // An index alone is known as a model's, too.
    let model = parent.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join(INDEX), "{}").unwrap();
    let text = Writer::create(&over(&model, 1)).unwrap_err().to_string();
    assert!(text.contains("holds a model, and nothing says"), "{text}");
}
