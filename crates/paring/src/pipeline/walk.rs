//! The walk over a model's blocks: the only loop over them, which prefetches the next one.

use std::ops::Range;
use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use paring_kernels::threads;
use paring_model::{Block, BlockInfo, Decoder, Held};

use super::activations::Hidden;
use super::device::DeviceBudget;
use super::nonfinite::{self, CheckedForward};
use crate::report::progress::Step;
use crate::report::{Clock, Stage};
use crate::{Error, Result};

/// Work on each block before the activations pass through it.
pub trait Visitor {
    /// Sees block `i`, just read, and the activations that enter it; `None` when the run has no windows, and then the
    /// block is not read.
    fn block(&mut self, i: usize, entering: Option<(&mut dyn Block, &Hidden)>, clock: &mut Clock) -> Result<()>;

    /// Hands over what passes through the block have left, for the one to its output: one for each batch, or none.
    fn held(&mut self) -> Vec<Held> {
        Vec::new()
    }

    /// Sees the activations after block `i`; `None` where they were not computed. An error ends the walk.
    fn after_block(&mut self, _i: usize, _leaving: Option<&Hidden>, _clock: &mut Clock) -> Result<()> {
        Ok(())
    }

    /// Hears what the walk does between two blocks.
    fn step(&mut self, step: &Step<'_>) {
        let _ = step;
    }
}

/// The visitor that does nothing: what measuring perplexity needs.
impl Visitor for () {
    fn block(&mut self, _: usize, _: Option<(&mut dyn Block, &Hidden)>, _: &mut Clock) -> Result<()> {
        Ok(())
    }
}

/// Reads each of the `blocks` in turn, shows it to the visitor, and passes the activations, which are those that enter the
/// first of them, through it as the visitor left it: one block is in memory at a time, and on a GPU the next one too, which
/// is read and uploaded while this one is worked on. On the CPU the system is asked to fetch the next one meanwhile, into its
/// cache, which takes none of the process's memory. The last one's output is computed only when `to_the_end`.
pub fn walk(
    decoder: &dyn Decoder,
    blocks: Range<usize>,
    hidden: Option<&mut Hidden>,
    visitor: &mut dyn Visitor,
    to_the_end: bool,
    clock: &mut Clock,
) -> Result<()> {
    let Some(hidden) = hidden else {
        return blocks.into_iter().try_for_each(|i| {
            visitor.block(i, None, clock)?;
            visitor.after_block(i, None, clock)
        });
    };
    let budget = hidden.budget().clone();
    let end = blocks.end;
    visitor.step(&Step::new(Stage::Read).block(blocks.start));
    each_block(decoder, blocks, &budget, clock, |i, mut block, clock| {
        let failed = |error: Error, doing: &str| budget.with_context(error, format_args!("block {i}: {doing}"));
        visitor.block(i, Some((block.as_mut(), hidden)), clock).map_err(|e| failed(e, "compressing it"))?;
        let onward = to_the_end || i + 1 < end;
        if onward {
            let (mut held, windows) = (visitor.held(), hidden.windows());
            let step = |done| visitor.step(&Step::new(Stage::Forward).block(i).count(done, windows));
            let passed = pass_to_output(decoder, (i, block.as_mut()), (hidden, &mut held), step, clock);
            passed.map_err(|e| failed(e, "forward pass"))?;
        }
        // The block goes before its activations are kept: nothing needs it any more.
        drop(block);
        visitor.after_block(i, onward.then_some(&*hidden), clock)?;
        if i + 1 < end {
            visitor.step(&Step::new(Stage::Read).block(i + 1));
        }
        Ok(())
    })
}

/// Reads each of the `blocks` in turn, as [`walk`] says, and hands it over.
pub(crate) fn each_block(
    decoder: &dyn Decoder,
    blocks: Range<usize>,
    budget: &DeviceBudget,
    clock: &mut Clock,
    mut take: impl FnMut(usize, Box<dyn Block>, &mut Clock) -> Result<()>,
) -> Result<()> {
    let first = blocks.start;
    let prefetch = |step: usize| decoder.prefetch(first + step);
    with_lookahead(
        blocks.len(),
        if decoder.device().is_cpu() { Lookahead::Prefetch(&prefetch) } else { Lookahead::Read },
        |step| decoder.block(first + step),
        |step, read, start| {
            let i = first + step;
            let block =
                read.map_err(|e| budget.with_context(e.into(), format_args!("block {i}: reading its weights")))?;
            clock.add(Stage::Read, start, 0.0);
            tracing::debug!(block = i, seconds = start.elapsed().as_secs_f64(), "read");
            take(i, block, clock)
        },
    )
}

