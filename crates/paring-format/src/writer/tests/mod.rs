mod lock;
mod named;
mod order;
mod overwrite;
mod resume;
mod staging;
mod steps;

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::Checkpoint;
use crate::names::{JOURNAL, LOCK, MANIFEST, RunFiles, SINGLE};
use crate::testing::Rng;

pub(super) fn tensor(name: &str, dtype: Dtype, shape: &[usize], seed: u64) -> NamedTensor {
    let mut rng = Rng(seed);
    let bytes = (0..dtype.bytes_of(shape).unwrap()).map(|_| rng.next() as u8).collect();
    NamedTensor { name: name.to_string(), dtype, shape: shape.to_vec(), bytes }
}

fn some() -> Vec<NamedTensor> {
    vec![
        tensor("norm", Dtype::Bf16, &[3], 1),
        tensor("w.weight_packed", Dtype::I32, &[2, 1], 2),
        tensor("w.weight_shape", Dtype::I64, &[2], 3),
        tensor("codes \"quoted\"", Dtype::I8, &[5], 4),
        tensor("empty", Dtype::F32, &[0, 4], 5),
        tensor("scalar", Dtype::F32, &[], 6),
        tensor("another", Dtype::I8, &[1], 7),
    ]
}

pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != LOCK);
    names.sort();
    names
}

/// A writer into an empty folder whose run keeps a journal.
pub(super) fn create(dir: &Path, shards: usize) -> Result<Writer> {
    Writer::create(&Destination { has_journal: true, ..Destination::new(dir, shards) })
}

#[test]
fn the_same_bytes_as_the_safetensors_crate() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 1).unwrap();
    let mut shuffled = some();
    shuffled.reverse();
    let closed = writer.shard(0, shuffled).unwrap();
    let written = fs::read(dir.path().join(SINGLE)).unwrap();
    assert_eq!(closed, ClosedFile { name: SINGLE.into(), bytes: written.len() as u64, digest: xxh3_64(&written) });
    let tensors = some();
    let views: Vec<(&str, TensorView)> = tensors
        .iter()
        .map(|t| (&t.name[..], TensorView::new(t.dtype.to_safetensors(), t.shape.clone(), &t.bytes).unwrap()))
        .collect();
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    assert_eq!(written, safetensors::serialize(views, Some(metadata)).unwrap());
}

#[test]
fn shards_come_first_and_the_config_last() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    let tokenizer = parent.path().join("tokenizer.json");
    fs::write(&tokenizer, b"{}").unwrap();
    let config = json!({"model_type": "opt", "a": [1, 2]});
    let write = |dir: &Path| {
        let mut writer = create(dir, 2).unwrap();
        writer.shard(1, vec![tensor("z", Dtype::F32, &[2], 1)]).unwrap();
        assert!(Checkpoint::open(dir).is_err());
        writer.shard(0, some()).unwrap();
        writer.copy_file(&tokenizer, "tokenizer.json").unwrap();
        assert_eq!(names(dir), [shard_name(0, 2), shard_name(1, 2), "tokenizer.json".to_string()]);
        assert!(Checkpoint::open(dir).is_err());
        writer.finish(&config, &[("paring.json".to_string(), b"[]".to_vec())]).unwrap()
    };
    let summary = write(&dir);
    let order =
        [&shard_name(1, 2), &shard_name(0, 2), "tokenizer.json", "paring.json", INDEX, CONFIG].map(str::to_string);
    assert_eq!(summary.files.iter().map(|file| file.name.clone()).collect::<Vec<_>>(), order);
    assert_eq!(summary.tensors, 8);
    let sizes = names(&dir).iter().map(|name| fs::metadata(dir.join(name)).unwrap().len()).sum::<u64>();
    assert_eq!(summary.file_bytes, sizes);

    let checkpoint = Checkpoint::open(&dir).unwrap();
    assert_eq!(checkpoint.config(), &config);
    assert_eq!(checkpoint.total_bytes(), summary.tensor_bytes);
    for expected in some() {
        let info = checkpoint.info(&expected.name).unwrap();
        assert_eq!((info.dtype, &info.shape), (expected.dtype, &expected.shape));
        assert_eq!(checkpoint.read(&expected.name).unwrap(), expected.bytes);
    }
    let index: Value = serde_json::from_slice(&fs::read(dir.join(INDEX)).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], summary.tensor_bytes);
    assert!(index["weight_map"].as_object().unwrap().keys().is_sorted());

    let again = parent.path().join("again");
    assert_eq!(write(&again), summary);
    for name in names(&dir) {
        assert_eq!(fs::read(dir.join(&name)).unwrap(), fs::read(again.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn refuses_folders_that_hold_something() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, b"x").unwrap();
    assert!(matches!(create(parent.path(), 1), Err(Error::OutputNotEmpty { .. })));
    let overwriting = Destination { overwrite: true, ..Destination::new(&file, 1) };
    assert!(matches!(Writer::create(&overwriting), Err(Error::OutputExists { .. })));
    assert!(matches!(create(&file.join("below"), 1), Err(Error::Unwritable { .. })));
    assert_eq!(fs::read(&file).unwrap(), b"x");
    assert_eq!(names(parent.path()), ["file"]);
}

#[test]
fn misuse_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 3).unwrap();
    let mut check = |i, tensors, part: &str| {
        let text = writer.shard(i, tensors).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    };
    let one = || tensor("one", Dtype::F32, &[2], 1);
    check(3, vec![one()], "no such shard");
    check(0, vec![one(), one()], "second tensor of the name one");
    check(0, vec![NamedTensor { shape: vec![3], ..one() }], "8 bytes do not make F32 [3]");
    check(0, vec![NamedTensor { shape: vec![usize::MAX, 2], ..one() }], "do not make");
    check(0, vec![NamedTensor { name: "__metadata__".into(), ..one() }], "__metadata__");
    writer.shard(0, vec![one()]).unwrap();
    let mut check = |i, tensors, part: &str| {
        let text = writer.shard(i, tensors).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    };
    check(0, vec![], "written twice");
    check(1, vec![one()], "second tensor of the name one");
    for name in [
        "../x",
        "a/../b",
        "/a",
        "a//b",
        "a/",
        "a/./b",
        "",
        "..",
        CONFIG,
        INDEX,
        SINGLE,
        "model-00001-of-00003.safetensors",
    ] {
        assert!(writer.copy_file(&dir.path().join("model-00001-of-00003.safetensors"), name).is_err(), "{name}");
    }
    fs::write(dir.path().join("copy.bin"), "in the way of a folder").unwrap();
    assert!(writer.extra("copy.bin/x", b"").is_err());
    writer.copy_file(&dir.path().join("model-00001-of-00003.safetensors"), "copy.bin").unwrap();
    assert_eq!(writer.extra("a/b/c", b"deep").unwrap().name, "a/b/c");
    assert_eq!(fs::read(dir.path().join("a/b/c")).unwrap(), b"deep");
    assert!(writer.extra("copy.bin", b"").is_err());
    assert!(writer.copy_file(&dir.path().join("none"), "none").is_err());
    let text = writer.finish(&json!({}), &[]).unwrap_err().to_string();
    assert!(text.contains("model-00002-of-00003.safetensors: was not written"), "{text}");
    assert_eq!(names(dir.path()), ["a", "copy.bin", "model-00001-of-00003.safetensors"]);
}

