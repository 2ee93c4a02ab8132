//! Text generation with a model that is held in memory.
//!
//! * [`engine`]: a model with all its blocks, and [`Sequence`]s that it extends: tokens → logits.
//! * [`settings`]: choices by the names of `generation_config.json`, with a default for all that is not said.
//! * [`processors`]: what changes the scores of a step; [`sampler`]: scores → the next token; [`random`]: its numbers.
//! * [`batch`]: many requests at a time, each with settings of its own; what one gets does not depend on the others.
//! * [`beam`]: beam search.
//! * [`text`]: tokens → text, piece by piece, up to a stop string.
//! * [`conversation`]: turns of a chat over one cache.
//! * [`timing`]: tokens per second, of the prompt and of what follows.
//!
//! ```no_run
#![doc = include_str!("../examples/continue_a_text.rs")]
//! ```

pub mod batch;
pub mod beam;
pub mod conversation;
pub mod engine;
mod error;
pub mod processors;
pub mod random;
pub mod sampler;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod text;
pub mod timing;

pub use batch::{Batch, Chosen, Event, Finish, Id, Limits, Request, Scored};
pub use conversation::Conversation;
pub use engine::{Engine, Sequence, Step, Want};
pub use error::{Error, Result};
pub use settings::{Choices, EarlyStopping, Settings};
pub use text::Text;
pub use timing::Timing;
