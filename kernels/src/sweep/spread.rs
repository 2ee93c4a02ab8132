//! The innermost loop of the sweep: the error of one column, spread over the columns ahead in its slice.
//!
//! Written with intrinsics because compilers vectorise it across columns, with gathers, instead of across rows. The
//! multiplication and the subtraction round separately, so every version gives the same bits.

use super::cpu::{LANES, Lane};

/// `column -= e · u` for each column ahead and its element of the factor's row.
#[inline]
pub(super) fn spread(columns: &mut [Lane], e: &Lane, ahead: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was detected just above.
            return unsafe { avx512(columns, e, ahead) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was detected just above.
            return unsafe { avx2(columns, e, ahead) };
        }
    }
    plain(columns, e, ahead);
}

#[inline]
fn plain(columns: &mut [Lane], e: &Lane, ahead: &[f32]) {
    for (column, &u) in columns.iter_mut().zip(ahead) {
        for (c, e) in column.iter_mut().zip(e) {
            *c -= e * u;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(columns: &mut [Lane], e: &Lane, ahead: &[f32]) {
    use std::arch::x86_64::*;
    const { assert!(LANES == 16) };
    // SAFETY: a lane holds 16 numbers.
    let e = unsafe { _mm512_loadu_ps(e.as_ptr()) };
    for (column, &u) in columns.iter_mut().zip(ahead) {
        // SAFETY: a lane holds 16 numbers.
        unsafe {
            let old = _mm512_loadu_ps(column.as_ptr());
            let new = _mm512_sub_ps(old, _mm512_mul_ps(e, _mm512_set1_ps(u)));
            _mm512_storeu_ps(column.as_mut_ptr(), new);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(columns: &mut [Lane], e: &Lane, ahead: &[f32]) {
    use std::arch::x86_64::*;
    const { assert!(LANES == 16) };
    for (column, &u) in columns.iter_mut().zip(ahead) {
        let u = _mm256_set1_ps(u);
        for half in [0, 8] {
            // SAFETY: a lane holds two halves of 8 numbers.
            unsafe {
                let old = _mm256_loadu_ps(column.as_ptr().add(half));
                let e = _mm256_loadu_ps(e.as_ptr().add(half));
                _mm256_storeu_ps(column.as_mut_ptr().add(half), _mm256_sub_ps(old, _mm256_mul_ps(e, u)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_gives_the_same_bits() {
        let values = crate::test_values(40 * LANES + LANES + 40, 1.0, 3);
        let columns: Vec<Lane> = values.chunks_exact(LANES).take(40).map(|c| c.try_into().unwrap()).collect();
        let e: Lane = values[40 * LANES..][..LANES].try_into().unwrap();
        let ahead = &values[41 * LANES..];
        let mut want = columns.clone();
        plain(&mut want, &e, ahead);
        let mut got = columns.clone();
        spread(&mut got, &e, ahead);
        assert_eq!(got, want);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            let mut got = columns.clone();
            // SAFETY: the feature was detected just above.
            unsafe { avx2(&mut got, &e, ahead) };
            assert_eq!(got, want);
        }
    }
}
