//! Reading linears: dense, or through the layout that the quantization asks for.

use std::borrow::Cow;

use super::Checkpoint;
use crate::layouts::{self, PART_NAMES};
use crate::{Compressed, Error, Layout, Part, Parts, QuantConfig, Result, Scheme};

/// How a linear is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearFormat {
    /// The name of the layout.
    pub layout: &'static str,
    /// The scheme that applies; `None` for a linear that no group covers.
    pub scheme: Option<Scheme>,
}

impl Checkpoint {
    /// How the linear at this module path is stored, going by the configuration alone.
    pub fn linear_format(&self, module: &str) -> Result<LinearFormat> {
        let quant = self.quant()?;
        let (layout, scheme) = Self::layout_of(quant.as_deref(), module)?;
        Ok(LinearFormat { layout: layout.name(), scheme: scheme.cloned() })
    }

    /// The weight of the linear at this module path, whatever its shape.
    ///
    /// When the quantization covers the module, its parts are decoded through the layout of its group; otherwise
    /// `module.weight` is read. Errors when a part is missing or has another shape or type, and when a dense weight
    /// or a scale is not finite.
    pub fn read_module(&self, module: &str) -> Result<Compressed> {
        let quant = self.quant()?;
        let (layout, scheme) = Self::layout_of(quant.as_deref(), module)?;
        let mut parts = Parts::new();
        let mut file = self.describe();
        for local in PART_NAMES {
            let name = format!("{module}.{local}");
            if let Some(info) = self.info(&name) {
                let part = Part { dtype: info.dtype, shape: info.shape.clone(), bytes: self.read(&name)? };
                file.clone_from(&info.file);
                parts.insert(local, part);
            }
        }
        if scheme.is_none() && !parts.contains_key("weight") {
            let name = format!("{module}.weight");
            if parts.is_empty() {
                return Err(self.missing(&name));
            }
            let near = "other parts of the module are there, but no group of the quantization_config covers it";
            return Err(self.missing_near(&name, near.to_string()));
        }
        let dense = Scheme::dense();
        layout.decode(scheme.unwrap_or(&dense), &parts).map_err(|error| error.in_module(module, &file))
    }

    /// As [`Checkpoint::read_module`], for a linear that must be `[rows, cols]`.
    pub fn read_linear(&self, module: &str, rows: usize, cols: usize) -> Result<Compressed> {
        let c = self.read_module(module)?;
        if (c.rows, c.cols) != (rows, cols) {
            let of = |local: &str| format!("{module}.{local}");
            let held = ["weight", "weight_packed", "weight_codes"].into_iter().find_map(|part| self.info(&of(part)));
            let file = held.map_or_else(|| self.describe(), |info| info.file.clone());
            let tensor = of("weight");
            let (expected, got) = (vec![rows, cols], vec![c.rows, c.cols]);
            return Err(Error::WrongShape { tensor, file, expected, got });
        }
        Ok(c)
    }

    /// The quantization, without copying it.
    fn quant(&self) -> Result<Option<Cow<'_, QuantConfig>>> {
        match &self.quant {
            Some(quant) => Ok(quant.as_ref().map(Cow::Borrowed)),
            None => Ok(self.parse_quant()?.map(Cow::Owned)),
        }
    }

    fn layout_of<'a>(
        quant: Option<&'a QuantConfig>,
        module: &str,
    ) -> Result<(&'static dyn Layout, Option<&'a Scheme>)> {
        let scheme = match quant {
            Some(quant) => quant.scheme(module)?,
            None => None,
        };
        let format = scheme.map_or("dense", |scheme| scheme.format.as_str());
        let unsupported =
            || Error::UnsupportedFormat { module: module.to_string(), format: format!("the format {format}") };
        Ok((layouts::layout(format).ok_or_else(unsupported)?, scheme))
    }
}
