//! Reading linears: dense, or through the layout that the quantization asks for.

use super::{Checkpoint, TensorInfo};
use crate::layouts;
use crate::{Compressed, Error, Layout, LayoutPart, LayoutParts, Result, Scheme, Values};

/// The layout and scheme of a linear.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearFormat {
    /// The name of the layout.
    pub layout: &'static str,
    /// The scheme that applies; `None` for a linear that no group covers.
    pub scheme: Option<Scheme>,
    /// The name of the layout that its tensor `weight` is stored in, when that is sparse.
    pub sparse: Option<&'static str>,
}

impl LinearFormat {
    /// The names of the layouts: `sparse-24-bitmask`, `sparse-24-bitmask+int-quantized`, `pack-quantized`, …
    pub fn describe(&self) -> String {
        match self.sparse {
            None => self.layout.to_string(),
            Some(sparse) if self.layout == layouts::DENSE.name() => sparse.to_string(),
            Some(sparse) => format!("{sparse}+{}", self.layout),
        }
    }
}

impl Checkpoint {
    /// The layout and scheme of the linear at this module path, going by the configuration as the
    /// tensors settle it.
    pub fn linear_format(&self, module: &str) -> Result<LinearFormat> {
        let (layout, scheme) = self.layout_of(module)?;
        let sparse = self.info(&format!("{module}.weight")).and_then(TensorInfo::sparse);
        Ok(LinearFormat { layout: layout.name(), scheme: scheme.cloned(), sparse })
    }

    /// The weight of the linear at this module path, whatever its shape.
    ///
    /// When the quantization covers the module, its parts are decoded through the layout of its group; otherwise
    /// `module.weight` is read. Errors when a part is missing or has another shape or type, and when a dense weight
    /// or a scale is not finite.
    pub fn read_module(&self, module: &str) -> Result<Compressed> {
        self.read_compressed(module, None)
    }

    /// Rows and columns of the linear at this module path, from what is stored beside its weights; `None` when only
    /// the weights could tell. Errors when what should tell is missing, or is the shape of no matrix.
    pub fn linear_shape(&self, module: &str) -> Result<Option<(usize, usize)>> {
        let (layout, _) = self.layout_of(module)?;
        let (parts, file) = self.parts_of(module, |local| layout.shape_name() == Some(local))?;
        layout.shape(&parts).map_err(|error| error.in_module(module, &file))
    }

    /// The stored tensors of a module that some layout reads, with the bytes of those that are `wanted`, and the file that
    /// holds the last of them.
    fn parts_of(&self, module: &str, wanted: impl Fn(&str) -> bool) -> Result<(LayoutParts, String)> {
        let mut parts = LayoutParts::new();
        let mut file = self.describe();
        for &local in layouts::part_names() {
            let name = format!("{module}.{local}");
            let Some(info) = self.info(&name) else { continue };
            let bytes = if wanted(local) { self.read(&name)? } else { Vec::new() };
            file.clone_from(&info.file);
            parts.insert(local, LayoutPart { dtype: info.dtype, shape: info.shape.clone(), bytes });
        }
        Ok((parts, file))
    }

    /// Rows and columns of a linear whose weight is a matrix of floats and nothing else: it can be read without a copy of its
    /// bytes.
    pub(super) fn plain_weight(
        &self,
        layout: &dyn Layout,
        scheme: Option<&Scheme>,
        module: &str,
    ) -> Option<(usize, usize)> {
        let rounded = scheme.is_some_and(|scheme| scheme.weights.is_some());
        let info = self.info(&format!("{module}.weight"))?;
        match info.shape[..] {
            [rows, cols] if layout.name() == layouts::DENSE.name() && !rounded && info.dtype.is_float() => {
                (rows > 0 && cols > 0).then_some((rows, cols))
            }
            _ => None,
        }
    }

    /// The matrix of a module, `shape` if that is known.
    fn read_compressed(&self, module: &str, shape: Option<(usize, usize)>) -> Result<Compressed> {
        let (layout, scheme) = self.layout_of(module)?;
        if let Some((rows, cols)) = self.plain_weight(layout, scheme, module) {
            let name = format!("{module}.weight");
            let info = self.need(&name)?;
            let values = Values::Dense(self.floats(&name, info, 0, info.bytes())?);
            return Ok(Compressed { rows, cols, dtype: info.dtype.in_memory(), values });
        }
        let (parts, file) = self.parts_of(module, |_| true)?;
        if scheme.is_none() && !parts.contains_key("weight") {
            let name = format!("{module}.weight");
            if parts.is_empty() {
                return Err(self.missing(&name));
            }
            let near = format!("other parts of the module are there, but no group covers it; {}", self.status());
            return Err(self.missing_near(&name, near));
        }
        let dense = Scheme::dense();
        let scheme = scheme.unwrap_or(&dense);
        let read = match shape {
            Some(shape) => layout.decode_shaped(scheme, parts, shape),
            None => layout.decode(scheme, parts),
        };
        read.map_err(|error| match error.in_module(module, &file) {
            // The label that led here may be the wrong one.
            Error::MissingTensor { tensor, file, near } if scheme.weights.is_some() => {
                Error::MissingTensor { tensor, file, near: format!("{near}; {}", self.status()) }
            }
            other => other,
        })
    }

    /// As [`Checkpoint::read_module`], for a linear that must be `[rows, cols]`.
    pub fn read_linear(&self, module: &str, rows: usize, cols: usize) -> Result<Compressed> {
        let c = self.read_compressed(module, Some((rows, cols)))?;
        if (c.rows, c.cols) != (rows, cols) {
            let of = |local: &str| format!("{module}.{local}");
            let held = layouts::weight_names().iter().find_map(|part| self.info(&of(part)));
            let file = held.map_or_else(|| self.describe(), |info| info.file.clone());
            let tensor = of("weight");
            let (expected, got) = (vec![rows, cols], vec![c.rows, c.cols]);
            return Err(Error::WrongShape { tensor, file, expected, got });
        }
        Ok(c)
    }
}
