//! One step of the optimizer, a block at a time: forward through all blocks, the loss, and back.
//!
//! A step's gradients are clipped by the norm over all of them, which is known once the last is made. So they wait in the store, and
//! are applied when their unit is read the next time, in the next forward pass.

use std::path::Path;

use candle_core::Tensor;
use paring_kernels::adam::{Adam, clip_factor, square_sum};
use paring_model::{Block, Decoder, Ending};

use super::batch::{Micro, firsts};
use super::borders::Borders;
use super::ending::{Distance, Model, measure, run};
use super::head::VOCAB_CHUNK;
use super::parameters::{Role, Unit, empty, of_ending, pairs, vector};
use super::settings::{Settings, Subject};
use super::store::{Slot, Store, Stored};
use crate::pipeline::activations::check_finite;
use crate::report::training::TrainingStep;
use crate::{Precision, Result};
use paring_data::training::Example;

/// Bytes of activations between blocks that stay in memory.
pub(super) const RESIDENT: usize = 256 << 20;

/// Gradients in the store that are not applied yet.
#[derive(Clone, Copy)]
struct Pending {
    step: usize,
    rate: f64,
    clip: f64,
}

/// A block between its passes: norms, biases, and linears without weights.
type Shell = Box<dyn Block>;

/// A model in training.
pub(super) struct Trainer<'a> {
    student: &'a dyn Decoder,
    teacher: Option<&'a dyn Decoder>,
    pub settings: &'a Settings,
    pub units: Vec<Unit>,
    pub store: Store,
    /// Entries of the matrices of blocks that were 0 at the start, where these train.
    pub zeros: usize,
    shells: Vec<Option<Shell>>,
    ending: Ending<'a>,
    of_teacher: Option<Ending<'a>>,
    pending: Option<Pending>,
    precision: Precision,
    dir: &'a Path,
}

