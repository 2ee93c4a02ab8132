//! Shards that are merged: their tensors, their names, and what a run that ends in the middle leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::checkpoint::{Entry, Shard, ShardKind};
use crate::names::{CONFIG, INDEX, JOURNAL, RunFiles, SINGLE};
use crate::writer::disk::recording::{end_after, steps};
use crate::writer::tests::{names, tensor};
use crate::writer::{Destination, FILES, MERGES, NamedTensor, WRITES, WriteSummary, listed};
use crate::{Checkpoint, Dtype};

/// Shards of blocks, which a journal knows, and all.
const BLOCKS: usize = 4;
const SHARDS: usize = 6;
/// The embedding first.
const ORDER: [usize; SHARDS] = [4, 0, 1, 2, 3, 5];

/// Tensors of odd lengths, so that one would not be aligned after another.
fn tensors(i: usize) -> Vec<NamedTensor> {
    let seed = i as u64;
    vec![
        tensor(&format!("{i}.codes"), Dtype::I8, &[5 + i], seed),
        tensor(&format!("{i}.norm"), Dtype::Bf16, &[3], seed + 10),
        tensor(&format!("{i}.weight_shape"), Dtype::I64, &[2], seed + 20),
        tensor(&format!("{i}.empty"), Dtype::F32, &[0, 2], seed),
        tensor(&format!("{i}.scalar"), Dtype::F32, &[], seed + 30),
    ]
}

fn destination(dir: &Path) -> Destination {
    Destination {
        run: RunFiles { names: &["report.json"], prefix: None },
        has_journal: true,
        ..Destination::new(dir, SHARDS)
    }
}

/// A run from its beginning, or, with `closed` shards of blocks and a journal, from where it ended.
fn run(dir: &Path, closed: &mut Vec<ClosedFile>, largest: u64) -> Result<WriteSummary> {
    let destination = destination(dir);
    let mut writer = match dir.join(JOURNAL).exists() {
        true => Writer::resume(Arc::new(Place::begun(&destination)?.unwrap()), SHARDS, closed, None)?,
        false => {
            let writer = Writer::create(&destination)?;
            let begun = json!({"line": "run", "program": "paring 0", WRITES: destination.writes()});
            fs::write(dir.join(JOURNAL), format!("{begun}\n")).unwrap();
            writer
        }
    };
    for i in closed.len()..SHARDS {
        if !writer.is_merged(i) {
            let made = writer.shard(i, tensors(i))?;
            closed.extend(Some(made).filter(|_| i < BLOCKS));
        }
    }
    let mut heard = Vec::new();
    writer.merge(&ORDER, largest, &mut |done, of| heard.push((done, of)))?;
    assert!(heard.is_empty() || heard.into_iter().eq((0..SHARDS).map(|i| (i, SHARDS))));
    let summary = writer.finish(&json!({"model_type": "opt"}), &[("a.json".to_string(), b"{}".to_vec())])?;
    let manifest = json!({"program": "paring 0", FILES: listed(&summary.files), MERGES: summary.merged}).to_string();
    write_beside(&dir.join(MANIFEST), manifest.len(), |file| file.write_all(manifest.as_bytes()))?;
    disk::remove(&dir.join(JOURNAL)).map_err(|source| Error::io(dir, source))?;
    Ok(summary)
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    names(dir).into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
}

