//! One file per on-disk layout, registered in [`LAYOUTS`] under the very string that stands on disk.

mod dense;
mod int;
mod packed;
mod spqr;
pub(crate) mod spqr_hf;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_spqr;
#[cfg(test)]
mod tests_spqr_hf;

use std::collections::BTreeMap;

use crate::config::{Method, Strategy};
use crate::{Compressed, Dtype, Error, Grid, Result, Scheme, Values};

/// Every layout, by the order in which help and documentation list them.
pub static LAYOUTS: &[&dyn Layout] = &[DENSE, &int::Int, &packed::Packed, &spqr::ParingSpqr, &spqr_hf::SpqrHf];

/// The layout of plain weights.
pub const DENSE: &dyn Layout = &dense::Dense;

/// Local names of all tensors that layouts read: what to collect of a module before decoding it.
pub const PART_NAMES: [&str; 17] = [
    "weight",
    "weight_packed",
    "weight_scale",
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

/// How a [`Compressed`] lies on disk. `decode(encode(c)) == c` bit for bit for every `c` it accepts.
pub trait Layout: Sync {
    /// The format string on disk.
    fn name(&self) -> &'static str;
    /// The quantization method that a configuration with this layout names.
    fn method(&self) -> Method {
        Method::CompressedTensors
    }
    /// Whether this layout can hold `c`.
    fn accepts(&self, c: &Compressed) -> bool;
    /// The tensors to store.
    fn encode(&self, c: &Compressed) -> Result<Parts>;
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

/// The part of this name, if its type is one of `dtypes` and its bytes are as many as its shape says.
fn take<'a>(parts: &'a Parts, name: &str, dtypes: &[Dtype]) -> Result<&'a Part> {
    let part = parts.get(name).ok_or_else(|| missing(parts, name))?;
    if !dtypes.contains(&part.dtype) {
        let expected = dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(" or ");
        return Err(Error::WrongDtype { tensor: name.to_string(), file: String::new(), expected, got: part.dtype });
    }
    part.check(name)?;
    Ok(part)
}

/// Whether a matrix is not empty, has a float type, and holds as many numbers as its shape and grid ask for.
fn whole(c: &Compressed) -> bool {
    let Some(count) = c.rows.checked_mul(c.cols).filter(|&count| count > 0 && c.dtype.is_weight()) else {
        return false;
    };
    match &c.values {
        Values::Dense(values) => values.len() == count,
        Values::Spqr(_) => false,
        Values::Codes { codes, grid } => {
            let sizes = (1..=c.cols).contains(&grid.group_size) && (1..=8).contains(&grid.bits);
            let scales = if sizes { c.rows * grid.groups(c.cols) } else { 0 };
            sizes
                && codes.len() == count
                && grid.scales.len() == scales
                && grid.zeros.as_ref().is_none_or(|zeros| zeros.len() == scales)
        }
    }
}

/// Whether a matrix is whole, and all its floats are numbers that its type has.
fn exact(c: &Compressed) -> bool {
    let floats = match &c.values {
        Values::Dense(values) => values,
        Values::Codes { grid, .. } => &grid.scales,
        Values::Spqr(_) => return false,
    };
    whole(c) && floats.iter().all(|&value| is_exact(c.dtype, value))
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

/// The scales of a grid as a part, and their shape `[rows, groups]`; errors when no integer layout can hold the grid.
fn encode_scales(c: &Compressed, grid: &Grid) -> Result<(Part, Vec<usize>)> {
    if grid.group_index.is_some() {
        return Err(Error::parts("groups in activation order cannot be stored: current readers dropped them"));
    }
    if !whole(c) {
        return Err(Error::parts("codes, scales and zero points do not fit the shape of the matrix"));
    }
    if !c.cols.is_multiple_of(grid.group_size) {
        return Err(Error::GroupSize { module: String::new(), cols: c.cols, group_size: grid.group_size });
    }
    let shape = vec![c.rows, c.cols / grid.group_size];
    Ok((floats("weight_scale", c.dtype, shape.clone(), &grid.scales)?, shape))
}

/// The scales of a stored matrix, checked against its scheme.
struct Scales {
    rows: usize,
    cols: usize,
    bits: u32,
    dtype: Dtype,
    group_size: usize,
    /// The shape that scales and unpacked zero points have on disk.
    shape: Vec<usize>,
    /// `[rows, groups]`: the one scale of a tensor is repeated, so that all strategies look alike.
    values: Vec<f32>,
}

impl Scales {
    fn decode(scheme: &Scheme, parts: &Parts, rows: usize, cols: usize) -> Result<Scales> {
        if !(1..=8).contains(&scheme.bits) {
            return Err(Error::parts(format!("codes of {} bits; 1 to 8 can be read", scheme.bits)));
        }
        let (group_size, shape) = match scheme.strategy {
            Strategy::Tensor => (cols, vec![1]),
            Strategy::Channel => (cols, vec![rows, 1]),
            Strategy::Group(size) if size > 0 && cols.is_multiple_of(size) => (size, vec![rows, cols / size]),
            Strategy::Group(group_size) => return Err(Error::GroupSize { module: String::new(), cols, group_size }),
        };
        let part = take(parts, "weight_scale", &[Dtype::F32, Dtype::F16, Dtype::Bf16])?;
        part.expect("weight_scale", &shape)?;
        let mut values = part.finite("weight_scale")?;
        if let (Strategy::Tensor, [scale]) = (scheme.strategy, &values[..]) {
            values = vec![*scale; rows];
        }
        Ok(Scales { rows, cols, bits: scheme.bits, dtype: part.dtype, group_size, shape, values })
    }

    /// Zero points that are stored as bytes, in the shape of the scales.
    fn byte_zeros(&self, parts: &Parts) -> Result<Vec<i8>> {
        let part = take(parts, "weight_zero_point", &[Dtype::I8])?;
        part.expect("weight_zero_point", &self.shape)?;
        match part.bytes[..] {
            [zero] => Ok(vec![zero as i8; self.values.len()]),
            _ => Ok(part.bytes.iter().map(|&byte| byte as i8).collect()),
        }
    }

    /// The matrix of these scales.
    fn finish(self, codes: Vec<i8>, zeros: Option<Vec<i8>>) -> Result<Compressed> {
        let Scales { rows, cols, bits, dtype, group_size, values: scales, .. } = self;
        let grid = Grid { bits, group_size, scales, zeros, group_index: None };
        Ok(Compressed { rows, cols, dtype, values: Values::Codes { codes, grid } })
    }
}
