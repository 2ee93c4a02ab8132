//! Products of a few rows with packed weights, which are decoded in registers, and decoding into memory.

use std::ops::Range;

use super::kind::{Arrangement, BLOCK, Kind, Scratch};
use super::numbers::LANES;
use super::wide::{Loops, Pairs, Wide};
use crate::matmul::Isa;

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
    arrangement: Option<Arrangement>,
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
        let mut pairs = vec![0u16; self.values.len()];
        for (pairs, values) in pairs.chunks_exact_mut(BLOCK).zip(self.values.chunks_exact(BLOCK)) {
            for (place, pair) in pairs.iter_mut().enumerate() {
                *pair = (values[order.column(place)].to_bits() >> 16) as u16;
            }
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

/// The instructions of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instructions {
    /// With products of pairs of bfloat16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Loops,
}

impl Instructions {
    /// Those that go with the version of the tile that this thread uses.
    pub(super) fn current() -> Self {
        match Isa::current() {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Isa::Amx if super::x86::detected() => match is_x86_feature_detected!("avx512bf16") {
                true => Self::Avx512Bf16,
                false => Self::Avx512,
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 if super::x86::detected() => Self::Avx512Bf16,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if super::x86::detected() => Self::Avx512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Avx2 if is_x86_feature_detected!("f16c") => Self::Avx2,
            _ => Self::Loops,
        }
    }

    /// The arrangement that inputs of a weight of this kind need.
    pub(super) fn arrangement<K: Kind>(self, kind: &K) -> Option<Arrangement> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => kind.arrangement(),
            _ => None,
        }
    }
}

/// The products of rows `rows` of a weight with all inputs: `out [rows, inputs]`, of `x.count` inputs each.
pub(super) fn multiply<K: Kind>(on: Instructions, kind: &K, rows: Range<usize>, x: &Inputs, out: &mut [f32]) {
    assert!(out.len() == rows.len() * x.count && x.values.len() == x.count * x.width);
    let done = match on {
        // SAFETY: the processor has these instructions, or they would not be chosen.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512Bf16 if x.arrangement.is_some() && x.arrangement == kind.arrangement() => unsafe {
            match x.count {
                1 => avx512::in_pairs::<K, 1, TOGETHER>(kind, rows.start, x, out),
                _ => avx512::in_pairs::<K, FEW, 2>(kind, rows.start, x, out),
            }
        },
        // SAFETY: likewise.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 | Instructions::Avx512Bf16 if K::IN_REGISTERS => unsafe {
            match x.count {
                1 => avx512::together::<K, 1, TOGETHER>(kind, rows.start, x, out),
                _ => avx512::together::<K, FEW, 2>(kind, rows.start, x, out),
            }
        },
        _ => 0,
    };
    // What is left is decoded into memory first: the same sums in the same order.
    let mut weights = vec![0f32; x.width];
    for (row, sums) in rows.zip(out.chunks_exact_mut(x.count)).skip(done) {
        decode(on, kind, row, x.width, &mut weights);
        match on {
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 | Instructions::Avx512Bf16 => unsafe { avx512::products(&weights, x, sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { avx2::products(&weights, x, sums) },
            // SAFETY: loops need no instructions.
            Instructions::Loops => unsafe { products::<Loops>(&weights, x, sums) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::super::x86::Zmm;
    use super::{Inputs, Kind};

    /// [`super::together`] with these instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn together<K: Kind, const M: usize, const R: usize>(
        kind: &K,
        first: usize,
        x: &Inputs,
        out: &mut [f32],
    ) -> usize {
        // SAFETY: the instructions are those of this function.
        unsafe { super::together::<K, Zmm, M, R>(kind, first, x, out) }
    }

    /// [`super::in_pairs`] with these instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn in_pairs<K: Kind, const M: usize, const R: usize>(
        kind: &K,
        first: usize,
        x: &Inputs,
        out: &mut [f32],
    ) -> usize {
        // SAFETY: the instructions are those of this function.
        unsafe { super::in_pairs::<K, Zmm, M, R>(kind, first, x, out) }
    }

    /// [`super::products`] with these instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn products(weights: &[f32], x: &Inputs, sums: &mut [f32]) {
        // SAFETY: the instructions are those of this function.
        unsafe { super::products::<Zmm>(weights, x, sums) }
    }

    /// [`super::decode`] with these instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn decode<K: Kind>(kind: &K, first: usize, cols: usize, out: &mut [f32]) {
        // SAFETY: the instructions are those of this function.
        unsafe { super::decode_rows::<K, Zmm>(kind, first, cols, out) }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Inputs, Kind, Loops};

    /// [`super::products`] with these instructions.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn products(weights: &[f32], x: &Inputs, sums: &mut [f32]) {
        // SAFETY: the instructions are those of this function.
        unsafe { super::products::<Loops>(weights, x, sums) }
    }

    /// [`super::decode`] with these instructions.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn decode<K: Kind>(kind: &K, first: usize, cols: usize, out: &mut [f32]) {
        // SAFETY: the instructions are those of this function.
        unsafe { super::decode_rows::<K, Loops>(kind, first, cols, out) }
    }
}

/// The products of rows from `first` on, `R` rows at a time, as long as there are so many; returns their number.
///
/// # Safety
/// Needs the instructions of `W`.
#[inline(always)]
unsafe fn together<K: Kind, W: Wide, const M: usize, const R: usize>(
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
unsafe fn in_pairs<K: Kind, W: Pairs, const M: usize, const R: usize>(
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
            kind.prepare::<W>(first + i * R, R, &mut scratch);
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
unsafe fn products<W: Wide>(weights: &[f32], x: &Inputs, sums: &mut [f32]) {
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
pub(super) fn decode<K: Kind>(on: Instructions, kind: &K, first: usize, cols: usize, out: &mut [f32]) {
    match on {
        // SAFETY: the processor has these instructions, or they would not be chosen.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 | Instructions::Avx512Bf16 => unsafe { avx512::decode(kind, first, cols, out) },
        // SAFETY: likewise.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => unsafe { avx2::decode(kind, first, cols, out) },
        // SAFETY: loops need none.
        Instructions::Loops => unsafe { decode_rows::<K, Loops>(kind, first, cols, out) },
    }
}

/// # Safety
/// Needs the instructions of `W`.
#[inline(always)]
unsafe fn decode_rows<K: Kind, W: Wide>(kind: &K, first: usize, cols: usize, out: &mut [f32]) {
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
                for (step, weights) in kind.block::<W>(&mut row, block, &scratch).into_iter().enumerate() {
                    weights.store(whole.as_mut_ptr().add(step * LANES));
                }
            }
            out.copy_from_slice(&whole[..out.len()]);
        }
    }
}
