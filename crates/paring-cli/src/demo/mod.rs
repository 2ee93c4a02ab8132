//! The model, tokenizer and text that are built into the program. `demo/README.md` says how they were made.

// Also compiled by the example that writes the training text, which is what asks for the vocabulary.
#[allow(dead_code)]
pub mod language;

use std::path::Path;

use paring::Result;
use paring::request::BuiltIn;
use paring_data::named::Purpose;
use paring_data::tokenizer::tokenizer_with;
use paring_data::{Data, Tokenizer};
use paring_format::Checkpoint;

/// The name of MODEL and DATASET on the command line.
pub const NAME: &str = "demo";

/// The built-in model with its text.
pub const BUILT_IN: BuiltIn = BuiltIn { name: NAME, checkpoint, tokenizer, companions, data };

const CONFIG: &str = include_str!("../../demo/config.json");
const WEIGHTS: &[u8] = include_bytes!("../../demo/model.safetensors");
const TOKENIZER: &[u8] = include_bytes!("../../demo/tokenizer.json");
const TOKENIZER_CONFIG: &[u8] = include_bytes!("../../demo/tokenizer_config.json");
const GENERATION_CONFIG: &[u8] = include_bytes!("../../demo/generation_config.json");

/// Seed and size of the text to calibrate on: 128 windows of 256 tokens.
const CALIBRATION: (u64, usize) = (CALIBRATION_SEED, 33_000);
/// Seed and size of the held-out text: 64 windows of 256 tokens.
const EVALUATION: (u64, usize) = (EVALUATION_SEED, 16_500);
/// Training takes seeds from 1,000,000 on: neither text was seen.
const CALIBRATION_SEED: u64 = 2;
const EVALUATION_SEED: u64 = 1;

/// The built-in checkpoint.
fn checkpoint() -> Result<Checkpoint> {
    Ok(Checkpoint::from_memory(NAME, CONFIG, &[("model.safetensors", WEIGHTS)])?)
}

/// The built-in tokenizer: one token a word.
fn tokenizer() -> Result<Tokenizer> {
    Ok(tokenizer_with(TOKENIZER, TOKENIZER_CONFIG, Path::new("demo/tokenizer.json"))?)
}

/// The files that a copy of the model needs beside its weights.
fn companions() -> Vec<(String, Vec<u8>)> {
    [
        ("tokenizer.json", TOKENIZER),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
        ("generation_config.json", GENERATION_CONFIG),
    ]
    .map(|(name, bytes)| (name.to_string(), bytes.to_vec()))
    .to_vec()
}

/// The built-in text for a purpose, written by the generator.
fn data(purpose: Purpose) -> Data {
    let (seed, words) = match purpose {
        Purpose::Calibration => CALIBRATION,
        Purpose::Evaluation => EVALUATION,
    };
    Data::text(NAME, language::sample(seed, words).text)
}
