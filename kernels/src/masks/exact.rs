//! The comparison of all patterns of a group.

use faer::Mat;
use rayon::prelude::*;

use super::Objective;
use crate::products;
use crate::simd::multiversion;
use crate::sweep::strips::{LANES, Lane};

/// Products that the comparison of a group may take for a row. 4:8 takes 700, 8:16 would take 463,320.
const MOST: usize = 2048;

/// The inverses of all blocks of H that a pattern leaves.
pub(super) struct Tables {
    keep: usize,
    of: usize,
    /// The columns of each pattern, `[patterns, keep]`, in lexicographic order.
    patterns: Vec<u32>,
    /// For each pattern the pairs i ≤ j of its columns, as i · of + j.
    pairs: Vec<u32>,
    /// For each group and each pattern, the inverse's elements for those pairs, those off the diagonal twice.
    coefficients: Vec<f32>,
}

impl Tables {
    /// `None` where nothing is to be chosen, or the patterns are too many to compare.
    pub fn new(objective: &Objective, keep: usize, of: usize) -> Option<Self> {
        if keep == 0 || keep >= of {
            return None;
        }
        let each = keep * (keep + 1) / 2;
        let patterns = patterns(keep, of, MOST / each)?;
        let mut pairs = Vec::with_capacity(patterns.len() / keep * each);
        for columns in patterns.chunks_exact(keep) {
            for (a, &i) in columns.iter().enumerate() {
                pairs.extend(columns[a..].iter().map(|&j| i * of as u32 + j));
            }
        }
        let mut coefficients = vec![0f32; objective.n() / of * pairs.len()];
        coefficients.par_chunks_exact_mut(pairs.len()).enumerate().for_each(|(group, to)| {
            for (columns, to) in patterns.chunks_exact(keep).zip(to.chunks_exact_mut(each)) {
                inverse(objective, group * of, columns, to);
            }
        });
        Some(Self { keep, of, patterns, pairs, coefficients })
    }

    /// Gives each lane the pattern with the largest gain, the first one on ties, and its best values. `g` is (T − D) H and
    /// `d` are the weights of the group, `block` is its part of H.
    pub fn choose(&self, group: usize, block: &[f32], g: &[Lane], d: &mut [Lane], kept: &mut [Lane]) {
        let (keep, of) = (self.keep, self.of);
        let each = keep * (keep + 1) / 2;
        let coefficients = &self.coefficients[group * self.pairs.len()..][..self.pairs.len()];
        let (mut linear, mut products) = (g.to_vec(), vec![[0f32; LANES]; of * of]);
        multiply(block, d, &mut linear, &mut products);
        let mut chosen = [0u32; LANES];
        compare(&products, &self.pairs, coefficients, each, &mut chosen);
        d.fill([0.0; LANES]);
        kept.fill([0.0; LANES]);
        for (lane, &pattern) in chosen.iter().enumerate() {
            let columns = &self.patterns[pattern as usize * keep..][..keep];
            let mut inverse = coefficients[pattern as usize * each..][..each].iter();
            for (a, &i) in columns.iter().enumerate() {
                let i = i as usize;
                kept[i][lane] = 1.0;
                for (b, &j) in columns[a..].iter().enumerate() {
                    let (j, c) = (j as usize, inverse.next().copied().unwrap_or_default());
                    if b == 0 {
                        d[i][lane] += c * linear[i][lane];
                    } else {
                        d[i][lane] += 0.5 * c * linear[j][lane];
                        d[j][lane] += 0.5 * c * linear[i][lane];
                    }
                }
            }
        }
    }
}

/// All sets of `keep` of `of` columns, one after the other; `None` where they are more than `most`.
fn patterns(keep: usize, of: usize, most: usize) -> Option<Vec<u32>> {
    let mut set: Vec<u32> = (0..keep as u32).collect();
    let mut all = Vec::new();
    loop {
        all.extend_from_slice(&set);
        if all.len() > most * keep {
            return None;
        }
        // The last column that can move up, and those after it right behind.
        let Some(at) = (0..keep).rev().find(|&i| (set[i] as usize) < of - keep + i) else { return Some(all) };
        set[at] += 1;
        (at + 1..keep).for_each(|i| set[i] = set[i - 1] + 1);
    }
}

/// The inverse of H's block of some columns from `first` on, for pairs i ≤ j, doubled off the diagonal. Zeros where the block
/// is not positive definite: then the pattern gains nothing.
fn inverse(objective: &Objective, first: usize, columns: &[u32], to: &mut [f32]) {
    let (n, k) = (objective.n(), columns.len());
    let h =
        |a: usize, b: usize| f64::from(objective.h[(first + columns[a] as usize) * n + first + columns[b] as usize]);
    let mut lower = Mat::<f64>::from_fn(k, k, h);
    to.fill(0.0);
    if products::cholesky(lower.as_mut()).is_err() {
        return;
    }
    let mut l = Mat::<f64>::zeros(k, k);
    products::invert_lower(l.as_mut(), lower.as_ref());
    // H⁻¹ = (L⁻¹)ᵀ L⁻¹.
    let mut to = to.iter_mut();
    for a in 0..k {
        for b in a..k {
            let element: f64 = (b..k).map(|row| l[(row, a)] * l[(row, b)]).sum();
            let Some(to) = to.next() else { return };
            *to = if a == b { element } else { 2.0 * element } as f32;
        }
    }
}

multiversion! {
    /// `linear` += d H, and `products[i · m + j]` = b_i b_j for i ≤ j.
    fn multiply(block: &[f32], d: &[Lane], linear: &mut [Lane], products: &mut [Lane]) {
        let m = d.len();
        for (b, h) in linear.iter_mut().zip(block.chunks_exact(m)) {
            for (&h, d) in h.iter().zip(d) {
                for (b, d) in b.iter_mut().zip(d) {
                    *b += h * d;
                }
            }
        }
        for i in 0..m {
            for j in i..m {
                let (a, b) = (&linear[i], &linear[j]);
                for ((p, a), b) in products[i * m + j].iter_mut().zip(a).zip(b) {
                    *p = a * b;
                }
            }
        }
    }
}

multiversion! {
    /// The pattern with the largest gain for each lane.
    fn compare(products: &[Lane], pairs: &[u32], coefficients: &[f32], each: usize, chosen: &mut [u32; LANES]) {
        let mut best = [f32::NEG_INFINITY; LANES];
        for (pattern, (pairs, coefficients)) in
            pairs.chunks_exact(each).zip(coefficients.chunks_exact(each)).enumerate()
        {
            let mut gain = [0f32; LANES];
            for (&pair, &c) in pairs.iter().zip(coefficients) {
                for (gain, p) in gain.iter_mut().zip(&products[pair as usize]) {
                    *gain += c * p;
                }
            }
            for ((best, chosen), gain) in best.iter_mut().zip(&mut *chosen).zip(&gain) {
                let better = *gain > *best;
                *best = if better { *gain } else { *best };
                *chosen = if better { pattern as u32 } else { *chosen };
            }
        }
    }
}
