//! Weights in packed form: the bridge from what files store to what kernels multiply with.

use std::any::Any;

use candle_core::{Device, Tensor};
use paring_format::{Compressed, Dtype, Element, Grid, ScaleType, Spqr, Statistic, Values, Zeros};
use paring_kernels::matmul::Precision;
use paring_kernels::packed::{self, Code, matmul_each};

use crate::weight::one_by_one;
use crate::{Result, Weight};

/// A weight that takes as much memory as its codes, on the CPU or a GPU, and is decoded as it is multiplied.
pub struct Packed(packed::Packed);

impl Packed {
    /// Packs a matrix, for activations on `device`; `product` is how products round their inputs. Errors when its parts do not
    /// fit each other, and when the device does.
    pub fn on(device: &Device, compressed: &Compressed, product: Precision) -> Result<Self> {
        let Compressed { rows, cols, dtype, ref values } = *compressed;
        let weight = precision_of(dtype);
        let packed = match values {
            Values::Dense(values) => packed::Packed::dense(rows, cols, values, weight, product)?,
            Values::Codes { codes, grid } => of_grid((rows, cols), codes, grid, weight, product)?,
            Values::Spqr(spqr) => of_spqr((rows, cols), spqr, weight, product)?,
        };
        Ok(Self(packed.on_device(device)?))
    }

    /// Packs floats of a type `[rows, cols]`, which come in pieces of whole rows, for activations on `device`. Errors with the
    /// first error of the pieces, on another number of weights, and when the device does.
    pub fn pieces(
        device: &Device,
        shape: (usize, usize),
        pieces: impl IntoIterator<Item = Result<Vec<f32>>>,
        dtype: Dtype,
        product: Precision,
    ) -> Result<Self> {
        Ok(Self(packed::Packed::pieces(shape, pieces, precision_of(dtype), product)?.on_device(device)?))
    }

    /// Bytes that it takes of the memory where it lies.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The kernels' form of a weight of this kind.
    fn of(weight: &dyn Weight) -> Option<&packed::Packed> {
        (weight as &dyn Any).downcast_ref::<Packed>().map(|packed| &packed.0)
    }
}

impl Weight for Packed {
    fn matmul(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.0.matmul(x)?)
    }

    fn dense(&self) -> Result<Tensor> {
        Ok(self.0.to_dense()?)
    }

    fn matmul_each(&self, others: &[&dyn Weight], x: &Tensor) -> Result<Vec<Tensor>> {
        let others_packed: Option<Vec<_>> = others.iter().map(|&other| Self::of(other)).collect();
        match others_packed {
            Some(rest) => Ok(matmul_each(&[vec![&self.0], rest].concat(), x)?),
            None => one_by_one(self, others, x),
        }
    }
}

/// The precision whose numbers are those of a float type.
fn precision_of(dtype: Dtype) -> Precision {
    match dtype {
        Dtype::Bf16 => Precision::Bf16,
        Dtype::F16 => Precision::F16,
        _ => Precision::F32,
    }
}

fn of_grid(
    (rows, cols): (usize, usize),
    codes: &[i8],
    grid: &Grid,
    weight: Precision,
    product: Precision,
) -> Result<packed::Packed> {
    let codes: Vec<u8> = codes.iter().map(|&code| code as u8).collect();
    let rounded: Vec<f32>;
    let zeros = match &grid.zeros {
        None => None,
        Some(Zeros::Codes(zeros)) => {
            Some(packed::Statistic::Integers(zeros.iter().map(|&zero| i32::from(zero)).collect()))
        }
        Some(Zeros::Floats(zeros)) => {
            rounded = zeros.iter().map(|&zero| weight.round(zero)).collect();
            Some(packed::Statistic::Floats(&rounded))
        }
    };
    let made = packed::Grid {
        code: match grid.element {
            Element::Int(bits) => Code::Signed(bits),
            Element::E4m3 => Code::E4m3,
            Element::E2m3 => Code::E2m3,
            Element::E2m1 => Code::E2m1,
        },
        codes: &codes,
        group: grid.tile[1],
        height: grid.tile[0],
        scales: match (grid.scale_type, grid.global) {
            (ScaleType::E4m3, Some(global)) => packed::Statistic::E4m3(&grid.scales, global),
            (ScaleType::Exponent, _) => packed::Statistic::Powers(&grid.scales),
            _ => packed::Statistic::Floats(&grid.scales),
        },
        fractional: match &grid.zeros {
            None => false,
            Some(Zeros::Codes(_)) => grid.element.int_bits().is_none(),
            Some(Zeros::Floats(_)) => true,
        },
        zeros,
        index: grid.group_index.as_deref(),
        order: None,
        outliers: (&[], &[]),
        weight,
    };
    Ok(packed::Packed::codes(rows, cols, &made, product)?)
}

fn of_spqr((rows, cols): (usize, usize), spqr: &Spqr, weight: Precision, product: Precision) -> Result<packed::Packed> {
    let made = packed::Grid {
        code: Code::Unsigned(spqr.bits),
        codes: &spqr.codes,
        group: spqr.group_size,
        height: 1,
        scales: statistic(&spqr.scales),
        zeros: Some(statistic(&spqr.zeros)),
        index: None,
        order: spqr.order.as_deref(),
        outliers: (&spqr.outliers.at, &spqr.outliers.values),
        weight,
        fractional: !matches!(spqr.zeros, Statistic::Constant(_) | Statistic::Integers(_)),
    };
    Ok(packed::Packed::codes(rows, cols, &made, product)?)
}

fn statistic(statistic: &Statistic) -> packed::Statistic<'_> {
    match statistic {
        Statistic::Plain(values) => packed::Statistic::Floats(values),
        Statistic::Constant(value) => packed::Statistic::Constant(*value),
        Statistic::Integers(values) => {
            packed::Statistic::Integers(values.iter().map(|&value| i32::from(value)).collect())
        }
        Statistic::Coded { rows, codes, scales, zeros, .. } => {
            packed::Statistic::Coded { codes, height: *rows, scales, zeros }
        }
    }
}
