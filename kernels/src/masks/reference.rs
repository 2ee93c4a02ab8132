//! The definitions: one row at a time, in f64, every change at once.

/// (T − D) H of a row.
pub(crate) fn residual(h: &[f32], target: &[f32], weight: &[f64]) -> Vec<f64> {
    let n = target.len();
    let difference: Vec<f64> = target.iter().zip(weight).map(|(&t, w)| f64::from(t) - w).collect();
    (0..n).map(|j| (0..n).map(|i| difference[i] * f64::from(h[i * n + j])).sum()).collect()
}

/// (T − D) H (T − D)ᵀ of a row.
pub(crate) fn error(h: &[f32], target: &[f32], weight: &[f64]) -> f64 {
    let g = residual(h, target, weight);
    target.iter().zip(weight).zip(g).map(|((&t, w), g)| (f64::from(t) - w) * g).sum()
}

/// x with x A = b, for a positive definite A `[n, n]`, by elimination.
pub(crate) fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for k in 0..n {
        for i in k + 1..n {
            let factor = a[i * n + k] / a[k * n + k];
            (k..n).for_each(|j| a[i * n + j] -= factor * a[k * n + j]);
            b[i] -= factor * b[k];
        }
    }
    for k in (0..n).rev() {
        b[k] = (b[k] - (k + 1..n).map(|j| a[k * n + j] * b[j]).sum::<f64>()) / a[k * n + k];
    }
    b
}

/// The part of H that some columns make.
fn block(h: &[f32], n: usize, columns: &[usize]) -> Vec<f64> {
    columns.iter().flat_map(|&i| columns.iter().map(move |&j| f64::from(h[i * n + j]))).collect()
}

/// The best weights of a row that are not dropped: what [`super::least_squares`] comes near to.
pub(crate) fn least_squares(h: &[f32], target: &[f32], dropped: &[u8]) -> Vec<f64> {
    let n = target.len();
    let kept: Vec<usize> = (0..n).filter(|&j| dropped[j] == 0).collect();
    let all = residual(h, target, &vec![0.0; n]);
    let made = solve(block(h, n, &kept), kept.iter().map(|&j| all[j]).collect());
    let mut weight = vec![0.0; n];
    kept.iter().zip(made).for_each(|(&j, w)| weight[j] = w);
    weight
}

/// One pass of [`super::descend`] over a row in which `keep` of every `of` columns stay, all patterns compared.
pub(crate) fn compare(h: &[f32], target: &[f32], weight: &mut [f64], dropped: &mut [u8], (keep, of): (usize, usize)) {
    let n = target.len();
    for first in (0..n).step_by(of) {
        weight[first..first + of].fill(0.0);
        let b = residual(h, target, weight);
        let mut best = (f64::NEG_INFINITY, Vec::new(), Vec::new());
        for bits in 0u32..1 << of {
            // The first column is the highest bit, so that falling numbers are in lexicographic order.
            let set = (1 << of) - 1 - bits;
            let columns: Vec<usize> = (0..of).filter(|i| set >> (of - 1 - i) & 1 == 1).map(|i| first + i).collect();
            if columns.len() != keep {
                continue;
            }
            let linear: Vec<f64> = columns.iter().map(|&j| b[j]).collect();
            let made = solve(block(h, n, &columns), linear.clone());
            let gain: f64 = made.iter().zip(linear).map(|(x, b)| x * b).sum();
            if gain > best.0 {
                best = (gain, columns, made);
            }
        }
        dropped[first..first + of].fill(1);
        for (&j, w) in best.1.iter().zip(best.2) {
            (weight[j], dropped[j]) = (w, 0);
        }
    }
}

/// One pass of [`super::descend`] over a row, by `exchanges` in each group of `of` columns.
pub(crate) fn exchange(
    h: &[f32],
    target: &[f32],
    weight: &mut [f64],
    dropped: &mut [u8],
    (of, exchanges): (usize, usize),
) {
    let n = target.len();
    let at = |i: usize, j: usize| f64::from(h[i * n + j]);
    for first in (0..n).step_by(of) {
        let group = first..n.min(first + of);
        for _ in 0..exchanges {
            let g = residual(h, target, weight);
            let mut best = (0.0, 0, 0);
            for p in group.clone().filter(|&p| dropped[p] == 0) {
                for q in group.clone().filter(|&q| dropped[q] == 1) {
                    let b = g[q] + at(q, p) * weight[p];
                    let change = weight[p] * (2.0 * g[p] + at(p, p) * weight[p]) - b * b / at(q, q);
                    if change < best.0 {
                        best = (change, p, q);
                    }
                }
            }
            let (change, p, q) = best;
            if change < 0.0 {
                weight[q] = (g[q] + at(q, p) * weight[p]) / at(q, q);
                (weight[p], dropped[p], dropped[q]) = (0.0, 1, 0);
            }
        }
        for p in group.filter(|&p| dropped[p] == 0) {
            weight[p] += residual(h, target, weight)[p] / at(p, p);
        }
    }
}

/// [`super::alternate`] for a matrix: the mask.
pub(crate) fn alternate(h: &[f32], target: &[f32], removal: super::Removal, settings: super::Admm) -> Vec<u8> {
    let n = h.len().isqrt();
    let scale = |j: usize| f64::from(h[j * n + j]).sqrt();
    let [penalty, damping] = [settings.penalty, settings.damping].map(f64::from);
    let mut a: Vec<f64> = (0..n * n).map(|at| f64::from(h[at]) / (scale(at / n) * scale(at % n))).collect();
    (0..n).for_each(|j| a[j * n + j] = 1.0 + damping + penalty);
    let target: Vec<f64> = target.iter().enumerate().map(|(at, &t)| f64::from(t) * scale(at % n)).collect();
    let (mut fit, mut u) = (target.clone(), vec![0.0; target.len()]);
    let mut dropped = vec![0u8; target.len()];
    for round in 0..settings.rounds {
        let sums: Vec<f64> = fit.iter().zip(&u).map(|(b, u)| b + u).collect();
        let smaller = |a: &usize, b: &usize| sums[*a].abs().total_cmp(&sums[*b].abs());
        let mut candidates: Vec<usize> = match removal {
            super::Removal::Total(_) => (0..sums.len()).collect(),
            super::Removal::Groups { n: smallest, of } => (0..sums.len())
                .step_by(of)
                .flat_map(|first| {
                    let mut group: Vec<usize> = (first..first + of).collect();
                    group.sort_by(smaller);
                    group.truncate(smallest);
                    group
                })
                .collect(),
        };
        let total = if let super::Removal::Total(count) = removal { count } else { candidates.len() };
        candidates.sort_by(smaller);
        let left = (1.0 - (round + 1) as f64 / settings.growing as f64).max(0.0);
        dropped.fill(0);
        candidates[..((1.0 - left.powi(3)) * total as f64) as usize].iter().for_each(|&at| dropped[at] = 1);
        let part = |at: usize| if dropped[at] == 0 { (sums[at], 0.0) } else { (0.0, sums[at]) };
        u = (0..sums.len()).map(|at| part(at).1).collect();
        let pull: Vec<f64> = (0..sums.len()).map(|at| penalty * (part(at).0 - part(at).1 - target[at])).collect();
        let corrections = pull.chunks_exact(n).flat_map(|pull| solve(a.clone(), pull.to_vec()));
        fit = target.iter().zip(corrections).map(|(t, c)| t + c).collect();
    }
    dropped
}
