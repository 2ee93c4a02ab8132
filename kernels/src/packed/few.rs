//! Products of a few rows with packed weights, which are decoded in registers, and decoding into memory.

use super::kind::{Arrangement, BLOCK, Kind, Scratch};
use super::numbers::LANES;
use super::wide::{Pairs, Wide};

/// Rows of inputs that are multiplied at once.
pub(super) const FEW: usize = 4;
/// Rows of a weight that one input is multiplied with at once.
pub(super) const TOGETHER: usize = 4;

/// Inputs `[count, blocks · BLOCK]`, with zeros after the last column, and for rows that fill `count` up to [`FEW`] unless it is one.
pub(super) struct Inputs {
    pub values: Vec<f32>,
    pub count: usize,
    pub width: usize,
    /// The same as bfloat16, blocks arranged, where pairs are multiplied.
    pairs: Vec<u16>,
    pub arrangement: Option<Arrangement>,
}

impl Inputs {
    /// Takes rows of `cols` columns, at most [`FEW`]; column k of an input is what `order` says it is.
    pub(super) fn new(x: &[f32], cols: usize, order: Option<&[u32]>, round: impl Fn(f32) -> f32) -> Self {
        let (rows, width) = (x.len() / cols, cols.next_multiple_of(BLOCK));
        let count = if rows == 1 { 1 } else { FEW };
        let mut values = vec![0f32; count * width];
        for (x, out) in x.chunks_exact(cols).zip(values.chunks_exact_mut(width)) {
            match order {
                None => out.iter_mut().zip(x).for_each(|(out, &x)| *out = round(x)),
                Some(order) => out.iter_mut().zip(order).for_each(|(out, &col)| *out = round(x[col as usize])),
            }
        }
        Self { values, count, width, pairs: Vec::new(), arrangement: None }
    }

    /// The same with pairs of bfloat16 in an arrangement.
    pub(super) fn arranged(self, arrangement: Option<Arrangement>) -> Self {
        let Some(order) = arrangement else { return self };
        let mut columns = [0; BLOCK];
        for (place, column) in columns.iter_mut().enumerate() {
            *column = order.column(place);
        }
        let mut pairs = Vec::with_capacity(self.values.len());
        for block in self.values.as_chunks::<BLOCK>().0 {
            pairs.extend(columns.iter().map(|&column| (block[column % BLOCK].to_bits() >> 16) as u16));
        }
        Self { pairs, arrangement, ..self }
    }

    /// Half a block of an input.
    ///
    /// # Safety
    /// Needs the instructions of `W`; the inputs are arranged, and have that block.
    #[inline(always)]
    pub(super) unsafe fn pairs<W: Pairs>(&self, m: usize, block: usize, half: usize) -> W::Bits {
        let at = m * self.width + block * BLOCK + half * 2 * LANES;
        debug_assert!(at + 2 * LANES <= self.pairs.len());
        // SAFETY: the caller's promise.
        unsafe { W::load_words(self.pairs.as_ptr().add(at)) }
    }
}

/// The products of rows from `first` on, `R` rows at a time, as long as there are so many; returns their number.
///
/// # Safety
/// Needs the instructions of `W`.
#[inline(always)]
pub(super) unsafe fn together<K: Kind, W: Wide, const M: usize, const R: usize>(
    kind: &K,
    first: usize,
    x: &Inputs,
    out: &mut [f32],
) -> usize {
    assert_eq!(x.count, M);
    let mut scratch = Scratch::default();
    let (together, _) = out.as_chunks_mut::<M>().0.as_chunks_mut::<R>();
    for (i, sums) in together.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *sums = unsafe {
            kind.prepare::<W>(first + i * R, R, &mut scratch);
            let rows = prepared::<K, W, R>(kind, first + i * R, &scratch);
            summed(kind.dots::<W, M, R>(rows, x, &scratch))
        };
    }
    together.len() * R
}

/// [`together`] in pairs.
///
/// # Safety
/// Needs the instructions of `W`; the inputs are arranged for the kind.
#[inline(always)]
pub(super) unsafe fn in_pairs<K: Kind, W: Pairs, const M: usize, const R: usize>(
    kind: &K,
    first: usize,
    x: &Inputs,
    out: &mut [f32],
) -> usize {
    assert!(x.count == M && x.pairs.len() == x.values.len());
    let mut scratch = Scratch::default();
    let (together, _) = out.as_chunks_mut::<M>().0.as_chunks_mut::<R>();
    for (i, made) in together.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *made = unsafe {
            kind.prepare_pairs::<W>(first + i * R, R, &mut scratch);
            let rows = prepared::<K, W, R>(kind, first + i * R, &scratch);
            summed(kind.pair_dots::<W, M, R>(rows, x, &scratch))
        };
    }
    together.len() * R
}

