//! The time that generation takes, counted as llama.cpp counts it.

use std::time::Duration;

/// Tokens and times of one answer, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Tokens of the prompt that were computed: those that a cache held are not among them.
    pub prompt_tokens: usize,
    /// Time of the prompt, up to the logits of the first new token.
    pub prefill: Duration,
    /// Steps of one token after that: one less than there are new tokens, since the first comes from the prompt.
    pub decode_steps: usize,
    /// Time of these steps, choosing of tokens included.
    pub decode: Duration,
}

impl Timing {
    /// Tokens of the prompt per second; `None` where none was computed.
    pub fn prefill_rate(&self) -> Option<f64> {
        rate(self.prompt_tokens, self.prefill)
    }

    /// New tokens per second, without the first; `None` where there were fewer than two.
    pub fn decode_rate(&self) -> Option<f64> {
        rate(self.decode_steps, self.decode)
    }

    /// Adds the tokens and times of another answer, made after this one.
    pub fn add(&mut self, other: &Timing) {
        self.prompt_tokens += other.prompt_tokens;
        self.prefill += other.prefill;
        self.decode_steps += other.decode_steps;
        self.decode += other.decode;
    }
}

fn rate(count: usize, time: Duration) -> Option<f64> {
    (count > 0 && !time.is_zero()).then(|| count as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_tokens_by_their_time() {
        let one = Timing {
            prompt_tokens: 10,
            prefill: Duration::from_millis(500),
            decode_steps: 3,
            decode: Duration::from_secs(2),
        };
        assert_eq!((one.prefill_rate(), one.decode_rate()), (Some(20.0), Some(1.5)));
        let mut both = one;
        both.add(&Timing { decode_steps: 1, decode: Duration::from_secs(2), ..Timing::default() });
        assert_eq!((both.prefill_rate(), both.decode_rate()), (Some(20.0), Some(1.0)));
        assert_eq!(Timing::default().decode_rate(), None);
    }
}
