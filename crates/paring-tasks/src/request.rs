//! Requests of a task to a model, and the answers to them.

/// A continuation of a context, whose probability a model is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Tokens before it, of which there is at least one.
    pub context: Vec<u32>,
    /// Its own tokens, of which there is at least one.
    pub continuation: Vec<u32>,
}

impl Request {
    /// The tokens that a model sees that takes `longest`, and the number of them before the first prediction that counts. The
    /// context loses tokens at its beginning, where it is too long; the last token of the continuation is only predicted.
    pub fn input(&self, longest: usize) -> (Vec<u32>, usize) {
        let all = self.context.len() + self.continuation.len();
        let dropped = all.saturating_sub(longest + 1).min(self.context.len());
        let mut tokens = self.context[dropped..].to_vec();
        let first = tokens.len().saturating_sub(1);
        tokens.extend(&self.continuation[..self.continuation.len().saturating_sub(1)]);
        (tokens, first)
    }
}

/// A model's answer to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Sum of the natural logarithms of the probabilities of the continuation's tokens.
    pub loglikelihood: f64,
    /// True if each of them was the likeliest; of equal ones the lowest id is.
    pub is_greedy: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_cut_at_their_beginning() {
        let request = Request { context: vec![1, 2, 3, 4], continuation: vec![5, 6] };
        assert_eq!(request.input(8), (vec![1, 2, 3, 4, 5], 3));
        assert_eq!(request.input(5), (vec![1, 2, 3, 4, 5], 3));
        assert_eq!(request.input(3), (vec![3, 4, 5], 1));
        assert_eq!(request.input(2), (vec![4, 5], 0));
    }
}
