//! The description of a tensor in a checkpoint.

use super::shard::Extent;
use super::sparse::SparseTensor;
use crate::Dtype;

/// A tensor of a checkpoint: one that lies in a file as it is, or one that stands for the parts of a sparse weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    /// Name of the file that holds it; of a sparse one, its values.
    pub file: String,
    pub(super) at: Location,
}

/// The place of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Plain(ShardExtent),
    Sparse(Box<SparseTensor>),
}

/// A place in one of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShardExtent {
    pub shard: usize,
    pub place: Extent,
}

impl TensorInfo {
    /// Bytes of the tensor, as many as reading it gives.
    pub fn bytes(&self) -> usize {
        match &self.at {
            Location::Plain(spot) => spot.place.len,
            Location::Sparse(stored) => stored.dense_bytes,
        }
    }

    /// Bytes in the files: those of its parts, when it is stored sparse.
    pub fn stored_bytes(&self) -> usize {
        match &self.at {
            Location::Plain(spot) => spot.place.len,
            Location::Sparse(stored) => stored.bytes,
        }
    }

    /// Its places in the files: several for one that is stored sparse.
    pub(super) fn spots(&self) -> Vec<&ShardExtent> {
        match &self.at {
            Location::Plain(spot) => vec![spot],
            Location::Sparse(stored) => stored.spots(),
        }
    }

    /// The name of the sparse layout that it is stored in; `None` for a plain one.
    pub fn sparse(&self) -> Option<&'static str> {
        match &self.at {
            Location::Plain(_) => None,
            Location::Sparse(stored) => Some(stored.name()),
        }
    }
}