/// Replaces the activations that enter block `i` by its output, without what of each batch is `held`. `begins` hears before each batch
/// how many windows are done.
pub(crate) fn pass_to_output(
    decoder: &dyn Decoder,
    (i, block): (usize, &mut dyn Block),
    (hidden, held): (&mut Hidden, &mut [Held]),
    mut begins: impl FnMut(usize),
    clock: &mut Clock,
) -> Result<()> {
    let (start, from) = (Instant::now(), Held::next_fan(held));
    let mut checked = CheckedForward::new(decoder.arithmetic().precision);
    let (mut done, mut batches) = (0, held.iter_mut());
    let advanced = hidden.advance(i, |h| {
        begins(done);
        done += h.dim(0)?;
        checked.forward(decoder, (i, &*block), h, batches.next())
    });
    advanced.map_err(|e| nonfinite::of_output(e, decoder, block, hidden))?;
    clock.add(Stage::Forward, start, forward_work(decoder, i, hidden, from..usize::MAX));
    Ok(())
}

/// The preparation of the next block, on another thread, while one is worked on.
#[derive(Clone, Copy)]
enum Lookahead<'a> {
    /// It is read: one, so that no more than two are in memory.
    Read,
    /// This is called with its number.
    Prefetch(&'a (dyn Fn(usize) + Sync)),
}

/// Calls `work` with each number below `count`, what `read` makes of it, and the moment from which it was waited for. The
/// first error of `work` ends it.
fn with_lookahead<T: Send>(
    count: usize,
    ahead: Lookahead<'_>,
    read: impl Fn(usize) -> T + Sync,
    mut work: impl FnMut(usize, T, Instant) -> Result<()>,
) -> Result<()> {
    thread::scope(|scope| {
        let read = &read;
        let mut coming: Option<ScopedJoinHandle<'_, T>> = None;
        for i in 0..count {
            let start = Instant::now();
            let now = match coming.take().map(ScopedJoinHandle::join) {
                None => read(i),
                Some(Ok(now)) => now,
                Some(Err(panic)) => resume_unwind(panic),
            };
            if i + 1 < count {
                // Without a thread the block is read when its turn comes.
                match ahead {
                    Lookahead::Read => coming = threads::spawn_scoped(scope, i + 1, read).ok(),
                    Lookahead::Prefetch(prefetch) => drop(threads::spawn_scoped(scope, i + 1, prefetch)),
                }
            }
            work(i, now, start)?;
        }
        Ok(())
    })
}

/// Operations of the products of some of block `i`'s fans, and of the causal attention if they reach it, for these
/// activations.
pub(crate) fn forward_work(decoder: &dyn Decoder, i: usize, hidden: &Hidden, fans: Range<usize>) -> f64 {
    let BlockInfo { linears, attention, .. } = decoder.block_info(i);
    let products: usize = linears.iter().filter(|l| fans.contains(&l.fan)).map(|l| l.rows * l.cols).sum();
    // Scores and their products with values, for half of all pairs of tokens.
    let attends = !fans.is_empty() && fans.contains(&attention.after_fan);
    let width = if attends { attention.width() } else { 0 };
    2.0 * hidden.tokens() as f64 * (products + hidden.seqlen() * width) as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn blocks_read_ahead_come_in_order() {
        let fetched = Mutex::new(Vec::new());
        let prefetch = |i: usize| fetched.lock().unwrap().push(i);
        for ahead in [Lookahead::Prefetch(&prefetch), Lookahead::Read] {
            let (read, done) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
            let one = usize::from(matches!(ahead, Lookahead::Read));
            let reading = |i: usize| {
                // Nothing is read before the one before the last is done with.
                let done = done.load(Ordering::SeqCst);
                assert!(i <= done + one, "{i} after {done}");
                read.lock().unwrap().push(i);
                10 * i
            };
            let mut seen = Vec::new();
            with_lookahead(5, ahead, reading, |i, made, _| {
                seen.push((i, made));
                done.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40)]);
            assert_eq!(*read.lock().unwrap(), [0, 1, 2, 3, 4]);
        }
        let mut fetched = fetched.into_inner().unwrap();
        fetched.sort_unstable();
        assert_eq!(fetched, [1, 2, 3, 4]);
    }

    #[test]
    fn an_error_of_a_block_comes_before_that_of_reading_the_next() {
        let plan = Error::Plan;
        let reading = |i: usize| if i == 2 { Err(plan(format!("reading {i}"))) } else { Ok(i) };
        for (bad, want, steps) in [(1, "work 1", 2), (9, "reading 2", 2)] {
            let mut count = 0;
            let ended = with_lookahead(4, Lookahead::Read, reading, |i, read, _| {
                read?;
                count += 1;
                if i == bad { Err(plan(format!("work {i}"))) } else { Ok(()) }
            });
            assert_eq!((ended.unwrap_err().to_string().as_str(), count), (want, steps));
        }
        let ended = with_lookahead(0, Lookahead::Read, reading, |_, _, _| Err(plan("nothing to work on".into())));
        assert!(ended.is_ok());
    }
}
