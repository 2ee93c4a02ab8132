//! Data sets and the hub: names and files → windows of tokens, and folders of models.
//!
//! * [`dataset`]: text, documents and stored tokens → [`dataset::Windows`]; [`named`]: the sets that papers use;
//!   [`texts`]: files of predictions and references.
//! * [`training`]: text, instructions and conversations → examples with labels.
//! * [`tokenizer`]: text → token ids, chat templates included; [`worker`]: where both run.
//! * [`records`]: rows of several fields, as tasks have them; [`python`]: text and random numbers as Python has them.
//! * [`hub`]: names on the hub → files on this machine, the only code of the project that touches the network.

mod chat;
pub mod dataset;
mod documents;
mod draw;
mod elements;
mod encoder;
mod encoding;
mod error;
mod guard;
pub mod hub;
mod jinja;
mod json;
mod line;
pub mod named;
mod optional;
mod parquet;
pub mod python;
mod random;
pub mod records;
mod rows;
mod shown;
mod special;
#[cfg(test)]
mod tests;
pub mod texts;
pub mod tokenizer;
pub mod training;
mod unpack;
pub mod worker;

pub use chat::Moment;
pub use dataset::{Data, SEQLEN, Sampling, Windows};
pub use error::{Error, Result};
pub use shown::ShownDocument;
pub use tokenizer::{Ends, Tokenizer};
pub use worker::Isolation;