/// Rows that were prepared, at their beginning.
///
/// # Safety
/// Needs the instructions of `W`.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn prepared<K: Kind, W: Wide, const R: usize>(kind: &K, first: usize, scratch: &Scratch) -> [K::Row<W>; R] {
    // A loop over numbers: closures have no instructions of their own, and long chains of iterators are not unrolled.
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [kind.row::<W>(first, 0, scratch); R];
        for i in 1..R {
            rows[i] = kind.row::<W>(first, i, scratch);
        }
        rows
    }
}

/// The products that running sums end in.
///
/// # Safety
/// Needs the instructions of `W`.
#[inline(always)]
unsafe fn summed<W: Wide, const M: usize, const R: usize>(sums: [[[W; 2]; M]; R]) -> [[f32; M]; R] {
    let mut made = [[0f32; M]; R];
    for (made, sums) in made.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        // SAFETY: the caller's promise.
        *made = unsafe { sums[0].add(sums[1]).sum() };
    }
    made
}

/// [`Kind::dots`] of any kind.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn by_blocks<K: Kind, W: Wide, const M: usize, const R: usize>(
    kind: &K,
    mut rows: [K::Row<W>; R],
    x: &Inputs,
    scratch: &Scratch,
) -> [[[W; 2]; M]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[[W::zero(); 2]; M]; R];
        for block in 0..x.width / BLOCK {
            for (row, sums) in rows.iter_mut().zip(&mut sums) {
                let weights = kind.block(row, block, scratch);
                for (step, weights) in weights.into_iter().enumerate() {
                    add_step(weights, x, block, step, sums);
                }
            }
        }
        sums
    }
}

/// Adds the products of sixteen weights with `M` inputs.
///
/// # Safety
/// Needs the instructions of `W`; `x` has `M` rows of that many blocks.
#[inline(always)]
pub(super) unsafe fn add_step<W: Wide, const M: usize>(
    weights: W,
    x: &Inputs,
    block: usize,
    step: usize,
    sums: &mut [[W; 2]; M],
) {
    for (m, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let x = W::load(x.values.as_ptr().add(m * x.width + block * BLOCK + step * LANES));
            sums[step % 2] = sums[step % 2].multiply_add(weights, x);
        }
    }
}

/// The products of a row in memory with each input.
///
/// # Safety
/// Needs the instructions of `W`; the row has `x.width` weights.
#[inline(always)]
pub(super) unsafe fn products<W: Wide>(weights: &[f32], x: &Inputs, sums: &mut [f32]) {
    for (m, sum) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *sum = unsafe {
            let mut parts = [W::zero(); 2];
            for at in (0..x.width).step_by(LANES) {
                let (weights, x) =
                    (W::load(weights.as_ptr().add(at)), W::load(x.values.as_ptr().add(m * x.width + at)));
                let part = &mut parts[at / LANES % 2];
                *part = part.multiply_add(weights, x);
            }
            parts[0].add(parts[1]).sum()
        };
    }
}

/// Decodes rows of a weight from `first` on to `[.., cols]`. Where `cols` is rounded up to whole blocks, the numbers after the last
/// column mean nothing.
///
/// # Safety
/// Needs the instructions of `W`.
#[inline(always)]
pub(super) unsafe fn decode_rows<K: Kind, W: Wide>(kind: &K, first: usize, cols: usize, out: &mut [f32]) {
    let mut scratch = Scratch::default();
    let mut whole = [0f32; BLOCK];
    for (i, out) in out.chunks_exact_mut(cols).enumerate() {
        // SAFETY: the caller's promise.
        let mut row = unsafe {
            kind.prepare::<W>(first + i, 1, &mut scratch);
            kind.row::<W>(first + i, 0, &scratch)
        };
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            // SAFETY: the caller's promise; a block has room for four times sixteen numbers.
            unsafe {
                let weights = kind.block::<W>(&mut row, block, &scratch);
                let to = if out.len() == BLOCK { out.as_mut_ptr() } else { whole.as_mut_ptr() };
                for (step, weights) in weights.into_iter().enumerate() {
                    weights.store(to.add(step * LANES));
                }
            }
            if out.len() < BLOCK {
                out.copy_from_slice(&whole[..out.len()]);
            }
        }
    }
}