#[test]
fn merged_files_hold_what_the_shards_held() {
    for (largest, count) in [(u64::MAX, 1), (1300, 2), (0, SHARDS)] {
        let dir = tempfile::tempdir().unwrap();
        let summary = run(dir.path(), &mut Vec::new(), largest).unwrap();
        let weights: Vec<String> = (0..count).map(|k| shard_name(k, count)).collect();
        let index = (count > 1).then_some(INDEX);
        let rest = ["a.json"].into_iter().chain(index).chain([CONFIG]).map(String::from);
        let written: Vec<String> = summary.files.iter().map(|file| file.name.clone()).collect();
        assert_eq!(written, weights.iter().cloned().chain(rest).collect::<Vec<_>>());
        let mut all: Vec<String> = written.iter().cloned().chain([MANIFEST.to_string()]).collect();
        all.sort();
        assert_eq!(names(dir.path()), all);
        summary.files.iter().for_each(|file| file.check(dir.path()).unwrap());
        assert_eq!(summary.file_bytes, summary.files.iter().map(|file| file.bytes).sum::<u64>());
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!((summary.tensors, summary.tensor_bytes), (5 * SHARDS, checkpoint.total_bytes()));
        for tensor in (0..SHARDS).flat_map(tensors) {
            assert_eq!(checkpoint.read(&tensor.name).unwrap(), tensor.bytes, "{}", tensor.name);
        }
        // The embedding is in the first of several, and blocks are in their order.
        let file = |i: usize| checkpoint.info(&format!("{i}.norm")).unwrap().file.clone();
        if count == 2 {
            assert_eq!([4, 0, 3, 5].map(file), [0, 0, 1, 1].map(|k| shard_name(k, 2)));
        }
        for name in &weights {
            let shard = Shard::map(dir.path(), name, ShardKind::Safetensors).unwrap();
            let entries = shard.entries().unwrap().tensors;
            let is_aligned = |(_, entry): &(String, Entry)| entry.place.start.is_multiple_of(entry.dtype.size());
            assert!(entries.iter().all(is_aligned), "{name}");
        }
    }
}

/// The crate that others read with opens it.
#[test]
fn the_safetensors_crate_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &mut Vec::new(), u64::MAX).unwrap();
    let bytes = fs::read(dir.path().join(SINGLE)).unwrap();
    let opened = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for tensor in (0..SHARDS).flat_map(tensors) {
        assert_eq!(opened.tensor(&tensor.name).unwrap().data(), tensor.bytes);
    }
}

/// A run that ends after any of its steps resumes, and leaves the same files, with the same digests.
#[test]
fn ended_after_each_step_it_resumes() {
    let whole = tempfile::tempdir().unwrap();
    let largest = 1300;
    let summary = run(whole.path(), &mut Vec::new(), largest).unwrap();
    let want = files(whole.path());
    let all = steps(whole.path()).len();
    let merging = steps(whole.path()).iter().position(|step| step.contains("paring-merging")).unwrap();
    assert!(all - merging > 30, "{all} steps, {merging} of them before shards are merged");
    // Others end runs before that.
    for end in merging - 5..all {
        let dir = tempfile::tempdir().unwrap();
        let mut closed = Vec::new();
        end_after(dir.path(), end);
        let error = run(dir.path(), &mut closed, largest).unwrap_err().to_string();
        assert!(error.contains("ended here"), "{error}");
        // Nothing of a model is ever missing in both its forms, and none is taken for one.
        assert!(Checkpoint::open(dir.path()).is_err() || dir.path().join(CONFIG).exists());
        // Some end a second time, a few steps later.
        end_after(dir.path(), if end % 3 == 0 { steps(dir.path()).len() + 7 } else { usize::MAX });
        let again = run(dir.path(), &mut closed, largest);
        end_after(dir.path(), usize::MAX);
        let resumed = again.or_else(|_| run(dir.path(), &mut closed, largest)).unwrap();
        assert_eq!(resumed, summary, "ended after step {end}");
        assert!(files(dir.path()) == want, "ended after step {end}: other files");
    }
}

/// A shard goes when the disk has its copy, and the name comes when all are copied.
#[test]
fn the_disk_has_a_copy_before_a_shard_goes() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &mut Vec::new(), u64::MAX).unwrap();
    let steps = steps(dir.path());
    let merging = merging_name(SINGLE);
    let begin = steps.iter().position(|step| step.contains(&merging)).unwrap();
    let mut want = [
        format!("write {merging}~"),
        format!("sync {merging}~"),
        format!("rename {merging}~ to {merging}"),
        "sync folder ".to_string(),
    ]
    .to_vec();
    for i in ORDER {
        let shard = shard_name(i, SHARDS);
        want.extend([format!("write {merging}"), format!("sync data of {merging}"), format!("remove {shard}")]);
    }
    want.extend([format!("rename {merging} to {SINGLE}"), "sync folder ".to_string()]);
    assert_eq!(steps[begin..begin + want.len()], want);
    // Before, the list of names is there.
    assert_eq!(steps[begin - 2..begin], [format!("rename {MANIFEST}~ to {MANIFEST}"), "sync folder ".to_string()]);
}

