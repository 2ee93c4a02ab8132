//! LoRA (arXiv 2106.09685, section 4): a product B A of narrow matrices beside a weight, of which alone the gradients are taken.

use paring_format::adapter::Pair as Factors;
use paring_generate::random::Random;
use paring_kernels::gram::Cross;
use paring_kernels::low_rank;
use paring_kernels::matmul::Matrix;

use super::kept::Kept;
use super::parameters::matrix;
use crate::{Precision, Result};

/// True if a linear gets a pair: its path ends in one of the targets, or there are none.
pub fn targeted(targets: &[String], module: &str) -> bool {
    let ends = |target: &String| {
        module.strip_suffix(target.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    targets.is_empty() || targets.iter().any(ends)
}

/// The sizes of a pair: A is `[rank, cols]`, B is `[rows, rank]`; in the store A comes first.
pub(super) struct Pair {
    pub rows: usize,
    pub cols: usize,
    pub rank: usize,
    /// The factor of B A.
    pub scale: f32,
    /// The entries of the weight at which the product counts; all where there are none.
    pub kept: Option<Kept>,
}

impl Pair {
    /// Numbers of both matrices.
    pub fn count(&self) -> usize {
        self.rank * (self.rows + self.cols)
    }

    /// A and B.
    pub fn split<'a>(&self, values: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        values.split_at(self.rank * self.cols)
    }

    /// The first values: A uniform between ±1/√cols, which is Kaiming's with a = √5, B zero. `seed` and `number`, which tells pairs apart, decide
    /// them alone.
    pub fn start(&self, seed: u64, number: u64) -> Vec<f32> {
        let (bound, mut random) = ((self.cols as f64).sqrt().recip(), Random::new(seed, number));
        let a = (0..self.rank * self.cols).map(|_| (bound * (2.0 * random.unit() - 1.0)) as f32);
        a.chain(std::iter::repeat_n(0.0, self.rows * self.rank)).collect()
    }

    /// The factors as an adapter has them.
    pub fn factors(&self, values: &[f32]) -> Result<Factors> {
        let (a, b) = self.split(values);
        Ok(Factors::new(self.rank, (self.rows, self.cols), a.to_vec(), b.to_vec(), self.scale)?)
    }

    /// The base's weight and the product where it counts, row-major `[rows, cols]`.
    pub fn added(&self, mut base: Vec<f32>, values: &[f32]) -> Vec<f32> {
        let (a, b) = self.split(values);
        let mut more = low_rank::change(a, b, self.scale, (self.rank, self.cols));
        if let Some(kept) = &self.kept {
            more = kept.expand(&kept.select(&more));
        }
        base.iter_mut().zip(&more).for_each(|(base, more)| *base += more);
        base
    }

    /// The gradients of A and of B for the gradient G of the weight: s Bᵀ G and s G Aᵀ, G only where the product counts.
    pub fn gradients(&self, values: &[f32], gradient: Vec<f32>) -> Result<Vec<f32>> {
        let (a, b) = self.split(values);
        let gradient = match &self.kept {
            Some(kept) => kept.expand(&kept.select(&gradient)),
            None => gradient,
        };
        let gradient = matrix(gradient, self.rows, self.cols)?;
        let mut of_a = Cross::new(self.rank, self.cols, Precision::F32);
        of_a.add(&matrix(b.to_vec(), self.rows, self.rank)?, &gradient)?;
        let of_b = Matrix::new(self.rank, self.cols, a.to_vec(), Precision::F32).matmul(&gradient)?;
        let mut all = of_a.finish(self.scale);
        all.extend(of_b.flatten_all()?.to_vec1::<f32>()?.into_iter().map(|g| g * self.scale));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_those_of_differences() {
        let base = vec![0.5, 0.0, -1.0, 2.0, 0.25, 0.0];
        for kept in [None, Some(Kept::of(&base))] {
            let pair = Pair { rows: 2, cols: 3, rank: 2, scale: 2.0, kept };
            let mut values: Vec<f32> = pair.start(7, 0);
            assert!(values[..6].iter().all(|a| a.abs() <= 0.578) && values[6..].iter().all(|b| *b == 0.0));
            values[6..].copy_from_slice(&[0.5, -1.0, 0.75, 0.25]);
            // The loss is Σ g · w.
            let g = vec![1.0, -2.0, 0.5, 3.0, -0.5, 1.5];
            let loss = |values: &[f32]| {
                let w = pair.added(base.clone(), values);
                w.iter().zip(&g).map(|(w, g)| f64::from(w * g)).sum::<f64>()
            };
            let gradients = pair.gradients(&values, g.clone()).unwrap();
            for i in 0..values.len() {
                let (mut more, mut less) = (values.clone(), values.clone());
                (more[i], less[i]) = (values[i] + 0.125, values[i] - 0.125);
                let slope = (loss(&more) - loss(&less)) / 0.25;
                // Linear in each number: only rounding differs.
                assert!((slope - f64::from(gradients[i])).abs() < 1e-4, "{i}: {slope} and {}", gradients[i]);
            }
        }
    }

    #[test]
    fn pairs_do_not_begin_alike() {
        let pair = Pair { rows: 2, cols: 8, rank: 4, scale: 1.0, kept: None };
        let starts: Vec<Vec<f32>> =
            [(0, 0), (0, 1), (1, 0), (0, 1 << 16)].map(|(seed, number)| pair.start(seed, number)[..32].to_vec()).into();
        for (i, a) in starts.iter().enumerate() {
            assert!(starts[..i].iter().all(|b| !a.iter().any(|a| b.contains(a))), "{i} has a number of another");
        }
        assert_eq!(pair.start(3, 5), pair.start(3, 5));
    }
}
