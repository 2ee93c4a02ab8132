//! Mean squared errors and their gradients: of outputs against targets, and SquareHead's of states against a teacher's.

#[cfg(test)]
mod reference;

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use crate::gradient::{require_cpu, require_same};
use crate::simd::multiversion;
use crate::with_f32;

/// Elements per task.
const CHUNK: usize = 1 << 14;

multiversion! {
    /// Writes factor · (y − target), and returns Σ (y − target)², in 16 sums of f32 for each chunk.
    fn apply(y: &[f32], target: &[f32], factor: f32, dy: &mut [f32]) -> f64 {
        let mut sums = [0f32; 16];
        for ((y, target), dy) in y.chunks(16).zip(target.chunks(16)).zip(dy.chunks_mut(16)) {
            for (((sum, y), target), dy) in sums.iter_mut().zip(y).zip(target).zip(dy) {
                let difference = y - target;
                *sum += difference * difference;
                *dy = factor * difference;
            }
        }
        let mut total = 0f64;
        for sum in sums {
            total += f64::from(sum);
        }
        total
    }
}

/// The mean of (y − target)² over all elements, and the gradient of y: 2 (y − target) / count. f32 of one shape; the mean is
/// in f64. Errors on other shapes, and where the tensors are not on the CPU.
pub fn squared_error(y: &Tensor, target: &Tensor) -> Result<(f64, Tensor)> {
    require_cpu(y, "a squared error")?;
    require_same(y, target, "a squared error")?;
    let factor = (2.0 / y.elem_count().max(1) as f64) as f32;
    let (error, dy) = with_f32(y, |y| with_f32(target, |target| Ok(differences(y, target, |_| factor, CHUNK))))?;
    Ok((error, Tensor::from_vec(dy, y.shape(), y.device())?))
}

/// The mean of weight · (y − target)² over all elements, with a weight for each row of all but the last dimension, and the gradient of y:
/// 2 · weight · (y − target) / count. f32 of one shape; the mean is in f64. Errors on other shapes, also of the weights, and where the
/// tensors are not on the CPU.
pub fn weighted_squared_error(y: &Tensor, target: &Tensor, weights: &[f32]) -> Result<(f64, Tensor)> {
    require_cpu(y, "a squared error")?;
    require_same(y, target, "a squared error")?;
    let dim = y.dim(D::Minus1)?;
    if y.elem_count() != weights.len() * dim {
        candle_core::bail!("a squared error of {:?} with {} weights", y.shape(), weights.len());
    }
    let twice = 2.0 / y.elem_count().max(1) as f64;
    let factor = |row: usize| (twice * f64::from(weights[row])) as f32;
    let (error, dy) = with_f32(y, |y| with_f32(target, |target| Ok(differences(y, target, factor, dim.max(1)))))?;
    Ok((error, Tensor::from_vec(dy, y.shape(), y.device())?))
}

/// SquareHead's term of one block (arXiv 2310.06927, section 3): the mean of (student − teacher)² over the mean of teacher² + `eps`, both
/// over the tokens that are `valid`, and the gradient of the student. States are `[b, t, dim]` f32, `valid` has b · t entries. Without a
/// valid token all of it is 0. Errors on other shapes, and where the states are not on the CPU.
pub fn relative_squared_error(student: &Tensor, teacher: &Tensor, valid: &[bool], eps: f64) -> Result<(f64, Tensor)> {
    require_cpu(student, "a squared error")?;
    require_same(student, teacher, "a squared error")?;
    let dim = student.dim(D::Minus1)?;
    if student.elem_count() != valid.len() * dim {
        candle_core::bail!("a squared error of {:?} with {} tokens marked", student.shape(), valid.len());
    }
    let count = valid.iter().filter(|&&valid| valid).count() * dim;
    if count == 0 {
        return Ok((0.0, student.zeros_like()?));
    }
    let (error, dy) = with_f32(student, |student| {
        with_f32(teacher, |teacher| {
            let rows = teacher.chunks_exact(dim).zip(valid).filter(|(_, valid)| **valid);
            let size: f64 = rows.map(|(row, _)| row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>()).sum();
            let scale = count as f64 * (size / count as f64 + eps);
            let factor = |row: usize| if valid[row] { (2.0 / scale) as f32 } else { 0.0 };
            Ok(differences(student, teacher, factor, dim))
        })
    })?;
    Ok((error, Tensor::from_vec(dy, student.shape(), student.device())?))
}

