//! Backward passes of both norms. Statistics are computed again from the input.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{LANES, features, squares, sum};
use crate::gradient::{require_cpu, require_same, rows_of, total};
use crate::simd::multiversion;
use crate::with_f32;

/// Σ a b c.
#[inline(always)]
fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let ((a_chunks, a_rest), (b_chunks, b_rest), (c_chunks, c_rest)) =
        (a.as_chunks::<LANES>(), b.as_chunks::<LANES>(), c.as_chunks::<LANES>());
    for ((a, b), c) in a_chunks.iter().zip(b_chunks).zip(c_chunks) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i] * c[i];
        }
    }
    let mut rest = 0.0;
    for ((a, b), c) in a_rest.iter().zip(b_rest).zip(c_rest) {
        rest += a * b * c;
    }
    sums.iter().sum::<f32>() + rest
}

multiversion! {
    /// g = dy · w; dx = r (g − x r² mean(g x)); dw += dy x r.
    fn apply_rms(dy: &[f32], x: &[f32], weight: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32]) {
        let dim = weight.len();
        for ((dy, x), dx) in dy.chunks_exact(dim).zip(x.chunks_exact(dim)).zip(dx.chunks_exact_mut(dim)) {
            let r = 1.0 / (squares(x, 0.0) / dim as f32 + eps).sqrt();
            let along = dot3(dy, weight, x) / dim as f32 * r * r;
            for i in 0..dim {
                dx[i] = r * (dy[i] * weight[i] - x[i] * along);
                dw[i] += dy[i] * x[i] * r;
            }
        }
    }
}

multiversion! {
    /// n = (x − mean) r; g = dy · w; dx = r (g − mean g − n mean(g n)); dw += dy n; db += dy. `n` has room for a row.
    fn apply_layer(
        dy: &[f32],
        x: &[f32],
        weight: &[f32],
        eps: f32,
        n: &mut [f32],
        dx: &mut [f32],
        sums: &mut [f32],
    ) {
        let dim = weight.len();
        let (dw, db) = sums.split_at_mut(dim);
        for ((dy, x), dx) in dy.chunks_exact(dim).zip(x.chunks_exact(dim)).zip(dx.chunks_exact_mut(dim)) {
            let mean = sum(x) / dim as f32;
            let r = 1.0 / (squares(x, mean) / dim as f32 + eps).sqrt();
            for i in 0..dim {
                n[i] = (x[i] - mean) * r;
                dx[i] = dy[i] * weight[i];
                dw[i] += dy[i] * n[i];
                db[i] += dy[i];
            }
            let (level, along) = (sum(dx) / dim as f32, dot3(dy, weight, n) / dim as f32);
            for i in 0..dim {
                dx[i] = r * (dx[i] - level - n[i] * along);
            }
        }
    }
}

/// The gradients of a [`super::rms`] norm: that of `x`, of its shape, and that of the weight, `[dim]`, summed over all rows.
/// `dy` and `x` are `[.., dim]` f32. Errors on other shapes, and where they are not on the CPU.
pub fn rms_backward(dy: &Tensor, x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Vec<f32>)> {
    let (dx, sums) = run(dy, x, weight, 1, |dy, x, weight, dx, sums| apply_rms(dy, x, weight, eps, dx, sums))?;
    Ok((dx, sums))
}

/// The gradients of a [`super::layer`] norm: that of `x`, of its shape, and those of weight and bias, `[dim]`, summed over
/// all rows. `dy` and `x` are `[.., dim]` f32. Errors on other shapes, and where they are not on the CPU.
pub fn layer_backward(dy: &Tensor, x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Vec<f32>, Vec<f32>)> {
    let (dx, mut sums) = run(dy, x, weight, 2, |dy, x, weight, dx, sums| {
        apply_layer(dy, x, weight, eps, &mut vec![0.0; weight.len()], dx, sums);
    })?;
    let db = sums.split_off(sums.len() / 2);
    Ok((dx, sums, db))
}

