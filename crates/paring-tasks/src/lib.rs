//! Tasks that judge language models: what lm-evaluation-harness asks, and how it counts.
//!
//! * [`table`]: the tasks, a row each, and groups of them; [`files`]: where their documents are found.
//! * [`work`]: names → documents → [`Request`]s → [`Score`]s of a model → [`TaskResult`]s.
//! * [`options`]: examples, limits, and the protocol by which texts become tokens.
//! * [`mod@compare`]: two runs over the same documents.
//! * [`request`]: a continuation whose probability a model is asked for, and its answer.
//! * [`summaries`]: articles that a model summarizes; [`rouge`]: the overlap of predicted texts and references.
//!
//! Nothing here knows a model: a program that has one answers a flat list of requests.
//!
//! ```no_run
#![doc = include_str!("../examples/ask.rs")]
//! ```

mod bootstrap;
pub mod compare;
mod document;
mod encode;
mod error;
pub mod files;
pub mod options;
pub mod request;
pub mod results;
pub mod rouge;
mod schemas;
mod set;
mod shots;
pub mod summaries;
pub mod table;
#[cfg(test)]
mod tests;
mod text;
pub mod work;

pub use compare::{Comparison, compare};
pub use document::Article;
pub use error::{Error, Result};
pub use files::{Files, Remote};
pub use options::{Limit, Options, Protocol};
pub use request::{Request, Score};
pub use results::{Answered, Metric, Sample, TaskResult};
pub use table::{Group, Kind, Task};
pub use work::{Plan, Work};
