//! Whole texts, on the golden models.

mod golden;
mod independence;

use std::path::PathBuf;
use std::sync::Arc;

use paring_format::Checkpoint;
use paring_model::{Arithmetic, CacheType, Precision, open};

use crate::{Batch, Engine, Finish, Limits, Request};

/// A path from the root of the workspace.
pub(crate) fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A model in a folder of the workspace.
pub(crate) fn engine(folder: &str, precision: Precision, cache_type: CacheType) -> Arc<Engine> {
    let checkpoint = Arc::new(Checkpoint::open(&root(folder)).unwrap());
    let decoder = open(checkpoint, Arithmetic::from(precision)).unwrap();
    Arc::new(Engine::new(Arc::from(decoder), cache_type).unwrap())
}

/// The new tokens of requests that are answered together, and why they ended.
pub(crate) fn answers(engine: &Arc<Engine>, requests: Vec<Request>, limits: Limits) -> Vec<(Vec<u32>, &'static str)> {
    let mut batch = Batch::new(engine.clone(), None, limits);
    let ids: Vec<_> = requests.into_iter().map(|request| batch.add(request).unwrap()).collect();
    let mut answers = vec![(Vec::new(), ""); ids.len()];
    while !batch.is_idle() {
        for event in batch.step().unwrap() {
            let answer = &mut answers[ids.iter().position(|id| *id == event.id).unwrap()];
            assert_eq!(answer.1, "", "news after the end");
            answer.0.extend(event.token.map(|chosen| chosen.token));
            if let Some(finished) = event.finished {
                answer.1 = match finished.reason {
                    Finish::End => "end",
                    Finish::Stop => "stop",
                    Finish::Length => "length",
                    Finish::Failed(error) => panic!("{error}"),
                };
            }
        }
    }
    answers
}

/// A server passes them between its threads.
#[test]
fn engines_are_shared_and_batches_are_sent() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Engine>();
    sent::<Batch>();
    sent::<crate::Conversation>();
    sent::<crate::Event>();
}
