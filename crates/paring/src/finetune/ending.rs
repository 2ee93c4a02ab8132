//! From the last block's output to the loss and back, for all batches of a step.

use candle_core::{Device, Tensor};
use paring_model::Ending;

use super::batch::Micro;
use super::head::{Pass, Side, Sums};
use super::settings::Loss;
use crate::{Precision, Result};

/// SquareHead's addend to the square of the teacher's states: bfloat16's epsilon.
pub(super) const STATES_EPS: f64 = 1.0 / 128.0;

/// Positions of which the head's inputs are in memory together.
const GROUP: usize = 16384;

/// The last block's output of each batch, what comes after it, and the rows of the head.
pub(super) struct Model<'a> {
    pub states: Vec<Tensor>,
    pub ending: &'a Ending<'a>,
    pub rows: &'a dyn Fn(usize, usize) -> Result<Vec<f32>>,
    pub precision: Precision,
}

impl Model<'_> {
    /// The rows of the last block's output at some positions of all batches, `[n, dim]`.
    fn chosen(&self, positions: &[(usize, u32, u32)]) -> Result<Tensor> {
        let mut parts = Vec::new();
        for same in positions.chunk_by(|a, b| a.0 == b.0) {
            let h = &self.states[same[0].0];
            let (b, t, dim) = h.dims3()?;
            let rows: Vec<u32> = same.iter().map(|&(_, row, _)| row).collect();
            let count = rows.len();
            parts.push(h.reshape((b * t, dim))?.index_select(&Tensor::from_vec(rows, count, &Device::Cpu)?, 0)?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }

    fn side(&self, x: Tensor) -> Side<'_> {
        Side { x, rows: self.rows, precision: self.precision }
    }
}

/// The results of the last part of a step.
pub(super) struct Ended {
    /// The mean of the loss's parts over the tokens that are learned: cross-entropy and T² · KL; and SquareHead's term after the norm.
    pub cross_entropy: f64,
    pub divergence: f64,
    pub states: f64,
    /// The gradient of the last block's output of each batch.
    pub gradients: Vec<Tensor>,
    /// Those of the norm's tensors.
    pub norm: Vec<Vec<f32>>,
}

/// The predictions of a step: number of the batch, position in it, token.
fn predictions(micros: &[Micro]) -> Vec<(usize, u32, u32)> {
    let of = |(i, micro): (usize, &Micro)| micro.learned.iter().map(move |&(row, id)| (i, row, id)).collect::<Vec<_>>();
    micros.iter().enumerate().flat_map(of).collect()
}

/// The sum of −log softmax\[target\] of all predictions.
pub(super) fn measure(micros: &[Micro], student: &Model<'_>) -> Result<f64> {
    let mut sum = 0.0;
    for group in predictions(micros).chunks(GROUP) {
        let targets: Vec<u32> = group.iter().map(|&(.., id)| id).collect();
        let x = student.ending.forward(&student.chosen(group)?)?;
        let vocab = student.ending.sizes().0;
        let pass = Pass { student: student.side(x), teacher: None, targets: &targets, vocab, loss: Loss::PLAIN };
        sum += pass.measure()?;
    }
    Ok(sum)
}

