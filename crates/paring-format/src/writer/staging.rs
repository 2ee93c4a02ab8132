//! The folder beside an output in which the one that replaces it is made, and the moment in which they change places.
//!
//! `.NAME.paring-new` lies beside `NAME`, so that both are on one file system. While the new output is made there, a mark says
//! for which folder. Then the earlier one gets a mark that lists its files, the two folders change places in one step, and
//! those files are removed. Files of a person's are in both folders by then: as a second name of the same file, or, where
//! that cannot be had, as a link that leads to the earlier folder until they are moved.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::contents::{self, Contents, THIS_PROGRAM};
use super::destination::Destination;
use super::disk;
use super::files::{folder_of, write_beside};
use super::inputs::is_same;
use crate::names::{LOCK, REPLACED, RunFiles, STAGED, is_plain_name, is_plain_path};
use crate::{Error, Result};

/// Folders that are exchanged to see whether it can be done.
const PROBES: [&str; 2] = [".paring-probe-a", ".paring-probe-b"];

/// A mark that a run leaves in a folder beside an output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Mark {
    program: String,
    /// The name of the output's folder.
    out: String,
    /// Files of an output that was replaced, in the order in which they go.
    #[serde(default)]
    own: Vec<String>,
    /// Files of its that someone changed, and the names under which they are kept.
    #[serde(default)]
    kept: Vec<(String, String)>,
}

impl Mark {
    fn new(out: &Path) -> Self {
        Self { program: THIS_PROGRAM.to_string(), out: name_of(out), ..Self::default() }
    }

    /// The mark in a folder, if it is one that a run made for the output `out`.
    pub fn read(dir: &Path, out: &Path, kind: &str) -> Option<Self> {
        let is_folder = fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir());
        let value = contents::manifest(&dir.join(kind)).filter(|_| is_folder)?;
        let mark: Self = serde_json::from_value(value).ok()?;
        // Files of these names are removed and renamed.
        let is_plain = mark.own.iter().all(|name| is_plain_path(name))
            && mark.kept.iter().all(|(from, to)| is_plain_name(from) && is_plain_name(to));
        Some(mark).filter(|mark| is_plain && mark.out == name_of(out))
    }

    fn write(&self, dir: &Path, kind: &str) -> Result<()> {
        let path = dir.join(kind);
        let text = serde_json::to_vec(self).map_err(|error| Error::io(&path, error.into()))?;
        write_beside(&path, text.len(), |file| file.write_all(&text)).map(drop)
    }
}

/// The folder that `dir` leads to, whether it is there or not.
pub(super) fn real(dir: &Path) -> PathBuf {
    let above = || Some(folder_of(dir).canonicalize().ok()?.join(dir.file_name()?));
    dir.canonicalize().ok().or_else(above).unwrap_or_else(|| dir.to_path_buf())
}

