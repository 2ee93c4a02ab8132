//! Cases of the search for the k-th smallest score.

use candle_core::Tensor;

use super::{Case, Deviation, values};
use crate::select::nth_smallest_of;

pub(super) fn cases() -> Vec<Case> {
    [1, 2, 255, 257, 60_001].map(case).into()
}

fn case(size: usize) -> Case {
    Case::new(format!("select: score at a place among {size}"), move |device| {
        let mut scores: Vec<f32> = values(size, 1.0, 5).iter().map(|v| v * v).collect();
        // Ties, zeros and numbers that differ in the last bits alone.
        for (i, score) in scores.iter_mut().enumerate() {
            match i % 5 {
                0 => *score = (*score * 4.0).round() / 4.0,
                1 => *score = f32::from_bits(0x3f80_0000 + i as u32 % 7),
                _ => {}
            }
        }
        let mut sorted = scores.clone();
        sorted.sort_by(f32::total_cmp);
        let scores = Tensor::from_vec(scores, size, device)?;
        let mut right = true;
        for k in [0, size / 3, size / 2, size - 1] {
            right &= nth_smallest_of(&scores, k)? == sorted[k];
        }
        Ok(Deviation::ratio(if right { 0.0 } else { f64::INFINITY }))
    })
}
