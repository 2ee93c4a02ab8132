//! Adam with decoupled decay (Loshchilov and Hutter 2019, algorithm 2), as torch's `AdamW` orders it, and the norm that gradients are
//! clipped by.

#[cfg(test)]
mod reference;

use rayon::prelude::*;

use crate::simd::multiversion;

/// Elements per task.
const CHUNK: usize = 1 << 14;

/// The settings of Adam beside its rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// The share of the first moment that stays.
    pub beta1: f64,
    /// The share of the second moment that stays.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// A weight shrinks by rate · decay of itself in a step, before the step.
    pub decay: f64,
}

impl Default for Adam {
    /// torch's, without decay.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.0 }
    }
}

/// Both moments of some parameters, 0 before the first step.
#[derive(Clone, Debug)]
pub struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Moments {
    /// For so many parameters; 8 bytes each.
    pub fn new(count: usize) -> Self {
        Self { first: vec![0.0; count], second: vec![0.0; count] }
    }

    /// The first and the second moments.
    pub fn values(&self) -> [&[f32]; 2] {
        [&self.first, &self.second]
    }
}

/// The numbers of a step.
#[derive(Clone, Copy)]
struct Step {
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    keep: f32,
    rate: f32,
    root: f32,
    eps: f32,
    clip: f32,
}

multiversion! {
    fn apply(values: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32], step: Step) {
        let moments = first.iter_mut().zip(second);
        for (((value, gradient), first), second) in
            values.iter_mut().zip(gradients).zip(moments).map(|((v, g), (m, s))| (((v, g), m), s))
        {
            let gradient = gradient * step.clip;
            *first = step.beta1 * *first + step.rest1 * gradient;
            *second = step.beta2 * *second + step.rest2 * gradient * gradient;
            *value = *value * step.keep - step.rate * *first / (second.sqrt() * step.root + step.eps);
        }
    }
}

impl Adam {
    /// Step number `number`, from 1 on, of `values` with their gradients, which are multiplied by `clip` first.
    ///
    /// A value whose gradients were 0 in all steps, and which is 0, stays 0, and so do its moments.
    ///
    /// # Panics
    /// If there are not as many gradients and moments as values, or `number` is 0.
    pub fn step(
        &self,
        number: usize,
        rate: f64,
        clip: f64,
        values: &mut [f32],
        gradients: &[f32],
        moments: &mut Moments,
    ) {
        let Moments { first, second } = moments;
        self.step_parts(number, (rate, clip), values, gradients, (first, second));
    }

    /// [`Adam::step`] for moments that lie elsewhere, the first and the second.
    ///
    /// # Panics
    /// As there.
    pub fn step_parts(
        &self,
        number: usize,
        (rate, clip): (f64, f64),
        values: &mut [f32],
        gradients: &[f32],
        (first, second): (&mut [f32], &mut [f32]),
    ) {
        assert!(number > 0 && [gradients.len(), first.len(), second.len()] == [values.len(); 3]);
        let &Self { beta1, beta2, eps, decay } = self;
        // m̂ / (√v̂ + ε) with m̂ = m / (1 − β₁ⁿ) and v̂ = v / (1 − β₂ⁿ).
        let correct = |beta: f64| 1.0 - beta.powi(i32::try_from(number).unwrap_or(i32::MAX));
        let step = Step {
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            keep: (1.0 - rate * decay) as f32,
            rate: (rate / correct(beta1)) as f32,
            root: correct(beta2).sqrt().recip() as f32,
            eps: eps as f32,
            clip: clip as f32,
        };
        let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
        values
            .par_chunks_mut(CHUNK)
            .zip(gradients.par_chunks(CHUNK))
            .zip(moments)
            .for_each(|((values, gradients), (first, second))| apply(values, gradients, first, second, step));
    }
}

/// Σ g² of some gradients, in f64: summed over all that train, its root is the norm of a step.
pub fn square_sum(gradients: &[f32]) -> f64 {
    let sum = |chunk: &[f32]| chunk.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    gradients.par_chunks(CHUNK).map(sum).collect::<Vec<_>>().iter().sum()
}

/// The factor that brings gradients of this norm to `limit` where they are above it, as torch's `clip_grad_norm_`.
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::numeric::{narrow, values};

    #[test]
    fn steps_are_those_of_the_reference() {
        let adam = Adam { decay: 0.1, ..Adam::default() };
        let start = values(CHUNK + 5, 1.0, 1);
        let mut want: Vec<reference::Parameter> = start.iter().map(|&value| reference::Parameter::new(value)).collect();
        let (mut got, mut moments) = (narrow(&start), Moments::new(start.len()));
        for number in 1..=5 {
            let gradients = values(start.len(), 0.1, 1 + number as u64);
            adam.step(number, 1e-3, 0.5, &mut got, &narrow(&gradients), &mut moments);
            for (want, gradient) in want.iter_mut().zip(&gradients) {
                reference::step(&adam, number, 1e-3, 0.5 * gradient, want);
            }
        }
        // Weights of up to 4, and gradients so small that their rounding shows in a step.
        let off = got.iter().zip(&want).map(|(&got, want)| (f64::from(got) - want.value).abs()).fold(0.0, f64::max);
        assert!(off < 1e-6, "{off}");
    }

    #[test]
    fn a_zero_without_gradients_stays_one() {
        let (mut value, mut moments) = ([0.0f32, 1.0], Moments::new(2));
        for number in 1..10 {
            Adam { decay: 0.1, ..Adam::default() }.step(number, 1e-3, 1.0, &mut value, &[0.0, 1.0], &mut moments);
        }
        assert_eq!((value[0].to_bits(), moments.values().map(|m| m[0])), (0, [0.0, 0.0]));
        assert!(value[1] < 1.0);
    }

    #[test]
    fn norms_and_factors() {
        let norm = square_sum(&[3.0, -4.0]).sqrt();
        assert_eq!(norm, 5.0);
        assert!((clip_factor(norm, 1.0) - 0.2).abs() < 1e-6);
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
    }
}
