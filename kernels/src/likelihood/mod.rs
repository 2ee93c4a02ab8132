//! The negative log-likelihood of given tokens under logits that come in pieces of the vocabulary: −log softmax(logits)\[target\];
//! and whether they are the likeliest.

mod backward;
#[cfg(feature = "cuda")]
mod cuda;
mod pieces;
#[cfg(test)]
mod reference;

pub use backward::{cross_entropy, divergence};
pub use pieces::{LogSums, cross_entropy_piece, divergence_piece};

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use crate::plain::{max, sum_exp};
use crate::with_f32;

/// The running log-sum-exp of one position.
#[derive(Clone, Copy)]
struct Running {
    top: f32,
    /// Of exp(logit − top), in f64 across pieces so that the number of pieces leaves no trace.
    sum: f64,
    /// The first entry whose logit is `top`.
    likeliest: u32,
    target: f32,
}

impl Running {
    const NONE: Self = Self { top: f32::NEG_INFINITY, sum: 0.0, likeliest: u32::MAX, target: 0.0 };

    /// Takes in the logits of one piece, those from entry `first` on.
    fn add(&mut self, row: &[f32], first: usize) {
        let top = max(row);
        if top > self.top || top == self.top && first < self.likeliest as usize {
            if let Some(at) = row.iter().position(|&logit| logit == top) {
                self.likeliest = first.saturating_add(at) as u32;
            }
            if top > self.top {
                self.sum *= (f64::from(self.top) - f64::from(top)).exp();
                self.top = top;
            }
        }
        self.sum += sum_exp(row, self.top);
    }

    /// −log of the target's share.
    fn nll(&self) -> f32 {
        (self.sum.ln() + f64::from(self.top) - f64::from(self.target)) as f32
    }
}

/// A target's likelihood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likely {
    /// −log p(target), natural logarithm.
    pub nll: f32,
    /// True if the target is the likeliest entry; of several, the first one is.
    pub is_likeliest: bool,
}

/// The likelihoods of one target for each position, while the logits come.
pub struct Likelihood {
    targets: Vec<u32>,
    state: State,
}

/// The state, on the device of the logits.
enum State {
    Host(Vec<Running>),
    #[cfg(feature = "cuda")]
    Gpu(Box<cuda::State>),
}

impl State {
    fn download(self) -> Result<Vec<Running>> {
        match self {
            State::Host(running) => Ok(running),
            #[cfg(feature = "cuda")]
            State::Gpu(state) => state.download(),
        }
    }
}

impl Likelihood {
    /// For logits on `device` and positions with these targets. Errors when the device does.
    pub fn new(device: &Device, targets: &[u32]) -> Result<Self> {
        let state = match device {
            Device::Cpu => State::Host(vec![Running::NONE; targets.len()]),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => State::Gpu(Box::new(cuda::State::new(device, targets)?)),
            _ => candle_core::bail!("likelihoods on {device:?}, which this build cannot compute on"),
        };
        Ok(Self { targets: targets.to_vec(), state })
    }

    /// Takes in `logits [n, width]` f32 of the `n` positions from `position` on: those of the vocabulary's entries from
    /// `first` on. Each entry comes once for each position, in any order of pieces. Errors on positions that are not there.
    pub fn add(&mut self, position: usize, first: usize, logits: &Tensor) -> Result<()> {
        let (count, width) = logits.dims2()?;
        if count == 0 || width == 0 || position.saturating_add(count) > self.targets.len() {
            let all = self.targets.len();
            candle_core::bail!("logits {:?} for the positions from {position} on of {all}", logits.shape());
        }
        match &mut self.state {
            State::Host(running) => with_f32(logits, |logits| {
                let rows = logits.par_chunks_exact(width).zip(&self.targets[position..]);
                running[position..].par_iter_mut().zip(rows).for_each(|(state, (row, &target))| {
                    state.add(row, first);
                    if let Some(&logit) = (target as usize).checked_sub(first).and_then(|at| row.get(at)) {
                        state.target = logit;
                    }
                });
                Ok(())
            }),
            #[cfg(feature = "cuda")]
            State::Gpu(state) => state.add(position, count, first as u32, logits),
        }
    }

    /// The likelihood of each position's target.
    pub fn finish(self) -> Result<Vec<Likely>> {
        let running = self.state.download()?;
        let likely = |(running, &target): (&Running, &u32)| Likely {
            nll: running.nll(),
            is_likeliest: running.likeliest == target,
        };
        Ok(running.iter().zip(&self.targets).map(likely).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_that_are_not_there_are_errors() {
        let mut likelihood = Likelihood::new(&Device::Cpu, &[0, 1]).unwrap();
        let logits = |rows: usize| Tensor::zeros((rows, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(likelihood.add(0, 0, &logits(2)).is_ok());
        let error = likelihood.add(1, 0, &logits(2)).unwrap_err().to_string();
        assert!(error.starts_with("logits [2, 2] for the positions from 1 on of 2"), "{error}");
        let half = f32::ln(2.0);
        let found = likelihood.finish().unwrap();
        assert!(found.iter().all(|likely| (likely.nll - half).abs() < 1e-6));
        // Of equal entries the first is the likeliest.
        assert_eq!(found.iter().map(|likely| likely.is_likeliest).collect::<Vec<_>>(), [true, false]);
    }
}
