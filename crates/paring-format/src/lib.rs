//! Checkpoints and compressed-tensors layouts: bytes only, no tensor library, no devices, no algorithms.
//!
//! * [`checkpoint`]: open a folder (or a model built into the program), name → bytes.
//! * [`pickle`]: the files of `torch.save`, as checkpoints and as token ids.
//! * [`writer`]: shards out, index and config last.
//! * [`compressed`]: the type [`Compressed`], what methods make and layouts store.
//! * [`grid`]: what codes mean.
//! * [`floats`]: floats of 8 and 4 bits, and powers of two.
//! * [`spqr`]: the numbers of an SpQR matrix.
//! * [`config`]: the `quantization_config` JSON.
//! * [`bits`]: n-bit codes in 32-bit words.
//! * [`layouts`]: one file per on-disk layout.

pub mod bits;
pub mod checkpoint;
pub mod compressed;
pub mod config;
pub mod dtype;
pub mod error;
pub mod files;
pub mod floats;
pub mod grid;
pub mod layouts;
pub mod spqr;
#[cfg(test)]
mod testing;
pub mod writer;

pub use checkpoint::{Checkpoint, TensorInfo, pickle};
pub use compressed::{Compressed, Values};
pub use config::{Dynamic, Method, PRESETS, Preset, QuantArgs, QuantConfig, Scheme, SecondLevel, Sparsity, Strategy};
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use grid::{Element, Grid, ScaleType, Zeros};
pub use layouts::{LAYOUTS, Layout, Part, Parts};
pub use spqr::{Outliers, Spqr, Statistic};
pub use writer::{Summary, Tensor, Writer};