/// The loss of a step and its gradients. `see` gets the gradients of pieces of the head, several times for each where predictions are many;
/// they add up.
pub(super) fn run(
    (micros, loss): (&[Micro], Loss),
    student: &Model<'_>,
    teacher: Option<&Model<'_>>,
    mut see: Option<&mut dyn FnMut(usize, Vec<f32>) -> Result<()>>,
) -> Result<Ended> {
    let predictions = predictions(micros);
    let all = predictions.len().max(1) as f64;
    let mut norm = student.ending.sums();
    let mut dense: Vec<Vec<f32>> = student.states.iter().map(|h| vec![0.0; h.elem_count()]).collect();
    let mut sums = Sums::default();
    for group in predictions.chunks(GROUP) {
        let targets: Vec<u32> = group.iter().map(|&(.., id)| id).collect();
        let h = student.chosen(group)?;
        let of_teacher = teacher.filter(|_| loss.divergence != 0.0);
        let of_teacher =
            of_teacher.map(|side| Ok::<_, crate::Error>(side.side(side.ending.forward(&side.chosen(group)?)?)));
        let pass = Pass {
            student: student.side(student.ending.forward(&h)?),
            teacher: of_teacher.transpose()?,
            targets: &targets,
            vocab: student.ending.sizes().0,
            loss,
        };
        let see = see.as_mut().map(|see| &mut **see as &mut dyn FnMut(usize, Vec<f32>) -> Result<()>);
        let (of_group, dx) = pass.run(all, see)?;
        sums.cross_entropy += of_group.cross_entropy;
        sums.divergence += of_group.divergence;
        let dh = student.ending.backward(&dx, &h, &mut norm)?;
        let dim = dh.dim(1)?;
        let dh = dh.flatten_all()?.to_vec1::<f32>()?;
        for (&(micro, row, _), dh) in group.iter().zip(dh.chunks_exact(dim)) {
            let at = row as usize * dim;
            dense[micro][at..at + dim].iter_mut().zip(dh).for_each(|(sum, more)| *sum += more);
        }
    }
    let gradients = dense.into_iter().zip(&student.states).map(|(dh, h)| Tensor::from_vec(dh, h.shape(), &Device::Cpu));
    let mut ended = Ended {
        cross_entropy: sums.cross_entropy / all,
        divergence: loss.temperature * loss.temperature * sums.divergence / all,
        states: 0.0,
        gradients: gradients.collect::<candle_core::Result<_>>()?,
        norm,
    };
    if let Some(teacher) = teacher.filter(|_| loss.states != 0.0) {
        add_states((micros, loss.states), student, teacher, &mut ended)?;
    }
    Ok(ended)
}

/// SquareHead's term of the states after the norm, which are those that transformers gives as the last.
fn add_states(
    (micros, weight): (&[Micro], f64),
    student: &Model<'_>,
    teacher: &Model<'_>,
    ended: &mut Ended,
) -> Result<()> {
    let mut distance = Distance::default();
    let mut differences = Vec::new();
    for (i, micro) in micros.iter().enumerate() {
        let normed = |model: &Model<'_>| match &model.ending.norm {
            Some(norm) => norm.forward(&model.states[i]),
            None => Ok(model.states[i].clone()),
        };
        differences.push(distance.add(&normed(student)?, &normed(teacher)?, &micro.valid)?);
    }
    ended.states += distance.value();
    let factor = weight * distance.factor();
    for ((difference, gradient), h) in differences.iter().zip(&mut ended.gradients).zip(&student.states) {
        let dx = difference.affine(factor, 0.0)?;
        let dh = match &student.ending.norm {
            Some(norm) => norm.backward(&dx, h, &mut ended.norm)?,
            None => dx,
        };
        *gradient = (&*gradient + dh)?;
    }
    Ok(())
}

/// The squared distance of states from a teacher's over the teacher's square (SquareHead), over the batches of a step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Distance {
    error: f64,
    size: f64,
    count: f64,
}

impl Distance {
    /// Takes in a batch, `[b, t, dim]` each, and returns the difference, 0 at padding.
    pub fn add(&mut self, student: &Tensor, teacher: &Tensor, valid: &[bool]) -> Result<Tensor> {
        let (b, t, dim) = student.dims3()?;
        let (mut s, teacher) = (student.flatten_all()?.to_vec1::<f32>()?, teacher.flatten_all()?.to_vec1::<f32>()?);
        for ((s, t), &valid) in s.chunks_exact_mut(dim).zip(teacher.chunks_exact(dim)).zip(valid) {
            for (s, t) in s.iter_mut().zip(t) {
                *s = if valid { *s - t } else { 0.0 };
                self.error += f64::from(*s) * f64::from(*s);
                self.size += if valid { f64::from(*t) * f64::from(*t) } else { 0.0 };
            }
            self.count += if valid { dim as f64 } else { 0.0 };
        }
        Ok(Tensor::from_vec(s, (b, t, dim), &Device::Cpu)?)
    }

    /// The mean of squared differences over the mean of the teacher's squares and an epsilon.
    pub fn value(&self) -> f64 {
        if self.count == 0.0 { 0.0 } else { self.error / self.count / (self.size / self.count + STATES_EPS) }
    }

    /// The gradient of [`Distance::value`] for a state is so many times its difference.
    pub fn factor(&self) -> f64 {
        if self.count == 0.0 { 0.0 } else { 2.0 / (self.count * (self.size / self.count + STATES_EPS)) }
    }
}
