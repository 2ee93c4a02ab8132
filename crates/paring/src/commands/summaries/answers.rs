//! Prompts → new tokens, by beams or in a batch.

use std::collections::BTreeMap;

use paring_generate::batch::Finish;
use paring_generate::{Batch, Limits, Request, Settings, beam};

use super::Summarizer;
use crate::{Error, Result};

/// A prompt.
pub(super) struct Question {
    pub tokens: Vec<u32>,
    /// True if it had more of them.
    pub is_cut: bool,
}

/// The new tokens after a prompt, which is the one of this number.
pub(super) struct Answer {
    pub number: usize,
    pub question: Question,
    pub tokens: Vec<u32>,
}

/// Prompts as they are asked for.
type Questions<'a> = dyn Iterator<Item = Result<Question>> + 'a;

/// The answers to all prompts, in their order. `done` hears how many are complete, and returns true to end with those.
pub(super) fn answer(
    model: &Summarizer<'_>,
    questions: &mut Questions<'_>,
    settings: &Settings,
    done: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<Answer>> {
    match settings.num_beams {
        1 => in_a_batch(model, questions, settings, done),
        _ => with_beams(model, questions, settings, done),
    }
}

/// An error about the article of a number.
fn about(number: usize, error: impl Into<Error>) -> Error {
    error.into().at(format!("article {}", number + 1))
}

fn with_beams(
    model: &Summarizer<'_>,
    questions: &mut Questions<'_>,
    settings: &Settings,
    done: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<Answer>> {
    let mut answers: Vec<Answer> = Vec::new();
    for (number, question) in questions.enumerate() {
        let question = question.map_err(|error| about(number, error))?;
        let mut stopped = false;
        let mut stop = || {
            stopped |= done(number);
            stopped
        };
        let found = beam::search(model.engine, &question.tokens, settings, &mut stop);
        let found = found.map_err(|error| about(number, error))?;
        if stopped {
            break;
        }
        let best = found.beams.into_iter().next();
        answers.push(Answer { number, question, tokens: best.map_or_else(Vec::new, |beam| beam.tokens) });
        if done(answers.len()) {
            break;
        }
    }
    Ok(answers)
}

fn in_a_batch(
    model: &Summarizer<'_>,
    questions: &mut Questions<'_>,
    settings: &Settings,
    done: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<Answer>> {
    let limits = Limits::default();
    let mut batch = Batch::new(model.engine.clone(), None, limits);
    let mut questions = questions.enumerate().fuse();
    let (mut open, mut complete) = (BTreeMap::new(), BTreeMap::new());
    loop {
        // No more prompts wait than can be at work.
        while open.len() < limits.sequences {
            let Some((number, question)) = questions.next() else { break };
            let question = question.map_err(|error| about(number, error))?;
            let request = Request { stream: number as u64, ..Request::new(question.tokens.clone(), settings.clone()) };
            let id = batch.add(request).map_err(|error| about(number, error))?;
            open.insert(id, Answer { number, question, tokens: Vec::new() });
        }
        if done(complete.len()) || open.is_empty() {
            return Ok(complete.into_values().collect());
        }
        for event in batch.step()? {
            let Some(answer) = open.get_mut(&event.id) else { continue };
            answer.tokens.extend(event.token.map(|chosen| chosen.token));
            let Some(finished) = event.finished else { continue };
            if let Finish::Failed(error) = finished.reason {
                return Err(about(answer.number, error));
            }
            complete.extend(open.remove(&event.id).map(|answer| (answer.number, answer)));
        }
    }
}
