//! Checkpoints and compressed-tensors layouts: bytes only, no tensor library, no devices, no algorithms.
//!
//! From the bottom up:
//!
//! * [`error`], [`files`]: what goes wrong, and regular files within sizes.
//! * [`dtype`], [`floats`], [`bits`]: element types, floats of 8 and 4 bits, n-bit codes in 32-bit words.
//! * [`grid`], [`spqr`], [`compressed`]: the numbers of a matrix, what methods make and layouts store.
//! * [`scheme`]: how the linears of a group are stored, and the words for it.
//! * [`layouts`]: one file per on-disk layout.
//! * [`config`]: the `quantization_config` JSON.
//! * [`names`], [`checkpoint`]: open a folder (or a model built into the program), name → bytes; with [`pickle`], the files
//!   of `torch.save`, as checkpoints and as token ids.
//! * [`masks`]: files that say which weights stay; [`adapter`]: adapters of rank r in PEFT's files.
//! * [`writer`]: shards out, index and config last.
//! * [`mod@message`], [`near`]: texts whose options each program spells in its own way, and names that a wrong one may mean.

pub mod adapter;
pub mod beside;
pub mod bits;
pub mod checkpoint;
pub mod compressed;
pub mod config;
pub mod dtype;
pub mod error;
pub mod files;
mod finite;
pub mod floats;
pub mod grid;
pub mod layouts;
pub mod masks;
pub mod message;
pub mod names;
pub mod near;
pub mod scheme;
pub mod spqr;
#[cfg(test)]
mod testing;
pub mod writer;

pub use adapter::{Adapter, AdapterConfig, Pair};
pub use checkpoint::{Checkpoint, FileSample, TensorInfo, pickle};
pub use compressed::{Compressed, Values};
pub use config::{PRESETS, Preset, QuantConfig, Sparsity};
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use grid::{Element, Grid, ScaleType, Zeros};
pub use layouts::{LAYOUTS, Layout, LayoutPart, LayoutParts};
pub use scheme::{Dynamic, QuantArgs, QuantMethod, Scheme, SecondLevel, Strategy};
pub use spqr::{Outliers, Spqr, Statistic};
pub use writer::{NamedTensor, WriteSummary, Writer};
