//! Pruning and quantization of language models, one block at a time.
//!
//! * [`plan`]: all of a run's choices, none left to default.
//! * [`corpus`]: text and token files → windows of tokens.
//! * [`hub`]: names on the hub → folders and files.
//! * [`walk`]: the loop over blocks; [`hidden`]: the activations between them.
//! * [`methods`]: a curvature and a rule each; [`stats`]: what they need to know of the inputs.
//! * [`compress`]: the whole run: walk, compress, write, reopen and check.
//! * [`perplexity`], [`inspect`], [`verify`], [`compare`], [`decompress`], [`convert`], [`layer`]: the other commands;
//!   [`picture`]: a drawing.
//! * [`recipe_file`]: options in a file.
//! * [`journal`]: what a run has done so far, so that it can go on.
//! * [`room`]: how much of a device a run may fill.
//! * [`serves`]: what runs which scheme.
//! * [`cost`]: what a run will take, before it begins.
//! * [`report`]: the numbers, and [`export`]: the same for other programs; [`steps`]: how far a run is; [`utc`]: when.
//! * [`golden`]: cases of the published implementations; [`mod@bench`]: how fast a device is, and whether it is right.

mod behind;
pub mod bench;
pub mod compare;
pub mod compress;
pub mod convert;
pub mod corpus;
pub mod cost;
pub mod decompress;
mod error;
pub mod export;
pub mod golden;
pub mod hidden;
pub mod hub;
pub mod inspect;
pub mod journal;
pub mod layer;
pub mod methods;
pub mod model_files;
mod origin;
pub mod perplexity;
pub mod picture;
pub mod plan;
pub mod recipe_file;
pub mod report;
mod rewrite;
pub mod room;
pub mod serves;
pub mod stats;
pub mod steps;
pub mod utc;
pub mod verify;
pub mod walk;

pub use error::{Error, Result};
pub use paring_kernels::matmul::Precision;
