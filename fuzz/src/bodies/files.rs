//! Files of weights, and the folders they lie in.

use std::collections::BTreeSet;
use std::path::Path;

use paring_format::Checkpoint;
use paring_format::layouts::part_names;
use paring_format::masks::Masks;

use super::{Input, assert_text, folder, is_good, put};

/// Modules of a folder that are decoded at most.
const MODULES: usize = 8;

/// A folder is opened, and everything in it read, by tensor and by module. The input is a kind, the length of config.json,
/// that of the header unless the kind is 0, config.json, and what the file of weights holds: after the eight bytes of
/// the header's length unless the kind is 0.
pub fn checkpoint(data: &[u8]) -> bool {
    let mut input = Input(data);
    let (kind, config) = (input.byte(), input.number());
    let header = if kind == 0 { None } else { Some(input.number() as u64) };
    let config = input.take(config);
    let weights = [header.map(u64::to_le_bytes).as_ref().map_or(&[][..], |bytes| bytes), input.0].concat();
    let folder = folder("checkpoint", &[]);
    put(&folder.join("config.json"), config);
    put(&folder.join("model.safetensors"), &weights);
    let Some(checkpoint) = opened(Checkpoint::open(&folder)) else { return false };
    read_all(&checkpoint, weights.len());
    let modules: BTreeSet<&str> = checkpoint
        .names()
        .filter_map(|name| name.rsplit_once('.'))
        .filter_map(|(module, local)| part_names().contains(&local).then_some(module))
        .collect();
    // Each module's tensors are decoded: a file with very many of them would only be slow.
    let mut good = false;
    for module in modules.into_iter().take(MODULES) {
        is_good(checkpoint.linear_shape(module));
        good |= is_good(checkpoint.read_module(module));
    }
    good
}

/// A file of tensors is opened and read.
pub fn header(data: &[u8]) -> bool {
    let path = folder("header", &[]).join("any.safetensors");
    put(&path, data);
    read(Checkpoint::open_file(&path), data.len())
}

/// A folder of two shards is opened by an index.
pub fn index(data: &[u8]) -> bool {
    let shard = |name: &str| {
        let header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}}}"#);
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), b"abc"].concat()
    };
    let (first, second) = (shard("a"), shard("b"));
    let files: [(&str, &[u8]); 3] = [("config.json", b"{}"), ("1.safetensors", &first), ("2.safetensors", &second)];
    let folder = folder("index", &files);
    put(&folder.join("model.safetensors.index.json"), data);
    read(Checkpoint::open(&folder), first.len() + second.len())
}

/// A file of masks is opened, and each mask read.
pub fn masks(data: &[u8]) -> bool {
    let path = folder("masks", &[]).join("any.safetensors");
    put(&path, data);
    let Ok(masks) = Masks::open(&path).inspect_err(assert_text) else { return false };
    for (module, rows, cols) in masks.modules() {
        let bits = masks.of(module).expect("a mask that is listed");
        assert_eq!((bits.rows(), bits.cols()), (rows, cols), "{module}");
        let removed = bits.removed();
        assert_eq!(removed.len(), rows * cols, "{module}");
        assert_eq!(removed.iter().filter(|&&mark| mark == 0).count(), bits.count(), "{module}");
        assert!(bits.iter().eq(removed.iter().map(|mark| *mark == 0)), "{module}");
        // Slow for wide matrices in files that a fuzzer makes, and all alike.
        if removed.len() < 1 << 16 {
            assert!(bits.pattern().is_none_or(|(keep, of)| bits.check(keep, of).is_ok()), "{module}");
        }
    }
    true
}

/// A file that torch.save may have written is opened and read.
pub fn pickle(data: &[u8]) -> bool {
    let folder = folder("pickle", &[("config.json", b"{}")]);
    put(&folder.join("pytorch_model.bin"), data);
    read(Checkpoint::open(&folder), data.len())
}

fn opened(result: paring_format::Result<Checkpoint>) -> Option<Checkpoint> {
    result.inspect_err(assert_text).ok()
}

/// Reads all tensors, from files of so many bytes. Returns true if there was anything to read.
fn read(result: paring_format::Result<Checkpoint>, bytes: usize) -> bool {
    let Some(checkpoint) = opened(result) else { return false };
    read_all(&checkpoint, bytes);
    checkpoint.names().next().is_some()
}

fn read_all(checkpoint: &Checkpoint, bytes: usize) {
    for name in checkpoint.names() {
        let info = checkpoint.info(name).expect("a name that is listed");
        assert!(info.bytes() <= bytes, "{name} has {} bytes", info.bytes());
        assert!(Path::new(&info.file).components().count() == 1, "{name} lies in {}", info.file);
        match checkpoint.read(name) {
            Ok(read) => assert_eq!(read.len(), info.bytes(), "{name}"),
            Err(error) => assert_text(&error),
        }
    }
}
