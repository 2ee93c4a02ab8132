//! The k smallest of a list or of a short group.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::with_f32;

/// [`nth_smallest`] of a tensor, f32 of any shape, where it lies. Errors unless `k` is less than the number of scores.
pub fn nth_smallest_of(scores: &Tensor, k: usize) -> Result<f32> {
    if k >= scores.elem_count() {
        candle_core::bail!("score {k} of {}, from 0", scores.elem_count());
    }
    on_gpu!(scores => cuda::nth_smallest_of(scores, k));
    with_f32(scores, |scores| Ok(nth_smallest(scores, k)))
}

/// The element at position `k` (from 0) of `scores` in ascending order, without sorting: three passes over the bits,
/// most significant first. Scores are not negative and not NaN, so that their bits order as they do.
///
/// # Panics
/// If `k` is not less than the length.
pub fn nth_smallest(scores: &[f32], k: usize) -> f32 {
    assert!(k < scores.len(), "element {k} of {}", scores.len());
    let (mut prefix, mut mask, mut k) = (0u32, 0u32, k);
    for (shift, width) in [(21, 11), (10, 11), (0, 10)] {
        let buckets = 1usize << width;
        let count = |scores: &[f32]| {
            let mut counts = vec![0usize; buckets];
            for s in scores {
                let bits = s.to_bits();
                if bits & mask == prefix {
                    counts[(bits >> shift) as usize & (buckets - 1)] += 1;
                }
            }
            counts
        };
        let counts = scores.par_chunks(1 << 15).map(count).reduce(
            || vec![0; buckets],
            |mut a, b| {
                a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                a
            },
        );
        let mut bucket = 0;
        while k >= counts[bucket] {
            k -= counts[bucket];
            bucket += 1;
        }
        prefix |= (bucket as u32) << shift;
        mask |= (buckets as u32 - 1) << shift;
    }
    f32::from_bits(prefix)
}

/// Masks the `k` smallest of `scores`; among equals the first ones.
pub fn mask_smallest(scores: &[f32], k: usize, mask: &mut [u8]) {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize]));
    mask.fill(0);
    for &i in order.iter().take(k) {
        mask[i as usize] = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nth_smallest_agrees_with_sorting() {
        let mut state = 3u64;
        for len in [1usize, 2, 7, 1000, 70_001] {
            let scores: Vec<f32> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    // Few distinct values in one half, so that there are ties and zeros.
                    let v = (state >> 33) as u32;
                    if v.is_multiple_of(2) { (v % 64) as f32 / 8.0 } else { v as f32 * 1e-12 }
                })
                .collect();
            let mut sorted = scores.clone();
            sorted.sort_by(f32::total_cmp);
            for k in [0, len / 3, len / 2, len - 1] {
                assert_eq!(nth_smallest(&scores, k), sorted[k], "{k} of {len}");
            }
        }
        assert_eq!(nth_smallest(&[f32::INFINITY, 0.0, 1.0], 2), f32::INFINITY);
    }

    #[test]
    fn mark_smallest_takes_the_first_of_equals() {
        let mut mask = [9; 5];
        mask_smallest(&[2.0, 1.0, 2.0, 0.5, 2.0], 3, &mut mask);
        assert_eq!(mask, [1, 1, 0, 1, 0]);
        mask_smallest(&[2.0, 1.0, 2.0, 0.5, 2.0], 0, &mut mask);
        assert_eq!(mask, [0; 5]);
    }
}
