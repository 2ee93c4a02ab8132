//! A server of one model by OpenAI's protocol, over HTTP/1.1.
//!
//! * [`server`]: connections, and their end; [`limits`]: bounds on what clients can take; `timed`: the time in which they have to.
//! * `routes`: paths → answers; `events`: answers that come in pieces.
//! * `protocol`: bodies of requests → checked types, and the shapes of answers.
//! * `scheduler`: the thread that owns the model; requests join its batch between steps. `recent`: texts that ended, which prompts
//!   may begin like.
//! * [`model`]: the model that is served; `words`: texts → tokens and tokens → texts, away from connections.
//! * `metrics`: counts for Prometheus; `problem`: errors as clients get them.

mod error;
mod events;
pub mod limits;
mod metrics;
pub mod model;
mod problem;
mod protocol;
mod recent;
mod routes;
mod scheduler;
pub mod server;
mod state;
#[cfg(test)]
mod tests;
mod timed;
mod words;

pub use error::{Error, Result};
pub use limits::Limits;
pub use model::Model;
pub use server::{Access, Server, Stopper};
