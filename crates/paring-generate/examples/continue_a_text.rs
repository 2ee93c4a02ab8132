//! Continues a text with a model on disk, and prints what follows as it comes.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use paring_data::{Isolation, tokenizer};
use paring_format::Checkpoint;
use paring_generate::{Batch, Choices, Engine, Limits, Request, Settings};
use paring_model::{Arithmetic, CacheType, Precision, open};

fn main() -> Result<(), Box<dyn Error>> {
    let checkpoint = Arc::new(Checkpoint::open(Path::new("model"))?);
    let tokenizer = tokenizer::tokenizer(&checkpoint, &Isolation::default()).ok_or("no tokenizer")?;
    let decoder = open(checkpoint.clone(), Arithmetic::from(Precision::F32))?;
    let engine = Arc::new(Engine::new(Arc::from(decoder), CacheType::Bf16)?);

    let asked = Choices { max_new_tokens: Some(64), ..Choices::default() };
    let settings = Settings::resolve(&asked, &Choices::of_model(None, checkpoint.config())?)?;
    let prompt = tokenizer.tokens("The capital of France is")?;
    let mut batch = Batch::new(engine, Some(Arc::new(tokenizer)), Limits::default());
    batch.add(Request::new(prompt, settings))?;
    while !batch.is_idle() {
        for event in batch.step()? {
            print!("{}", event.text);
        }
    }
    println!();
    Ok(())
}
