//! The only loop over blocks.

use std::time::Instant;

use paring_model::decoder::{Block, Decoder};

use crate::Result;
use crate::hidden::Hidden;
use crate::report::{Clock, Stage};

/// What happens to a block before the activations pass through it.
pub trait Visitor {
    /// Sees block `i`, just read, and the activations that enter it; `None` when the run has no windows, and then the
    /// block is not read.
    fn block(&mut self, i: usize, entering: Option<(&mut dyn Block, &Hidden)>, clock: &mut Clock) -> Result<()>;
}

/// The visitor that does nothing: what measuring perplexity needs.
impl Visitor for () {
    fn block(&mut self, _: usize, _: Option<(&mut dyn Block, &Hidden)>, _: &mut Clock) -> Result<()> {
        Ok(())
    }
}

/// Reads each block in turn, shows it to the visitor, and passes the activations through it as the visitor left it:
/// one block is in memory at a time. The last block's output is computed only when `to_the_end`.
pub fn walk(
    decoder: &dyn Decoder,
    mut hidden: Option<&mut Hidden>,
    visitor: &mut dyn Visitor,
    to_the_end: bool,
    clock: &mut Clock,
) -> Result<()> {
    let blocks = decoder.blocks();
    for i in 0..blocks {
        let Some(hidden) = hidden.as_deref_mut() else {
            visitor.block(i, None, clock)?;
            continue;
        };
        let start = Instant::now();
        let mut block = decoder.block(i)?;
        clock.add(Stage::Read, start, 0.0);
        tracing::debug!(block = i, seconds = start.elapsed().as_secs_f64(), "read");
        visitor.block(i, Some((block.as_mut(), hidden)), clock)?;
        if to_the_end || i + 1 < blocks {
            let start = Instant::now();
            hidden.advance(|h| Ok(block.forward(h, &mut ())?))?;
            hidden.check_finite(i)?;
            clock.add(Stage::Forward, start, forward_work(decoder, i, hidden.tokens(), 0..usize::MAX));
        }
    }
    Ok(())
}

/// Operations of the products of some of block `i`'s fans over that many tokens.
pub(crate) fn forward_work(decoder: &dyn Decoder, i: usize, tokens: usize, fans: std::ops::Range<usize>) -> f64 {
    let linears = decoder.linears(i);
    linears.iter().filter(|l| fans.contains(&l.fan)).map(|l| 2.0 * (l.rows * l.cols * tokens) as f64).sum()
}
