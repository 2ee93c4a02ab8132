//! Reconstruction: a block that was compressed is trained until it answers as the dense block did.
//!
//! What trains is what a file can hold in its place: weights that a mask left, scales of weights whose codes stay, norms and biases. The
//! loss is the squared error of the block's output, of each token as a share of its size, from the activations that
//! the compressed model gives it to those that the dense model has after it; nothing else of the model takes part. Blocks as the unit of
//! reconstruction are BRECQ's (arXiv 2102.05426, section 3.2), all of a pruned block with Adam is EBFT's (arXiv 2402.12419, section 3).
//!
//! Weights, moments and gradients are f32; products of the forward pass round as the run's do. The state that is kept is the one with the least
//! loss on windows that nothing was trained on, measured after rounding to the types of the file; that may be the one before
//! the first step.

mod loss;
mod matrix;
mod rates;
mod states;
#[cfg(test)]
mod tests;
mod trained;

use paring_format::Compressed;
use paring_model::{Block, BlockInfo};

use crate::{Error, Precision, Result};

pub use loss::Measure;
pub use matrix::Form;
pub use rates::{Rate, Schedule};
pub use states::States;
use trained::Trained;

/// The settings of a reconstruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Steps at most.
    pub steps: usize,
    /// Rate of the first step.
    pub rate: Rate,
    /// Rates of the others.
    pub schedule: Schedule,
    /// Windows of a step.
    pub batch: usize,
    /// Windows, the last ones, that are kept out of training and decide which state is kept. With none, all decide between the last state
    /// and the first.
    pub held_out: usize,
    /// Steps from one look at the held-out windows to the next.
    pub check: usize,
    /// Looks without a better state after which training ends.
    pub patience: usize,
    /// True if norms and biases train too.
    pub vectors: bool,
    /// The measure of errors.
    pub measure: Measure,
    /// Rounding of the inputs of products in the forward pass.
    pub precision: Precision,
}

impl Settings {
    /// The usual ones for so many steps over so many windows: two windows a step, an eighth of the windows held out, and a rate that does
    /// not lose on SmolLM2 when all blocks train (docs/dev/lab-notes.md).
    pub fn new(steps: usize, windows: usize, precision: Precision) -> Self {
        let held_out = (windows / 8).max(1).min(windows.saturating_sub(1));
        Self {
            steps,
            rate: Rate::Relative(2e-3),
            schedule: Schedule::Linear,
            batch: 2.min(windows - held_out),
            held_out,
            check: (steps / 16).max(1),
            patience: 5,
            vectors: true,
            measure: Measure::Relative,
            precision,
        }
    }

    /// Windows that pass through a block on the way, forward or back, when it is trained for `steps` steps on some of `windows` windows: a
    /// backward pass is two.
    pub fn passes(&self, steps: usize, windows: usize) -> usize {
        let (looks, looked_at) = match self.held_out {
            0 => (2, windows),
            held_out => (steps / self.check + 2, held_out),
        };
        3 * steps * self.batch + looks * looked_at
    }
}

/// A block that was compressed, where it stands in its model.
pub struct Target<'a> {
    /// The block, in memory, on the CPU.
    pub block: &'a mut dyn Block,
    /// Its anatomy.
    pub info: &'a BlockInfo,
    /// The type in the file of each of its norms' tensors and biases, by full name: values are rounded to it.
    pub dtype_of: &'a dyn Fn(&str) -> paring_format::Dtype,
}

/// The result of a reconstruction; the block holds the state that was kept.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The loss before the first step and that of the state that was kept, after rounding: over the held-out windows, or all where none is.
    pub before: f64,
    /// The latter.
    pub after: f64,
    /// The step after which the kept state was, 0 for the block as it was given.
    pub kept: usize,
    /// The loss of each step that was made, before it.
    pub losses: Vec<f64>,
    /// The linears that trained, fan by fan; `None` for those that did not.
    pub linears: Vec<Vec<Option<Compressed>>>,
    /// Norms' tensors and biases by full name, rounded to the types of their file.
    pub vectors: Vec<(String, Vec<f32>)>,
}

/// Trains a block. `forms` says for each of its linears, fan by fan, what of it trains. `inputs` and `targets` are `[windows, t,
/// dim]`: what enters the block, and what the dense one's output is. `watch` hears of each step, with its loss, and may end all of it with an error.
///
/// A step takes three times the operations of a forward pass of its windows, and 4 bytes a weight each for gradients, masters, the best
/// state and two moments, beside what a forward pass keeps. Errors where the forms do not fit the block, where inputs and targets
/// differ in number, and where the block has no backward pass.
pub fn reconstruct(
    target: Target<'_>,
    forms: Vec<Vec<Form>>,
    (inputs, targets): (&dyn States, &dyn States),
    settings: &Settings,
    watch: &mut dyn FnMut(usize, f64) -> Result<()>,
) -> Result<Outcome> {
    let windows = inputs.windows();
    check(windows, targets.windows(), settings)?;
    let training = windows - settings.held_out;
    let measured: Vec<usize> = if settings.held_out > 0 { training..windows } else { 0..windows }.collect();
    let mut trained = Trained::new(target, forms, settings)?;
    trained.install(true)?;
    let before = trained.loss((inputs, targets), &measured)?;
    let (mut best, mut best_loss, mut kept, mut since) = (trained.state(), before, 0, 0);
    let mut losses = Vec::new();
    for step in 0..settings.steps {
        trained.install(false)?;
        let chosen: Vec<usize> = (0..settings.batch).map(|i| (step * settings.batch + i) % training).collect();
        let (loss, gradients) = trained.gradients((inputs, targets), &chosen)?;
        watch(step, loss)?;
        losses.push(loss);
        if !loss.is_finite() {
            break;
        }
        let rate = settings.rate.value() * settings.schedule.share(step, settings.steps);
        trained.step(step + 1, rate, gradients);
        let looks = settings.held_out > 0 && (step + 1).is_multiple_of(settings.check);
        if looks || step + 1 == settings.steps {
            trained.install(true)?;
            let loss = trained.loss((inputs, targets), &measured)?;
            if loss < best_loss {
                (best, best_loss, kept, since) = (trained.state(), loss, step + 1, 0);
            } else {
                since += 1;
            }
            if since >= settings.patience {
                break;
            }
        }
    }
    trained.restore(best);
    trained.install(true)?;
    let (linears, vectors) = trained.finish();
    Ok(Outcome { before, after: best_loss, kept, losses, linears, vectors })
}

fn check(windows: usize, targets: usize, settings: &Settings) -> Result<()> {
    let fail = |text: String| Err(Error::Plan(text));
    if windows != targets {
        return fail(format!("{windows} windows of inputs and {targets} of targets for a reconstruction"));
    }
    if settings.held_out >= windows || settings.batch == 0 || settings.batch > windows - settings.held_out {
        return fail(format!(
            "a reconstruction with {} windows a step and {} held out needs more windows than {windows}; take more",
            settings.batch, settings.held_out
        ));
    }
    let rate = settings.rate.value();
    if settings.check == 0 || !rate.is_finite() || rate <= 0.0 {
        return fail(format!("a reconstruction at a rate of {rate}, looked at every {} steps", settings.check));
    }
    Ok(())
}