#[test]
fn a_failed_shard_leaves_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 2).unwrap();
    writer.shard(0, some()).unwrap();
    // A folder of the shard's name makes the rename fail.
    let blocked = dir.path().join(shard_name(1, 2));
    fs::create_dir(&blocked).unwrap();
    assert!(writer.shard(1, vec![tensor("z", Dtype::F32, &[2], 1)]).is_err());
    assert_eq!(names(dir.path()), [shard_name(0, 2), shard_name(1, 2)]);
    // And nothing of the failed attempt is remembered: it can be made again.
    fs::remove_dir(&blocked).unwrap();
    writer.shard(1, vec![tensor("z", Dtype::F32, &[2], 1)]).unwrap();
    writer.finish(&json!({}), &[]).unwrap();
    assert_eq!(Checkpoint::open(dir.path()).unwrap().names().count(), 8);
}

#[test]
fn a_shard_gets_its_name_when_it_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 2).unwrap();
    let one = || vec![tensor("one", Dtype::F32, &[2], 1)];
    let begun = writer.begin(0, &mut one()).unwrap();
    let left = names(dir.path());
    assert!(matches!(&left[..], [name] if crate::names::temporary_of(name) == Some(&shard_name(0, 2))), "{left:?}");
    assert!(writer.begin(0, &mut one()).unwrap_err().to_string().contains("written twice"));
    assert!(writer.begin(1, &mut one()).unwrap_err().to_string().contains("second tensor of the name one"));
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let text = writer.close(begun, Err(full)).unwrap_err().to_string();
    assert!(text.contains("no space left for"), "{text}");
    assert!(names(dir.path()).is_empty());
    // What was never closed is gone as well, and the next is begun before the one before it is closed.
    drop(writer.begin(1, &mut [tensor("two", Dtype::F32, &[2], 1)]).unwrap());
    assert!(names(dir.path()).is_empty());
    drop(writer);
    let mut writer = create(dir.path(), 2).unwrap();
    let first = writer.begin(0, &mut one()).unwrap();
    let second = writer.begin(1, &mut [tensor("two", Dtype::F32, &[3], 2)]).unwrap();
    for begun in [first, second] {
        let synced = begun.sync();
        writer.close(begun, synced).unwrap();
    }
    let summary = writer.finish(&json!({}), &[]).unwrap();
    assert_eq!((summary.tensors, summary.tensor_bytes), (2, 20));
    assert_eq!(Checkpoint::open(dir.path()).unwrap().read("two").unwrap().len(), 12);
}

#[test]
fn a_full_disk_says_how_much_was_wanted() {
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let text = Error::write(Path::new("out/model.safetensors"), 123, full).to_string();
    assert!(text.starts_with("out/model.safetensors: no space left for 123 bytes"), "{text}");
}
