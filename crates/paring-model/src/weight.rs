//! Weights: the right-hand side of a linear's product, in whatever form is fast to multiply with.

use std::any::Any;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use paring_kernels::matmul::{InputGradient, Matrix, Precision, gated, matmul_each};
use paring_kernels::plain::{add, add_each};
use paring_kernels::quantize::{Rounded, Rounding, scale_rows};
use paring_kernels::swiglu::swiglu;

use crate::{Error, Result};

/// A weight `[rows, cols]` = `[out, in]`.
///
/// The defaulted products are those of a fan and of a residual: a kind of weight overrides them where it computes them
/// faster than one by one. They may differ from the defaults by rounding.
pub trait Weight: Any + Send + Sync {
    /// `x [.., cols]` f32 → `x Wᵀ [.., rows]` f32. Errors when the last dimension of `x` is not `cols`.
    fn matmul(&self, x: &Tensor) -> Result<Tensor>;

    /// The weight itself, f32 `[rows, cols]`.
    fn dense(&self) -> Result<Tensor>;

    /// The products of `x [.., cols]` with this weight and with `others`, which have as many columns, in this order.
    fn matmul_each(&self, others: &[&dyn Weight], x: &Tensor) -> Result<Vec<Tensor>> {
        one_by_one(self, others, x)
    }

    /// `silu(x Wᵀ) · (x Uᵀ)` for this weight W and `up` U of the same shape.
    fn matmul_gated(&self, up: &dyn Weight, x: &Tensor) -> Result<Tensor> {
        let products = self.matmul_each(&[up], x)?;
        Ok(swiglu(&products[0], &products[1])?)
    }

    /// `onto [.., rows] + (x Wᵀ + bias [rows])`.
    fn matmul_onto(&self, x: &Tensor, bias: Option<&Tensor>, onto: &Tensor) -> Result<Tensor> {
        Ok(add(onto, &biased(self.matmul(x)?, bias)?)?)
    }

    /// Adds dy W for the gradient `dy [.., rows]` of the product to that of its input, in f32 and with the weight as the product
    /// sees it. Errors where the product does more to its input than multiply.
    fn add_input_gradient(&self, dy: &Tensor, sum: &mut InputGradient) -> Result<()> {
        Ok(sum.add(dy, &self.dense()?.flatten_all()?.to_vec1::<f32>()?)?)
    }
}

/// [`Weight::matmul_each`] of weights of any kinds.
pub(crate) fn one_by_one<W: Weight + ?Sized>(first: &W, others: &[&dyn Weight], x: &Tensor) -> Result<Vec<Tensor>> {
    std::iter::once(first.matmul(x)).chain(others.iter().map(|other| other.matmul(x))).collect()
}

/// `y [.., rows]` plus a linear's bias `[rows]`, if it has one.
pub(crate) fn biased(y: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => Ok(add_each(&y, bias)?),
        None => Ok(y),
    }
}

/// A plain matrix.
pub struct Dense(Matrix);

impl Dense {
    /// Takes `values`, row-major `[rows, cols]`, for activations on `device`; `precision` is how products round their
    /// inputs. Errors when there are not `rows * cols` values, and when the device does.
    pub fn on(device: &Device, rows: usize, cols: usize, values: Vec<f32>, precision: Precision) -> Result<Self> {
        match rows.checked_mul(cols) {
            Some(size) if size == values.len() => Ok(Self(Matrix::on_device(device, rows, cols, values, precision)?)),
            _ => Err(Error::WeightSize { rows, cols, got: values.len() }),
        }
    }

    /// The matrix of a weight of this kind.
    fn matrix_of(weight: &dyn Weight) -> Option<&Matrix> {
        (weight as &dyn Any).downcast_ref::<Dense>().map(|dense| &dense.0)
    }
}

impl Weight for Dense {
    fn matmul(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.0.matmul(x)?)
    }

    fn dense(&self) -> Result<Tensor> {
        Ok(self.0.dense()?)
    }

    fn matmul_each(&self, others: &[&dyn Weight], x: &Tensor) -> Result<Vec<Tensor>> {
        let others_dense: Option<Vec<&Matrix>> = others.iter().map(|&other| Self::matrix_of(other)).collect();
        match others_dense {
            Some(rest) => Ok(matmul_each(&[vec![&self.0], rest].concat(), x)?),
            None => one_by_one(self, others, x),
        }
    }

    fn matmul_gated(&self, up: &dyn Weight, x: &Tensor) -> Result<Tensor> {
        match Self::matrix_of(up) {
            Some(up) => Ok(gated(&self.0, up, x)?),
            None => Ok(swiglu(&self.matmul(x)?, &up.matmul(x)?)?),
        }
    }

    fn matmul_onto(&self, x: &Tensor, bias: Option<&Tensor>, onto: &Tensor) -> Result<Tensor> {
        biased(self.0.matmul_onto(x, onto)?, bias)
    }

    fn add_input_gradient(&self, dy: &Tensor, sum: &mut InputGradient) -> Result<()> {
        Ok(self.0.add_input_gradient(dy, sum)?)
    }
}

/// A weight whose inputs are rounded to codes first.
///
/// The codes go into the product as they are, and the scales of tokens are applied after it, as in kernels that multiply
/// codes: nothing is lost where the product rounds its inputs to bfloat16, but for scales of groups that are no powers of
/// two.
pub struct QuantizedInput {
    weight: Arc<dyn Weight>,
    input: Rounding,
}

impl QuantizedInput {
    /// `weight` with inputs rounded as `input` says.
    pub fn new(weight: Arc<dyn Weight>, input: Rounding) -> Self {
        Self { weight, input }
    }
}

impl Weight for QuantizedInput {
    fn matmul(&self, x: &Tensor) -> Result<Tensor> {
        let Rounded { values, factors } = self.input.round(x)?;
        Ok(scale_rows(self.weight.matmul(&values)?, factors.as_ref())?)
    }

    fn dense(&self) -> Result<Tensor> {
        self.weight.dense()
    }

    fn add_input_gradient(&self, _: &Tensor, _: &mut InputGradient) -> Result<()> {
        Err(Error::NoBackward { what: "a linear whose inputs are rounded to codes" })
    }
}