#[cfg(unix)]
#[test]
fn no_second_copy_is_on_the_disk() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let big = |i: usize| vec![tensor(&format!("{i}"), Dtype::U8, &[1 << 20], i as u64)];
    let mut writer = Writer::create(&Destination { has_journal: true, ..Destination::new(dir.path(), 8) }).unwrap();
    (0..8).for_each(|i| drop(writer.shard(i, big(i)).unwrap()));
    let used = || -> u64 {
        let entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().blocks());
        entries.sum::<u64>() * 512
    };
    let (before, mut most) = (used(), 0);
    writer.merge(&[], u64::MAX, &mut |_, _| most = most.max(used())).unwrap();
    assert!(before >= 8 << 20 && most < before + (1 << 20) + (1 << 18), "{most} of {before}");
    writer.finish(&json!({}), &[]).unwrap();
    assert_eq!(Checkpoint::open(dir.path()).unwrap().total_bytes(), 8 << 20);
}

#[test]
fn what_is_wrong_is_told() {
    let whole = tempfile::tempdir().unwrap();
    run(whole.path(), &mut Vec::new(), u64::MAX).unwrap();
    let removed = format!("remove {}", shard_name(1, SHARDS));
    let end = steps(whole.path()).iter().position(|step| *step == removed).unwrap() + 1;
    let check = |prepare: &dyn Fn(&Path), words: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let mut closed = Vec::new();
        end_after(dir.path(), end);
        run(dir.path(), &mut closed, u64::MAX).unwrap_err();
        end_after(dir.path(), usize::MAX);
        let before: Vec<String> = names(dir.path());
        assert!(before.contains(&merging_name(SINGLE)) && !before.contains(&shard_name(0, SHARDS)), "{before:?}");
        prepare(dir.path());
        let error = run(dir.path(), &mut closed, u64::MAX).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
        assert!(dir.path().join(shard_name(3, SHARDS)).exists() && !dir.path().join(CONFIG).exists());
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    };
    check(&|dir| flip(&dir.join(shard_name(3, SHARDS))), &[&shard_name(3, SHARDS), "it was changed since"]);
    check(&|dir| fs::remove_file(dir.join(merging_name(SINGLE))).unwrap(), &["was removed before it was merged"]);
    check(&|dir| fs::write(dir.join(merging_name(SINGLE)), "x").unwrap(), &[&merging_name(SINGLE), "no safetensors"]);
    // Someone's file of the name of a merged one.
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(&destination(dir.path())).unwrap();
    (0..SHARDS).for_each(|i| drop(writer.shard(i, tensors(i)).unwrap()));
    fs::write(dir.path().join(SINGLE), "mine").unwrap();
    let error = writer.merge(&[], u64::MAX, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("model.safetensors: no run of paring wrote this"), "{error}");
    assert_eq!(fs::read(dir.path().join(SINGLE)).unwrap(), b"mine");
    let mut writer = Writer::create(&Destination::new(&dir.path().join("new"), 2)).unwrap();
    writer.shard(0, tensors(0)).unwrap();
    let error = writer.merge(&[], u64::MAX, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("model-00002-of-00002.safetensors: was not written"), "{error}");
}

/// A digest that follows from those of tensors finds any byte that changed.
#[test]
fn a_merged_file_that_changed_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let summary = run(dir.path(), &mut Vec::new(), u64::MAX).unwrap();
    let (file, path) = (&summary.files[0], dir.path().join(SINGLE));
    let bytes = fs::read(&path).unwrap();
    for at in [0, 9, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).unwrap();
        assert!(file.check(dir.path()).unwrap_err().to_string().contains("it was changed since"), "{at}");
    }
    fs::write(&path, &bytes).unwrap();
    file.check(dir.path()).unwrap();
}
