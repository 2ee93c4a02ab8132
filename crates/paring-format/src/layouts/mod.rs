//! One file per on-disk layout, registered in [`LAYOUTS`] under the very string that stands on disk.
//!
//! A layout answers for itself: its parts, what it can hold, where it is inferred. Nothing else in the workspace decides by
//! its name, but for the table of the programs that run it.

mod dense;
mod float;
mod int;
mod marlin_24;
mod mxfp4;
mod mxfp6;
mod mxfp8;
mod naive;
mod nvfp4;
mod order;
mod packed;
mod part;
mod scales;
mod small_floats;
pub(crate) mod sparse;
mod spqr;
pub(crate) mod spqr_hf;
#[cfg(test)]
mod tests;
mod unpacked;

use std::sync::LazyLock;

#[cfg(doc)]
use crate::Values;
use crate::{Compressed, Dtype, Element, QuantArgs, QuantMethod, Result, Scheme};
use part::{floats, missing, take, typed};

pub use part::{LayoutPart, LayoutParts, same_numbers};

/// Every layout, by the order in which help and documentation list them.
pub static LAYOUTS: &[&dyn Layout] = &[
    DENSE,
    &int::INT,
    &float::FLOAT,
    &naive::NAIVE,
    &packed::Packed,
    &nvfp4::NVFP4,
    &mxfp4::MXFP4,
    &mxfp6::MXFP6,
    &mxfp8::MXFP8,
    &spqr::ParingSpqr,
    &spqr_hf::SpqrHf,
    &sparse::Sparse::NonZero,
    &sparse::Sparse::TwoOfFour,
    &marlin_24::Marlin24,
];

/// The layout of plain weights.
pub const DENSE: &dyn Layout = &dense::Dense;

/// Local names of the tensors with which activations are quantized as a model runs: beside a linear's weight, or, those of
/// keys and values, beside an attention's linears.
pub const ACTIVATION_NAMES: [&str; 12] = [
    "input_scale",
    "input_zero_point",
    "input_global_scale",
    "output_scale",
    "output_zero_point",
    "k_scale",
    "v_scale",
    "q_scale",
    "kv_scale",
    "k_zero_point",
    "v_zero_point",
    "q_zero_point",
];

/// The layout of this name.
pub fn layout(name: &str) -> Option<&'static dyn Layout> {
    LAYOUTS.iter().copied().find(|layout| layout.name() == name)
}

/// Names of all layouts, in the order of [`LAYOUTS`].
pub fn names() -> impl Iterator<Item = &'static str> {
    LAYOUTS.iter().map(|layout| layout.name())
}

/// Local names of all tensors that layouts read: what to collect of a module before decoding it.
pub fn part_names() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| distinct(LAYOUTS.iter().flat_map(|layout| layout.part_names()).copied()));
    &NAMES
}

/// Local names of the tensors that tell that a module has a weight, whatever its layout: [`Layout::weight_name`] of all.
pub fn weight_names() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| distinct(LAYOUTS.iter().map(|layout| layout.weight_name())));
    &NAMES
}

/// Each name once, where it first occurs.
fn distinct(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// The layout of a group that names none: what compressed-tensors 0.20 infers, which never looks at the format on top.
/// Codes that no layout is inferred for are `naive-quantized`.
pub fn inferred(weights: Option<&QuantArgs>, input: Option<&QuantArgs>) -> &'static dyn Layout {
    let Some(weights) = weights else { return DENSE };
    LAYOUTS.iter().copied().find(|layout| layout.is_inferred(weights, input)).unwrap_or(&naive::NAIVE)
}

/// The layout of a group that names none, whose codes lie in tensors of this local name: the one that is `inferred`, unless that
/// has them elsewhere.
pub(crate) fn holding<'a>(local: &str, inferred: &'a str) -> &'a str {
    match layout(inferred).is_none_or(|layout| layout.weight_name() == local) {
        true => inferred,
        false if local == packed::Packed.weight_name() => packed::Packed.name(),
        false => naive::NAIVE.name(),
    }
}

