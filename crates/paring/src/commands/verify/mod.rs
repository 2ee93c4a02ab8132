//! Checks of a checkpoint: complete, readable, as its config says, and the same as when it was written.

mod accounts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use paring_format::checkpoint::read_index;
use paring_format::layouts::{self, part_names};
use paring_format::message;
use paring_format::names::MANIFEST;
use paring_format::{Checkpoint, Compressed};
use paring_model::LinearInfo;
use paring_model::families;
use rayon::prelude::*;
use serde::Serialize;

use crate::output::digests::{equal, read_digests, wrong};
use crate::output::modules::compressed_module;
use crate::plan::Opt;
use crate::{Error, Precision, Result};

/// Bytes of a tensor that are checked together.
const PIECE: usize = 16 << 20;

/// Results of a check that found nothing wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Always true: anything wrong is an error.
    pub ok: bool,
    /// Linears of the blocks.
    pub linears: usize,
    /// Other tensors.
    pub tensors: usize,
    /// Linears by layout.
    pub formats: BTreeMap<String, usize>,
    /// Linears, those outside the blocks among them, that a group of the quantization covers.
    pub covered: usize,
    /// Linears that it ignores.
    pub ignored: usize,
    /// Linears that it neither targets nor ignores, which are dense.
    pub untargeted: usize,
    /// Linears and other tensors that were compared with their digest; 0 for a checkpoint without digests.
    pub digests_checked: usize,
    /// Bytes of the weight files.
    pub bytes: u64,
    /// Notes on what is no fault and may still surprise, a sentence each.
    pub notes: Vec<String>,
}

/// Linears by their treatment in a quantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Those that a group of the quantization covers.
    pub covered: usize,
    /// Those that it ignores.
    pub ignored: usize,
    /// Those that it neither targets nor ignores, which are dense.
    pub untargeted: usize,
}

/// Counts the linears of a quantized model; `None` for a dense one, and for one that no family reads.
///
/// # Errors
/// A quantization that names what is no pattern.
pub fn coverage(checkpoint: &Arc<Checkpoint>) -> Result<Option<Coverage>> {
    let Ok(decoder) = families::open(Arc::clone(checkpoint), Precision::F32) else { return Ok(None) };
    let linears: Vec<LinearInfo> = (0..decoder.blocks()).flat_map(|i| decoder.linears(i)).collect();
    let accounts = accounts::accounts(checkpoint, &linears, &decoder.outer_linears())?;
    let coverage = Coverage { covered: accounts.covered, ignored: accounts.ignored, untargeted: accounts.untargeted };
    let count = coverage.covered + coverage.ignored + coverage.untargeted;
    Ok((count > 0).then_some(coverage))
}

/// One thing to read back.
enum Item<'a> {
    /// A linear of a block.
    Linear(LinearInfo),
    /// A compressed matrix outside the blocks.
    Module(&'a str),
    /// Any other tensor.
    Tensor(&'a str),
}

impl Item<'_> {
    fn name(&self) -> &str {
        match self {
            Item::Linear(linear) => &linear.name,
            Item::Module(name) | Item::Tensor(name) => name,
        }
    }

    /// The names that its digest may have: a matrix is digested as such, or as a tensor if it was copied.
    fn keys(&self) -> [String; 2] {
        match self {
            Item::Linear(LinearInfo { name, .. }) => [name.clone(), format!("{name}.weight")],
            Item::Module(name) => [name.to_string(), format!("{name}.weight")],
            Item::Tensor(name) => [name.to_string(), name.strip_suffix(".weight").unwrap_or(name).to_string()],
        }
    }

    /// Its digest, under its key in the list of digests.
    fn digest<'a>(&self, digests: &'a BTreeMap<String, u64>) -> Option<(&'a str, u64)> {
        self.keys().iter().find_map(|key| digests.get_key_value(key)).map(|(key, &digest)| (key.as_str(), digest))
    }
}

