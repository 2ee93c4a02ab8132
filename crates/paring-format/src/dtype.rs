//! Element types of stored tensors, and rounding between the float ones.

use half::{bf16, f16};

/// The element type of a stored tensor, by its safetensors name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    F8E4M3,
    I64,
    I32,
    I16,
    I8,
    U8,
    U32,
    Bool,
}

impl Dtype {
    /// `x` rounded to this float type and widened again; other types leave it as it is.
    #[inline]
    pub fn round(self, x: f32) -> f32 {
        match self {
            Dtype::Bf16 => bf16::from_f32(x).to_f32(),
            Dtype::F16 => f16::from_f32(x).to_f32(),
            _ => x,
        }
    }
}
