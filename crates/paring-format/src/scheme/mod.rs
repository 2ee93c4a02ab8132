//! The scheme of a group of linears: a layout, and what codes and scales are.

mod args;
mod words;

pub use args::{Dynamic, QuantArgs, SecondLevel, Strategy};

use crate::{Compressed, Error, Result};

/// The program whose form a `quantization_config` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantMethod {
    /// The library compressed-tensors.
    CompressedTensors,
    /// This program: layouts that no other knows.
    Paring,
    /// The package spqr_quant, through transformers.
    Spqr,
}

impl QuantMethod {
    /// The `quant_method` on disk.
    pub fn name(self) -> &'static str {
        match self {
            QuantMethod::CompressedTensors => "compressed-tensors",
            QuantMethod::Paring => "paring",
            QuantMethod::Spqr => "spqr",
        }
    }
}

/// The storage of the linears of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheme {
    /// Module paths, `re:` patterns on them (anchored at the start), or the class name `Linear`.
    pub targets: Vec<String>,
    /// The name of the layout.
    pub format: String,
    /// The quantization of the weights; `None` when they are dense.
    pub weights: Option<QuantArgs>,
    /// The quantization of the linears' inputs as the model runs, if there is one.
    pub input: Option<QuantArgs>,
    /// The same of their outputs.
    pub output: Option<QuantArgs>,
    /// True when packed codes do not lie across words, as in releases of compressed-tensors before 0.18. Only widths of 3,
    /// 5, 6 and 7 bits tell the difference.
    pub padded: bool,
}

impl Scheme {
    /// The scheme of linears that are stored dense.
    pub fn dense() -> Scheme {
        Scheme {
            targets: vec!["Linear".to_string()],
            format: "dense".to_string(),
            weights: None,
            input: None,
            output: None,
            padded: false,
        }
    }

    /// The scheme under which `format` stores matrices like `c`.
    pub fn of(c: &Compressed, format: &str, targets: Vec<String>) -> Scheme {
        Scheme { targets, format: format.to_string(), weights: QuantArgs::of(c), ..Scheme::dense() }
    }

    /// The quantization of the weights. Errors when the scheme is that of dense ones.
    pub(crate) fn codes(&self) -> Result<&QuantArgs> {
        let none = || Error::parts(format!("the format {} needs to know how the weights are quantized", self.format));
        self.weights.as_ref().ok_or_else(none)
    }
}
