//! The choices of a fine-tuning.

use paring_kernels::adam::Adam;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The course of the rate over the steps, after a warm-up; transformers' schedules of these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// The same in all steps.
    Constant,
    /// From the whole rate in a straight line to 0 in the step after the last.
    Linear,
    /// Half a cosine to the same end.
    Cosine,
}

/// The weights of the parts of the loss, each a mean over the tokens that are learned (that of states: over all tokens).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Of the cross-entropy.
    pub cross_entropy: f64,
    /// Of T² · KL(teacher ‖ student) at the temperature T (Hinton et al. 2015, section 2).
    pub divergence: f64,
    /// T.
    pub temperature: f64,
    /// Of SquareHead (arXiv 2310.06927, section 3): of each block's output, the squared distance from the teacher's over the teacher's square.
    pub states: f64,
}

impl Loss {
    /// The cross-entropy alone.
    pub const PLAIN: Self = Self { cross_entropy: 1.0, divergence: 0.0, temperature: 1.0, states: 0.0 };

    /// True if a part compares with a teacher.
    pub fn needs_teacher(&self) -> bool {
        self.divergence != 0.0 || self.states != 0.0
    }
}

/// The part of the model that trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Matrices, norms and biases of the blocks, the norm before the head, and a head of its own.
    Weights {
        /// True if weights of the blocks that are 0 stay so.
        masked: bool,
    },
    /// Pairs of narrow matrices beside the linears of blocks (LoRA, arXiv 2106.09685, section 4).
    Adapter {
        /// Rows of A and columns of B.
        rank: usize,
        /// The product is multiplied by alpha / rank.
        alpha: f64,
        /// Last parts of the paths of linears that get a pair; all of the blocks' where none is named.
        targets: Vec<String>,
        /// True if the product counts only where the base's weight is not 0, so that it can be merged without filling zeros.
        masked: bool,
    },
}

/// All choices of a fine-tuning but model, data and places.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Steps of the optimizer.
    pub steps: usize,
    /// Examples of a step.
    pub batch: usize,
    /// The highest rate.
    pub rate: f64,
    /// Rates of the others.
    pub schedule: Schedule,
    /// Steps in which the rate rises from 0 to the whole.
    pub warmup: usize,
    /// Adam's; its decay is that of matrices, norms and biases have none.
    pub adam: Adam,
    /// The norm that the gradients of a step are brought to where theirs is larger.
    pub clip: Option<f64>,
    /// The loss.
    pub loss: Loss,
    /// The part of the model that trains.
    pub subject: Subject,
    /// The source of the order of examples, and of the start of adapters.
    pub seed: u64,
    /// Steps from one measurement of the held-out text to the next; 0: after the last only.
    pub eval_every: usize,
    /// Steps from one point that a run can be resumed from to the next; 0: none.
    pub checkpoint_every: usize,
    /// True if the forward pass sees weights rounded to the types of their file.
    pub rounded: bool,
}

impl Settings {
    /// The rate of step `step`, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.rate * step as f64 / self.warmup as f64;
        }
        let (at, all) = ((step - self.warmup) as f64, self.steps.saturating_sub(self.warmup).max(1) as f64);
        self.rate
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => (1.0 - at / all).max(0.0),
                Schedule::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * at / all).cos())).max(0.0),
            }
    }

    /// Errors on choices that contradict each other.
    ///
    /// # Errors
    /// Only that.
    pub fn check(&self, has_teacher: bool) -> Result<()> {
        let fail = |text: String| Err(Error::Plan(text));
        let Loss { cross_entropy, divergence, temperature, states } = self.loss;
        if self.steps == 0 || self.batch == 0 {
            return fail(format!("a fine-tuning of {} steps of {} examples", self.steps, self.batch));
        }
        if self.warmup >= self.steps && self.warmup > 0 {
            return fail(format!(
                "a warm-up of {} steps in a training of {}; the rate would never be whole",
                self.warmup, self.steps
            ));
        }
        if !self.rate.is_finite() || self.rate <= 0.0 {
            return fail(format!("a rate of {}, expected more than 0", self.rate));
        }
        if [cross_entropy, divergence, states].iter().any(|part| !part.is_finite() || *part < 0.0)
            || cross_entropy + divergence + states == 0.0
            || !(temperature.is_finite() && temperature > 0.0)
        {
            return fail(format!(
                "weights of the loss of {cross_entropy}, {divergence} and {states} at temperature {temperature}; \
                 expected numbers that are not negative, one above 0, and a temperature above 0"
            ));
        }
        if has_teacher && !self.loss.needs_teacher() {
            return fail("a teacher, and no part of the loss that looks at it".into());
        }
        if self.loss.needs_teacher() && !has_teacher {
            return fail("a loss that compares with a teacher, and no teacher".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall() {
        let settings = |schedule, warmup| Settings {
            steps: 20,
            batch: 1,
            rate: 2e-4,
            schedule,
            warmup,
            adam: Adam::default(),
            clip: None,
            loss: Loss::PLAIN,
            subject: Subject::Weights { masked: true },
            seed: 0,
            eval_every: 0,
            checkpoint_every: 0,
            rounded: false,
        };
        let cosine = settings(Schedule::Cosine, 2);
        assert_eq!([0, 1, 2].map(|step| cosine.rate(step)), [0.0, 1e-4, 2e-4]);
        assert!((cosine.rate(11) - 1e-4).abs() < 1e-18 && cosine.rate(19) > 0.0);
        assert_eq!([0, 10, 20].map(|step| settings(Schedule::Linear, 0).rate(step)), [2e-4, 1e-4, 0.0]);
        assert_eq!(settings(Schedule::Constant, 0).rate(19), 2e-4);
        assert!(cosine.check(false).is_ok());
        let loss = Loss { divergence: 0.5, temperature: 2.0, ..Loss::PLAIN };
        assert!(Settings { loss, ..cosine.clone() }.check(false).is_err());
        assert!(Settings { rate: f64::NAN, ..cosine }.check(false).is_err());
    }
}
