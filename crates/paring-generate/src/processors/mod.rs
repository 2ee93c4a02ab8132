//! The scores of a step, as settings change them before a token is chosen: raw logits, or in beam search log-probabilities.
//! A removed token's score is −∞.
//!
//! The order and the rules are those of transformers; presence and frequency penalties, and biases, are those of servers.

mod filters;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::Settings;

pub use filters::{Filters, softmax};

/// A text as processors see it.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// The tokens of the prompt and those after it.
    pub ids: &'a [u32],
    /// Number of those of the prompt.
    pub prompt: usize,
}

impl History<'_> {
    /// New tokens.
    fn output(&self) -> &[u32] {
        &self.ids[self.prompt.min(self.ids.len())..]
    }
}

/// Changes the scores `[vocab]` of the token after `history` by everything that applies with and without sampling: biases,
/// penalties, runs that may not occur twice, and the least length.
pub fn process(scores: &mut [f32], history: History<'_>, settings: &Settings) {
    for &(id, bias) in &settings.logit_bias {
        if let Some(score) = scores.get_mut(id as usize) {
            *score += bias;
        }
    }
    penalize_output(scores, history.output(), settings);
    penalize_repetition(scores, history.ids, settings.repetition_penalty);
    forbid_runs(scores, history.ids, settings.no_repeat_ngram_size);
    let (len, new) = (history.ids.len(), history.output().len());
    if len < settings.min_length || new < settings.min_new_tokens {
        settings.eos.iter().for_each(|&id| remove(scores, id));
    }
}

fn remove(scores: &mut [f32], id: u32) {
    if let Some(score) = scores.get_mut(id as usize) {
        *score = f32::NEG_INFINITY;
    }
}

/// Presence and frequency penalties, which count the output alone.
fn penalize_output(scores: &mut [f32], output: &[u32], settings: &Settings) {
    let Settings { presence_penalty, frequency_penalty, .. } = *settings;
    if presence_penalty == 0.0 && frequency_penalty == 0.0 {
        return;
    }
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    output.iter().for_each(|&id| *counts.entry(id).or_default() += 1);
    for (id, count) in counts {
        if let Some(score) = scores.get_mut(id as usize) {
            *score -= frequency_penalty * count as f32 + presence_penalty;
        }
    }
}

/// Makes tokens that occur less likely, once however often they occur (Keskar et al., CTRL, section 4.1).
fn penalize_repetition(scores: &mut [f32], ids: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    for id in ids.iter().collect::<BTreeSet<_>>() {
        if let Some(score) = scores.get_mut(*id as usize) {
            *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
        }
    }
}

/// Removes tokens that would complete a run of `n` that is there already.
fn forbid_runs(scores: &mut [f32], ids: &[u32], n: usize) {
    if n == 0 || ids.len() + 1 < n {
        return;
    }
    let tail = &ids[ids.len() + 1 - n..];
    for run in ids.windows(n) {
        if let Some((&last, _)) = run.split_last().filter(|(_, begin)| *begin == tail) {
            remove(scores, last);
        }
    }
}
