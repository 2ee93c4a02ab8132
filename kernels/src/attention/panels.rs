//! Tokens of one head as right operands of f32 products, in panels of [`NR`] columns.

use std::mem::MaybeUninit;

use crate::matmul::panels::Words;
use crate::matmul::tile::NR;

/// Writes all of panel `n` of the operand `[dim, time]` whose columns are the tokens of `x [time, width]`, of which it takes the `dim` elements
/// from `first` on.
pub(super) fn tokens_as_columns(panel: &mut Words, n: usize, (x, width): (&[f32], usize), first: usize) {
    let rows = NR.min(x.len() / width - n * NR);
    let x = &x[n * NR * width..][..rows * width];
    for (j, words) in panel.chunks_exact_mut(NR).enumerate() {
        for (row, word) in words.iter_mut().enumerate() {
            word.write(if row < rows { x[row * width + first + j].to_bits() } else { 0 });
        }
    }
}

/// Writes all of a panel of the operand `[time, ..]` whose rows are the tokens of `x [time, width]`, of which it takes the `count`
/// elements from `first` on.
pub(super) fn tokens_as_rows(panel: &mut Words, (x, width): (&[f32], usize), first: usize, count: usize) {
    for (words, x) in panel.chunks_exact_mut(NR).zip(x.chunks_exact(width)) {
        let (words, rest) = words.split_at_mut(count);
        words.iter_mut().zip(&x[first..]).for_each(|(word, x)| _ = word.write(x.to_bits()));
        rest.fill(MaybeUninit::new(0));
    }
}