/// Σ factor / 2 · (a − b)² over chunks of `each` elements, and factor · (a − b), its gradient.
fn differences(a: &[f32], b: &[f32], factor: impl Fn(usize) -> f32 + Sync, each: usize) -> (f64, Vec<f32>) {
    let mut out = vec![0f32; a.len()];
    let chunks = out.par_chunks_mut(each).zip(a.par_chunks(each).zip(b.par_chunks(each))).enumerate();
    let sums: Vec<f64> = chunks
        .map(|(i, (out, (a, b)))| match factor(i) {
            0.0 => 0.0,
            factor => 0.5 * f64::from(factor) * apply(a, b, factor, out),
        })
        .collect();
    (sums.iter().sum(), out)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::cases::flat;
    use crate::gradient::numeric::{check, narrow, off, values};

    #[test]
    fn the_references_are_the_gradients_and_the_fast_forms_the_references() {
        let (tokens, dim) = (6, 7);
        let (y, target) = (values(tokens * dim, 1.0, 1), values(tokens * dim, 1.0, 2));
        let valid = [true, false, true, true, false, true];
        let (all, dy) = reference::squared_error(&y, &target, &[true; 6], None);
        check("mean", &y, &dy, |y| reference::squared_error(y, &target, &[true; 6], None).0);
        let (part, d_student) = reference::squared_error(&y, &target, &valid, Some(0.01));
        check("relative", &y, &d_student, |y| reference::squared_error(y, &target, &valid, Some(0.01)).0);
        let tensor = |v: &[f64]| Tensor::from_vec(narrow(v), (1, tokens, dim), &Device::Cpu).unwrap();
        let (y, target) = (tensor(&y), tensor(&target));
        let (got, got_dy) = squared_error(&y, &target).unwrap();
        assert!((got / all - 1.0).abs() < 1e-6 && off(&flat(&got_dy).unwrap(), &dy) < 1e-6);
        let (got, got_dy) = relative_squared_error(&y, &target, &valid, 0.01).unwrap();
        assert!((got / part - 1.0).abs() < 1e-6 && off(&flat(&got_dy).unwrap(), &d_student) < 1e-6);
        let (got, got_dy) = relative_squared_error(&y, &target, &[false; 6], 0.01).unwrap();
        assert!(got == 0.0 && flat(&got_dy).unwrap().iter().all(|&v| v == 0.0));
        assert!(relative_squared_error(&y, &target, &[true; 5], 0.01).is_err());
        assert!(squared_error(&y, &target.narrow(1, 0, 3).unwrap()).is_err());
    }

    #[test]
    fn weights_of_rows() {
        let (tokens, dim) = (6, 37);
        let (y, target) = (values(tokens * dim, 1.0, 1), values(tokens * dim, 1.0, 2));
        let weights: Vec<f64> = values(tokens, 1.0, 3).into_iter().map(f64::abs).collect();
        let (mean, dy) = reference::weighted_squared_error(&y, &target, &weights);
        check("weighted", &y, &dy, |y| reference::weighted_squared_error(y, &target, &weights).0);
        let tensor = |v: &[f64]| Tensor::from_vec(narrow(v), (2, tokens / 2, dim), &Device::Cpu).unwrap();
        let (y, target, weights) = (tensor(&y), tensor(&target), narrow(&weights));
        let (got, got_dy) = weighted_squared_error(&y, &target, &weights).unwrap();
        assert!((got / mean - 1.0).abs() < 1e-6 && off(&flat(&got_dy).unwrap(), &dy) < 1e-6);
        assert!(weighted_squared_error(&y, &target, &weights[1..]).is_err());
    }

    #[test]
    fn many_elements_on_any_number_of_threads() {
        let (y, target) = (crate::test_values(5 * CHUNK + 9, 1.0, 1), crate::test_values(5 * CHUNK + 9, 1.0, 2));
        let want: f64 =
            y.iter().zip(&target).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>() / y.len() as f64;
        let tensor = |v: &Vec<f32>| Tensor::from_slice(v, v.len(), &Device::Cpu).unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| squared_error(&tensor(&y), &tensor(&target)).unwrap().0)
        };
        assert!((run(1) / want - 1.0).abs() < 1e-6);
        assert!([2, 3, 7].into_iter().all(|threads| run(threads) == run(1)));
    }
}
