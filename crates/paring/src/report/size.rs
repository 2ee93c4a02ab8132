//! Sizes of a checkpoint by what the tensors are for.

use std::collections::BTreeSet;

use paring_format::Checkpoint;
use paring_format::layouts::part_names;
use paring_model::decoder::Decoder;
use serde::{Deserialize, Serialize};

/// Sizes of input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Sizes of the input.
    pub before: Sizes,
    /// Sizes of the output.
    pub after: Sizes,
}

/// Bytes of tensors by what they are for; their sum is all of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Matrices outside the blocks: embeddings, positions, projections and the head.
    pub embeddings: u64,
    /// The linears of the blocks, with their scales, zero points and biases.
    pub linears: u64,
    /// Norms and everything else.
    pub rest: u64,
}

impl Sizes {
    /// Adds up a checkpoint of the decoder's model, in any layouts. Reads only the headers.
    pub(crate) fn of_model(checkpoint: &Checkpoint, decoder: &dyn Decoder) -> Self {
        let outer: BTreeSet<String> = decoder.outer_names().into_iter().collect();
        let linears: BTreeSet<String> =
            (0..decoder.blocks()).flat_map(|i| decoder.linears(i)).map(|linear| linear.name).collect();
        let mut sizes = Self::default();
        for (name, info) in checkpoint.names().filter_map(|name| Some((name, checkpoint.info(name)?))) {
            let of_linear = name.rsplit_once('.').is_some_and(|(module, _)| linears.contains(module));
            *match outer.contains(name) && info.shape.len() > 1 {
                true => &mut sizes.embeddings,
                false if of_linear => &mut sizes.linears,
                false => &mut sizes.rest,
            } += info.bytes() as u64;
        }
        sizes
    }
}

/// Bits on disk per weight of these linears, by name with the number of their weights, as the checkpoint stores them; 0 when
/// there are none.
pub(crate) fn stored_bits<'a>(checkpoint: &Checkpoint, linears: impl Iterator<Item = (&'a str, usize)>) -> f64 {
    let (mut bytes, mut weights) = (0, 0);
    for (name, count) in linears {
        weights += count;
        let parts = part_names().iter().filter_map(|local| checkpoint.info(&format!("{name}.{local}")));
        bytes += parts.map(|info| info.bytes()).sum::<usize>();
    }
    bytes as f64 * 8.0 / weights.max(1) as f64
}
