//! The range of a list of numbers, zero included: the least and the largest.

use crate::simd::multiversion;

/// Independent partial results, so that loops run in vector registers.
const LANES: usize = 16;

/// The least and the largest of `x`; 0 where all are on one side of it or there are none. NaN is passed over.
#[inline(always)]
pub(crate) fn least_and_most(x: &[f32]) -> [f32; 2] {
    let (mut least, mut most) = ([0f32; LANES], [0f32; LANES]);
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for ((least, most), &v) in least.iter_mut().zip(&mut most).zip(chunk) {
            *least = if v < *least { v } else { *least };
            *most = if v > *most { v } else { *most };
        }
    }
    let least = rest.iter().chain(&least).fold(0f32, |a, &b| a.min(b));
    [least, rest.iter().chain(&most).fold(0f32, |a, &b| a.max(b))]
}

multiversion! {
    /// [`least_and_most`], for callers that are not compiled for vectors themselves.
    pub(crate) fn extremes(x: &[f32]) -> [f32; 2] {
        least_and_most(x)
    }
}

/// The range of two lists together.
pub(crate) fn joined(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [a[0].min(b[0]), a[1].max(b[1])]
}