fn name_of(out: &Path) -> String {
    real(out).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn sibling(out: &Path, end: &str) -> Option<PathBuf> {
    let real = real(out);
    let mut name = OsString::from(".");
    name.push(real.file_name()?);
    name.push(end);
    Some(real.with_file_name(name))
}

/// The folder beside an output in which the one that will replace it is made; after the exchange the earlier one is there.
pub(super) fn staging(out: &Path) -> Option<PathBuf> {
    sibling(out, ".paring-new")
}

/// The earlier output where folders cannot be exchanged in one step.
fn earlier(out: &Path) -> Option<PathBuf> {
    sibling(out, ".paring-old")
}

/// The folder beside an output in which a run began to make the one that will replace it, if there is one.
pub(super) fn staged(out: &Path) -> Option<PathBuf> {
    staging(out).filter(|dir| is_begun(dir, out))
}

/// True for a folder in which a run began to make an output for `out`, and that did not take its place.
fn is_begun(dir: &Path, out: &Path) -> bool {
    Mark::read(dir, out, STAGED).is_some() && Mark::read(dir, out, REPLACED).is_none()
}

/// Tells whether an output is made beside this one, or one that it replaced is still there.
pub(super) fn is_pending(out: &Path) -> bool {
    let olds = [staging(out), earlier(out)].into_iter().flatten();
    staged(out).is_some() || olds.into_iter().any(|old| Mark::read(&old, out, REPLACED).is_some())
}

/// Tells whether two folders in `dir` can be exchanged in one step.
pub(super) fn exchanges(dir: &Path) -> Result<bool> {
    let failed = |source| Error::Unwritable { path: dir.to_path_buf(), source };
    let (a, b) = (dir.join(PROBES[0]), dir.join(PROBES[1]));
    fs::create_dir_all(&a).and_then(|()| fs::create_dir_all(&b)).map_err(failed)?;
    let exchanges = disk::exchange(&a, &b).is_ok();
    fs::remove_dir(&a).and_then(|()| fs::remove_dir(&b)).map_err(failed)?;
    Ok(exchanges)
}

/// Makes an empty folder for the output that will replace `out`; in place of an unfinished one that a run left there. Returns it,
/// and whether it can be exchanged in one step.
pub(super) fn begin(destination: &Destination) -> Result<(PathBuf, bool)> {
    let out = &destination.dir;
    let missing = || Error::refused(out, "has no folder above it");
    let dir = staging(out).ok_or_else(missing)?;
    let failed = |source| Error::Unwritable { path: dir.clone(), source };
    if dir.symlink_metadata().is_ok() {
        clear(&dir, out, destination)?;
    }
    fs::create_dir(&dir).map_err(failed)?;
    Mark::new(out).write(&dir, STAGED)?;
    disk::sync_folder(folder_of(&dir)).map_err(failed)?;
    let exchanges = exchanges(&dir)?;
    Ok((dir, exchanges))
}

/// Tells whether a folder has nothing but what a run leaves that ends as soon as it has made it, before its mark.
pub(super) fn is_bare(dir: &Path) -> bool {
    let is_folder = fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir());
    let contents = Contents::of(dir, RunFiles::default(), false).ok().filter(|_| is_folder);
    contents.is_some_and(|contents| contents.is_empty() && contents.own.is_empty())
}

/// Removes an output that was not finished, with its folder. What a person put there stays, and is an error.
pub(super) fn clear(dir: &Path, out: &Path, destination: &Destination) -> Result<()> {
    if !is_begun(dir, out) && !is_bare(dir) {
        return Err(Error::refused(dir, "no run of paring made this folder; move it away"));
    }
    let contents = Contents::of(dir, destination.run, false)?;
    let runs: Vec<&String> = contents.own.iter().chain(&contents.changed).chain(&contents.leftovers).collect();
    for name in &runs {
        destination.check_input(&dir.join(name))?;
    }
    let gone = |name: &OsStr| {
        let path = dir.join(name);
        disk::remove(&path).map_err(|source| Error::io(&path, source))
    };
    // Second names and links of a person's files, made for an exchange that did not come about.
    for name in &contents.foreign {
        let path = dir.join(name);
        let is_probe = PROBES.iter().any(|probe| name == probe);
        if is_probe && fs::remove_dir(&path).is_ok() || !is_second_name(&path, out) {
            continue;
        }
        gone(name)?;
    }
    for name in runs.iter().filter(|name| *name != &STAGED) {
        disk::remove_in(dir, name).map_err(|source| Error::io(&dir.join(name), source))?;
    }
    for name in [LOCK, STAGED] {
        gone(OsStr::new(name))?;
    }
    remove_folder(dir)
}

/// True if another name of the file, or the folder that the link leads to, is in `out` (or was, when it still was there).
fn is_second_name(path: &Path, out: &Path) -> bool {
    let leads = fs::read_link(path).is_ok_and(|to| is_pointer(&to, out));
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    leads || entries.into_iter().any(|entry| is_same(&entry.path(), path))
}