/// Checks a checkpoint: that the index lists the tensors of the files, that the model of its config is complete, that
/// each linear has the parts of its layout and no other, that it decodes and that all floats are finite, and that
/// everything equals the digests in [`MANIFEST`], where there are any.
///
/// Reads each tensor once; as many matrices are in memory as there are threads. Errors with the first fault that is
/// found.
pub fn verify(checkpoint: Arc<Checkpoint>) -> Result<Verified> {
    check_index(&checkpoint)?;
    let decoder = families::open(checkpoint.clone(), Precision::F32)?;
    let digests = read_digests(&checkpoint)?;
    let linears: Vec<LinearInfo> = (0..decoder.blocks()).flat_map(|i| decoder.linears(i)).collect();
    let outer_linears = decoder.outer_linears();
    let lenient = if checkpoint.is_lenient() { decoder.notes() } else { Vec::new() };
    drop(decoder);
    let mut formats: BTreeMap<String, usize> = BTreeMap::new();
    for linear in &linears {
        *formats.entry(checkpoint.linear_format(&linear.name)?.describe()).or_default() += 1;
    }
    let accounts = accounts::accounts(&checkpoint, &linears, &outer_linears)?;
    let items = items(&checkpoint, linears);
    if let Some(digests) = &digests {
        let keys: BTreeSet<&str> = items.iter().filter_map(|item| Some(item.digest(digests)?.0)).collect();
        if let Some(gone) = digests.keys().find(|name| !keys.contains(name.as_str())) {
            let expected = format!("{gone}, which {MANIFEST} lists");
            return Err(wrong(&checkpoint, gone, expected, "no such tensor or linear"));
        }
        if let Some(more) = items.iter().find(|item| item.digest(digests).is_none()).map(Item::name) {
            let got = "one that was added later";
            return Err(wrong(&checkpoint, more, format!("only the tensors that {MANIFEST} lists"), got));
        }
    }
    items.par_iter().try_for_each(|item| {
        let got = check_item(&checkpoint, item, &outer_linears)?;
        let Some((key, expected)) = digests.as_ref().and_then(|digests| item.digest(digests)) else { return Ok(()) };
        let got = match item {
            _ if key == item.name() => got,
            // A matrix that was copied as a tensor, or a tensor that was a matrix when it was written.
            Item::Tensor(_) => checkpoint.read_module(key)?.digest(),
            Item::Linear(_) | Item::Module(_) => checkpoint.digest(key)?,
        };
        equal(&checkpoint, key, expected, got)
    })?;
    let linears = formats.values().sum();
    Ok(Verified {
        ok: true,
        linears,
        tensors: items.iter().filter(|item| !matches!(item, Item::Linear(_))).count(),
        formats,
        covered: accounts.covered,
        ignored: accounts.ignored,
        untargeted: accounts.untargeted,
        digests_checked: digests.map_or(0, |digests| digests.len()),
        bytes: checkpoint.file_bytes(),
        notes: lenient.into_iter().chain(accounts.notes).collect(),
    })
}

/// Errors when a shard holds a tensor that the index doesn't list: programs that go by the index don't see it. That
/// what is listed is there was checked when the checkpoint was opened.
fn check_index(checkpoint: &Checkpoint) -> Result<()> {
    let Some(path) = checkpoint.index_path().filter(|_| !checkpoint.is_lenient()) else { return Ok(()) };
    let listed = read_index(&path)?;
    match checkpoint.stored_names().find(|&name| !listed.contains_key(name)) {
        None => Ok(()),
        Some(name) => {
            let expected = format!("{name}: expected an entry in {}, got none; ", path.display());
            let file = checkpoint.info(name).map_or_else(|| checkpoint.describe(), |info| info.file.clone());
            Err(Error::content(file, message![expected, Opt::Lenient, " ignores this"]))
        }
    }
}

/// All contents of the checkpoint, each tensor in one item. A tensor that the model does not have was refused when it was
/// opened.
fn items(checkpoint: &Checkpoint, linears: Vec<LinearInfo>) -> Vec<Item<'_>> {
    let paths: BTreeSet<String> = linears.iter().map(|linear| linear.name.clone()).collect();
    let mut items: Vec<Item> = linears.into_iter().map(Item::Linear).collect();
    let mut modules = BTreeSet::new();
    for name in checkpoint.names() {
        if let Some((module, local)) = name.rsplit_once('.')
            && paths.contains(module)
            && part_names().contains(&local)
        {
            continue;
        }
        match compressed_module(checkpoint, name) {
            None => items.push(Item::Tensor(name)),
            Some(module) if modules.insert(module) => items.push(Item::Module(module)),
            Some(_) => {}
        }
    }
    items
}

