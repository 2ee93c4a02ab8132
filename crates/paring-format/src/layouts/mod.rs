//! One file per on-disk layout, registered in [`LAYOUTS`] under the very string that stands on disk.

mod dense;
mod float;
mod int;
mod marlin_24;
mod mxfp4;
mod mxfp8;
mod naive;
mod nvfp4;
mod order;
mod packed;
mod pairs;
mod scales;
pub(crate) mod sparse;
mod sparse_24;
mod sparse_bitmask;
mod spqr;
pub(crate) mod spqr_hf;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_floats;
#[cfg(test)]
mod tests_marlin_24;
#[cfg(test)]
mod tests_packed;
#[cfg(test)]
mod tests_sparse;
#[cfg(test)]
mod tests_spqr;
#[cfg(test)]
mod tests_spqr_hf;
mod unpacked;

use std::collections::BTreeMap;

use crate::config::Method;
use crate::{Compressed, Dtype, Error, QuantArgs, Result, Scheme};

/// Every layout, by the order in which help and documentation list them.
pub static LAYOUTS: &[&dyn Layout] = &[
    DENSE,
    &int::INT,
    &float::FLOAT,
    &naive::NAIVE,
    &packed::Packed,
    &nvfp4::NVFP4,
    &mxfp4::MXFP4,
    &mxfp8::MXFP8,
    &spqr::ParingSpqr,
    &spqr_hf::SpqrHf,
    &sparse::Sparse::NonZero,
    &sparse::Sparse::TwoOfFour,
    &marlin_24::Marlin24,
];

/// The layout of plain weights.
pub const DENSE: &dyn Layout = &dense::Dense;

/// Local names of all tensors that layouts read: what to collect of a module before decoding it.
pub const PART_NAMES: [&str; 23] = [
    "weight",
    "weight_packed",
    "weight_scale",
    "weight_global_scale",
    "weight_shape",
    "weight_zero_point",
    "weight_g_idx",
    "scale_codes",
    "scale_grid",
    "zero_codes",
    "zero_grid",
    "outlier_values",
    "outlier_gaps",
    "column_order",
    "dense_weights",
    "row_offsets",
    "col_vals",
    "in_perm",
    "scale_packed",
    "meta",
    "compressed",
    "bitmask",
    "shape",
];

/// Local names of the tensors with which activations are quantized as a model runs: beside a linear's weight, or, those of
/// keys and values, beside an attention's linears.
pub const ACTIVATION_NAMES: [&str; 8] = [
    "input_scale",
    "input_zero_point",
    "input_global_scale",
    "output_scale",
    "output_zero_point",
    "k_scale",
    "v_scale",
    "q_scale",
];

/// The layout of this name.
pub fn layout(name: &str) -> Option<&'static dyn Layout> {
    LAYOUTS.iter().copied().find(|layout| layout.name() == name)
}

/// One stored tensor of a module.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    /// Little-endian, row-major.
    pub bytes: Vec<u8>,
}

/// A module's tensors by local name: `weight`, `weight_packed`, `weight_scale`, …
pub type Parts = BTreeMap<&'static str, Part>;

/// How a [`Compressed`] lies on disk. `decode(scheme, encode(scheme, c)) == c` bit for bit for every `c` that it encodes.
pub trait Layout: Sync {
    /// The format string on disk.
    fn name(&self) -> &'static str;
    /// The quantization method that a configuration with this layout names.
    fn method(&self) -> Method {
        Method::CompressedTensors
    }
    /// Errors when this layout holds nothing that is quantized so, whatever shape and numbers.
    fn check_args(&self, _args: &QuantArgs) -> Result<()> {
        Ok(())
    }
    /// The tensors to store. Errors when this layout, or this scheme in it, cannot hold `c` exactly.
    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<Parts>;
    /// The matrix back; errors on missing, misshapen or mistyped parts.
    fn decode(&self, scheme: &Scheme, parts: &Parts) -> Result<Compressed>;
    /// As [`Layout::decode`], for a reader who knows the shape that the matrix should have. Layouts that do not store
    /// theirs may need it; none checks it.
    fn decode_shaped(&self, scheme: &Scheme, parts: &Parts, _shape: (usize, usize)) -> Result<Compressed> {
        self.decode(scheme, parts)
    }
    /// Rows and columns, as far as parts tell that have no bytes, but for those of `weight_shape`. Errors when a part
    /// that tells is missing or is that of no matrix.
    fn shape(&self, parts: &Parts) -> Result<Option<(usize, usize)>> {
        match parts.get("weight") {
            Some(weight) => weight.matrix("weight").map(Some),
            None => Err(missing(parts, "weight")),
        }
    }
    /// Errors when no matrix of this shape fits, whatever its numbers.
    fn check_shape(&self, _rows: usize, _cols: usize) -> Result<()> {
        Ok(())
    }
    /// The type that all floats of a checkpoint in this layout have, where only one will do.
    fn float_type(&self) -> Option<Dtype> {
        None
    }
    /// Whether an SpQR outlier is stored as what is added, in the matrix's type, to the value of its code; otherwise it
    /// replaces that.
    fn adds_outliers(&self) -> bool {
        false
    }
    /// Whether a zero with a sign can be stored. Where it cannot, such a matrix is refused: see
    /// [`Compressed::without_zero_signs`].
    fn keeps_zero_signs(&self) -> bool {
        true
    }
    /// What to use instead of a layout that current releases of its library have dropped; `None` for all others.
    fn instead(&self) -> Option<&'static str> {
        None
    }
}

