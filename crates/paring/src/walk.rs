//! The only loop over blocks.

use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use paring_model::decoder::{Block, Decoder};

use crate::hidden::Hidden;
use crate::report::{Clock, Stage};
use crate::{Error, Result};

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
/// one block is in memory at a time, and on a GPU the next one too, which is read while this one is worked on. The last
/// block's output is computed only when `to_the_end`.
pub fn walk(
    decoder: &dyn Decoder,
    mut hidden: Option<&mut Hidden>,
    visitor: &mut dyn Visitor,
    to_the_end: bool,
    clock: &mut Clock,
) -> Result<()> {
    let blocks = decoder.blocks();
    let Some(hidden) = hidden.as_deref_mut() else {
        return (0..blocks).try_for_each(|i| visitor.block(i, None, clock));
    };
    let ahead = !decoder.device().is_cpu();
    let room = hidden.room().clone();
    thread::scope(|scope| {
        let mut coming: Option<ScopedJoinHandle<'_, _>> = None;
        for i in 0..blocks {
            let failed = |error: Error, doing: &str| room.failed(error, format_args!("block {i}: {doing}"));
            let start = Instant::now();
            let read = match coming.take().map(ScopedJoinHandle::join) {
                None => decoder.block(i),
                Some(Ok(read)) => read,
                Some(Err(panic)) => resume_unwind(panic),
            };
            let mut block = read.map_err(|e| failed(e.into(), "reading its weights"))?;
            clock.add(Stage::Read, start, 0.0);
            tracing::debug!(block = i, seconds = start.elapsed().as_secs_f64(), "read");
            if ahead && i + 1 < blocks {
                coming = Some(scope.spawn(move || decoder.block(i + 1)));
            }
            visitor.block(i, Some((block.as_mut(), hidden)), clock).map_err(|e| failed(e, "compressing it"))?;
            if to_the_end || i + 1 < blocks {
                let start = Instant::now();
                let advanced = hidden.advance(i, |h| Ok(block.forward(h, &mut ())?));
                advanced.map_err(|e| failed(e, "forward pass"))?;
                clock.add(Stage::Forward, start, forward_work(decoder, i, hidden.tokens(), 0..usize::MAX));
            }
        }
        Ok(())
    })
}

/// Operations of the products of some of block `i`'s fans over that many tokens.
pub(crate) fn forward_work(decoder: &dyn Decoder, i: usize, tokens: usize, fans: std::ops::Range<usize>) -> f64 {
    let linears = decoder.linears(i);
    linears.iter().filter(|l| fans.contains(&l.fan)).map(|l| 2.0 * (l.rows * l.cols * tokens) as f64).sum()
}
