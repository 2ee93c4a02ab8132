//! A block and everything of it that trains.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use paring_format::{Compressed, Dtype};
use paring_kernels::adam::{Adam, Moments};
use paring_model::weight::Dense;
use paring_model::{Block, BlockInfo, Gradients, each_vector};

use super::loss::Measure;
use super::matrix::{Form, Matrix};
use super::states::{States, batches};
use super::{Rate, Settings, Target};
use crate::{Error, Precision, Result};

/// The linears that trained, fan by fan; `None` for those that did not.
pub(super) type Matrices = Vec<Vec<Option<Compressed>>>;

/// Norms and biases by name.
pub(super) type Vectors = Vec<(String, Vec<f32>)>;

/// A norm's tensor or a bias.
struct Vector {
    name: String,
    dtype: Dtype,
    values: Vec<f32>,
    moments: Moments,
    /// The size of a step of rate 1.
    unit: f64,
}

impl Vector {
    fn new(name: &str, tensor: &Tensor, dtype: Dtype, rate: Rate) -> Result<Self> {
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        let (moments, unit) = (Moments::new(values.len()), rate.unit(&values));
        Ok(Self { dtype, name: name.to_string(), moments, unit, values })
    }

    fn stored(&self) -> Vec<f32> {
        self.values.iter().map(|&v| self.dtype.round(v)).collect()
    }

    /// As it trains, or as the file can hold it.
    fn tensor(&self, stored: bool) -> Result<Tensor> {
        let values = if stored { self.stored() } else { self.values.clone() };
        Ok(Tensor::from_vec(values, self.values.len(), &Device::Cpu)?)
    }
}

/// The values of everything that trains.
pub(super) struct State {
    matrices: Vec<Vec<f32>>,
    vectors: Vec<Vec<f32>>,
}

/// A block in training.
pub(super) struct Trained<'a> {
    block: &'a mut dyn Block,
    info: &'a BlockInfo,
    precision: Precision,
    measure: Measure,
    fans: Vec<Vec<Option<Matrix>>>,
    /// Each bias and norm's tensor of the block, in the order of [`each_vector`]; `None` for those that do not train.
    vectors: Vec<Option<Vector>>,
}

impl<'a> Trained<'a> {
    /// Errors where the forms are not those of the block's linears.
    pub fn new(target: Target<'a>, forms: Vec<Vec<Form>>, settings: &Settings) -> Result<Self> {
        let Target { block, info, dtype_of } = target;
        let (mut fans, mut fixed) = (Vec::new(), BTreeSet::new());
        let of_block = block.fans();
        if of_block.len() != forms.len() {
            return Err(Error::Plan(format!("forms of {} fans for a block of {}", forms.len(), of_block.len())));
        }
        for (fan, forms) in of_block.into_iter().zip(forms) {
            if fan.linears.len() != forms.len() {
                let (name, count) = (fan.name, fan.linears.len());
                return Err(Error::Plan(format!("{} forms for the {count} linears of fan {name}", forms.len())));
            }
            let mut linears = Vec::new();
            for (linear, form) in fan.linears.iter().zip(forms) {
                let matrix = match form {
                    Form::Compressed(compressed) => Matrix::new(compressed, settings.rate),
                    Form::Fixed => {
                        fixed.insert(linear.name.clone());
                        None
                    }
                };
                if matrix.as_ref().is_some_and(|matrix| matrix.shape() != (linear.rows, linear.cols)) {
                    return Err(Error::Plan(format!("{}: trained in another shape", linear.name)));
                }
                linears.push(matrix);
            }
            fans.push(linears);
        }
        let mut vectors = Vec::new();
        each_vector(block, info, |vector| {
            let trains = settings.vectors && vector.linear.is_none_or(|linear| !fixed.contains(linear));
            let new = || Vector::new(vector.name, vector.tensor, dtype_of(vector.name), settings.rate);
            vectors.push(trains.then(new).transpose()?);
            Ok::<_, Error>(())
        })?;
        Ok(Self { block, info, precision: settings.precision, measure: settings.measure, fans, vectors })
    }