/// Removes a folder that is empty by now.
fn remove_folder(dir: &Path) -> Result<()> {
    fs::remove_dir(dir).map_err(|source| match source.kind() {
        io::ErrorKind::DirectoryNotEmpty => {
            Error::refused(dir, "holds files that no run of paring wrote, so that it stays; move them away")
        }
        _ => Error::io(dir, source),
    })?;
    disk::sync_folder(folder_of(dir)).map_err(|source| Error::io(dir, source))
}

/// Puts the finished output in `dir` in the place of `out`, and removes what it replaces. Returns the files that someone had
/// changed, each with the name under which it is kept.
pub(super) fn publish(dir: &Path, destination: &Destination, exchanges: bool) -> Result<Vec<(String, String)>> {
    let out = &destination.dir;
    let real = real(out);
    let failed = |source| Error::io(&real, source);
    if real.symlink_metadata().is_err() {
        // Someone removed the earlier output meanwhile.
        disk::rename(dir, &real).and_then(|()| disk::sync_folder(folder_of(&real))).map_err(failed)?;
        return disk::remove(&real.join(STAGED)).map(|()| Vec::new()).map_err(failed);
    }
    let contents = Contents::of(&real, destination.run, true)?;
    if !contents.is_output && !contents.is_empty() {
        return Err(destination.in_the_way(out, dir));
    }
    let old = if exchanges { Some(dir.to_path_buf()) } else { earlier(out) };
    let old = old.ok_or_else(|| Error::refused(out, "has no folder above it"))?;
    if !exchanges && old.symlink_metadata().is_ok() {
        return Err(destination.in_the_way(&old, dir));
    }
    let mark = Mark { own: contents.own.clone(), kept: kept(&contents, &real, dir), ..Mark::new(out) };
    for name in contents.foreign.iter().map(OsString::as_os_str).chain(contents.changed.iter().map(OsStr::new)) {
        let (from, to) = (real.join(name), dir.join(mark.name_in_new(name)));
        if !second_name(&from, &to, &pointer(&old, name)).map_err(|source| Error::io(&from, source))? {
            return Err(destination.in_the_way(&from, dir));
        }
    }
    fs::metadata(&real).and_then(|meta| fs::set_permissions(dir, meta.permissions())).map_err(failed)?;
    disk::sync_folder(dir).map_err(failed)?;
    mark.write(&real, REPLACED)?;
    let exchanged = match exchanges {
        true => disk::exchange(dir, &real),
        false => disk::rename(&real, &old).and_then(|()| disk::rename(dir, &real)),
    };
    exchanged.and_then(|()| disk::sync_folder(folder_of(&real))).map_err(failed)?;
    remove_replaced(&old, &real)?;
    Ok(mark.kept)
}

/// Names for the files that someone changed since a run wrote them, which nothing in either folder has.
fn kept(contents: &Contents, real: &Path, dir: &Path) -> Vec<(String, String)> {
    let is_taken = |name: &String| {
        let here = dir.join(name);
        real.join(name).symlink_metadata().is_ok() || here.symlink_metadata().is_ok()
    };
    let keep = |name: &String| {
        let numbered = (1..).map(|n| if n == 1 { format!("{name}.kept") } else { format!("{name}.kept-{n}") });
        // A name that an earlier attempt gave the same file is free.
        let is_free = |kept: &String| !is_taken(kept) || is_same(&dir.join(kept), &real.join(name));
        Some((name.clone(), numbered.into_iter().find(is_free)?))
    };
    contents.changed.iter().filter_map(keep).collect()
}

impl Mark {
    /// The name that a person's file has in the new output.
    fn name_in_new<'a>(&'a self, name: &'a OsStr) -> &'a OsStr {
        let kept = self.kept.iter().find(|(from, _)| name == from.as_str());
        kept.map_or(name, |(_, to)| OsStr::new(to))
    }
}

/// The text of a link in the new output that leads to a name in the earlier one.
fn pointer(old: &Path, name: &OsStr) -> PathBuf {
    Path::new("..").join(old.file_name().unwrap_or_default()).join(name)
}

