//! Pruning and quantization of language models, one block at a time.
//!
//! A run is one call, [`run`], with a [`Request`] of what is asked:
//!
//! ```no_run
#![doc = include_str!("../examples/quantize_and_evaluate.rs")]
//! ```
//!
//! Two more examples in the crate's folder follow a run with an observer of their own, and read what a run wrote tensor by
//! tensor.
//!
//! The rooms, from the lowest; each may use those before it, and `tests/rooms.rs` holds the table:
//!
//! * [`plan`]: all of a run's choices, none left to default; the table of methods; recipe files; what runs which scheme.
//! * [`report`]: the numbers of a run, its progress, and the same for other programs.
//! * [`pipeline`]: the loop over blocks, the activations between them, and statistics of their inputs.
//! * [`methods`]: a method applied to the linears of one input.
//! * [`reconstruct`]: a compressed block trained until it answers as the dense one.
//! * [`finetune`]: a whole model, or an adapter beside it, trained.
//! * [`allocate`]: settings for each linear under a budget for all.
//! * [`output`]: files that a run writes, its journal, and the check of what was written.
//! * [`compress`]: a whole run: walk, compress, write, reopen and check.
//! * [`commands`]: perplexity, comparison, inspection and the others.
//! * [`cost`]: what a run will take, before it begins; [`mod@bench`]: how fast a device is, and whether it is right.
//! * [`request`]: names and options with defaults → a whole run, in one call.

pub mod allocate;
pub mod bench;
pub mod commands;
pub mod compress;
pub mod cost;
mod error;
pub mod finetune;
pub mod methods;
pub mod output;
pub mod pipeline;
pub mod plan;
pub mod reconstruct;
pub mod report;
pub mod request;

pub use error::{Error, Result};
pub use paring_kernels::matmul::Precision;
pub use request::{Request, run};
