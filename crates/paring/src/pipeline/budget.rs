//! The choice of how the activations of a run are stored within the memory of its device.

use std::path::Path;

use paring_kernels::gram::GramPrecision;
use paring_model::{BlockInfo, Decoder};

use super::activations::{Storage, batch_windows};
use super::device::DeviceBudget;
use super::vram::{self, Pass};
use crate::Result;
use crate::plan::Curvature;

/// The storage of a run's activations: on a GPU if they fit, otherwise on the host,
/// and with `disk` (a folder, and the bytes that stay in memory) in a file there. Errors when not even one window fits.
pub(crate) fn storage<'a>(
    budget: &DeviceBudget,
    pass: &Pass<'_>,
    disk: Option<(&'a Path, usize)>,
) -> Result<Storage<'a>> {
    let (batch, on_device) = match budget.bytes() {
        None => (batch_windows(pass.seqlen), true),
        Some(bytes) => {
            let used = vram::device(pass, bytes)?;
            tracing::debug!(batch = used.batch, on_device = used.holds_activations, bytes = used.bytes(), "device");
            (used.batch.max(1), used.holds_activations)
        }
    };
    Ok(Storage { batch, on_device, disk, budget: budget.clone() })
}

/// As [`storage`], for a model that is only run over so many windows of so many tokens, and then through its head.
pub(crate) fn to_run<'a>(
    budget: &DeviceBudget,
    decoder: &dyn Decoder,
    (windows, seqlen): (usize, usize),
    disk: Option<(&'a Path, usize)>,
) -> Result<Storage<'a>> {
    let block = largest_block(decoder);
    let pass = Pass {
        block: &block,
        dim: decoder.hidden_size(),
        windows,
        seqlen,
        precision: decoder.arithmetic().precision,
        products: GramPrecision::F32,
        need: Curvature::Flat,
        sweeps: false,
        slice: 0,
        group: 0,
        head: Some(decoder.vocab_size()),
    };
    storage(budget, &pass, disk)
}

/// The block with the most weights.
pub(crate) fn largest_block(decoder: &dyn Decoder) -> BlockInfo {
    let weights = |block: &BlockInfo| block.linears.iter().map(|l| l.rows * l.cols).sum::<usize>();
    let blocks = (0..decoder.blocks()).map(|i| decoder.block_info(i));
    blocks.max_by_key(weights).unwrap_or_else(|| decoder.block_info(0))
}
