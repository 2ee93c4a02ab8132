//! Transformer blocks that can be watched and whose linears can be swapped. Reads checkpoints, never writes them.
//!
//! * [`decoder`]: the traits [`Decoder`] and [`Block`].
//! * [`anatomy`]: linears, attention, MLP and norms of blocks, and the parts around them.
//! * [`fan`]: [`Fan`], [`Linear`] and the [`Tap`] that watches inputs; [`pass`]: which tokens go through a block, and how
//!   far; [`held`]: what passes that stop on the way hand on.
//! * [`tape`]: what a forward pass keeps for its backward pass, and gradients.
//! * [`sequence`]: sequences that grow token by token.
//! * [`weight`]: the right-hand side of a linear's product; [`adapter`]: changes of low rank beside it; [`activations`]:
//!   rounding of activations as a model runs.
//! * [`source`]: checkpoint → checked tensors; [`mismatch`]: all that is wrong with them, in one line.
//! * [`config`]: checked values of `config.json`.
//! * [`parts`]: norms, position encodings, token embedding, output head.
//! * [`families`]: a folder per model family, and [`open`].

pub mod activations;
pub mod adapter;
pub mod anatomy;
pub mod config;
pub mod decoder;
pub mod element;
mod ending;
pub mod error;
pub mod families;
pub mod fan;
pub mod held;
pub mod mismatch;
pub mod packed;
pub mod parts;
pub mod pass;
mod scales;
pub mod sequence;
pub mod source;
pub mod tape;
pub mod vectors;
pub mod weight;

pub use activations::Arithmetic;
pub use adapter::Adapted;
pub use anatomy::{AttentionInfo, BlockInfo, LinearInfo, MlpInfo, NormInfo, OuterInfo, PositionKind};
pub use decoder::{Block, Decoder, Sizes};
pub use ending::Ending;
pub use error::{Error, Result};
pub use families::{FAMILIES, FamilyEntry, open};
pub use fan::{Fan, Linear, Tap};
pub use held::Held;
pub use mismatch::Mismatch;
pub use packed::Packed;
pub use paring_kernels::attention::{CacheType, KeyValues};
pub use paring_kernels::likelihood::Likely;
pub use paring_kernels::matmul::Precision;
pub use pass::{Flow, Pass, Piece, Tokens};
pub use sequence::{Next, Sequence, extend};
pub use tape::{Gradients, LinearGradient, Tape};
pub use vectors::{Vector, each_vector};
pub use weight::{Dense, Weight};
