//! Tasks that judge language models.
//!
//! * [`request`]: a continuation whose probability a model is asked for, and its answer.

pub mod request;

pub use request::{Request, Score};
