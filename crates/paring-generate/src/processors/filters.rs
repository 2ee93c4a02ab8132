//! Filters of sampling: each works on what the one before it left.

use crate::Settings;

/// The filters of some settings.
#[derive(Clone, Copy, Debug)]
pub struct Filters<'a> {
    settings: &'a Settings,
    /// Tokens that are always kept: more than one where beams must not run out of them.
    least: usize,
}

impl<'a> Filters<'a> {
    /// The filters of a single sequence.
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings, least: 1 }
    }

    /// Those of beams, which keep a token more than there are ends of a text.
    pub fn of_beams(settings: &'a Settings) -> Self {
        Self { settings, least: settings.eos.len() + 1 }
    }

    /// Divides scores `[vocab]` by the temperature, and removes all but the tokens to draw from.
    pub fn apply(&self, scores: &mut [f32]) {
        let Settings { temperature, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, .. } = *self.settings;
        if temperature != 1.0 {
            scores.iter_mut().for_each(|score| *score /= temperature);
        }
        if top_k > 0 {
            self.top_k(scores, top_k);
        }
        if top_p < 1.0 {
            self.top_p(scores, top_p);
        }
        if min_p > 0.0 {
            self.cut(scores, |all| f64::from(min_p) * all.iter().copied().fold(0.0, f64::max));
        }
        if typical_p < 1.0 {
            self.typical(scores, typical_p);
        }
        if epsilon_cutoff > 0.0 {
            self.cut(scores, |_| f64::from(epsilon_cutoff));
        }
        if eta_cutoff > 0.0 {
            let eta = f64::from(eta_cutoff);
            self.cut(scores, |all| eta.min(eta.sqrt() * (-entropy(all)).exp()));
        }
    }

    /// Keeps the `k` largest, and all that equal the last of them.
    fn top_k(&self, scores: &mut [f32], k: usize) {
        let k = k.max(self.least);
        if k >= scores.len() {
            return;
        }
        let border = kth_largest(scores, k);
        keep(scores, |score| score >= border);
    }

    /// Keeps the smallest set from the top whose probability is `p` (Holtzman et al., The Curious Case of Neural Text
    /// Degeneration, section 3.1).
    fn top_p(&self, scores: &mut [f32], p: f32) {
        let probabilities = softmax(scores);
        let mut order = finite(scores);
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let (mut sum, last) = (0.0, order.len().saturating_sub(self.least));
        for &id in &order[..last] {
            sum += probabilities[id];
            if sum > 1.0 - f64::from(p) {
                return;
            }
            scores[id] = f32::NEG_INFINITY;
        }
    }

    /// Keeps tokens whose information is near the entropy, up to a mass (Meister et al., Locally Typical Sampling,
    /// section 4).
    fn typical(&self, scores: &mut [f32], mass: f32) {
        let probabilities = softmax(scores);
        let entropy = entropy(&probabilities);
        let distance = |id: usize| (-probabilities[id].ln() - entropy).abs();
        let mut order = finite(scores);
        order.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        let mut sum = 0.0;
        let reached = order.iter().position(|&id| {
            sum += probabilities[id];
            sum >= f64::from(mass)
        });
        let last = reached.unwrap_or(order.len().saturating_sub(1)).max(self.least - 1);
        if let Some(&border) = order.get(last) {
            let border = distance(border);
            for &id in &order[last + 1..] {
                if distance(id) > border {
                    scores[id] = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// Removes what is less likely than a border that depends on all probabilities (for one on their entropy Hewitt et al.,
    /// Truncation Sampling as Language Model Desmoothing, section 4).
    fn cut(&self, scores: &mut [f32], border: impl Fn(&[f64]) -> f64) {
        let probabilities = softmax(scores);
        let border = border(&probabilities);
        let always = kth_largest(scores, self.least.min(scores.len()));
        for (score, p) in scores.iter_mut().zip(probabilities) {
            if p < border && *score < always {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

fn keep(scores: &mut [f32], kept: impl Fn(f32) -> bool) {
    scores.iter_mut().filter(|score| !kept(**score)).for_each(|score| *score = f32::NEG_INFINITY);
}

/// The tokens that are left.
fn finite(scores: &[f32]) -> Vec<usize> {
    (0..scores.len()).filter(|&id| scores[id] > f32::NEG_INFINITY).collect()
}

/// The `k`-th largest score, counted from 1.
fn kth_largest(scores: &[f32], k: usize) -> f32 {
    let mut sorted = scores.to_vec();
    match k.checked_sub(1) {
        Some(at) if at < sorted.len() => *sorted.select_nth_unstable_by(at, |a, b| b.total_cmp(a)).1,
        _ => f32::NEG_INFINITY,
    }
}

/// Probabilities of scores; all 0 where no score is left.
pub fn softmax(scores: &[f32]) -> Vec<f64> {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if top == f32::NEG_INFINITY {
        return vec![0.0; scores.len()];
    }
    let weights: Vec<f64> = scores.iter().map(|&score| f64::from(score - top).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// The entropy in nats.
fn entropy(probabilities: &[f64]) -> f64 {
    -probabilities.iter().filter(|&&p| p > 0.0).map(|p| p * p.ln()).sum::<f64>()
}