/// The kinds of matrices that a layout stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// [`Values::Dense`].
    pub dense: bool,
    /// [`Values::Codes`]; [`Layout::check_args`] says which.
    pub codes: bool,
    /// [`Values::Spqr`].
    pub spqr: bool,
    /// Zero points that are not 0, beside codes.
    pub zero_points: bool,
}

impl Holds {
    /// Plain matrices alone.
    pub const DENSE: Holds = Holds { dense: true, codes: false, spqr: false, zero_points: false };
    /// Codes without zero points.
    pub const CODES: Holds = Holds { dense: false, codes: true, spqr: false, zero_points: false };
    /// SpQR matrices alone, whose zeros are not those of codes.
    pub const SPQR: Holds = Holds { dense: false, codes: false, spqr: true, zero_points: false };
}

/// A way to store a [`Compressed`] on disk. `decode(scheme, encode(scheme, c)) == c` bit for bit for every `c` that it encodes.
pub trait Layout: Sync {
    /// The format string on disk.
    fn name(&self) -> &'static str;
    /// Local names of the tensors that it may store of a linear, as a checkpoint shows them.
    fn part_names(&self) -> &'static [&'static str];
    /// The kinds of matrices that it stores.
    fn holds(&self) -> Holds;
    /// Tells whether it is [`DENSE`], in which plain matrices are stored as they are.
    fn is_dense(&self) -> bool {
        false
    }
    /// The local name of the tensor that tells that a linear is there.
    fn weight_name(&self) -> &'static str {
        "weight"
    }
    /// The local name of the tensor whose bytes [`Layout::shape`] needs, if there is one.
    fn shape_name(&self) -> Option<&'static str> {
        None
    }
    /// The quantization method that a configuration with this layout names.
    fn method(&self) -> QuantMethod {
        QuantMethod::CompressedTensors
    }
    /// Tells whether compressed-tensors 0.20 means this layout by a group that names none; at most one layout says so.
    fn is_inferred(&self, _weights: &QuantArgs, _input: Option<&QuantArgs>) -> bool {
        false
    }
    /// Errors when this layout holds nothing that is quantized so, whatever shape and numbers.
    fn check_args(&self, _args: &QuantArgs) -> Result<()> {
        Ok(())
    }
    /// The tensors to store. Errors when this layout, or this scheme in it, cannot hold `c` exactly.
    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<LayoutParts>;
    /// The matrix back; errors on missing, misshapen or mistyped parts. Takes the parts, so that bytes that are codes already
    /// need no copy.
    fn decode(&self, scheme: &Scheme, parts: LayoutParts) -> Result<Compressed>;
    /// As [`Layout::decode`], for a reader who knows the shape that the matrix should have. Layouts that do not store
    /// theirs may need it; none checks it.
    fn decode_shaped(&self, scheme: &Scheme, parts: LayoutParts, _shape: (usize, usize)) -> Result<Compressed> {
        self.decode(scheme, parts)
    }
    /// Rows and columns, as far as parts tell that have no bytes, but for those of [`Layout::shape_name`]. Errors when a part
    /// that tells is missing or is that of no matrix.
    fn shape(&self, parts: &LayoutParts) -> Result<Option<(usize, usize)>> {
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
    /// Tells whether releases of compressed-tensors before 0.18 padded its words, which nothing but a configuration's version tells.
    fn was_padded(&self) -> bool {
        false
    }
    /// Tells whether an SpQR outlier is stored as what is added, in the matrix's type, to the value of its code; otherwise it
    /// replaces that.
    fn adds_outliers(&self) -> bool {
        false
    }
    /// Bits that a code of this type takes in a file.
    fn code_bits(&self, element: Element) -> u32 {
        element.bits()
    }
    /// Tells whether it stores two weights of every four, and no matrix with more that are not zero.
    fn needs_two_of_four(&self) -> bool {
        false
    }
    /// Tells whether a zero with a sign can be stored. Where it cannot, such a matrix is refused: see
    /// [`Compressed::without_zero_signs`].
    fn keeps_zero_signs(&self) -> bool {
        true
    }
    /// The replacement of a layout that current releases of its library have dropped; `None` for all others.
    fn instead(&self) -> Option<&'static str> {
        None
    }
}
