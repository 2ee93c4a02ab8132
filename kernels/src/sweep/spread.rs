//! The innermost loop of the sweep: the errors of some columns, spread over the columns ahead in their slice.
//!
//! Written with intrinsics because compilers vectorise it across columns, with gathers, instead of across rows. The
//! multiplications and the subtractions round separately and in order, so every version gives the same bits.

use super::strips::{LANES, Lane};

/// Columns whose errors are spread together: as many as fit the registers of every processor beside what they are spread over.
pub(crate) const BLOCK: usize = 8;

/// `column -= e · u` for each column ahead and one error after the other; row i of the factor, which belongs to error i, has
/// its elements for the columns ahead at `u[i · stride ..]`.
#[inline]
pub(crate) fn spread(columns: &mut [Lane], errors: &[Lane], u: &[f32], stride: usize) {
    if columns.is_empty() || errors.is_empty() {
        return;
    }
    assert!(u.len() >= (errors.len() - 1) * stride + columns.len());
    let (blocks, rest) = errors.as_chunks::<BLOCK>();
    for (i, errors) in blocks.iter().enumerate() {
        spread_block(columns, errors, &u[i * BLOCK * stride..], stride);
    }
    let done = blocks.len() * BLOCK;
    for (i, error) in rest.iter().enumerate() {
        spread_block(columns, std::array::from_ref(error), &u[(done + i) * stride..], stride);
    }
}

#[inline]
fn spread_block<const N: usize>(columns: &mut [Lane], errors: &[Lane; N], u: &[f32], stride: usize) {
    assert!(u.len() >= (N - 1) * stride + columns.len());
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was detected just above, and the factor reaches over the columns.
            return unsafe { avx512(columns, errors, u, stride) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: likewise.
            return unsafe { avx2(columns, errors, u, stride) };
        }
    }
    plain(columns, errors, u, stride);
}

fn plain<const N: usize>(columns: &mut [Lane], errors: &[Lane; N], u: &[f32], stride: usize) {
    for (c, column) in columns.iter_mut().enumerate() {
        for (i, e) in errors.iter().enumerate() {
            let u = u[i * stride + c];
            for (c, e) in column.iter_mut().zip(e) {
                *c -= e * u;
            }
        }
    }
}

/// A version for vectors of so many lanes: those of the errors stay in registers while the columns pass by, four at a time so
/// that no subtraction waits for the one before.
#[cfg(target_arch = "x86_64")]
macro_rules! version {
    ($name:ident, $features:literal, $lanes:literal, $load:ident, $store:ident, $splat:ident, $mul:ident, $sub:ident) => {
        /// # Safety
        /// Needs the instructions in the attribute, and (N − 1) · stride + columns elements of the factor.
        #[target_feature(enable = $features)]
        unsafe fn $name<const N: usize>(columns: &mut [Lane], errors: &[Lane; N], u: &[f32], stride: usize) {
            use std::arch::x86_64::*;
            const { assert!(LANES.is_multiple_of($lanes)) };
            for at in (0..LANES).step_by($lanes) {
                // SAFETY: `at` and the lanes after it lie in a column; u's element i · stride + c is there by the caller's promise.
                unsafe {
                    let e: [_; N] = std::array::from_fn(|i| $load(errors[i].as_ptr().add(at)));
                    let (fours, rest) = columns.as_chunks_mut::<4>();
                    let mut from = u.as_ptr();
                    for four in fours {
                        let mut c: [_; 4] = std::array::from_fn(|k| $load(four[k].as_ptr().add(at)));
                        for i in 0..N {
                            for k in 0..4 {
                                c[k] = $sub(c[k], $mul(e[i], $splat(*from.add(i * stride + k))));
                            }
                        }
                        for k in 0..4 {
                            $store(four[k].as_mut_ptr().add(at), c[k]);
                        }
                        from = from.add(4);
                    }
                    for column in rest {
                        let mut c = $load(column.as_ptr().add(at));
                        for i in 0..N {
                            c = $sub(c, $mul(e[i], $splat(*from.add(i * stride))));
                        }
                        $store(column.as_mut_ptr().add(at), c);
                        from = from.add(1);
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
version!(avx512, "avx512f", 16, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_mul_ps, _mm512_sub_ps);
#[cfg(target_arch = "x86_64")]
version!(avx2, "avx2", 8, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_mul_ps, _mm256_sub_ps);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_gives_the_same_bits() {
        let stride = 50;
        let values = crate::test_values((40 + 19) * LANES + 19 * stride, 1.0, 3);
        let lanes: Vec<Lane> = values.as_chunks::<LANES>().0[..40 + 19].to_vec();
        let (columns, errors) = lanes.split_at(40);
        let u = &values[lanes.len() * LANES..];
        for (count, ahead) in [(1, 40), (8, 39), (19, 38), (3, 1)] {
            let mut want = columns[..ahead].to_vec();
            for (i, e) in errors[..count].iter().enumerate() {
                plain(&mut want, &[*e], &u[i * stride..], stride);
            }
            let mut got = columns[..ahead].to_vec();
            spread(&mut got, &errors[..count], u, stride);
            assert_eq!(got, want);
            spread(&mut got, &[], u, stride);
            spread(&mut [], &errors[..count], &[], stride);
            assert_eq!(got, want, "nothing to spread, or nothing ahead");
            #[cfg(target_arch = "x86_64")]
            if count == BLOCK && is_x86_feature_detected!("avx2") {
                let mut got = columns[..ahead].to_vec();
                // SAFETY: the feature was detected just above, and the factor has `stride` elements for each error.
                unsafe { avx2(&mut got, errors.first_chunk::<BLOCK>().unwrap(), u, stride) };
                assert_eq!(got, want);
            }
        }
    }
}