impl<'a> Trainer<'a> {
    /// Reads what trains into a store in `dir`; where `safe` names a slot, the store holds it already.
    pub fn new(
        (student, teacher): (&'a dyn Decoder, Option<&'a dyn Decoder>),
        settings: &'a Settings,
        (dir, safe): (&'a Path, Option<Slot>),
        mut see: impl FnMut(usize),
    ) -> Result<Self> {
        let (mut units, mut shells, mut zeros) = (Vec::new(), Vec::new(), 0);
        let precision = student.arithmetic().precision;
        let writer = |unit: usize, values: &[f32]| match safe {
            None => Store::new(dir, vec![values.len(); unit + 1], Slot::A).begin(unit, values),
            Some(_) => Ok(()),
        };
        for i in 0..student.blocks() {
            see(i);
            let mut block = student.block(i)?;
            let info = student.block_info(i);
            let (unit, values) = match &settings.subject {
                Subject::Weights { masked } => {
                    let (unit, values) = Unit::of_block(student.checkpoint(), (&info, block.as_mut()), *masked)?;
                    zeros += unit.zeros(&values);
                    empty(block.as_mut(), precision)?;
                    shells.push(Some(block));
                    (unit, values)
                }
                Subject::Adapter { .. } => {
                    let (unit, values) = pairs((i, block.as_mut()), settings)?;
                    shells.push(None);
                    (unit, values)
                }
            };
            writer(units.len(), &values)?;
            units.push(unit);
        }
        let ending = student.ending()?;
        if matches!(settings.subject, Subject::Weights { .. }) {
            for (unit, values) in of_ending(student, &ending)? {
                writer(units.len(), &values)?;
                units.push(unit);
            }
        }
        let store = Store::new(dir, units.iter().map(Unit::count).collect(), safe.unwrap_or(Slot::A));
        let of_teacher = teacher.map(Decoder::ending).transpose()?;
        let (pending, of_student) = (None, ending);
        Ok(Self {
            student,
            teacher,
            settings,
            units,
            store,
            zeros,
            shells,
            ending: of_student,
            of_teacher,
            pending,
            precision,
            dir,
        })
    }

    /// Numbers that train.
    pub fn count(&self) -> usize {
        self.units.iter().map(Unit::count).sum()
    }

    /// The values of a unit, after the gradients that wait for it were applied.
    fn updated(&mut self, unit: usize) -> Result<Vec<f32>> {
        let Some(Pending { step, rate, clip }) = self.pending else { return self.store.values(unit) };
        let mut stored = self.store.read(unit)?;
        let gradient = self.store.gradient(unit)?;
        let mut at = 0;
        let Stored { values, first, second } = &mut stored;
        for parameter in &self.units[unit].parameters {
            let own = at..at + parameter.count;
            let decay = if parameter.decays() { self.settings.adam.decay } else { 0.0 };
            let adam = Adam { decay, ..self.settings.adam };
            let moments = (&mut first[own.clone()], &mut second[own.clone()]);
            adam.step_parts(step + 1, (rate, clip), &mut values[own.clone()], &gradient[own.clone()], moments);
            at = own.end;
        }
        self.store.replace(unit, &stored)?;
        Ok(stored.values)
    }

    /// Applies all gradients that wait.
    pub fn apply(&mut self) -> Result<()> {
        if self.pending.is_some() {
            (0..self.units.len()).try_for_each(|unit| self.updated(unit).map(drop))?;
        }
        self.pending = None;
        Ok(())
    }

    /// Block `i` with these values.
    fn block(&mut self, i: usize, values: &[f32]) -> Result<Shell> {
        let mut block = match self.shells[i].take() {
            Some(shell) => shell,
            None => self.student.block(i)?,
        };
        self.units[i].install(values, block.as_mut(), (self.settings.rounded, self.precision))?;
        Ok(block)
    }

    /// Puts the shell of a block back.
    fn put_back(&mut self, i: usize, mut block: Shell) -> Result<()> {
        if matches!(self.settings.subject, Subject::Weights { .. }) {
            empty(block.as_mut(), self.precision)?;
            self.shells[i] = Some(block);
        }
        Ok(())
    }

    /// Puts the values of the norm before the head into it.
    fn install_norm(&mut self, values: &[f32]) -> Result<()> {
        let rounded = self.settings.rounded;
        let Some(norm) = &mut self.ending.norm else { return Ok(()) };
        let mut tensors = norm.tensors();
        for (parameter, own) in self.units[self.student.blocks()].parts(values) {
            let Role::Norm { at, .. } = parameter.role else { continue };
            *tensors[at] = vector(if rounded { parameter.rounded(own) } else { own.to_vec() })?;
        }
        Ok(())
    }

    /// The norm's unit and those of pieces of the head get their values; where gradients wait they are applied.
    fn update_ending(&mut self) -> Result<()> {
        for unit in self.student.blocks()..self.units.len() {
            let is_norm = unit == self.student.blocks();
            if is_norm || self.pending.is_some() {
                let values = self.updated(unit)?;
                if is_norm {
                    self.install_norm(&values)?;
                }
            }
        }
        Ok(())
    }

    /// One step over examples. Returns its report; the gradients wait.
    pub fn step(&mut self, step: usize, examples: &[&Example], see: &mut dyn FnMut(usize)) -> Result<TrainingStep> {
        let micros = Micro::of(examples.iter().copied())?;
        let loss = self.settings.loss;
        // Both share what may stay in memory.
        let room = if loss.states == 0.0 { RESIDENT } else { RESIDENT / 2 };
        let mut borders = Borders::new(self.dir.to_path_buf(), room);
        let mut differences = Borders::new(self.dir.to_path_buf(), RESIDENT - room);
        let (mut h, mut of_teacher) = (self.embedded(&micros)?, self.taught(&micros)?);
        let (blocks, mut distances) = (self.student.blocks(), Vec::new());
        for i in 0..blocks {
            see(i);
            let values = self.updated(i)?;
            let block = self.block(i, &values)?;
            drop(values);
            borders.open();
            for (h, first) in h.iter_mut().zip(firsts(&micros)) {
                borders.push(h)?;
                *h = block.forward(h, &mut ())?;
                check_finite(h, i, first)?;
            }
            self.put_back(i, block)?;
            self.teach(i, &mut of_teacher)?;
            if loss.states != 0.0 && i + 1 < blocks {
                let mut distance = Distance::default();
                differences.open();
                for ((h, taught), micro) in h.iter().zip(&of_teacher).zip(&micros) {
                    differences.push(&distance.add(h, taught, &micro.valid)?)?;
                }
                distances.push(distance);
            }
        }
        self.update_ending()?;
        self.pending = None;
        let mut squares = 0.0;
        let ended = self.ended(&micros, h, of_teacher, &mut squares)?;
        let mut dh = ended.gradients;
        for i in (0..blocks).rev() {
            see(blocks + (blocks - 1 - i));
            if let Some(distance) = distances.get(i) {
                let factor = loss.states * distance.factor();
                for (j, dh) in dh.iter_mut().enumerate() {
                    *dh = (&*dh + differences.get(i, j)?.affine(factor, 0.0)?)?;
                }
                differences.close();
            }
            squares += self.back(i, &borders, &mut dh)?;
            borders.close();
        }
        let states = distances.iter().map(Distance::value).sum::<f64>() + ended.states;
        let gradient_norm = squares.sqrt();
        let rate = self.settings.rate(step);
        let clip = self.settings.clip.map_or(1.0, |limit| clip_factor(gradient_norm, limit));
        self.pending = Some(Pending { step, rate, clip });
        let (cross_entropy, divergence) = (ended.cross_entropy, ended.divergence);
        Ok(TrainingStep {
            step,
            loss: loss.cross_entropy * cross_entropy + loss.divergence * divergence + loss.states * states,
            cross_entropy,
            divergence,
            states,
            learned: micros.iter().map(|micro| micro.learned.len()).sum(),
            gradient_norm,
            rate,
        })
    }

    /// The embeddings of each batch.
    fn embedded(&self, micros: &[Micro]) -> Result<Vec<Tensor>> {
        micros.iter().map(|micro| Ok(self.student.embed(&micro.ids, micro.rows)?)).collect()
    }

    /// The teacher's embeddings of each batch; none where there is no teacher.
    fn taught(&self, micros: &[Micro]) -> Result<Vec<Tensor>> {
        let Some(teacher) = self.teacher else { return Ok(Vec::new()) };
        micros.iter().map(|micro| Ok(teacher.embed(&micro.ids, micro.rows)?)).collect()
    }

    /// The teacher's states after its block `i`.
    fn teach(&self, i: usize, states: &mut [Tensor]) -> Result<()> {
        let Some(teacher) = self.teacher else { return Ok(()) };
        let block = teacher.block(i)?;
        if i + 1 < teacher.blocks() {
            teacher.prefetch(i + 1);
        }
        states.iter_mut().try_for_each(|h| {
            *h = block.forward(h, &mut ())?;
            Ok(())
        })
    }

    /// The loss, and the gradients that begin the way back; those of norm and head wait in the store.
    fn ended(
        &self,
        micros: &[Micro],
        h: Vec<Tensor>,
        taught: Vec<Tensor>,
        squares: &mut f64,
    ) -> Result<super::ending::Ended> {
        let rows = |first: usize, count: usize| self.head_rows(first, count);
        let student = Model { states: h, ending: &self.ending, rows: &rows, precision: self.precision };
        let read = |first: usize, count: usize| match &self.of_teacher {
            Some(ending) => Ok(ending.rows(first, count)?),
            None => Ok(Vec::new()),
        };
        let teacher = self.teacher.zip(self.of_teacher.as_ref());
        let teacher = teacher.map(|(teacher, ending)| Model {
            states: taught,
            ending,
            rows: &read,
            precision: teacher.arithmetic().precision,
        });
        let first_piece = self.student.blocks() + 1;
        let mut is_there = vec![false; self.units.len()];
        let mut see = |first: usize, mut gradient: Vec<f32>| {
            let unit = first_piece + first / VOCAB_CHUNK;
            if std::mem::replace(&mut is_there[unit], true) {
                let before = self.store.gradient(unit)?;
                gradient.iter_mut().zip(&before).for_each(|(sum, before)| *sum += before);
            }
            self.store.put_gradient(unit, &gradient)
        };
        let trains = self.units.len() > first_piece;
        let see = trains.then_some(&mut see as &mut dyn FnMut(usize, Vec<f32>) -> Result<()>);
        let ended = run((micros, self.settings.loss), &student, teacher.as_ref(), see)?;
        for unit in first_piece..self.units.len() {
            *squares += square_sum(&self.store.gradient(unit)?);
        }
        if self.units.len() > self.student.blocks() {
            let norm = ended.norm.concat();
            *squares += square_sum(&norm);
            self.store.put_gradient(self.student.blocks(), &norm)?;
        }
        Ok(ended)
    }

    /// Rows of the head as the forward pass sees them.
    fn head_rows(&self, first: usize, count: usize) -> Result<Vec<f32>> {
        let unit = self.student.blocks() + 1 + first / VOCAB_CHUNK;
        match self.units.get(unit) {
            None => Ok(self.ending.rows(first, count)?),
            Some(Unit { parameters }) => {
                let values = self.store.values(unit)?;
                Ok(match self.settings.rounded {
                    true => parameters[0].rounded(&values),
                    false => values,
                })
            }
        }
    }

    /// The way back through block `i`: its gradients wait in the store, and `dh` becomes that of its input. Returns the sum of their squares.
    fn back(&mut self, i: usize, borders: &Borders, dh: &mut [Tensor]) -> Result<f64> {
        let values = self.store.values(i)?;
        let block = self.block(i, &values)?;
        let mut gradients = block.gradients();
        for (j, dh) in dh.iter_mut().enumerate() {
            let (_, tape) = block.record(&borders.get(i, j)?)?;
            *dh = block.backward(tape, dh, &mut gradients)?;
        }
        self.put_back(i, block)?;
        let gradient = self.units[i].gradients(&values, gradients)?;
        self.store.put_gradient(i, &gradient)?;
        Ok(square_sum(&gradient))
    }

    /// The mean cross-entropy over the predictions of examples, so many at a time as have 256 MiB of activations. Gradients that wait are
    /// applied first.
    pub fn measure(&mut self, examples: &[Example], see: &mut dyn FnMut(usize)) -> Result<f64> {
        self.apply()?;
        self.update_ending()?;
        let longest = examples.iter().map(|example| example.ids.len()).max().unwrap_or(1);
        let bytes = longest * self.student.hidden_size() * size_of::<f32>();
        let (mut sum, mut predictions) = (0.0, 0);
        for examples in examples.chunks((RESIDENT / bytes.max(1)).max(1)) {
            let micros = Micro::of(examples)?;
            predictions += micros.iter().map(|micro| micro.learned.len()).sum::<usize>();
            sum += self.measure_batches(&micros, see)?;
        }
        Ok(sum / predictions.max(1) as f64)
    }

    fn measure_batches(&mut self, micros: &[Micro], see: &mut dyn FnMut(usize)) -> Result<f64> {
        let mut h = self.embedded(micros)?;
        for i in 0..self.student.blocks() {
            see(i);
            let values = self.store.values(i)?;
            let block = self.block(i, &values)?;
            for (h, first) in h.iter_mut().zip(firsts(micros)) {
                *h = block.forward(h, &mut ())?;
                check_finite(h, i, first)?;
            }
            self.put_back(i, block)?;
        }
        let rows = |first: usize, count: usize| self.head_rows(first, count);
        let student = Model { states: h, ending: &self.ending, rows: &rows, precision: self.precision };
        measure(micros, &student)
    }
}
