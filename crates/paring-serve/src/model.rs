//! The model that is served.

use std::sync::Arc;

use paring_data::Tokenizer;
use paring_generate::Engine;

/// A model and its tokenizer.
pub struct Model {
    /// The name that clients call it by.
    pub name: String,
    /// The model itself.
    pub engine: Arc<Engine>,
    /// The tokenizer of prompts.
    pub prompts: Arc<Tokenizer>,
    /// The tokenizer of answers: another one, so that no long prompt holds up the tokens of other texts.
    pub answers: Arc<Tokenizer>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
}

impl Model {
    /// Tokens in a text, at most: as many as the model can take, or where nothing limits it, as it was made for.
    pub fn context(&self) -> usize {
        self.engine.longest().unwrap_or_else(|| self.engine.decoder().max_positions())
    }
}
