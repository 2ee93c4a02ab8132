//! Two runs in one folder.

use std::fs::{self, File};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::super::lock::{Lock, is_at};
use crate::Error;
use crate::names::LOCK;

#[test]
fn one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LOCK);
    let lock = Lock::take(dir.path()).unwrap();
    assert_eq!(lock.unsupported(), None);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    let refused = Lock::take(dir.path()).unwrap_err();
    assert!(matches!(&refused, Error::Locked { holder, .. } if *holder == std::process::id().to_string()), "{refused}");
    drop(lock);
    assert!(!path.exists());
    // One that a run left behind when it was killed, with a longer number in it.
    fs::write(&path, "123456789012345\n").unwrap();
    let lock = Lock::take(dir.path()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    drop(lock);
    assert!(!path.exists());
}

#[cfg(unix)]
#[test]
fn a_file_that_was_exchanged_is_not_the_one_of_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LOCK);
    let first = File::create(&path).unwrap();
    assert!(is_at(&first, &path));
    fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    assert!(!is_at(&first, &path), "there is none");
    let second = File::create(&path).unwrap();
    assert!(!is_at(&first, &path) && is_at(&second, &path));
    // The same file under both names.
    fs::hard_link(&path, dir.path().join("beside")).unwrap();
    assert!(is_at(&second, &dir.path().join("beside")));
}

/// A lock on a file that has lost its name keeps nobody out: another run locks the one that has it now.
#[test]
fn a_file_that_was_exchanged_while_it_was_taken_is_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LOCK);
    let opened = || File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
    let first = opened();
    fs::remove_file(&path).unwrap();
    assert!(Lock::of(first, &path).unwrap().is_none(), "gone");
    let first = opened();
    fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    let lock = Lock::take(dir.path()).unwrap();
    assert!(Lock::of(first, &path).unwrap().is_none(), "another one has the name");
    drop(lock);
    let lock = Lock::of(opened(), &path).unwrap().unwrap();
    assert!(matches!(Lock::of(opened(), &path), Err(Error::Locked { path, .. }) if path == dir.path()));
    drop(lock);
}

/// A file of a lock that its holder removes between another's opening and locking it keeps nobody out.
#[test]
fn nobody_holds_what_another_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while taken.load(SeqCst) < 1000 {
                    match Lock::take(dir.path()) {
                        Ok(lock) => {
                            assert_eq!(holders.fetch_add(1, SeqCst), 0, "two at once");
                            taken.fetch_add(1, SeqCst);
                            holders.fetch_sub(1, SeqCst);
                            drop(lock);
                        }
                        Err(Error::Locked { .. }) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
}

#[cfg(unix)]
#[test]
fn links_and_folders_of_the_name_are_no_locks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LOCK);
    let other = dir.path().join("other");
    fs::write(&other, "kept").unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert!(matches!(Lock::take(dir.path()), Err(Error::Unwritable { .. })));
    assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(Lock::take(dir.path()), Err(Error::Unwritable { .. })));
    assert!(path.is_dir());
    assert!(matches!(Lock::take(&dir.path().join("none")), Err(Error::Unwritable { .. })));
}
