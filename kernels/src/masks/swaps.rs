//! Exchanges of a column that stays for one that does not, where the patterns of a group are too many to compare.

use crate::simd::multiversion;
use crate::sweep::strips::{LANES, Lane};

/// Exchanges in a group at each visit, at most.
const EXCHANGES: usize = 3;

/// Makes the exchanges that gain most, one after the other, and then sets each weight that stays to its best value given the
/// others. `block` is H of the group and `inverse` the reciprocals of its diagonal, `g` is (T − D) H and `d` are the weights.
///
/// Without column p the error rises by 2 g_p d_p + H_pp d_p², and what column q gains after that is (g_q + H_qp d_p)² / H_qq.
pub(super) fn exchange(block: &[f32], inverse: &[f32], g: &mut [Lane], d: &mut [Lane], kept: &mut [Lane]) {
    for _ in 0..EXCHANGES {
        let (mut change, mut leaves, mut enters) = ([0f32; LANES], [u32::MAX; LANES], [0u32; LANES]);
        find(block, inverse, g, d, kept, &mut change, &mut leaves, &mut enters);
        if leaves.iter().all(|&p| p == u32::MAX) {
            break;
        }
        apply(block, inverse, (g, d, kept), &leaves, &enters);
    }
    relax(block, inverse, g, d, kept);
}

multiversion! {
    /// The best exchange of each lane, if there is one that lowers the error.
    fn find(
        block: &[f32],
        inverse: &[f32],
        g: &[Lane],
        d: &[Lane],
        kept: &[Lane],
        change: &mut Lane,
        leaves: &mut [u32; LANES],
        enters: &mut [u32; LANES],
    ) {
        let m = g.len();
        for p in 0..m {
            let h = block[p * m + p];
            let mut loss = [0f32; LANES];
            for (((loss, g), d), kept) in loss.iter_mut().zip(&g[p]).zip(&d[p]).zip(&kept[p]) {
                *loss = if *kept == 0.0 { f32::INFINITY } else { d * (2.0 * g + h * d) };
            }
            for q in (0..m).filter(|&q| q != p) {
                let (h, i) = (block[q * m + p], inverse[q]);
                for lane in 0..LANES {
                    let b = g[q][lane] + h * d[p][lane];
                    let net = loss[lane] - b * b * i;
                    let better = kept[q][lane] == 0.0 && net < change[lane];
                    change[lane] = if better { net } else { change[lane] };
                    leaves[lane] = if better { p as u32 } else { leaves[lane] };
                    enters[lane] = if better { q as u32 } else { enters[lane] };
                }
            }
        }
    }
}

fn apply(
    block: &[f32],
    inverse: &[f32],
    (g, d, kept): (&mut [Lane], &mut [Lane], &mut [Lane]),
    leaves: &[u32; LANES],
    enters: &[u32; LANES],
) {
    let m = g.len();
    for lane in (0..LANES).filter(|&lane| leaves[lane] != u32::MAX) {
        let (p, q) = (leaves[lane] as usize, enters[lane] as usize);
        let old = d[p][lane];
        let new = (g[q][lane] + block[q * m + p] * old) * inverse[q];
        for (c, g) in g.iter_mut().enumerate() {
            g[lane] += block[c * m + p] * old - block[c * m + q] * new;
        }
        (d[p][lane], d[q][lane], kept[p][lane], kept[q][lane]) = (0.0, new, 0.0, 1.0);
    }
}

multiversion! {
    /// Each weight that stays at its best value given the others, one after the other.
    fn relax(block: &[f32], inverse: &[f32], g: &mut [Lane], d: &mut [Lane], kept: &[Lane]) {
        let m = g.len();
        for p in 0..m {
            let mut change = [0f32; LANES];
            for (((change, d), g), kept) in change.iter_mut().zip(&mut d[p]).zip(&g[p]).zip(&kept[p]) {
                *change = kept * (g * inverse[p]);
                *d += *change;
            }
            for (g, row) in g.iter_mut().zip(block.chunks_exact(m)) {
                let h = row[p];
                for (g, change) in g.iter_mut().zip(&change) {
                    *g -= h * change;
                }
            }
        }
    }
}
