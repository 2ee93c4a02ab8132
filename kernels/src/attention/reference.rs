//! The definition.

/// One query head of one sequence: `q` is `[t, d]`, `k` and `v` are `[s, d]`, `bias` is `[s]`, s ≥ t; the queries are those
/// of the last t positions. Returns softmax(q kᵀ · scale + bias + mask) v in f64, the mask leaving each query the keys up
/// to its own position, `window` of them at most.
pub(crate) fn head(q: &[f32], k: &[f32], v: &[f32], d: usize, scale: f32, window: usize, bias: &[f32]) -> Vec<f64> {
    let past = (k.len() - q.len()) / d;
    let mut out = Vec::new();
    for (i, q) in q.chunks_exact(d).enumerate() {
        let position = past + i;
        let product = |k: &[f32]| q.iter().zip(k).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let scores: Vec<f64> = (k.chunks_exact(d).zip(bias).take(position + 1).enumerate())
            .map(|(j, (k, &bias))| match position - j < window {
                true => product(k) * f64::from(scale) + f64::from(bias),
                false => f64::NEG_INFINITY,
            })
            .collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let total: f64 = e.iter().sum();
        for c in 0..d {
            out.push(e.iter().enumerate().map(|(j, e)| e * f64::from(v[j * d + c])).sum::<f64>() / total);
        }
    }
    out
}
