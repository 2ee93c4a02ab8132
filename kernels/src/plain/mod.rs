//! Plain loops over elements: sums, ReLU, largest values, checks.

mod backward;
#[cfg(feature = "cuda")]
mod cuda;

pub use backward::relu_backward;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::simd::{self, multiversion};
use crate::{Fresh, with_f32, write_chunks};

/// Elements per task.
const CHUNK: usize = 1 << 14;
/// Independent partial results, so that loops run in vector registers. Their number is fixed: the result is the same on
/// every machine.
const LANES: usize = 16;

multiversion! {
    fn sum(a: &[f32], b: &[f32], out: &mut Fresh) {
        for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
            o.write(a + b);
        }
    }
}

multiversion! {
    fn positive(x: &[f32], out: &mut Fresh) {
        for (o, &x) in out.iter_mut().zip(x) {
            o.write(if x < 0.0 { 0.0 } else { x });
        }
    }
}

multiversion! {
    fn finite(x: &[f32]) -> bool {
        x.iter().fold(true, |all, v| all & v.is_finite())
    }
}

multiversion! {
    /// The largest value; −∞ when there is none.
    pub fn max(row: &[f32]) -> f32 {
        let mut top = [f32::NEG_INFINITY; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for (top, &v) in top.iter_mut().zip(chunk) {
                *top = if v > *top { v } else { *top };
            }
        }
        rest.iter().chain(&top).fold(f32::NEG_INFINITY, |a, &b| a.max(b))
    }
}

multiversion! {
    /// Σ exp(v − top) over values that are at most `top`: each term within 3e-7 of itself.
    pub fn sum_exp(row: &[f32], top: f32) -> f64 {
        let mut sums = [0f32; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for (sum, v) in sums.iter_mut().zip(chunk) {
                *sum += simd::exp(v - top);
            }
        }
        let rest: f64 = rest.iter().map(|&v| f64::from(simd::exp(v - top))).sum();
        rest + sums.iter().map(|&s| f64::from(s)).sum::<f64>()
    }
}

/// `a + b`, f32 of one shape. Errors when the shapes differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        candle_core::bail!("a sum of {:?} and {:?}", a.shape(), b.shape());
    }
    on_gpu!(a => cuda::add(a, b));
    let out = with_f32(a, |a| {
        with_f32(b, |b| {
            // SAFETY: `sum` writes each element of its chunk, for which both inputs have one.
            Ok(unsafe {
                write_chunks(a.len(), CHUNK, |i, out| {
                    let (a, b) = (&a[i * CHUNK..][..out.len()], &b[i * CHUNK..][..out.len()]);
                    sum(a, b, out);
                })
            })
        })
    })?;
    Tensor::from_vec(out, a.shape(), a.device())
}

/// `x [.., n]` plus `y [n]`, f32, for `n` of one or more dimensions: `y` is added to each part of its shape. Errors when
/// `x` does not end in that shape.
pub fn add_each(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if !x.dims().ends_with(y.dims()) {
        candle_core::bail!("{:?} added to each part of {:?}", y.shape(), x.shape());
    }
    on_gpu!(x => cuda::add_each(x, y));
    let width = y.elem_count().max(1);
    let each = width * (CHUNK / width).max(1);
    let out = with_f32(x, |x| {
        with_f32(y, |y| {
            // SAFETY: `sum` writes each element of its part, of which there are as many as in `y`.
            Ok(unsafe {
                write_chunks(x.len(), each, |i, out| {
                    let x = &x[i * each..][..out.len()];
                    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                        sum(x, y, out);
                    }
                })
            })
        })
    })?;
    Tensor::from_vec(out, x.shape(), x.device())
}

/// max(x, 0) of each element, f32; what is not a number stays so.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    on_gpu!(x => cuda::relu(x));
    let out = with_f32(x, |x| {
        // SAFETY: `positive` writes each element of its chunk, for which the input has one.
        Ok(unsafe { write_chunks(x.len(), CHUNK, |i, out| positive(&x[i * CHUNK..][..out.len()], out)) })
    })?;
    Tensor::from_vec(out, x.shape(), x.device())
}

/// True if all elements of `x` (f32) are finite.
pub fn all_finite(x: &Tensor) -> Result<bool> {
    on_gpu!(x => cuda::all_finite(x));
    with_f32(x, |x| Ok(x.par_chunks(CHUNK).all(finite)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_largest_and_the_sum_of_exponentials() {
        for count in [0, 1, 15, 16, 1003] {
            let row = crate::test_values(count, 5.0, 1);
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&row), top);
            let want: f64 = row.iter().map(|&v| (f64::from(v) - f64::from(top)).exp()).sum();
            // Differences of up to thirty are rounded (1e-6) before the exponential.
            assert!((sum_exp(&row, top) - want).abs() <= 2e-6 * want);
        }
        assert!(sum_exp(&[0.0, f32::NAN], 0.0).is_nan());
    }

    fn tensor(values: Vec<f32>) -> Tensor {
        let count = values.len();
        Tensor::from_vec(values, count, &Device::Cpu).unwrap()
    }

    #[test]
    fn relu_keeps_what_is_positive() {
        let mut x = crate::test_values(CHUNK + 7, 1.0, 1);
        (x[3], x[4]) = (f32::INFINITY, f32::NEG_INFINITY);
        let got = relu(&tensor(x.clone())).unwrap().to_vec1::<f32>().unwrap();
        assert!(got.iter().zip(&x).all(|(&got, &x)| got == x.max(0.0)));
        assert!(relu(&tensor(vec![f32::NAN])).unwrap().to_vec1::<f32>().unwrap()[0].is_nan());
    }

    #[test]
    fn sums_and_checks() {
        let count = 2 * CHUNK + 5;
        let (a, b) = (crate::test_values(count, 1.0, 1), crate::test_values(count, 1.0, 2));
        let got = add(&tensor(a.clone()), &tensor(b.clone())).unwrap().to_vec1::<f32>().unwrap();
        assert!(got.iter().zip(a.iter().zip(&b)).all(|(g, (a, b))| *g == a + b));
        assert!(add(&tensor(vec![1.0]), &tensor(vec![1.0, 2.0])).is_err());
        assert!(add_each(&tensor(vec![1.0; 4]), &tensor(vec![1.0, 2.0])).is_err());
        assert!(all_finite(&tensor(a.clone())).unwrap());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, CHUNK + 3, count - 1] {
                let mut a = a.clone();
                a[at] = bad;
                assert!(!all_finite(&tensor(a)).unwrap(), "{bad} at {at}");
            }
        }
    }
}
