//! Gradients of losses over a vocabulary: cross-entropy, and the divergence from a teacher at a temperature (Hinton et al. 2015,
//! section 2).

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::gradient::{require_cpu, require_same};
use crate::plain::{max, sum_exp};
use crate::with_f32;

/// The sum of −log softmax(logits)\[target\] over the positions that have a target, and the gradient of its product with `weight`:
/// weight · (softmax − one-hot), 0 for positions without a target. `logits` are `[n, vocab]` f32; with a weight of 1 / the number
/// of targets in a step the gradient is that of their mean. Errors on other shapes, on a target beyond the vocabulary, and where
/// logits are not on the CPU.
pub fn cross_entropy(logits: &Tensor, targets: &[Option<u32>], weight: f64) -> Result<(f64, Tensor)> {
    require_cpu(logits, "a cross-entropy")?;
    let vocab = check(logits, targets.len())?;
    if let Some(target) = targets.iter().flatten().find(|&&target| target as usize >= vocab) {
        candle_core::bail!("target {target} under logits of {vocab} entries");
    }
    let (sum, dz) = with_f32(logits, |logits| {
        Ok(rows(logits, vocab, |at, z, dz| {
            let Some(target) = targets[at] else { return 0.0 };
            let log_sum = log_sum(z);
            for (dz, &z) in dz.iter_mut().zip(z) {
                *dz = (weight * (f64::from(z) - log_sum).exp()) as f32;
            }
            let target = target as usize;
            let log_share = f64::from(z[target]) - log_sum;
            // exp_m1: a share near 1 keeps its digits.
            dz[target] = (weight * log_share.exp_m1()) as f32;
            -log_share
        }))
    })?;
    Ok((sum, Tensor::from_vec(dz, logits.shape(), logits.device())?))
}

/// The sum over `valid` positions of T² · KL(softmax(teacher / T) ‖ softmax(logits / T)), and the gradient of its product with
/// `weight`: weight · T · (softmax(logits / T) − softmax(teacher / T)). Both `[n, vocab]` f32; the teacher gets no gradient.
/// Errors on other shapes, on a temperature that is not above 0, and where logits are not on the CPU.
pub fn divergence(
    logits: &Tensor,
    teacher: &Tensor,
    valid: &[bool],
    temperature: f64,
    weight: f64,
) -> Result<(f64, Tensor)> {
    require_cpu(logits, "a divergence")?;
    require_same(logits, teacher, "a divergence")?;
    let vocab = check(logits, valid.len())?;
    if temperature.is_nan() || temperature <= 0.0 {
        candle_core::bail!("a divergence at temperature {temperature}, which is not above 0");
    }
    let (sum, dz) = with_f32(logits, |logits| {
        with_f32(teacher, |teacher| {
            Ok(rows(logits, vocab, |at, z, dz| {
                if !valid[at] {
                    return 0.0;
                }
                let cooled = |z: &[f32]| z.iter().map(|&z| (f64::from(z) / temperature) as f32).collect::<Vec<_>>();
                let (student, teacher) = (cooled(z), cooled(&teacher[at * vocab..][..vocab]));
                let (of_student, of_teacher) = (log_sum(&student), log_sum(&teacher));
                let mut sum = 0.0;
                for ((dz, &s), &t) in dz.iter_mut().zip(&student).zip(&teacher) {
                    let (s, t) = (f64::from(s) - of_student, f64::from(t) - of_teacher);
                    sum += t.exp() * (t - s);
                    *dz = (weight * temperature * (s.exp() - t.exp())) as f32;
                }
                temperature * temperature * sum
            }))
        })
    })?;
    Ok((sum, Tensor::from_vec(dz, logits.shape(), logits.device())?))
}

/// Entries of the vocabulary.
fn check(logits: &Tensor, positions: usize) -> Result<usize> {
    let (n, vocab) = logits.dims2()?;
    if n != positions || vocab == 0 {
        candle_core::bail!("logits {:?} for {positions} positions", logits.shape());
    }
    Ok(vocab)
}

/// log Σ exp.
fn log_sum(z: &[f32]) -> f64 {
    let top = max(z);
    sum_exp(z, top).ln() + f64::from(top)
}

/// The sum of what `f` gives for each row, in their order, and the gradients that it writes, which are 0 before.
fn rows(logits: &[f32], vocab: usize, f: impl Fn(usize, &[f32], &mut [f32]) -> f64 + Sync) -> (f64, Vec<f32>) {
    let mut dz = vec![0f32; logits.len()];
    let rows = dz.par_chunks_exact_mut(vocab).zip(logits.par_chunks_exact(vocab)).enumerate();
    let sums: Vec<f64> = rows.map(|(at, (dz, z))| f(at, z, dz)).collect();
    (sums.iter().sum(), dz)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::cases::flat;
    use crate::gradient::numeric::{check as check_gradient, narrow, off, values};
    use crate::likelihood::reference;

    #[test]
    fn the_references_are_the_gradients_and_the_fast_forms_the_references() {
        let (n, vocab) = (4, 9);
        let (z, teacher) = (values(n * vocab, 2.0, 1), values(n * vocab, 2.0, 2));
        let targets = [Some(3), None, Some(0), Some(8)];
        let valid = targets.map(|target| target.is_some());
        let (loss, dz) = reference::cross_entropy(&z, &targets);
        check_gradient("cross-entropy", &z, &dz, |z| reference::cross_entropy(z, &targets).0);
        let tensor = |v: &[f64]| Tensor::from_vec(narrow(v), (n, vocab), &Device::Cpu).unwrap();
        let (got, got_dz) = cross_entropy(&tensor(&z), &targets, 1.0).unwrap();
        assert!((got / loss - 1.0).abs() < 1e-6 && off(&flat(&got_dz).unwrap(), &dz) < 1e-6);
        for temperature in [1.0, 2.5] {
            let (loss, dz) = reference::divergence(&z, &teacher, &valid, temperature);
            check_gradient("divergence", &z, &dz, |z| reference::divergence(z, &teacher, &valid, temperature).0);
            let (got, got_dz) = divergence(&tensor(&z), &tensor(&teacher), &valid, temperature, 1.0).unwrap();
            assert!((got / loss - 1.0).abs() < 1e-6 && off(&flat(&got_dz).unwrap(), &dz) < 1e-6);
        }
    }

    #[test]
    fn wrong_inputs_are_errors() {
        let z = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(cross_entropy(&z, &[Some(3), None], 1.0).unwrap_err().to_string().contains("target 3"));
        assert!(cross_entropy(&z, &[None], 1.0).is_err());
        assert!(divergence(&z, &z, &[true, true], 0.0, 1.0).is_err());
        assert_eq!(cross_entropy(&z, &[None, None], 1.0).unwrap().0, 0.0);
    }
}
