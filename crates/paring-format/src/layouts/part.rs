//! The tensors that a layout makes of a matrix, and checks of them.

use std::collections::BTreeMap;

use crate::compressed::PIECE;
use crate::finite::check_finite;
use crate::{Dtype, Error, Result};

/// One stored tensor of a module.
#[derive(Clone, Debug, PartialEq)]
pub struct LayoutPart {
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    /// Little-endian, row-major.
    pub bytes: Vec<u8>,
}

/// A module's tensors by local name: `weight`, `weight_packed`, `weight_scale`, …
pub type LayoutParts = BTreeMap<&'static str, LayoutPart>;

impl LayoutPart {
    /// The length of `bytes` against type and shape.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
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
    pub(crate) fn matrix(&self, name: &str) -> Result<(usize, usize)> {
        match self.shape[..] {
            [rows, cols] if rows > 0 && cols > 0 => Ok((rows, cols)),
            _ => Err(Error::parts(format!("{name}: shape {:?} is not that of a matrix", self.shape))),
        }
    }

    /// Errors unless the shape is `expected`.
    pub(crate) fn expect_shape(&self, name: &str, expected: &[usize]) -> Result<()> {
        if self.shape == expected {
            return Ok(());
        }
        let (expected, got) = (expected.to_vec(), self.shape.clone());
        Err(Error::WrongShape { tensor: name.to_string(), file: String::new(), expected, got })
    }

    /// Errors unless the shape is `expected` but for dimensions of 1: `[]` and `[1, 1]` are as good as `[1]`, and `[rows]` as
    /// `[rows, 1]`. For scales and zero points, which programs store in one or the other way; their order is the same.
    pub(crate) fn expect_numbers(&self, name: &str, expected: &[usize]) -> Result<()> {
        if same_numbers(&self.shape, expected) { Ok(()) } else { self.expect_shape(name, expected) }
    }

    /// The floats, all of them finite.
    pub(crate) fn finite(&self, name: &str) -> Result<Vec<f32>> {
        let values = self.dtype.decode_f32(&self.bytes);
        let cols = self.shape.last().copied().unwrap_or(1);
        check_finite(&values, cols, 0, name, "")?;
        Ok(values)
    }
}

/// Tells whether two shapes differ in dimensions of 1 alone.
pub fn same_numbers(shape: &[usize], expected: &[usize]) -> bool {
    let long = |shape: &[usize]| shape.iter().copied().filter(|&dim| dim != 1).collect::<Vec<_>>();
    long(shape) == long(expected)
}

/// The error of a part that is not there.
pub(super) fn missing(parts: &LayoutParts, name: &str) -> Error {
    let near = match parts.keys().copied().collect::<Vec<_>>().join(", ") {
        have if have.is_empty() => "the module has no tensors".to_string(),
        have => format!("the module has {have}"),
    };
    Error::MissingTensor { tensor: name.to_string(), file: String::new(), near }
}

/// The part of this name, if its type is one of `dtypes`, whatever its bytes.
pub(super) fn typed<'a>(parts: &'a LayoutParts, name: &str, dtypes: &[Dtype]) -> Result<&'a LayoutPart> {
    let part = parts.get(name).ok_or_else(|| missing(parts, name))?;
    if !dtypes.contains(&part.dtype) {
        let expected = dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(" or ");
        return Err(Error::WrongDtype { tensor: name.to_string(), file: String::new(), expected, got: part.dtype });
    }
    Ok(part)
}

/// The part of this name, if its type is one of `dtypes` and its bytes are as many as its shape says.
pub(super) fn take<'a>(parts: &'a LayoutParts, name: &str, dtypes: &[Dtype]) -> Result<&'a LayoutPart> {
    let part = typed(parts, name, dtypes)?;
    part.check(name)?;
    Ok(part)
}

/// Floats as a part. Errors when the type cannot hold one of them: what is stored must be what was measured.
pub(super) fn floats(name: &str, dtype: Dtype, shape: Vec<usize>, values: &[f32]) -> Result<LayoutPart> {
    let mut bytes = Vec::with_capacity(values.len() * dtype.size());
    // Each piece is looked at and written while it is in the cache.
    let whole = values.chunks(PIECE).all(|piece| {
        dtype.encode_to(piece, &mut bytes);
        piece.iter().fold(true, |all, &value| all & dtype.holds(value))
    });
    if !whole {
        check_finite(values, shape.last().copied().unwrap_or(1), 0, name, "")?;
        let at = values.iter().position(|&value| !dtype.holds(value)).unwrap_or(0);
        return Err(Error::parts(format!("{name}: {} (element {at}) is not a number of {dtype}", values[at])));
    }
    Ok(LayoutPart { dtype, bytes, shape })
}
