//! Least squares on a fixed mask, by conjugate gradients on all rows at once.

use super::Objective;
use super::objective::dot;
use crate::simd::multiversion;

/// `steps` steps of conjugate gradients with H's diagonal as preconditioner, on the weights of a strip that are not dropped
/// (ALPS, arXiv 2406.07831, section 3.3), from `residual` = (T − X) H.
pub(super) fn solve(
    objective: &Objective,
    x: &mut [f32],
    dropped: &[u8],
    inverse: &[f32],
    mut residual: Vec<f32>,
    steps: usize,
) {
    let n = objective.n();
    let (mut direction, mut product) = (vec![0f32; x.len()], vec![0f32; x.len()]);
    let mut norms = Vec::with_capacity(x.len() / n);
    for ((r, p), dropped) in
        residual.chunks_exact_mut(n).zip(direction.chunks_exact_mut(n)).zip(dropped.chunks_exact(n))
    {
        norms.push(begin(r, p, dropped, inverse));
    }
    for _ in 0..steps {
        objective.multiply(&direction, &mut product);
        for (row, norm) in norms.iter_mut().enumerate() {
            let at = row * n..(row + 1) * n;
            let (p, q) = (&mut direction[at.clone()], &product[at.clone()]);
            let curvature = dot(p, q);
            // No direction is left, or H is not positive along it.
            if !(*norm > 0.0 && curvature > 0.0) {
                p.fill(0.0);
                continue;
            }
            let step = (*norm / curvature) as f32;
            *norm = walk((&mut x[at.clone()], &mut residual[at.clone()]), (p, q), &dropped[at], inverse, (step, *norm));
        }
    }
}

multiversion! {
    /// The residual of the weights that stay, the first direction, and Σ r² / diag(H).
    fn begin(residual: &mut [f32], direction: &mut [f32], dropped: &[u8], inverse: &[f32]) -> f64 {
        for (((r, p), &d), i) in residual.iter_mut().zip(&mut *direction).zip(dropped).zip(inverse) {
            *r = if d == 0 { *r } else { 0.0 };
            *p = *r * i;
        }
        dot(residual, direction)
    }
}

multiversion! {
    /// One step along a direction, and the next direction; returns the new Σ r² / diag(H).
    fn walk(
        state: (&mut [f32], &mut [f32]),
        along: (&mut [f32], &[f32]),
        dropped: &[u8],
        inverse: &[f32],
        by: (f32, f64),
    ) -> f64 {
        let ((x, residual), (direction, product), (step, norm)) = (state, along, by);
        let mut sums = [0f32; 16];
        let chunks = x.chunks_mut(16).zip(residual.chunks_mut(16)).zip(direction.chunks(16)).zip(product.chunks(16));
        for ((((x, r), p), q), (d, i)) in chunks.zip(dropped.chunks(16).zip(inverse.chunks(16))) {
            for (((((x, r), p), q), (d, i)), sum) in
                x.iter_mut().zip(r).zip(p).zip(q).zip(d.iter().zip(i)).zip(&mut sums)
            {
                *x += step * p;
                *r = if *d == 0 { *r - step * q } else { 0.0 };
                *sum += *r * (*r * i);
            }
        }
        let next = sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        let beta = (next / norm) as f32;
        for ((p, r), i) in direction.iter_mut().zip(&*residual).zip(inverse) {
            *p = r * i + beta * *p;
        }
        next
    }
}
