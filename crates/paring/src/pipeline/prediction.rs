//! Predictions of two models for the same token.

/// Bytes of one model's logits that are processed together.
pub(crate) const LOGITS_BYTES: usize = 64 << 20;

/// Predictions of two models for one token.
pub(crate) struct Prediction {
    /// KL(reference ‖ model), in nats.
    pub kl: f64,
    /// True if the most likely token is the same.
    pub same: bool,
    /// The negative log-likelihood of the token that follows.
    pub nll: f64,
    /// The same of the reference.
    pub reference_nll: f64,
}

impl Prediction {
    /// Compares the logits of the reference and of the model.
    pub fn new(p: &[f32], q: &[f32], target: usize) -> Self {
        let ((top_p, log_p), (top_q, log_q)) = (normalizer(p), normalizer(q));
        let divergence = |(&p, &q): (&f32, &f32)| {
            let (p, q) = (f64::from(p) - log_p, f64::from(q) - log_q);
            p.exp() * (p - q)
        };
        let log_prob = |logits: &[f32], log: f64| log - logits.get(target).map_or(f64::NAN, |&logit| f64::from(logit));
        // Rounding can take the sum of two equal distributions below zero. A NaN stays one.
        let kl: f64 = p.iter().zip(q).map(divergence).sum();
        let kl = if kl < 0.0 { 0.0 } else { kl };
        Self { kl, same: top_p == top_q, nll: log_prob(q, log_q), reference_nll: log_prob(p, log_p) }
    }
}

/// The index of the largest logit, the first among equals, and the logarithm of the sum of exponentials.
pub(crate) fn normalizer(logits: &[f32]) -> (usize, f64) {
    let mut top = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[top] {
            top = i;
        }
    }
    let Some(&most) = logits.get(top) else { return (0, f64::NAN) };
    let most = f64::from(most);
    (top, most + logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum::<f64>().ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_of_known_distributions() {
        let logits = |p: &[f64]| p.iter().map(|p| (p.ln() + 3.0) as f32).collect::<Vec<_>>();
        let (p, q) = (logits(&[0.5, 0.25, 0.25]), logits(&[0.25, 0.25, 0.5]));
        let seen = Prediction::new(&p, &q, 2);
        // 0.5 ln 2 + 0.25 ln 1 − 0.25 ln 2
        assert!((seen.kl - 0.25 * 2f64.ln()).abs() < 1e-6, "{}", seen.kl);
        assert!(!seen.same && (seen.nll - 2f64.ln()).abs() < 1e-6 && (seen.reference_nll - 4f64.ln()).abs() < 1e-6);
        let same = Prediction::new(&p, &p, 0);
        assert!(same.same && same.kl == 0.0 && same.nll == same.reference_nll);
        assert!(Prediction::new(&p, &[f32::NAN; 3], 0).kl.is_nan());
    }
}
