//! The loss over the vocabulary and its gradients, in pieces of the head, so that neither it nor the logits are in memory as a whole.

use candle_core::{Device, Tensor};
use paring_kernels::gram::Cross;
use paring_kernels::likelihood::{Likelihood, LogSums, cross_entropy_piece, divergence_piece};
use paring_kernels::matmul::{InputGradient, Matrix};

use super::settings::Loss;
use crate::{Precision, Result};

/// Rows of the head in memory at a time.
pub(super) const VOCAB_CHUNK: usize = 4096;
/// Positions that are multiplied with a piece at a time: few enough that their logits stay in the cache.
const POSITION_CHUNK: usize = 256;

/// The inputs of a head, `x [n, width]`, and what reads its rows: the first one and their number → row-major `[count, width]`.
pub(super) struct Side<'a> {
    pub x: Tensor,
    pub rows: &'a dyn Fn(usize, usize) -> Result<Vec<f32>>,
    /// Rounding of the inputs of products.
    pub precision: Precision,
}

impl Side<'_> {
    fn width(&self) -> Result<usize> {
        Ok(self.x.dim(1)?)
    }

    fn matrix(&self, first: usize, count: usize) -> Result<Matrix> {
        Ok(Matrix::new(count, self.width()?, (self.rows)(first, count)?, self.precision))
    }

    /// The logits of positions under a piece of the head.
    fn logits(&self, matrix: &Matrix, (start, count): (usize, usize)) -> Result<Tensor> {
        Ok(matrix.matmul(&self.x.narrow(0, start, count)?)?)
    }
}

/// The parts of a loss, summed over positions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// Of −log softmax(z)\[target\].
    pub cross_entropy: f64,
    /// Of KL at the temperature, without T².
    pub divergence: f64,
}

/// The head's passes over one set of positions.
pub(super) struct Pass<'a> {
    pub student: Side<'a>,
    pub teacher: Option<Side<'a>>,
    /// Of each position.
    pub targets: &'a [u32],
    pub vocab: usize,
    pub loss: Loss,
}

/// The log-sum-exp of each position.
struct LogSumsOf {
    plain: Vec<f64>,
    /// At the temperature: the student's and the teacher's.
    cooled: Option<(Vec<f64>, Vec<f64>)>,
}

/// The places of positions, a chunk at a time.
fn chunks(positions: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..positions).step_by(POSITION_CHUNK).map(move |start| (start, POSITION_CHUNK.min(positions - start)))
}

impl Pass<'_> {
    fn pieces(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let vocab = self.vocab;
        (0..vocab).step_by(VOCAB_CHUNK).map(move |first| (first, VOCAB_CHUNK.min(vocab - first)))
    }

    fn cooled(&self, logits: &Tensor) -> Result<Tensor> {
        Ok(logits.affine(self.loss.temperature.recip(), 0.0)?)
    }

    /// The teacher, where the loss looks at what it predicts.
    fn predicting(&self) -> Option<&Side<'_>> {
        self.teacher.as_ref().filter(|_| self.loss.divergence != 0.0)
    }

    fn log_sums(&self) -> Result<LogSumsOf> {
        let n = self.targets.len();
        let (mut plain, mut student, mut teacher) = (LogSums::new(n), LogSums::new(n), LogSums::new(n));
        for (first, count) in self.pieces() {
            let matrix = self.student.matrix(first, count)?;
            let of_teacher = self.predicting().map(|side| Ok((side, side.matrix(first, count)?)));
            let of_teacher = of_teacher.transpose().map_err(|error: crate::Error| error)?;
            for chunk in chunks(n) {
                let z = self.student.logits(&matrix, chunk)?;
                plain.add(chunk.0, &z)?;
                if let Some((side, matrix)) = &of_teacher {
                    student.add(chunk.0, &self.cooled(&z)?)?;
                    teacher.add(chunk.0, &self.cooled(&side.logits(matrix, chunk)?)?)?;
                }
            }
        }
        let cooled = self.predicting().map(|_| (student.finish(), teacher.finish()));
        Ok(LogSumsOf { plain: plain.finish(), cooled })
    }

    /// The sum of −log softmax(z)\[target\], without gradients.
    pub fn measure(&self) -> Result<f64> {
        let mut likelihood = Likelihood::new(&Device::Cpu, self.targets)?;
        for (first, count) in self.pieces() {
            let matrix = self.student.matrix(first, count)?;
            for chunk in chunks(self.targets.len()) {
                likelihood.add(chunk.0, first, &self.student.logits(&matrix, chunk)?)?;
            }
        }
        Ok(likelihood.finish()?.iter().map(|likely| f64::from(likely.nll)).sum())
    }

    /// The sums, and the gradient of the head's input for a loss that is a mean over `all` positions, `[n, width]`. `see` gets the
    /// gradient of each piece of the head, with the number of its first row, where there is one to see it.
    pub fn run(
        &self,
        all: f64,
        mut see: Option<&mut dyn FnMut(usize, Vec<f32>) -> Result<()>>,
    ) -> Result<(Sums, Tensor)> {
        let (n, width) = (self.targets.len(), self.student.width()?);
        let (log_sums, mut sums) = (self.log_sums()?, Sums::default());
        let mut dx: Vec<InputGradient> = chunks(n).map(|(_, count)| InputGradient::new(&[count, width])).collect();
        let weight = (self.loss.cross_entropy / all) as f32;
        // T² times the gradient of KL at the temperature, which is 1/T times that of its logits.
        let of_divergence = (self.loss.divergence * self.loss.temperature / all) as f32;
        for (first, count) in self.pieces() {
            let matrix = self.student.matrix(first, count)?;
            let of_teacher = self.predicting().map(|side| side.matrix(first, count)).transpose()?;
            let mut of_rows = see.as_ref().map(|_| Cross::new(count, width, Precision::F32));
            for (chunk, dx) in chunks(n).zip(&mut dx) {
                let own = chunk.0..chunk.0 + chunk.1;
                let z = self.student.logits(&matrix, chunk)?;
                let mut dz = vec![0f32; chunk.1 * count];
                let (targets, plain) = (&self.targets[own.clone()], &log_sums.plain[own.clone()]);
                sums.cross_entropy += cross_entropy_piece((&z, first), targets, plain, weight, &mut dz)?;
                if let (Some(side), Some(of_teacher), Some((s, t))) = (self.predicting(), &of_teacher, &log_sums.cooled)
                {
                    let (z, of_side) = (self.cooled(&z)?, self.cooled(&side.logits(of_teacher, chunk)?)?);
                    let of_both = (&s[own.clone()], &t[own]);
                    sums.divergence += divergence_piece((&z, &of_side), of_both, of_divergence, &mut dz)?;
                }
                let dz = Tensor::from_vec(dz, (chunk.1, count), &Device::Cpu)?;
                matrix.add_input_gradient(&dz, dx)?;
                if let Some(of_rows) = &mut of_rows {
                    of_rows.add(&dz, &self.student.x.narrow(0, chunk.0, chunk.1)?)?;
                }
            }
            if let Some((see, of_rows)) = see.as_mut().zip(of_rows) {
                see(first, of_rows.finish(1.0))?;
            }
        }
        let dx = dx.into_iter().map(InputGradient::finish).collect::<candle_core::Result<Vec<_>>>()?;
        Ok((sums, Tensor::cat(&dx, 0)?))
    }
}
