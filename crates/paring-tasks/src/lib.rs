//! Tasks that judge language models.
//!
//! * [`request`]: a continuation whose probability a model is asked for, and its answer.
//! * [`rouge`]: the overlap of predicted texts and references.

pub mod request;
pub mod rouge;

pub use request::{Request, Score};