impl Part {
    /// The length of `bytes` against type and shape.
    fn check(&self, name: &str) -> Result<()> {
        match self.dtype.bytes_of(&self.shape) {
            Some(bytes) if bytes == self.bytes.len() => Ok(()),
            _ => Err(Error::parts(format!(
                "{name}: {} bytes do not make {} {:?}",
                self.bytes.len(),
                self.dtype,
                self.shape
            ))),
        }
    }

    /// The two dimensions of a matrix that is not empty.
    fn matrix(&self, name: &str) -> Result<(usize, usize)> {
        match self.shape[..] {
            [rows, cols] if rows > 0 && cols > 0 => Ok((rows, cols)),
            _ => Err(Error::parts(format!("{name}: shape {:?} is not that of a matrix", self.shape))),
        }
    }

    /// Errors unless the shape is `expected`.
    fn expect(&self, name: &str, expected: &[usize]) -> Result<()> {
        if self.shape == expected {
            return Ok(());
        }
        let (expected, got) = (expected.to_vec(), self.shape.clone());
        Err(Error::WrongShape { tensor: name.to_string(), file: String::new(), expected, got })
    }

    /// The floats, all of them finite.
    fn finite(&self, name: &str) -> Result<Vec<f32>> {
        let values = self.dtype.decode_f32(&self.bytes);
        let cols = self.shape.last().copied().unwrap_or(1);
        check_finite(&values, cols, 0, name, "")?;
        Ok(values)
    }
}

/// Errors at the first value that is no number; `first` is the index of `values[0]` in its tensor.
pub(crate) fn check_finite(values: &[f32], cols: usize, first: usize, tensor: &str, file: &str) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::NotFinite {
            tensor: tensor.to_string(),
            file: file.to_string(),
            index: first + at,
            cols,
            value: values[at],
        }),
    }
}

/// The error of a part that is not there.
fn missing(parts: &Parts, name: &str) -> Error {
    let near = match parts.keys().copied().collect::<Vec<_>>().join(", ") {
        have if have.is_empty() => "the module has no tensors".to_string(),
        have => format!("the module has {have}"),
    };
    Error::MissingTensor { tensor: name.to_string(), file: String::new(), near }
}

/// The part of this name, if its type is one of `dtypes`, whatever its bytes.
fn typed<'a>(parts: &'a Parts, name: &str, dtypes: &[Dtype]) -> Result<&'a Part> {
    let part = parts.get(name).ok_or_else(|| missing(parts, name))?;
    if !dtypes.contains(&part.dtype) {
        let expected = dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(" or ");
        return Err(Error::WrongDtype { tensor: name.to_string(), file: String::new(), expected, got: part.dtype });
    }
    Ok(part)
}

/// The part of this name, if its type is one of `dtypes` and its bytes are as many as its shape says.
fn take<'a>(parts: &'a Parts, name: &str, dtypes: &[Dtype]) -> Result<&'a Part> {
    let part = typed(parts, name, dtypes)?;
    part.check(name)?;
    Ok(part)
}

/// Whether the type has this number, and it is one.
pub(crate) fn is_exact(dtype: Dtype, value: f32) -> bool {
    value.is_finite() && dtype.round(value).to_bits() == value.to_bits()
}

/// Floats as a part. Errors when the type cannot hold one of them: what is stored must be what was measured.
fn floats(name: &str, dtype: Dtype, shape: Vec<usize>, values: &[f32]) -> Result<Part> {
    let cols = shape.last().copied().unwrap_or(1);
    check_finite(values, cols, 0, name, "")?;
    if let Some(at) = values.iter().position(|&value| !is_exact(dtype, value)) {
        return Err(Error::parts(format!("{name}: {} (element {at}) is not a number of {dtype}", values[at])));
    }
    Ok(Part { dtype, bytes: dtype.encode(values), shape })
}