/// Reads an item, checks it by itself, and returns its digest. A dense one of `outer_linears` must be one that the
/// config says is dense: a quantization may target all linears and forget those outside the blocks.
fn check_item(checkpoint: &Checkpoint, item: &Item, outer_linears: &[String]) -> Result<u64> {
    match item {
        Item::Linear(linear) => {
            let c = checkpoint.read_linear(&linear.name, linear.rows, linear.cols)?;
            check_parts(checkpoint, &linear.name, &c)?;
            Ok(c.digest())
        }
        Item::Module(module) => {
            let c = checkpoint.read_module(module)?;
            check_parts(checkpoint, module, &c)?;
            Ok(c.digest())
        }
        Item::Tensor(name) => {
            let is_linear = |module: &&str| outer_linears.iter().any(|linear| linear == module);
            if let Some(module) = name.strip_suffix(".weight").filter(is_linear) {
                let layout = checkpoint.linear_format(module)?.layout;
                if layout != layouts::DENSE.name() {
                    let got = "a dense weight that quantization_config does not ignore";
                    return Err(wrong(checkpoint, name, format!("the parts of {layout}"), got));
                }
            }
            digest_finite(checkpoint, name)
        }
    }
}

/// Errors when a matrix is stored with a part that its layout does not have.
fn check_parts(checkpoint: &Checkpoint, module: &str, c: &Compressed) -> Result<()> {
    let format = checkpoint.linear_format(module)?;
    let name = format.layout;
    let Some(layout) = layouts::layout(name) else { return Ok(()) };
    let wanted: BTreeSet<&str> = match name == layouts::DENSE.name() {
        // Those that were not compressed after calibration have zero points even if all of them are zero.
        true if format.scheme.as_ref().is_some_and(|scheme| scheme.weights.is_some()) => {
            BTreeSet::from(["weight", "weight_scale", "weight_zero_point"])
        }
        true => BTreeSet::from(["weight"]),
        // The layout itself knows best which parts it stores.
        false => match format.scheme.map(|scheme| layout.encode(&scheme, c)) {
            Some(Ok(parts)) => parts.into_keys().collect(),
            // A matrix that is read and never written.
            Some(Err(_)) | None => return Ok(()),
        },
    };
    let left_over = |part: &&str| !wanted.contains(part) && checkpoint.info(&format!("{module}.{part}")).is_some();
    // Zero points of symmetric codes, which some releases stored, mean nothing where all are 0.
    let means_nothing = |part: &str| -> Result<bool> {
        let zeros = || checkpoint.read(&format!("{module}.{part}"));
        Ok(part == "weight_zero_point" && zeros()?.iter().all(|&byte| byte == 0))
    };
    for part in part_names().iter().copied().filter(left_over) {
        if !means_nothing(part)? {
            let expected = format!("only the parts of {name} ({})", wanted.into_iter().collect::<Vec<_>>().join(", "));
            return Err(wrong(checkpoint, &format!("{module}.{part}"), expected, "one more"));
        }
    }
    Ok(())
}

/// The digest of a tensor's bytes. Errors on floats that are not finite; they are read in pieces.
fn digest_finite(checkpoint: &Checkpoint, name: &str) -> Result<u64> {
    if let Some(info) = checkpoint.info(name).filter(|info| info.dtype.is_float()) {
        match info.shape.first().copied() {
            // A number without dimensions.
            None => drop(checkpoint.read_f32(name, &[])?),
            Some(rows) => {
                let step = (PIECE / (info.bytes() / rows.max(1)).max(1)).max(1);
                for first in (0..rows).step_by(step) {
                    checkpoint.read_rows_f32(name, first, step.min(rows - first))?;
                }
            }
        }
    }
    Ok(checkpoint.digest(name)?)
}

#[cfg(test)]
mod tests;
