//! The walk over a model's blocks: activations between them, statistics of their inputs, and the memory that both may take.

pub mod activations;
pub(crate) mod budget;
pub mod device;
pub(crate) mod drift;
mod f16_watch;
pub(crate) mod nonfinite;
pub(crate) mod prediction;
pub(crate) mod prefixes;
pub(crate) mod shapes;
pub mod stats;
pub mod vram;
pub mod walk;
