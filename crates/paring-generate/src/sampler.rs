//! The next token of a sequence: the best one, or one that is drawn.

use crate::processors::{Filters, History, process, softmax};
use crate::random::Random;
use crate::{Error, Result, Settings};

/// Chooses the tokens of one sequence.
#[derive(Clone, Debug)]
pub struct Sampler {
    random: Random,
}

impl Sampler {
    /// The sampler of the sequence number `stream` among those that share a seed.
    pub fn new(settings: &Settings, stream: u64) -> Self {
        Self { random: Random::new(settings.seed, stream) }
    }

    /// The token after `history`, whose logits are `[vocab]`. The same settings, seed and logits choose the same tokens.
    ///
    /// # Errors
    /// Where the settings leave no token.
    pub fn choose(&mut self, logits: &[f32], history: History<'_>, settings: &Settings) -> Result<u32> {
        let mut scores = logits.to_vec();
        process(&mut scores, history, settings);
        if settings.do_sample {
            Filters::new(settings).apply(&mut scores);
        }
        let best = best(&scores).ok_or(Error::NoToken { position: history.ids.len() })?;
        Ok(if settings.do_sample { self.draw(&scores).unwrap_or(best) } else { best })
    }

    /// A token drawn from the softmax of scores, in the order of ids.
    fn draw(&mut self, scores: &[f32]) -> Option<u32> {
        let probabilities = softmax(scores);
        let mut left = self.random.unit();
        let mut last = None;
        for (id, p) in probabilities.into_iter().enumerate().filter(|(_, p)| *p > 0.0) {
            last = u32::try_from(id).ok();
            left -= p;
            if left < 0.0 {
                break;
            }
        }
        last
    }
}

/// The token with the largest score, the first of equal ones; `None` where none is left.
pub fn best(scores: &[f32]) -> Option<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (id, &score) in scores.iter().enumerate() {
        if score > best.map_or(f32::NEG_INFINITY, |(_, best)| best) {
            best = Some((id, score));
        }
    }
    best.and_then(|(id, _)| u32::try_from(id).ok())
}

/// Natural logarithms of the softmax of scores.
pub fn log_softmax(scores: &[f32]) -> Vec<f32> {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores.iter().map(|&score| f64::from(score - top).exp()).sum();
    let shift = f64::from(top) + sum.ln();
    scores.iter().map(|&score| (f64::from(score) - shift) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: History<'static> = History { ids: &[], prompt: 0 };

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        let settings = Settings { temperature: 9.0, top_k: 1, ..Settings::default() };
        let choose = |logits: &[f32]| Sampler::new(&settings, 0).choose(logits, NOTHING, &settings);
        assert_eq!(choose(&[0.0, 2.0, -1.0, 2.0]).unwrap(), 1);
        assert_eq!(choose(&[-5.0]).unwrap(), 0);
        let error = choose(&[f32::NEG_INFINITY; 3]).unwrap_err().to_string();
        assert!(error.contains("no token is left"), "{error}");
    }

    #[test]
    fn draws_have_the_probabilities_of_the_scores() {
        let settings = Settings { do_sample: true, top_k: 3, seed: 5, ..Settings::default() };
        let logits = [0.5f32, 0.2, 0.2, 0.1].map(f32::ln);
        let draws = |stream| {
            let mut sampler = Sampler::new(&settings, stream);
            (0..4000).map(|_| sampler.choose(&logits, NOTHING, &settings).unwrap()).collect::<Vec<_>>()
        };
        let drawn = draws(0);
        for (id, want) in [5.0 / 9.0, 2.0 / 9.0, 2.0 / 9.0, 0.0].into_iter().enumerate() {
            let share = drawn.iter().filter(|&&drawn| drawn as usize == id).count() as f64 / 4000.0;
            assert!((share - want).abs() < 0.03, "token {id}: {share}, expected {want}");
        }
        assert_eq!(draws(0), drawn);
        assert_ne!(draws(1), drawn);
    }

    #[test]
    fn logarithms_sum_to_one() {
        let logs = log_softmax(&[1000.0, 1001.0, f32::NEG_INFINITY]);
        assert!((logs[0] + 1.313_261_7).abs() < 1e-5 && (logs[1] + 0.313_261_7).abs() < 1e-5);
        assert_eq!(logs[2], f32::NEG_INFINITY);
    }
}
