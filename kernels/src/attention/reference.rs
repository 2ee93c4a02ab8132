//! The definitions.

/// One query head of one sequence: `q` is `[t, d]`, `k` and `v` are `[s, d]`, `bias` is `[s]`, s ≥ t; the queries are those
/// of the last t positions. Returns softmax(q kᵀ · scale + bias + mask) v in f64, the mask leaving each query the keys up
/// to its own position, `window` of them at most.
pub(crate) fn head(q: &[f32], k: &[f32], v: &[f32], d: usize, scale: f32, window: usize, bias: &[f32]) -> Vec<f64> {
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    value([&wide(q), &wide(k), &wide(v)], d, f64::from(scale), window, &wide(bias))
}

/// [`head`] of f64.
pub(crate) fn value([q, k, v]: [&[f64]; 3], d: usize, scale: f64, window: usize, bias: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    for shares in shares(q, k, d, scale, window, bias) {
        for c in 0..d {
            out.push(shares.iter().enumerate().map(|(j, share)| share * v[j * d + c]).sum::<f64>());
        }
    }
    out
}

/// The softmax of each query, over the keys up to its own position.
fn shares(q: &[f64], k: &[f64], d: usize, scale: f64, window: usize, bias: &[f64]) -> Vec<Vec<f64>> {
    let past = (k.len() - q.len()) / d;
    let of_query = |(i, q): (usize, &[f64])| {
        let position = past + i;
        let product = |k: &[f64]| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>();
        let scores: Vec<f64> = (k.chunks_exact(d).zip(bias).take(position + 1).enumerate())
            .map(|(j, (k, &bias))| match position - j < window {
                true => product(k) * scale + bias,
                false => f64::NEG_INFINITY,
            })
            .collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let total: f64 = e.iter().sum();
        e.iter().map(|e| e / total).collect()
    };
    q.chunks_exact(d).enumerate().map(of_query).collect()
}

/// The gradients of q, k and v of one head, all `[t, d]`, for that of its output `dy [t, d]`.
#[cfg(test)]
pub(crate) fn backward(
    dy: &[f64],
    [q, k, v]: [&[f64]; 3],
    d: usize,
    scale: f64,
    window: usize,
    bias: &[f64],
) -> [Vec<f64>; 3] {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    for (i, shares) in shares(q, k, d, scale, window, bias).iter().enumerate() {
        let dy = &dy[i * d..][..d];
        let d_shares: Vec<f64> = v.chunks_exact(d).take(shares.len()).map(|v| dot(dy, v)).collect();
        let mean = dot(shares, &d_shares);
        for (j, share) in shares.iter().enumerate() {
            let d_score = share * (d_shares[j] - mean) * scale;
            for c in 0..d {
                dv[j * d + c] += share * dy[c];
                dq[i * d + c] += d_score * k[j * d + c];
                dk[j * d + c] += d_score * q[i * d + c];
            }
        }
    }
    [dq, dk, dv]
}
