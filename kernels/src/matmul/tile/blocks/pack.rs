//! Left operands in tiles.

use std::mem::MaybeUninit;

use super::super::{Isa, NR, lines::Lines};
use super::{SIDE, TILE};
use crate::simd::{self, multiversion, transpose};

/// Words of a row of so many pairs, or rows of so many, in whole tiles.
pub(in super::super) fn pad(count: usize) -> usize {
    count.next_multiple_of(SIDE)
}

/// Rows `[.., cols]` rounded to bfloat16.
pub(in super::super) fn rounded(isa: Isa, x: &[f32], cols: usize) -> Lines {
    let each = pad(cols.div_ceil(2));
    let rows = x.len() / cols;
    let mut words = Lines::default();
    let write = |words: &mut [MaybeUninit<u32>]| {
        for (words, x) in words.chunks_exact_mut(SIDE * each).zip(x.chunks(SIDE * cols)) {
            let rows = x.len() / cols;
            for (row, x) in x.chunks_exact(cols).enumerate() {
                spread(isa, &mut words[row * SIDE..], x);
            }
            for tile in words.chunks_exact_mut(TILE) {
                tile[rows * SIDE..].fill(MaybeUninit::new(0));
            }
        }
    };
    // SAFETY: all rows are written, and the words of those that are missing.
    unsafe { words.fill(pad(rows) * each, write) };
    words
}

/// One row, 16 words in each tile.
fn spread(isa: Isa, words: &mut [MaybeUninit<u32>], x: &[f32]) {
    match isa {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: the processor has the instructions, or this version would not exist.
        Isa::Amx => unsafe { super::super::x86::pair_up_spread(words, x) },
        _ => plain_spread(words, x),
    }
}

multiversion! {
    fn plain_spread(words: &mut [MaybeUninit<u32>], x: &[f32]) {
        for (line, x) in words.chunks_mut(TILE).zip(x.chunks(2 * SIDE)) {
            for (k, word) in line[..SIDE].iter_mut().enumerate() {
                let half = |at: usize| x.get(at).map_or(0, |&x| simd::bf16_bits(x));
                word.write(half(2 * k) | (half(2 * k + 1) << 16));
            }
        }
    }
}

/// The columns of a panel of pairs `[pairs, NR]` as rows.
pub(in super::super) fn turned(panel: &[u32], words: &mut Lines) {
    let pairs = panel.len() / NR;
    let each = pad(pairs);
    // SAFETY: all words of all tiles are written.
    unsafe {
        words.fill(NR * each, |words| {
            for (group, words) in words.chunks_exact_mut(SIDE * each).enumerate() {
                turn(panel, group * SIDE, words);
            }
        });
    }
}

multiversion! {
    /// Columns `first..first + 16` of a panel.
    fn turn(panel: &[u32], first: usize, words: &mut [MaybeUninit<u32>]) {
        for (tile, lines) in words.chunks_exact_mut(TILE).zip(panel.chunks(SIDE * NR)) {
            let mut square = [[0u32; SIDE]; SIDE];
            for (row, line) in square.iter_mut().zip(lines.chunks_exact(NR)) {
                for (to, &word) in row.iter_mut().zip(&line[first..first + SIDE]) {
                    *to = word;
                }
            }
            transpose(&mut square);
            for (to, from) in tile.iter_mut().zip(square.as_flattened()) {
                to.write(*from);
            }
        }
    }
}
