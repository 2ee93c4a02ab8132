//! Activations inside a block that wait between two passes through it.

use paring_model::{BlockInfo, Held, LinearInfo};

use super::Job;
use crate::pipeline::activations::Hidden;
use crate::plan::Plan;

/// Bytes up to which the activations inside an MLP are held between two passes through a block.
const WIDEST_HELD: usize = 256 << 20;

/// True if the widest activations of a block, those inside its MLP, are computed again for so many tokens rather than held.
pub(crate) fn is_lean(info: &BlockInfo, tokens: usize) -> bool {
    tokens.saturating_mul(mlp_width(info)).saturating_mul(size_of::<f32>()) > WIDEST_HELD
}

/// Features inside a block's MLP.
fn mlp_width(info: &BlockInfo) -> usize {
    let (_, down) = info.mlp.fans();
    info.linears.iter().find(|linear| linear.fan == down).map_or(0, |linear| linear.cols)
}

/// Numbers of a token that passes through a block hold at most between two of them, with so many tokens in all.
pub(crate) fn held_width(info: &BlockInfo, tokens: usize) -> usize {
    let output = |linear: &&LinearInfo| linear.fan == info.attention.output_fan;
    let Some(LinearInfo { rows, cols, .. }) = info.linears.iter().find(output) else { return 0 };
    let mlp = if is_lean(info, tokens) { 0 } else { mlp_width(info) };
    // What the attention gave goes when its output is there; a fan of both holds the MLP's part from the beginning.
    let early = if info.attention.after_fan == info.mlp.fans().0 { mlp } else { 0 };
    (cols + early).max(rows + mlp)
}

impl Job {
    /// True if passes through a block hand on what they computed: where statistics are collected fan by fan, in host memory,
    /// which nobody asked to spare.
    pub(crate) fn holds(&self) -> bool {
        let Plan { true_sequential, offload_activations, .. } = self.plan;
        true_sequential && !offload_activations && self.decoder.device().is_cpu()
    }

    /// The results that passes through block `i` hand on, for each batch: nothing yet. Empty where they do not.
    pub(super) fn holding(&self, i: usize, hidden: &Hidden) -> Vec<Held> {
        if !self.holds() {
            return Vec::new();
        }
        let lean = is_lean(&self.decoder.block_info(i), hidden.tokens());
        (0..hidden.batches()).map(|_| Held::new(lean)).collect()
    }
}
