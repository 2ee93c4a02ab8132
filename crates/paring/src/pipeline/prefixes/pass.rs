//! The activations of a forest's pieces, and their pass through a block.

use std::collections::BTreeMap;

use candle_core::Tensor;
use paring_format::message;
use paring_model::{Block, CacheType, Decoder, Flow, KeyValues, Pass, Piece};

use super::Forest;
use crate::pipeline::activations::{Batches, Storage, check_embedding, check_finite};
use crate::pipeline::f16_watch::F16Watch;
use crate::plan::Opt;
use crate::{Error, Result};

/// The activations between two blocks of all pieces of some forests: a tensor `[1, n, dim]` for each batch.
pub(crate) struct Rows<'a> {
    forests: &'a [Forest],
    batches: Batches,
}

/// The batches of forests, one after the other: each with its forest, and its number there.
fn places(forests: &[Forest]) -> impl Iterator<Item = (&Forest, usize)> {
    forests.iter().flat_map(|forest| (0..forest.batches.len()).map(move |at| (forest, at)))
}

/// The next of them, for activations that were made of as many.
fn next<'a>(places: &mut impl Iterator<Item = (&'a Forest, usize)>) -> Result<(&'a Forest, usize)> {
    places.next().ok_or_else(|| Error::Plan("more activations than batches".into()))
}

impl<'a> Rows<'a> {
    /// The inputs of block 0.
    pub fn embed(decoder: &dyn Decoder, forests: &'a [Forest], storage: &Storage<'_>) -> Result<Self> {
        let mut places = places(forests);
        let batches = Batches::fill(storage, "embedding", || {
            let Some((forest, at)) = places.next() else { return Ok(None) };
            let pieces = || forest.batches[at].levels.iter().flatten().map(|&number| &forest.pieces[number]);
            let ids: Vec<u32> = pieces().flat_map(|piece| &piece.tokens).copied().collect();
            let spans: Vec<_> = pieces().map(super::Piece::span).collect();
            let made = decoder.embed_next(&ids, &spans)?;
            check_embedding(&made, &ids, 0).map_err(|error| located(error, forest, at))?;
            Ok(Some(made))
        })?;
        Ok(Self { forests, batches })
    }

    /// Replaces the inputs of block `i` by its outputs. Errors on the first NaN or infinity among those, and on inputs of its linears
    /// that products cannot hold.
    pub fn pass(&mut self, decoder: &dyn Decoder, (i, block): (usize, &dyn Block)) -> Result<()> {
        let mut places = places(self.forests);
        let mut watch = F16Watch::new(decoder.arithmetic().precision);
        let mut caches = BTreeMap::new();
        self.batches.advance(|h| {
            let (forest, at) = next(&mut places)?;
            let batch = &forest.batches[at];
            let mut parts = Vec::with_capacity(batch.levels.len());
            let mut row = 0;
            for level in &batch.levels {
                let count = level.iter().map(|&number| forest.pieces[number].tokens.len()).sum();
                let h = h.narrow(1, row, count)?.contiguous()?;
                let mut own = begin(decoder, (i, forest), level, &caches)?;
                let pieces = level.iter().zip(&mut own).map(|(&number, cache)| {
                    let tokens = forest.pieces[number].tokens.len();
                    Piece { tokens, cache }
                });
                let Flow::Out(made) = block.run(&h, &mut Pass::next(pieces.collect(), &mut watch))? else {
                    return Err(paring_model::Error::StoppedEarly.into());
                };
                parts.push(made);
                let used = level.iter().copied().zip(own);
                caches.extend(used.filter(|(number, _)| forest.pieces[*number].last_use.is_some()));
                row += count;
            }
            if watch.overflowed() {
                return Err(overflow(i));
            }
            let made = if let [one] = parts.as_slice() { one.clone() } else { Tensor::cat(&parts, 1)? };
            check_finite(&made, i, 0).map_err(|error| located(error, forest, at))?;
            // None is left after the last batch of a forest.
            caches.retain(|&number, _| forest.pieces[number].last_use > Some(at));
            Ok(made)
        })
    }

    /// Calls `f` with each batch in order: its forest, its number there, and its rows.
    pub fn each(&self, mut f: impl FnMut(&'a Forest, usize, &Tensor) -> Result<()>) -> Result<()> {
        let mut places = places(self.forests);
        self.batches.each(|h| {
            let (forest, at) = next(&mut places)?;
            f(forest, at, h)
        })
    }
}

/// The keys and values before each piece of a level, of block `i`.
fn begin(
    decoder: &dyn Decoder,
    (i, forest): (usize, &Forest),
    level: &[usize],
    caches: &BTreeMap<usize, KeyValues>,
) -> Result<Vec<KeyValues>> {
    let before = |&number: &usize| match forest.pieces[number].parent {
        None => Ok(decoder.key_values(i, CacheType::F32)?),
        Some(parent) => {
            caches.get(&parent).cloned().ok_or_else(|| Error::Plan(format!("piece {number} comes before {parent}")))
        }
    };
    level.iter().map(before).collect()
}

/// The error of a row of a batch as one of the text that it belongs to.
fn located(error: Error, forest: &Forest, batch: usize) -> Error {
    let (position, problem) = match error {
        Error::Hidden { block, position, feature, value, .. } => (
            position,
            format!(
                "block {block}: its output holds {value} in feature {feature}; its weights are damaged or too large"
            ),
        ),
        Error::Embedding { token, position, feature, value, .. } => (
            position,
            format!(
                "the embedding of token {token} holds {value} in feature {feature}; the model's embedding tables are \
                damaged; download it again"
            ),
        ),
        other => return other,
    };
    let Some((text, position)) = forest.text_of(batch, position) else { return Error::Plan(problem) };
    Error::Text { text: forest.first + text, position, problem }
}

fn overflow(i: usize) -> Error {
    let problem = format!("block {i}: an input of its linears is beyond float16, which ends at 65504");
    Opt::Dtype.misfit(problem).hint(message!["choose ", Opt::Dtype.with("bf16 or f32")])
}