/// The gradient of `x` and `kinds · dim` sums over rows, of which `apply` computes the rows of a task.
fn run(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    kinds: usize,
    apply: impl Fn(&[f32], &[f32], &[f32], &mut [f32], &mut [f32]) + Sync,
) -> Result<(Tensor, Vec<f32>)> {
    require_cpu(x, "a norm")?;
    require_same(dy, x, "a norm")?;
    let dim = features(x, weight)?;
    let each = rows_of(dim) * dim;
    let width = kinds * dim;
    let (dx, sums) = with_f32(dy, |dy| {
        with_f32(x, |x| {
            with_f32(weight, |weight| {
                let mut dx = vec![0f32; x.len()];
                let mut partials = vec![0f32; x.len().div_ceil(each) * width];
                let out = dx.par_chunks_mut(each).zip(partials.par_chunks_exact_mut(width));
                out.zip(dy.par_chunks(each).zip(x.par_chunks(each))).for_each(|((dx, sums), (dy, x))| {
                    apply(dy, x, weight, dx, sums);
                });
                Ok((dx, total(&partials, width)))
            })
        })
    })?;
    Ok((Tensor::from_vec(dx, x.shape(), x.device())?, sums))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::reference;
    use super::*;
    use crate::cases::flat;
    use crate::gradient::numeric::{check, dot, narrow, off, values};

    const EPS: f64 = 1e-3;

    #[test]
    fn the_references_are_the_gradients_and_the_fast_forms_the_references() {
        for (rows, dim) in [(1, 1), (3, 5), (2, 37), (700, 50)] {
            let (dy, x) = (values(rows * dim, 1.0, 1), values(rows * dim, 1.0, 2));
            let (w, b) = (values(dim, 1.0, 3), values(dim, 1.0, 4));
            let (dx, dw) = reference::rms_backward(&dy, &x, &w, EPS);
            let (layer_dx, layer_dw, layer_db) = reference::layer_backward(&dy, &x, &w, EPS);
            if rows < 10 {
                check("rms dx", &x, &dx, |x| dot(&dy, &reference::rms(x, &w, EPS)));
                check("rms dw", &w, &dw, |w| dot(&dy, &reference::rms(&x, w, EPS)));
                check("layer dx", &x, &layer_dx, |x| dot(&dy, &reference::layer(x, &w, &b, EPS)));
                check("layer dw", &w, &layer_dw, |w| dot(&dy, &reference::layer(&x, w, &b, EPS)));
                check("layer db", &b, &layer_db, |b| dot(&dy, &reference::layer(&x, &w, b, EPS)));
            }
            let tensor = |v: &[f64]| Tensor::from_vec(narrow(v), (v.len() / dim, dim), &Device::Cpu).unwrap();
            let weight = Tensor::from_vec(narrow(&w), dim, &Device::Cpu).unwrap();
            let got = rms_backward(&tensor(&dy), &tensor(&x), &weight, EPS as f32).unwrap();
            // One feature has nothing but its size, or its deviation from its mean: all of its gradient is rounding.
            assert!(dim == 1 || off(&flat(&got.0).unwrap(), &dx) < 2e-6, "{rows} x {dim}");
            assert!(off(&got.1, &dw) < 2e-6, "{rows} x {dim}");
            let got = layer_backward(&tensor(&dy), &tensor(&x), &weight, EPS as f32).unwrap();
            assert!(dim == 1 || off(&flat(&got.0).unwrap(), &layer_dx) < 5e-6, "{rows} x {dim}");
            assert!(dim == 1 || off(&got.1, &layer_dw) < 2e-6, "{rows} x {dim}");
            assert!(off(&got.2, &layer_db) < 2e-6, "{rows} x {dim}");
        }
    }

    #[test]
    fn gradients_do_not_depend_on_the_number_of_threads() {
        let tensor =
            |seed: u64| Tensor::from_vec(crate::test_values(3000 * 40, 1.0, seed), (3000, 40), &Device::Cpu).unwrap();
        let (dy, x, w) = (tensor(1), tensor(2), tensor(3).get(0).unwrap());
        let run = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let (dx, dw, db) = layer_backward(&dy, &x, &w, 1e-5).unwrap();
                (flat(&dx).unwrap(), dw, db)
            })
        };
        let one = run(1);
        assert!([2, 3, 7].into_iter().all(|threads| run(threads) == one));
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(rms_backward(&zeros(&[2, 3]), &zeros(&[3, 2]), &zeros(&[2]), 0.1).is_err());
        assert!(layer_backward(&zeros(&[2, 3]), &zeros(&[2, 3]), &zeros(&[2]), 0.1).is_err());
    }
}
