//! Gradients of losses over a vocabulary whose logits come in pieces: a first pass over the pieces makes the log-sum-exp of each
//! position ([`LogSums`]), a second one each piece's gradients, so that logits never exist as a whole.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::Running;
use crate::gradient::{require_cpu, require_same};
use crate::simd::{self, multiversion};
use crate::with_f32;

/// The log-sum-exp of each position, while the logits come.
pub struct LogSums(Vec<Running>);

impl LogSums {
    /// For so many positions.
    pub fn new(positions: usize) -> Self {
        Self(vec![Running::NONE; positions])
    }

    /// Takes in `logits [n, width]` f32 of the `n` positions from `position` on. Each entry comes once for each position, in any order of
    /// pieces. Errors on positions that are not there, and where logits are not on the CPU.
    pub fn add(&mut self, position: usize, logits: &Tensor) -> Result<()> {
        require_cpu(logits, "a log-sum-exp")?;
        let (count, width) = logits.dims2()?;
        let all = self.0.len();
        let Some(running) = self.0.get_mut(position..).and_then(|rest| rest.get_mut(..count)).filter(|_| width > 0)
        else {
            candle_core::bail!("logits {:?} for the positions from {position} on of {all}", logits.shape());
        };
        with_f32(logits, |logits| {
            running.par_iter_mut().zip(logits.par_chunks_exact(width)).for_each(|(state, row)| state.add(row, 0));
            Ok(())
        })
    }

    /// log Σ exp of the logits of each position.
    pub fn finish(self) -> Vec<f64> {
        self.0.iter().map(|running| running.sum.ln() + f64::from(running.top)).collect()
    }
}

multiversion! {
    /// Adds weight · exp(z − log_sum) to each element.
    fn add_shares(z: &[f32], log_sum: f32, weight: f32, dz: &mut [f32]) {
        for (dz, z) in dz.iter_mut().zip(z) {
            *dz += weight * simd::exp(z - log_sum);
        }
    }
}

multiversion! {
    /// Adds weight · (exp(s) − exp(t)) to each element for the logarithms s and t of shares, and returns Σ exp(t) · (t − s), in 16 sums.
    fn add_differences(student: (&[f32], f32), teacher: (&[f32], f32), weight: f32, dz: &mut [f32]) -> f64 {
        let mut sums = [0f32; 16];
        let rows = student.0.chunks(16).zip(teacher.0.chunks(16)).zip(dz.chunks_mut(16));
        for ((student_row, teacher_row), dz) in rows {
            for (((sum, s), t), dz) in sums.iter_mut().zip(student_row).zip(teacher_row).zip(dz) {
                let (s, t) = (s - student.1, t - teacher.1);
                let share = simd::exp(t);
                *sum += share * (t - s);
                *dz += weight * (simd::exp(s) - share);
            }
        }
        let mut total = 0f64;
        for sum in sums {
            total += f64::from(sum);
        }
        total
    }
}

/// Adds the gradient of weight · Σ −log softmax(z)\[target\] to `dz`, for `logits [n, width]`, a piece of z from entry `first` of the vocabulary
/// on, and returns Σ −log softmax(z)\[target\] over the targets within the piece. `log_sums` are those of whole positions. Errors on other
/// lengths, and where logits are not on the CPU.
pub fn cross_entropy_piece(
    (logits, first): (&Tensor, usize),
    targets: &[u32],
    log_sums: &[f64],
    weight: f32,
    dz: &mut [f32],
) -> Result<f64> {
    require_cpu(logits, "a cross-entropy")?;
    let width = check(logits, &[targets.len(), log_sums.len()], dz)?;
    with_f32(logits, |logits| {
        let rows = logits.par_chunks_exact(width).zip(dz.par_chunks_exact_mut(width));
        let sums: Vec<f64> = rows
            .zip(targets.par_iter().zip(log_sums))
            .map(|((z, dz), (&target, &log_sum))| {
                let at = (target as usize).checked_sub(first).filter(|&at| at < width);
                let before = at.map(|at| dz[at]);
                add_shares(z, log_sum as f32, weight, dz);
                let Some((at, before)) = at.zip(before) else { return 0.0 };
                let log_share = f64::from(z[at]) - log_sum;
                // exp_m1: a share near 1 keeps its digits.
                dz[at] = before + (f64::from(weight) * log_share.exp_m1()) as f32;
                -log_share
            })
            .collect();
        Ok(sums.iter().sum())
    })
}