    /// Puts the values into the block: as they train, or as the file can hold them.
    pub fn install(&mut self, stored: bool) -> Result<()> {
        for (fan, trained) in self.block.fans().into_iter().zip(&self.fans) {
            for (linear, matrix) in fan.linears.iter_mut().zip(trained) {
                let Some(matrix) = matrix else { continue };
                let values = if stored { matrix.stored().into_dense() } else { matrix.dense() };
                let weight = Dense::on(&Device::Cpu, linear.rows, linear.cols, values, self.precision)?;
                linear.weight = Arc::new(weight);
            }
        }
        let mut vectors = self.vectors.iter();
        each_vector(self.block, self.info, |place| {
            if let Some(vector) = vectors.next().and_then(Option::as_ref) {
                *place.tensor = vector.tensor(stored)?;
            }
            Ok(())
        })
    }

    /// The loss over some windows, and its gradients.
    pub fn gradients(&self, states: (&dyn States, &dyn States), windows: &[usize]) -> Result<(f64, Gradients)> {
        let (mut loss, mut gradients) = (0.0, self.block.gradients());
        for (gradient, matrix) in gradients.fans.iter_mut().flatten().zip(self.fans.iter().flatten()) {
            if matrix.is_none() {
                gradient.without_weight();
            }
        }
        batches(states, windows, |inputs, targets| {
            let share = inputs.dim(0)? as f64 / windows.len() as f64;
            let (y, tape) = self.block.record(inputs)?;
            let (of_batch, dy) = self.measure.of(&y, targets)?;
            loss += share * of_batch;
            self.block.backward(tape, &dy.affine(share, 0.0)?, &mut gradients)?;
            Ok(())
        })?;
        Ok((loss, gradients))
    }

    /// The loss over some windows.
    pub fn loss(&self, states: (&dyn States, &dyn States), windows: &[usize]) -> Result<f64> {
        let mut loss = 0.0;
        batches(states, windows, |inputs, targets| {
            let (of_batch, _) = self.measure.of(&self.block.forward(inputs, &mut ())?, targets)?;
            loss += of_batch * inputs.dim(0)? as f64 / windows.len() as f64;
            Ok(())
        })?;
        Ok(loss)
    }

    /// Step number `number` of Adam, from 1 on.
    pub fn step(&mut self, number: usize, rate: f64, gradients: Gradients) {
        let adam = Adam::default();
        for (vector, gradient) in self.vectors.iter_mut().zip(gradients.vectors()) {
            if let Some(Vector { values, moments, unit, .. }) = vector {
                adam.step(number, rate * *unit, 1.0, values, gradient, moments);
            }
        }
        for (matrix, gradient) in self.fans.iter_mut().flatten().zip(gradients.fans.into_iter().flatten()) {
            if let Some(matrix) = matrix {
                matrix.step(&adam, number, rate, gradient.weight.finish(1.0));
            }
        }
    }

    /// A copy of all values.
    pub fn state(&self) -> State {
        let matrices = self.fans.iter().flatten().flatten().map(Matrix::state).collect();
        State { matrices, vectors: self.vectors.iter().flatten().map(|vector| vector.values.clone()).collect() }
    }

    /// Takes back all values.
    pub fn restore(&mut self, State { matrices, vectors }: State) {
        let places = self.fans.iter_mut().flatten().flatten();
        places.zip(matrices).for_each(|(matrix, state)| matrix.restore(state));
        self.vectors.iter_mut().flatten().zip(vectors).for_each(|(vector, values)| vector.values = values);
    }

    /// The numbers that the file will hold: the linears that trained, fan by fan, and vectors by name.
    pub fn finish(self) -> (Matrices, Vectors) {
        let stored = |matrix: &Option<Matrix>| matrix.as_ref().map(Matrix::stored);
        let linears = self.fans.iter().map(|fan| fan.iter().map(stored).collect()).collect();
        let vectors = self.vectors.iter().flatten().map(|vector| (vector.name.clone(), vector.stored()));
        (linears, vectors.collect())
    }
}
