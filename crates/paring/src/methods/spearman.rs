//! The order of columns in which each lies next to the one whose weights rank most alike.

use candle_core::{Device, Tensor};
use paring_kernels::gram::Gram;
use paring_kernels::matmul::Precision;

/// The column at each position: column 0 first, then always the unused one with the largest rank correlation with the
/// one before it. `weight` is row-major `[rows, cols]`. About rows·cols² operations.
///
/// The choice is made among the columns as the swaps so far have left them, which decides between equals as the
/// published code does.
pub(super) fn order(weight: &[f32], cols: usize) -> candle_core::Result<Vec<usize>> {
    let rows = weight.len() / cols;
    let middle = (rows as f32 - 1.0) / 2.0;
    let mut ranks = vec![0f32; weight.len()];
    for j in 0..cols {
        let mut sorted: Vec<usize> = (0..rows).collect();
        sorted.sort_by(|&a, &b| weight[a * cols + j].total_cmp(&weight[b * cols + j]));
        // The ranks of every column are the same numbers, so their length need not be divided out.
        sorted.into_iter().enumerate().for_each(|(rank, r)| ranks[r * cols + j] = rank as f32 - middle);
    }
    let mut gram = Gram::new(cols, Precision::F32);
    gram.add(&Tensor::from_vec(ranks, (rows, cols), &Device::Cpu)?)?;
    let similar = gram.finish(1.0)?;
    let similar = similar.to_host()?;
    let mut order: Vec<usize> = (0..cols).collect();
    for place in 1..cols {
        let row = &similar[order[place - 1] * cols..][..cols];
        let mut best = place;
        for candidate in place + 1..cols {
            if row[order[candidate]] > row[order[best]] {
                best = candidate;
            }
        }
        order.swap(place, best);
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn columns_that_rank_alike_are_neighbours() {
        // Columns 0, 2 and 4 rise, 1 and 3 fall; the scale of a column does not matter, nor does its mean.
        let column = |j: usize, r: usize| {
            let way = if j.is_multiple_of(2) { 1.0 } else { -1.0 };
            way * (r as f32 + 0.3 * ((r * (j + 1)) % 3) as f32) * (j + 1) as f32 + j as f32
        };
        let (rows, cols) = (12, 5);
        let weight: Vec<f32> = (0..rows * cols).map(|i| column(i % cols, i / cols)).collect();
        let order = order(&weight, cols).unwrap();
        let parity: Vec<usize> = order.iter().map(|j| j % 2).collect();
        assert_eq!(parity, [0, 0, 0, 1, 1], "{order:?}");
        assert_eq!(order[0], 0);
    }
}