/// True if the text of a link is one that leads to an earlier output.
fn is_pointer(to: &Path, out: &Path) -> bool {
    let mut parts = to.components();
    let above = parts.next() == Some(std::path::Component::ParentDir);
    let folder = parts.next().map(|part| part.as_os_str().to_os_string());
    let known = [staging(out), earlier(out)].into_iter().flatten();
    above && known.into_iter().any(|dir| dir.file_name() == folder.as_deref())
}

/// Gives a person's file a second name, so that it is there before and after the exchange; what has no second names gets a
/// link. Returns false where something else has the name.
fn second_name(from: &Path, to: &Path, pointer: &Path) -> io::Result<bool> {
    if to.symlink_metadata().is_ok() {
        return Ok(is_same(from, to) || fs::read_link(to).is_ok_and(|text| text == pointer));
    }
    let is_folder = from.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if !is_folder && fs::hard_link(from, to).is_ok() {
        return Ok(true);
    }
    link(pointer, to).map(|()| true)
}

#[cfg(unix)]
fn link(text: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(text, at)
}

/// Without links it is moved after the exchange.
#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> io::Result<()> {
    Ok(())
}

/// Completes an exchange that was broken off, if there was one. The caller has the lock of `out`, where there is a folder.
pub(super) fn settle(out: &Path) -> Result<()> {
    let real = real(out);
    if let Some(old) = earlier(out).filter(|old| Mark::read(old, out, REPLACED).is_some())
        && real.symlink_metadata().is_err()
    {
        // Between two renames: the earlier output has its place again until the new one takes it.
        let back = disk::rename(&old, &real).and_then(|()| disk::sync_folder(folder_of(&real)));
        back.map_err(|source| Error::io(&old, source))?;
    }
    let olds = [staging(out), earlier(out)].into_iter().flatten();
    olds.filter(|old| Mark::read(old, out, REPLACED).is_some()).try_for_each(|old| remove_replaced(&old, &real))
}

/// Removes the files of an output that was replaced, which lies in `old`; what is a person's is moved to `real`, if it is not
/// there yet.
fn remove_replaced(old: &Path, real: &Path) -> Result<()> {
    let Some(mark) = Mark::read(old, real, REPLACED) else { return Ok(()) };
    let failed = |source| Error::io(old, source);
    for entry in fs::read_dir(old).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let text = name.to_string_lossy();
        let is_run = mark.own.iter().any(|own| own.split('/').next() == Some(&text))
            || crate::names::temporary_of(&text).is_some();
        if !is_run && ![LOCK, REPLACED, STAGED].contains(&&*text) {
            bring(&old.join(&name), &real.join(mark.name_in_new(&name)), &pointer(old, &name))?;
        }
    }
    disk::remove(&real.join(STAGED)).and_then(|()| disk::sync_folder(real)).map_err(failed)?;
    let temporary = fs::read_dir(old).map_err(failed)?.flatten().map(|entry| entry.file_name());
    let temporary = temporary.filter_map(|name| name.into_string().ok());
    let temporary = temporary.filter(|name| crate::names::temporary_of(name).is_some());
    for name in mark.own.iter().cloned().chain(temporary) {
        disk::remove_in(old, &name).map_err(failed)?;
    }
    for name in [STAGED, LOCK, REPLACED] {
        disk::remove(&old.join(name)).map_err(failed)?;
    }
    remove_folder(old)
}

/// Moves a person's file to where it belongs, if it is not there yet. What took its name meanwhile is not touched.
fn bring(from: &Path, to: &Path, pointer: &Path) -> Result<()> {
    let failed = |source| Error::io(from, source);
    if to.symlink_metadata().is_err() {
        return disk::rename(from, to).map_err(failed);
    }
    if is_same(from, to) {
        return disk::remove(from).map_err(failed);
    }
    if fs::read_link(to).is_ok_and(|text| text == pointer) {
        if disk::exchange(from, to).is_ok() {
            return disk::remove(from).map_err(failed);
        }
        return disk::remove(to).and_then(|()| disk::rename(from, to)).map_err(|source| {
            // The link leads there again. That it cannot be made either adds nothing.
            link(pointer, to).unwrap_or(());
            failed(source)
        });
    }
    Ok(())
}
