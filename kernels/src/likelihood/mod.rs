//! The negative log-likelihood of given tokens under logits that come in pieces of the vocabulary: −log softmax(logits)\[target\].

mod backward;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod reference;

pub use backward::{cross_entropy, divergence};

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
    target: f32,
}

impl Running {
    /// Takes in the logits of one piece.
    fn add(&mut self, row: &[f32]) {
        let top = max(row).max(self.top);
        if top > self.top {
            self.sum *= (f64::from(self.top) - f64::from(top)).exp();
            self.top = top;
        }
        self.sum += sum_exp(row, self.top);
    }

    /// −log of the target's share.
    fn nll(&self) -> f32 {
        (self.sum.ln() + f64::from(self.top) - f64::from(self.target)) as f32
    }
}

/// The likelihoods of one target for each position, while the logits come.
pub struct Likelihood {
    count: usize,
    state: State,
}

/// The state, on the device of the logits.
enum State {
    Host {
        targets: Vec<u32>,
        running: Vec<Running>,
    },
    #[cfg(feature = "cuda")]
    Gpu(Box<cuda::State>),
}

impl Likelihood {
    /// For logits on `device` and positions with these targets. Errors when the device does.
    pub fn new(device: &Device, targets: &[u32]) -> Result<Self> {
        let state = match device {
            Device::Cpu => {
                let running = vec![Running { top: f32::NEG_INFINITY, sum: 0.0, target: 0.0 }; targets.len()];
                State::Host { targets: targets.to_vec(), running }
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => State::Gpu(Box::new(cuda::State::new(device, targets)?)),
            _ => candle_core::bail!("likelihoods on {device:?}, which this build cannot compute on"),
        };
        Ok(Self { count: targets.len(), state })
    }

    /// Takes in `logits [n, width]` f32 of the `n` positions from `position` on: those of the vocabulary's entries from
    /// `first` on. Each entry comes once for each position, in any order of pieces. Errors on positions that are not there.
    pub fn add(&mut self, position: usize, first: usize, logits: &Tensor) -> Result<()> {
        let (count, width) = logits.dims2()?;
        if count == 0 || width == 0 || position.saturating_add(count) > self.count {
            candle_core::bail!("logits {:?} for the positions from {position} on of {}", logits.shape(), self.count);
        }
        match &mut self.state {
            State::Host { targets, running } => with_f32(logits, |logits| {
                let rows = logits.par_chunks_exact(width).zip(&targets[position..]);
                running[position..].par_iter_mut().zip(rows).for_each(|(state, (row, &target))| {
                    state.add(row);
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

    /// −log p(target) of each position, natural logarithm.
    pub fn finish(self) -> Result<Vec<f32>> {
        let running = match self.state {
            State::Host { running, .. } => running,
            #[cfg(feature = "cuda")]
            State::Gpu(state) => state.download()?,
        };
        Ok(running.iter().map(Running::nll).collect())
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
        assert!(likelihood.finish().unwrap().iter().all(|nll| (nll - half).abs() < 1e-6));
    }
}
