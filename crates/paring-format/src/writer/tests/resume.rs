use super::*;

/// Files that a program may leave beside its shards.
const RUN: RunFiles = RunFiles { names: &["report.json"], prefix: Some(".activations") };
use crate::Checkpoint;

/// The beginning of a journal of a program that kept no list.
const BEGUN: &str = "{\"line\": \"run\", \"program\": \"paring 0.1.0\", \"shards\": 3}\n";

fn into(dir: &Path, shards: usize, overwrite: bool) -> Result<Writer> {
    Writer::create(&Destination { run: RUN, overwrite, has_journal: true, ..Destination::new(dir, shards) })
}

fn one(name: &str) -> Vec<NamedTensor> {
    vec![tensor(name, Dtype::F32, &[3], name.len() as u64)]
}

/// A folder with the first two of three shards closed, as a run that was killed leaves it.
fn killed(dir: &Path) -> Vec<ClosedFile> {
    let mut writer = into(dir, 3, false).unwrap();
    let closed = [("a", 0), ("bb", 1)].map(|(name, i)| writer.shard(i, one(name)).unwrap());
    // Begun, and never closed.
    std::mem::forget(writer.begin(2, &mut one("ccc")).unwrap());
    drop(writer);
    for name in [JOURNAL, ".activations-00002", ".activations-00003", ".activations-00003.tmp", CONFIG, "mine.txt"] {
        fs::write(dir.join(name), if name == JOURNAL { BEGUN } else { name }).unwrap();
    }
    closed.to_vec()
}

fn resume(dir: &Path, closed: &[ClosedFile]) -> Result<Writer> {
    let destination = Destination { run: RUN, has_journal: true, ..Destination::new(dir, 3) };
    let place = Place::begun(&destination)?.unwrap();
    Writer::resume(Arc::new(place), 3, closed, Some(".activations-00002"))
}

#[test]
fn what_is_closed_stays_and_the_rest_is_written_again() {
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let finish = |mut writer: Writer, first: usize| {
        for (i, name) in ["a", "bb", "ccc"].into_iter().enumerate().skip(first) {
            writer.shard(i, one(name)).unwrap();
        }
        writer.finish(&json!({"model_type": "opt"}), &[]).unwrap()
    };
    let summary = finish(into(whole.path(), 3, false).unwrap(), 0);
    let dir = broken.path();
    let closed = killed(dir);
    let writer = resume(dir, &closed).unwrap();
    // The config goes before anything else is done.
    let kept = [".activations-00002", JOURNAL, "mine.txt", &shard_name(0, 3), &shard_name(1, 3)];
    let mut kept: Vec<String> = kept.iter().map(|name| name.to_string()).collect();
    kept.sort();
    assert_eq!(names(dir), kept);
    assert_eq!(finish(writer, 2), summary);
    for ClosedFile { name, .. } in &summary.files {
        assert_eq!(fs::read(dir.join(name)).unwrap(), fs::read(whole.path().join(name)).unwrap(), "{name}");
    }
}

#[test]
fn shards_that_changed_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let closed = killed(dir);
    let path = dir.join(shard_name(1, 3));
    let bytes = fs::read(&path).unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (bytes, part) in [(&flipped[..], "it was changed since"), (&bytes[..bytes.len() - 1], "were written")] {
        fs::write(&path, bytes).unwrap();
        let text = resume(dir, &closed).unwrap_err().to_string();
        assert!(text.contains(&shard_name(1, 3)) && text.contains(part), "{text}");
    }
    fs::remove_file(&path).unwrap();
    assert!(resume(dir, &closed).unwrap_err().to_string().contains(&shard_name(1, 3)));
    let swapped = [closed[1].clone(), closed[0].clone()];
    assert!(resume(dir, &swapped).unwrap_err().to_string().contains("noted as shard 0"));
    // None of that lost what is there.
    assert!(dir.join(JOURNAL).is_file() && dir.join(shard_name(0, 3)).is_file());
}

#[test]
fn one_writer_at_a_time() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("out");
    let writer = into(&dir, 1, false).unwrap();
    let lock = writer.place();
    let refused = |overwrite: bool| {
        let text = into(&dir, 1, overwrite).unwrap_err().to_string();
        assert!(text.contains(&format!("another run writes here (process {})", std::process::id())), "{text}");
    };
    refused(false);
    refused(true);
    drop(writer);
    refused(true);
    drop(lock);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    // What a killed run left hinders nobody.
    fs::write(dir.join(LOCK), "4095").unwrap();
    drop(into(&dir, 1, false).unwrap());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn a_lock_is_no_link() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, outside) = (parent.path().join("out"), parent.path().join("outside"));
    fs::create_dir(&dir).unwrap();
    fs::write(&outside, "mine").unwrap();
    std::os::unix::fs::symlink(&outside, dir.join(LOCK)).unwrap();
    let text = into(&dir, 1, true).unwrap_err().to_string();
    assert!(text.contains("cannot write here"), "{text}");
    assert_eq!(fs::read_to_string(&outside).unwrap(), "mine");
}

#[test]
fn an_unfinished_folder_says_so() {
    let dir = tempfile::tempdir().unwrap();
    killed(dir.path());
    fs::remove_file(dir.path().join(CONFIG)).unwrap();
    assert!(matches!(Checkpoint::open(dir.path()), Err(Error::NotFinished { .. })));
    assert!(matches!(into(dir.path(), 3, false), Err(Error::Unfinished { .. })));
    drop(into(dir.path(), 3, true).unwrap());
    // The journal stays until the next takes its place, so that the folder is still known as a run's.
    assert_eq!(names(dir.path()), [JOURNAL, "mine.txt"]);
}

#[test]
fn what_a_killed_run_left_of_its_first_files_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for name in [".paring-probe.tmp", ".journal.jsonl.1f-0.paring.tmp", LOCK] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    drop(into(dir.path(), 1, false).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::write(dir.path().join("notes.tmp"), "mine").unwrap();
    assert!(matches!(into(dir.path(), 1, false), Err(Error::OutputNotEmpty { .. })));
}

#[test]
fn a_file_is_there_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let closed = write_beside(&path, 7, |file| file.write_all(b"one two")).unwrap();
    closed.check(dir.path()).unwrap();
    assert_eq!((closed.name.as_str(), closed.bytes), ("state", 7));
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let failed = write_beside(&path, 9, |file| file.write_all(b"three").and(Err(full())));
    assert!(failed.unwrap_err().to_string().contains("no space left for 9 bytes"));
    assert_eq!(fs::read(&path).unwrap(), b"one two");
    assert_eq!(names(dir.path()), ["state"]);
}
