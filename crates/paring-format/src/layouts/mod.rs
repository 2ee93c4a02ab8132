//! One file per on-disk layout, registered in [`LAYOUTS`] under the very string that stands on disk.

use std::collections::BTreeMap;

use crate::{Compressed, Dtype, Result, Scheme};

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
    /// Whether this layout can hold `c`.
    fn accepts(&self, c: &Compressed) -> bool;
    /// The tensors to store.
    fn encode(&self, c: &Compressed) -> Result<Parts>;
    /// The matrix back; errors on missing, misshapen or mistyped parts.
    fn decode(&self, scheme: &Scheme, parts: &Parts) -> Result<Compressed>;
}
