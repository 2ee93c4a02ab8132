//! Products of two narrow factors: the change ΔW = s · B A that an adapter of rank r makes of a weight (Hu et al. 2021, section
//! 4.1).
//!
//! Each sum is made rank by rank with one rounding for a product and its addition, so that the bits are the same on every machine;
//! they are those of torch's product on processors that fuse the two.

#[cfg(test)]
mod reference;

use rayon::prelude::*;

/// s · B A for `a`, row-major `[rank, cols]`, and `b`, row-major `[rows, rank]`: row-major `[rows, cols]`; 2 · rows · cols · rank
/// operations. A processor without fused multiplication takes some ten times as long.
///
/// # Panics
/// If `a` is not of that shape, or `b` has no whole number of rows.
pub fn change(a: &[f32], b: &[f32], scale: f32, (rank, cols): (usize, usize)) -> Vec<f32> {
    assert!(a.len() == rank * cols && b.len().is_multiple_of(rank.max(1)), "factors of rank {rank}");
    let mut out = vec![0f32; b.len() / rank.max(1) * cols];
    let rows = out.par_chunks_mut(cols.max(1)).zip(b.par_chunks(rank.max(1)));
    rows.for_each(|(out, b)| row(a, b, scale, out));
    out
}

/// A row of [`change`]: that of the row `b [rank]`, into `out [cols]`.
///
/// # Panics
/// If `a` is not `[rank, cols]`.
pub fn change_row(a: &[f32], b: &[f32], scale: f32, out: &mut [f32]) {
    assert_eq!(a.len(), b.len() * out.len(), "factors of rank {}", b.len());
    out.fill(0.0);
    row(a, b, scale, out);
}

/// Adds the products to `out`, rank by rank, and multiplies all by the scale.
#[inline(always)]
fn plain(a: &[f32], b: &[f32], scale: f32, out: &mut [f32]) {
    for (a, &b) in a.chunks_exact(out.len().max(1)).zip(b) {
        for (out, &a) in out.iter_mut().zip(a) {
            *out = b.mul_add(a, *out);
        }
    }
    for out in out {
        *out *= scale;
    }
}

/// [`plain`] with the widest instructions that fuse; all give the same bits.
fn row(a: &[f32], b: &[f32], scale: f32, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,fma")]
        fn avx512(a: &[f32], b: &[f32], scale: f32, out: &mut [f32]) {
            plain(a, b, scale, out);
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(a: &[f32], b: &[f32], scale: f32, out: &mut [f32]) {
            plain(a, b, scale, out);
        }
        if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx512f") {
            // SAFETY: the features were detected just above.
            return unsafe { avx512(a, b, scale, out) };
        }
        if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") {
            // SAFETY: the features were detected just above.
            return unsafe { avx2(a, b, scale, out) };
        }
    }
    plain(a, b, scale, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_the_bits_of_the_reference() {
        for (rows, cols, rank) in [(1, 1, 1), (3, 7, 2), (5, 64, 8), (4, 200, 33)] {
            let number = |i: usize| ((i * 2654435761 % 1000) as f32 - 500.0) / 377.0;
            let a: Vec<f32> = (0..rank * cols).map(number).collect();
            let b: Vec<f32> = (0..rows * rank).map(|i| number(i + 77)).collect();
            let expected = reference::change(&a, &b, 1.25, (rank, cols));
            let got = change(&a, &b, 1.25, (rank, cols));
            assert_eq!(got.len(), rows * cols);
            assert!(got.iter().zip(&expected).all(|(got, expected)| got.to_bits() == expected.to_bits()));
            let mut one = vec![0f32; cols];
            plain(&a, &b[..rank], 1.25, &mut one);
            assert_eq!(one, expected[..cols]);
            change_row(&a, &b[..rank], 1.25, &mut one);
            assert_eq!(one, expected[..cols]);
        }
    }
}
