//! The plain dense checkpoint behind a compressed one, tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use paring_format::compressed::digest;
use paring_format::layouts::PART_NAMES;
use paring_format::writer::{COMPANIONS, Tensor};
use paring_format::{Checkpoint, Dtype, Writer};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::verify::{self, Made};
use crate::{Error, Result};

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Decompressed {
    /// The output folder.
    pub out: String,
    /// Matrices that were decoded.
    pub decoded: usize,
    /// Bytes of the tensors of the input.
    pub bytes_in: u64,
    /// Bytes of the tensors of the output.
    pub bytes_out: u64,
}

/// Bytes of tensors gathered into one shard, unless a single one is larger.
const SHARD_BYTES: usize = 256 << 20;

/// Writes the dense checkpoint that any program loads: every compressed linear as `to_dense` says, everything else byte
/// for byte, `quantization_config` gone. Files of the model's folder such as its tokenizer come along, and `companions`
/// (name and content) for a model that has no folder. The output is reopened and compared with what was decoded.
pub fn decompress(
    checkpoint: &Checkpoint,
    out: &Path,
    mut companions: Vec<(String, Vec<u8>)>,
    overwrite: bool,
) -> Result<Decompressed> {
    // A quantization that cannot be read is an error, whatever its tensors are called.
    checkpoint.quant_config()?;
    let mut modules = BTreeSet::new();
    let mut items: Vec<(String, bool, usize)> = Vec::new();
    for name in checkpoint.names() {
        let bytes = checkpoint.info(name).map_or(0, |i| i.bytes());
        match compressed_module(checkpoint, name) {
            None => items.push((name.to_string(), false, bytes)),
            // The size is not known before decoding; sixteen bits a weight is what most models have.
            Some(module) if modules.insert(module) => items.push((module.to_string(), true, bytes * 4)),
            Some(_) => {}
        }
    }
    let mut shards: Vec<Vec<&(String, bool, usize)>> = vec![Vec::new()];
    let mut filled = 0;
    for item in &items {
        if filled > 0 && filled + item.2 > SHARD_BYTES {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += item.2;
        if let Some(last) = shards.last_mut() {
            last.push(item);
        }
    }
    let is_sparse = |name: &str| checkpoint.info(name).is_some_and(|info| info.sparse().is_some());
    let sparse = items.iter().filter(|(name, compressed, _)| !compressed && is_sparse(name)).count();
    let mut writer = Writer::create(out, shards.len(), overwrite)?;
    let mut made = BTreeMap::new();
    for (i, items) in shards.iter().enumerate() {
        let mut tensors = Vec::new();
        for (name, compressed, _) in items {
            if *compressed {
                let c = checkpoint.read_module(name)?;
                let (shape, dtype, dense) = (Some((c.rows, c.cols)), c.dtype, c.to_dense());
                made.insert(name.clone(), Made { digest: digest(c.rows, c.cols, &dense), shape });
                tensors.push(Tensor {
                    name: format!("{name}.weight"),
                    dtype,
                    shape: vec![c.rows, c.cols],
                    bytes: dtype.encode(&dense),
                });
            } else if let Some(info) = checkpoint.info(name) {
                let (dtype, shape, bytes) = (info.dtype, info.shape.clone(), checkpoint.read(name)?);
                made.insert(name.clone(), Made { digest: xxh3_64(&bytes), shape: None });
                tensors.push(Tensor { name: name.clone(), dtype, shape, bytes });
            }
        }
        writer.shard(i, tensors)?;
    }
    let mut config = checkpoint.config().clone();
    if let Some(object) = config.as_object_mut() {
        object.shift_remove("quantization_config");
        object.shift_remove("compression_config");
    }
    for name in COMPANIONS {
        if let Some(path) = checkpoint.dir().map(|dir| dir.join(name)).filter(|p| p.is_file()) {
            companions.push((name.to_string(), std::fs::read(&path).map_err(|source| Error::Io { path, source })?));
        }
    }
    let summary = writer.finish(&config, &companions)?;
    verify::reopen(out, &made)?;
    Ok(Decompressed {
        out: out.display().to_string(),
        decoded: modules.len() + sparse,
        bytes_in: checkpoint.total_bytes(),
        bytes_out: summary.tensor_bytes,
    })
}

/// The module whose compressed matrix the tensor is a part of. Goes by the tensors, not by the config, so that one that
/// lacks a part, or that no group covers, is an error when it is decoded instead of a tensor to be copied.
pub(crate) fn compressed_module<'a>(checkpoint: &Checkpoint, name: &'a str) -> Option<&'a str> {
    let (module, local) = name.rsplit_once('.')?;
    let info = |part: &str| checkpoint.info(&format!("{module}.{part}"));
    let compressed = PART_NAMES.iter().any(|&part| part != "weight" && info(part).is_some())
        || info("weight").is_some_and(|i| i.dtype == Dtype::I8);
    (PART_NAMES.contains(&local) && compressed).then_some(module)
}