/// Adds weight · (softmax(s) − softmax(t)) to `dz`, for pieces `[n, width]` of the logits s and t of a student and a teacher, and returns the
/// pieces' part of Σ KL(softmax(t) ‖ softmax(s)). Logits are divided by the temperature before. The log-sums are those of whole
/// positions. Errors on other lengths, and where logits are not on the CPU.
pub fn divergence_piece(
    (student, teacher): (&Tensor, &Tensor),
    (of_student, of_teacher): (&[f64], &[f64]),
    weight: f32,
    dz: &mut [f32],
) -> Result<f64> {
    require_cpu(student, "a divergence")?;
    require_same(student, teacher, "a divergence")?;
    let width = check(student, &[of_student.len(), of_teacher.len()], dz)?;
    with_f32(student, |student| {
        with_f32(teacher, |teacher| {
            let rows = student.par_chunks_exact(width).zip(teacher.par_chunks_exact(width));
            let sums: Vec<f64> = rows
                .zip(dz.par_chunks_exact_mut(width))
                .zip(of_student.par_iter().zip(of_teacher))
                .map(|(((s, t), dz), (&of_s, &of_t))| add_differences((s, of_s as f32), (t, of_t as f32), weight, dz))
                .collect();
            Ok(sums.iter().sum())
        })
    })
}

/// Entries of the piece.
fn check(logits: &Tensor, positions: &[usize], dz: &[f32]) -> Result<usize> {
    let (n, width) = logits.dims2()?;
    if positions.iter().any(|&positions| positions != n) || dz.len() != n * width || width == 0 {
        candle_core::bail!("logits {:?} for {positions:?} positions and {} gradients", logits.shape(), dz.len());
    }
    Ok(width)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::{cross_entropy, divergence};
    use super::*;
    use crate::cases::flat;

    fn pieces(z: &Tensor) -> [(usize, Tensor); 3] {
        [(0, 5), (5, 20), (25, 8)]
            .map(|(first, width)| (first, z.narrow(1, first, width).unwrap().contiguous().unwrap()))
    }

    fn log_sums(z: &Tensor) -> Vec<f64> {
        let mut sums = LogSums::new(z.dims()[0]);
        pieces(z).iter().for_each(|(_, piece)| sums.add(0, piece).unwrap());
        sums.finish()
    }

    /// Puts the pieces' gradients side by side.
    fn joined(parts: &[(usize, Vec<f32>)], n: usize) -> Vec<f32> {
        (0..n).flat_map(|row| parts.iter().flat_map(move |(width, dz)| dz[row * width..][..*width].to_vec())).collect()
    }

    fn close(got: &[f32], want: &Tensor) {
        let want = flat(want).unwrap();
        // Shares of up to 1, from exponents that are rounded to f32.
        assert!(got.iter().zip(&want).all(|(got, want)| (f64::from(*got) - f64::from(*want)).abs() < 2e-6));
    }

    #[test]
    fn pieces_make_what_whole_rows_make() {
        let (n, vocab) = (4, 33);
        let tensor =
            |seed| Tensor::from_vec(crate::test_values(n * vocab, 3.0, seed), (n, vocab), &Device::Cpu).unwrap();
        let (z, teacher) = (tensor(1), tensor(2));
        let targets = [0u32, 32, 7, 25];
        let (mut loss, mut parts) = (0.0, Vec::new());
        for (first, piece) in pieces(&z) {
            let mut dz = vec![0f32; piece.elem_count()];
            loss += cross_entropy_piece((&piece, first), &targets, &log_sums(&z), 0.5, &mut dz).unwrap();
            parts.push((piece.dims()[1], dz));
        }
        let (want, dz) = cross_entropy(&z, &targets.map(Some), 0.5).unwrap();
        assert!((loss / want - 1.0).abs() < 1e-6);
        close(&joined(&parts, n), &dz);

        let temperature = 2.0;
        let cooled = |z: &Tensor| z.affine(1.0 / temperature, 0.0).unwrap();
        let (student, teacher_cooled) = (cooled(&z), cooled(&teacher));
        let sums = (log_sums(&student), log_sums(&teacher_cooled));
        let (mut loss, mut parts) = (0.0, Vec::new());
        for ((_, s), (_, t)) in pieces(&student).iter().zip(&pieces(&teacher_cooled)) {
            let mut dz = vec![0f32; s.elem_count()];
            let weight = (0.5 * temperature) as f32;
            loss += divergence_piece((s, t), (&sums.0, &sums.1), weight, &mut dz).unwrap();
            parts.push((s.dims()[1], dz));
        }
        let (want, dz) = divergence(&z, &teacher, &[true; 4], temperature, 0.5).unwrap();
        assert!((temperature * temperature * loss / want - 1.0).abs() < 1e-5);
        close(&joined(&parts, n), &dz);
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let z = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(LogSums::new(1).add(0, &z).is_err());
        assert!(LogSums::new(3).add(2, &z).is_err());
        assert!(cross_entropy_piece((&z, 0), &[0], &[0.0; 2], 1.0, &mut [0.0; 6]).is_err());
        assert!(cross_entropy_piece((&z, 0), &[0, 0], &[0.0; 2], 1.0, &mut [0.0; 5]).is_err());
        assert!(divergence_piece((&z, &z), (&[0.0], &[0.0; 2]), 1.0, &mut [0.0; 6]).is_err());
    }
}
