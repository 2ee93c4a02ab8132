//! Decompression to a plain dense checkpoint, tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use paring_format::{Checkpoint, Compressed, Dtype, Values};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Result;
use crate::output::modules::{compressed_module, compressed_modules, is_of_activations};
use crate::output::rewrite::{Rewrite, Stored, destination, items};
use crate::output::side_files::{left_behind, name_dtype, named_dtype, torch_name, unquantized};
use crate::output::tied;
use crate::report::progress::Observer;

/// Results of a decompression.
#[derive(Clone, Debug, Serialize)]
pub struct Decompressed {
    /// The output folder.
    pub out: String,
    /// Matrices that were decoded.
    pub decoded: usize,
    /// Scales and zero points of activations and caches, which a dense model has no use for and does not get.
    pub left_out: usize,
    /// Bytes of the tensors of the input.
    pub bytes_in: u64,
    /// Bytes of the tensors of the output.
    pub bytes_out: u64,
    /// Notes for the output's users, a sentence each.
    pub notes: Vec<String>,
}

/// Writes the dense checkpoint that any program loads: every compressed matrix as `to_dense` says, in the type that its
/// scales have (bf16 for the formats of 4-bit floats and of microscaling); everything else byte for byte, without scales of
/// activations and `quantization_config`. Files of the model's folder such as its tokenizer are copied, and
/// `companions` (name and content) for a model that has no folder. The output is reopened and compared with what was
/// decoded, and the digests stay beside it for [`crate::commands::verify`]. `observer` gets an event per shard.
///
/// A few matrices and two shards of 128 MiB are in memory. Errors when a matrix cannot be decoded, and when `out` cannot
/// be written.
pub fn decompress(
    checkpoint: &Checkpoint,
    out: &Path,
    companions: Vec<(String, Vec<u8>)>,
    overwrite: bool,
    observer: &mut dyn Observer,
) -> Result<Decompressed> {
    destination(checkpoint, (out, 0), &companions, overwrite)?;
    // A quantization that cannot be read is an error, whatever its tensors are called.
    checkpoint.quant_config()?;
    let modules = compressed_modules(checkpoint);
    let is_sparse = |name: &&str| {
        checkpoint.info(name).is_some_and(|info| info.sparse().is_some())
            && compressed_module(checkpoint, name).is_none()
    };
    let decoded = modules.len() + checkpoint.names().filter(is_sparse).count();
    let all = items(checkpoint, &modules, |name| !is_of_activations(checkpoint, name));
    let dtypes: Mutex<BTreeMap<Dtype, usize>> = Mutex::default();
    let frozen = AtomicUsize::new(0);
    let rewrite = Rewrite::new(checkpoint, out, &all, companions, overwrite, observer, |module| {
        // The official decompressor leaves a weight that was not compressed as it is.
        let c = match checkpoint.is_rounded_float(module)? {
            false => checkpoint.read_module(module)?,
            true => {
                frozen.fetch_add(1, Ordering::Relaxed);
                stored_weight(checkpoint, module)?
            }
        };
        *dtypes.lock().unwrap_or_else(PoisonError::into_inner).entry(c.dtype).or_default() += 1;
        Ok(Stored::dense(module, &c))
    })?;
    let dtypes = dtypes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (config, mut notes) = dense_config(checkpoint, &modules, &dtypes)?;
    if let count @ 1.. = frozen.into_inner() {
        notes.push(format!("{count} matrices were never compressed, only calibrated: they are written as stored"));
    }
    notes.extend(left_behind(checkpoint)?);
    let bytes_out = rewrite.finish(&config, ("decompressed", json!({"matrices": decoded})), observer)?;
    Ok(Decompressed {
        out: out.display().to_string(),
        decoded,
        left_out: checkpoint.names().filter(|name| is_of_activations(checkpoint, name)).count(),
        bytes_in: checkpoint.total_bytes(),
        bytes_out,
        notes,
    })
}

/// The weight of a module as the file stores it.
fn stored_weight(checkpoint: &Checkpoint, module: &str) -> Result<Compressed> {
    let name = format!("{module}.weight");
    let info = checkpoint.info(&name).map(|info| (info.dtype, info.shape.clone()));
    match info {
        Some((dtype, shape)) if dtype.is_float() && shape.len() == 2 => {
            let values = Values::Dense(checkpoint.read_f32(&name, &shape)?);
            Ok(Compressed { rows: shape[0], cols: shape[1], dtype: dtype.in_memory(), values })
        }
        // The same error as reading it through its layout.
        _ => Ok(checkpoint.read_module(module)?),
    }
}

/// The config without its quantization, after so many matrices were decoded to each of these types, and notes
/// about it.
fn dense_config(
    checkpoint: &Checkpoint,
    modules: &BTreeSet<String>,
    dtypes: &BTreeMap<Dtype, usize>,
) -> Result<(Value, Vec<String>)> {
    let mut config = checkpoint.config().clone();
    let mut notes = checkpoint.notes().to_vec();
    let Some(object) = config.as_object_mut() else { return Ok((config, notes)) };
    unquantized(object);
    match named_dtype(checkpoint.config()) {
        Some(model) => {
            for (&dtype, count) in dtypes.iter().filter(|(dtype, _)| **dtype != model) {
                let (name, model) = (torch_name(dtype), torch_name(model));
                notes.push(format!(
                    "{count} matrices are written as {name}, the type that they decode to, in a {model} model"
                ));
            }
        }
        None => {
            if let Some((&dtype, _)) = dtypes.iter().max_by_key(|(_, count)| **count) {
                name_dtype(object, dtype);
            }
        }
    }
    let head = modules.iter().find(|name| name.rsplit('.').next() == Some("lm_head"));
    if tied::loses_head(checkpoint)? {
        // A loader that ties them would use the embedding in place of the head.
        tied::untie(object);
        notes.push(match head {
            Some(head) => format!("{head} is stored separately now: tie_word_embeddings is false"),
            None => tied::NOTE.to_string(),
        });
    }
    Ok((config, notes))
}
