//! A block and everything of it that trains.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use paring_format::{Compressed, Dtype};
use paring_kernels::adam::{Adam, Moments};
use paring_kernels::squared_error::squared_error;
use paring_model::weight::Dense;
use paring_model::{Block, Gradients};

use super::matrix::{Form, Matrix};
use super::states::{States, batches};
use super::{Settings, Target};
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
}

impl Vector {
    fn new(name: String, tensor: &Tensor, dtype_of: &dyn Fn(&str) -> Dtype) -> Result<Self> {
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        Ok(Self { dtype: dtype_of(&name), name, moments: Moments::new(values.len()), values })
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

/// A linear's matrix and bias.
struct TrainedLinear {
    matrix: Option<Matrix>,
    bias: Option<Vector>,
}

/// The values of everything that trains.
pub(super) struct State {
    matrices: Vec<Vec<Vec<f32>>>,
    vectors: Vec<Vec<f32>>,
}

/// A block in training.
pub(super) struct Trained<'a> {
    block: &'a mut dyn Block,
    precision: Precision,
    fans: Vec<Vec<TrainedLinear>>,
    /// The stored tensors of each norm.
    norms: Vec<Vec<Vector>>,
}

impl<'a> Trained<'a> {
    /// Errors where the forms are not those of the block's linears.
    pub fn new(target: Target<'a>, forms: Vec<Vec<Form>>, settings: &Settings) -> Result<Self> {
        let Target { block, info, dtype_of } = target;
        let mut fans = Vec::new();
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
                    Form::Compressed(compressed) => Matrix::new(compressed),
                    Form::Fixed => None,
                };
                if matrix.as_ref().is_some_and(|matrix| matrix.shape() != (linear.rows, linear.cols)) {
                    return Err(Error::Plan(format!("{}: trained in another shape", linear.name)));
                }
                let bias = linear.bias.as_ref().filter(|_| settings.vectors);
                let bias = bias.map(|bias| Vector::new(format!("{}.bias", linear.name), bias, dtype_of)).transpose()?;
                linears.push(TrainedLinear { matrix, bias });
            }
            fans.push(linears);
        }
        let mut norms = Vec::new();
        let trained = if settings.vectors { block.norms() } else { Vec::new() };
        for (norm, info) in trained.into_iter().zip(&info.norms) {
            let tensors = norm.tensors().into_iter().zip(&info.tensors);
            let vectors = tensors.map(|(tensor, name)| Vector::new(name.clone(), tensor, dtype_of));
            norms.push(vectors.collect::<Result<_>>()?);
        }
        Ok(Self { block, precision: settings.precision, fans, norms })
    }

    /// Puts the values into the block: as they train, or as the file can hold them.
    pub fn install(&mut self, stored: bool) -> Result<()> {
        for (fan, trained) in self.block.fans().into_iter().zip(&self.fans) {
            for (linear, TrainedLinear { matrix, bias }) in fan.linears.iter_mut().zip(trained) {
                if let Some(matrix) = matrix {
                    let values = if stored { matrix.stored().into_dense() } else { matrix.dense() };
                    let weight = Dense::on(&Device::Cpu, linear.rows, linear.cols, values, self.precision)?;
                    linear.weight = Arc::new(weight);
                }
                if let Some(bias) = bias {
                    linear.bias = Some(bias.tensor(stored)?);
                }
            }
        }
        for (norm, vectors) in self.block.norms().into_iter().zip(&self.norms) {
            for (place, vector) in norm.tensors().into_iter().zip(vectors) {
                *place = vector.tensor(stored)?;
            }
        }
        Ok(())
    }

    /// The mean squared error over some windows, and its gradients.
    pub fn gradients(&self, states: (&dyn States, &dyn States), windows: &[usize]) -> Result<(f64, Gradients)> {
        let (mut loss, mut gradients) = (0.0, self.block.gradients());
        batches(states, windows, |inputs, targets| {
            let share = inputs.dim(0)? as f64 / windows.len() as f64;
            let (y, tape) = self.block.record(inputs)?;
            let (of_batch, dy) = squared_error(&y, targets)?;
            loss += share * of_batch;
            self.block.backward(tape, &dy.affine(share, 0.0)?, &mut gradients)?;
            Ok(())
        })?;
        Ok((loss, gradients))
    }

    /// The mean squared error over some windows.
    pub fn loss(&self, states: (&dyn States, &dyn States), windows: &[usize]) -> Result<f64> {
        let mut loss = 0.0;
        batches(states, windows, |inputs, targets| {
            let (of_batch, _) = squared_error(&self.block.forward(inputs, &mut ())?, targets)?;
            loss += of_batch * inputs.dim(0)? as f64 / windows.len() as f64;
            Ok(())
        })?;
        Ok(loss)
    }

    /// Step number `number` of Adam, from 1 on.
    pub fn step(&mut self, adam: &Adam, number: usize, rate: f64, gradients: Gradients) {
        let step = |vector: &mut Vector, gradient: &[f32]| {
            adam.step(number, rate, 1.0, &mut vector.values, gradient, &mut vector.moments);
        };
        for (linear, gradient) in self.fans.iter_mut().flatten().zip(gradients.fans.into_iter().flatten()) {
            if let Some(matrix) = &mut linear.matrix {
                matrix.step(adam, number, rate, gradient.weight.finish(1.0));
            }
            if let Some((bias, gradient)) = linear.bias.as_mut().zip(gradient.bias) {
                step(bias, &gradient);
            }
        }
        for (vector, gradient) in self.norms.iter_mut().flatten().zip(gradients.norms.iter().flatten()) {
            step(vector, gradient);
        }
    }

    fn vectors(&mut self) -> impl Iterator<Item = &mut Vector> {
        let biases = self.fans.iter_mut().flatten().filter_map(|linear| linear.bias.as_mut());
        biases.chain(self.norms.iter_mut().flatten())
    }

    /// A copy of all values.
    pub fn state(&mut self) -> State {
        let matrices = self.fans.iter().flatten().filter_map(|linear| linear.matrix.as_ref());
        let matrices = matrices.map(Matrix::state).collect();
        State { matrices, vectors: self.vectors().map(|vector| vector.values.clone()).collect() }
    }

    /// Takes back all values.
    pub fn restore(&mut self, State { matrices, vectors }: State) {
        let places = self.fans.iter_mut().flatten().filter_map(|linear| linear.matrix.as_mut());
        places.zip(matrices).for_each(|(matrix, state)| matrix.restore(state));
        self.vectors().zip(vectors).for_each(|(vector, values)| vector.values = values);
    }

    /// The numbers that the file will hold: the linears that trained, fan by fan, and vectors by name.
    pub fn finish(mut self) -> (Matrices, Vectors) {
        let vectors = self.vectors().map(|vector| (vector.name.clone(), vector.stored())).collect();
        let stored = |linear: &TrainedLinear| linear.matrix.as_ref().map(Matrix::stored);
        let linears = self.fans.iter().map(|fan| fan.iter().map(stored).collect()).collect();
        (linears, vectors)
    }
}
