//! Texts → tokens and tokens → texts, away from the threads of connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use paring_data::Tokenizer;
use tokio::sync::Semaphore;

use crate::problem::Problem;

/// A tokenizer for one client at a time.
pub struct Words {
    tokenizer: Arc<Tokenizer>,
    turns: Arc<Semaphore>,
    pieces: Arc<Mutex<Pieces>>,
}

/// Texts of tokens that are known: at most one for each token of the vocabulary.
#[derive(Default)]
struct Pieces {
    /// Tokens that others are written after: some tokenizers leave out a space where a text begins.
    before: Option<Vec<u32>>,
    known: HashMap<u32, Arc<str>>,
}

impl Words {
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, turns: Arc::new(Semaphore::new(1)), pieces: Arc::default() }
    }

    /// Runs some work when it is its turn. A client that goes away before loses it.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tokenizer) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let ended = |_| Problem::internal("the work on the text has ended early");
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| Problem::internal("the server is stopping"))?;
        let tokenizer = self.tokenizer.clone();
        let done = tokio::task::spawn_blocking(move || {
            // Also held where the client is gone by now.
            let _turn = turn;
            work(&tokenizer)
        });
        done.await.map_err(ended)?
    }

    /// The text of each of some tokens, as it is within a text; special tokens too.
    pub async fn pieces(&self, ids: Vec<u32>) -> Result<Vec<Arc<str>>, Problem> {
        if let Some(pieces) = of(&self.pieces, &ids) {
            return Ok(pieces);
        }
        let pieces = self.pieces.clone();
        self.run(move |tokenizer| {
            learn(&pieces, tokenizer, &ids)
                .map_err(|error| Problem::internal(format!("the tokens have no text: {error}")))?;
            of(&pieces, &ids).ok_or_else(|| Problem::internal("the tokens have no text"))
        })
        .await
    }
}

/// Pieces of tokens; `None` where one is not known.
fn of(pieces: &Mutex<Pieces>, ids: &[u32]) -> Option<Vec<Arc<str>>> {
    let pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
    ids.iter().map(|id| pieces.known.get(id).cloned()).collect()
}

/// Learns the pieces of tokens.
fn learn(pieces: &Mutex<Pieces>, tokenizer: &Tokenizer, ids: &[u32]) -> paring_data::Result<()> {
    let (before, unknown) = {
        let pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unknown: Vec<u32> = ids.iter().copied().filter(|id| !pieces.known.contains_key(id)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        (pieces.before.clone(), unknown)
    };
    let before = match before {
        Some(before) => before,
        None => tokenizer.tokens("a")?.into_iter().last().into_iter().collect(),
    };
    let all: Vec<Vec<u32>> = unknown.iter().map(|&id| [before.as_slice(), &[id]].concat()).collect();
    let all: Vec<&[u32]> = std::iter::once(before.as_slice()).chain(all.iter().map(Vec::as_slice)).collect();
    let mut texts = tokenizer.texts(&all, false)?.into_iter();
    let start = texts.next().unwrap_or_default();
    let texts = texts.map(|text| Arc::from(text.strip_prefix(&start).unwrap_or(&text)));
    let mut pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
    pieces.before = Some(before);
    pieces.known.extend(unknown.into_iter().zip(texts));
    Ok(())
}
