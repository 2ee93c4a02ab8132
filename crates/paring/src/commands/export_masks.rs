//! The masks of a checkpoint as a file: where its linears are zero.

use std::path::Path;
use std::sync::Arc;

use paring_format::Checkpoint;
use paring_format::masks::{Bits, Digest, MaskedModule, is_own, write};
use paring_format::writer::{InputFiles, NamedFile};
use paring_model::{LinearInfo, families};
use serde::Serialize;

use crate::plan::Pattern;
use crate::report::Stage;
use crate::report::progress::{Observer, Step};
use crate::{Error, Precision, Result};

/// The mask of a linear that was exported.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedMask {
    /// Module path.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Share of the weights that go.
    pub sparsity: f64,
    /// The pattern N:M that holds; `None` where none does ([`Bits::pattern`]).
    pub pattern: Option<String>,
}

/// Results of an export.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedMasks {
    /// The file.
    pub out: String,
    /// Its bytes.
    pub bytes: u64,
    /// The digest of its masks, in 16 hexadecimal digits.
    pub digest: String,
    /// Linears that have a mask, in the order of the file.
    pub modules: Vec<ExportedMask>,
    /// Linears of the blocks without a zero, which have none.
    pub dense: usize,
    /// Share of the weights of those with a mask that go.
    pub sparsity: f64,
    /// The pattern that holds in all of them; `None` where they have several or none.
    pub pattern: Option<String>,
}

/// Writes the masks of all linears of the blocks that have a zero, of a checkpoint of any layout: what decodes to zero goes. A file
/// of masks that is there is replaced, any other with `overwrite` alone. `observer` hears of each linear.
///
/// Reads each linear twice, one at a time: what the file says of all of them comes first in it. Errors where no linear has a zero, where
/// one cannot be read, and when the file cannot be written.
pub fn export(
    checkpoint: &Arc<Checkpoint>,
    out: &Path,
    overwrite: bool,
    observer: &mut dyn Observer,
) -> Result<ExportedMasks> {
    let inputs = InputFiles::of(checkpoint);
    let file = NamedFile { path: out, inputs: &inputs, is_own: &is_own, overwrite };
    file.check()?;
    let decoder = families::open(Arc::clone(checkpoint), Precision::F32)?;
    let named = |LinearInfo { name, rows, cols, .. }: LinearInfo| MaskedModule { name, rows, cols };
    let mut linears: Vec<MaskedModule> = (0..decoder.blocks()).flat_map(|i| decoder.linears(i)).map(named).collect();
    drop(decoder);
    linears.sort_by(|a, b| a.name.cmp(&b.name));
    let mut digest = Digest::default();
    let (mut modules, mut pruned) = (Vec::new(), Vec::new());
    let (mut kept, mut all) = (0usize, 0usize);
    for linear in &linears {
        observer.step(&Step::new(Stage::Read).module(&linear.name));
        let bits = mask(checkpoint, linear)?;
        if bits.count() == linear.rows * linear.cols {
            continue;
        }
        digest.add(&linear.name, &bits);
        (kept, all) = (kept + bits.count(), all + linear.rows * linear.cols);
        pruned.push(linear.clone());
        modules.push(ExportedMask {
            name: linear.name.clone(),
            rows: linear.rows,
            cols: linear.cols,
            sparsity: bits.sparsity(),
            pattern: bits.pattern().map(|(keep, of)| Pattern::NofM { keep, of }.to_string()),
        });
    }
    if modules.is_empty() {
        let name = checkpoint.describe();
        return Err(Error::Plan(format!("{name}: no linear of its blocks has a zero; prune the model first")));
    }
    let bytes = write(&file, &pruned, digest.finish(), &mut |module| {
        observer.step(&Step::new(Stage::Write).module(&module.name));
        mask(checkpoint, module)
    })?;
    let first = modules.first().and_then(|module| module.pattern.clone());
    Ok(ExportedMasks {
        out: out.display().to_string(),
        bytes,
        digest: format!("{:016x}", digest.finish()),
        dense: linears.len() - modules.len(),
        sparsity: 1.0 - kept as f64 / all.max(1) as f64,
        pattern: first.filter(|first| modules.iter().all(|module| module.pattern.as_ref() == Some(first))),
        modules,
    })
}

/// The mask of a linear.
fn mask(checkpoint: &Checkpoint, MaskedModule { name, rows, cols }: &MaskedModule) -> paring_format::Result<Bits> {
    let weight = checkpoint.read_linear(name, *rows, *cols)?.into_dense();
    let empty = || paring_format::Error::BadParts { module: name.clone(), reason: "has no weights; check it".into() };
    Bits::of_weight(*rows, *cols, &weight).ok_or_else(empty)
}
