//! Transformer blocks that can be watched and whose linears can be swapped. Reads checkpoints, never writes them.
//!
//! * [`decoder`]: the traits [`Decoder`] and [`Block`].
//! * [`fan`]: [`Fan`], [`Linear`] and the [`Tap`] that watches inputs.
//! * [`weight`]: what a linear multiplies with; [`activations`]: what is rounded to codes as the model runs.
//! * [`source`]: checkpoint → checked tensors; [`mismatch`] what is wrong with them.
//! * [`config`]: checked values of `config.json`.
//! * [`parts`]: norms, rotary embeddings, token embedding, output head.
//! * [`families`]: one file per model family, and [`open`].

pub mod activations;
pub mod config;
pub mod decoder;
pub mod error;
pub mod families;
pub mod fan;
pub mod mismatch;
pub mod parts;
pub mod source;
pub mod weight;

pub use activations::Arithmetic;
pub use decoder::{Block, Decoder, LinearInfo, Sizes};
pub use error::{Error, Result};
pub use families::{FAMILIES, Family, open};
pub use fan::{Fan, Linear, Tap};
pub use mismatch::Mismatch;
pub use paring_kernels::matmul::Precision;
pub use weight::{Dense, Weight};
