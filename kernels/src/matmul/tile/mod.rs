//! The innermost part of products: tiles of 6 by 64 sums in registers, or of 32 by 32 where the processor has a unit for them, in
//! versions for several instruction sets of which the fastest that the processor has is chosen at run time.
//!
//! An operand's elements lie in 32-bit words: two neighbours along k as bfloat16 ([`Elements::Pairs`], the lower half first),
//! or one f32 ([`Elements::Singles`]). The right operand lies in panels of 64 rows; of the left one, a tile reads 6 rows at
//! any stride, and a unit whole tiles ([`blocks`]). The sums run over k in one fixed order, so a result does not depend on the
//! number of threads.

mod available;
mod blocks;
mod lanes;
mod lines;
#[cfg(target_arch = "aarch64")]
mod neon;
mod peak;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::cell::Cell;
use std::mem::MaybeUninit;

pub use available::{ISA, arithmetic, choose};
pub(crate) use lines::{LINE, Lines};

use crate::simd::{self, multiversion};
use available::available;

/// Rows of the left operand per tile.
pub(crate) const MR: usize = 6;
/// Rows of the right operand per tile.
pub(crate) const NR: usize = 64;
/// Words along k per pass: a panel of the right operand (KC · NR · 4 bytes) stays in the first-level cache.
const KC: usize = 96;

/// Contents of the words of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elements {
    /// Two bfloat16.
    Pairs,
    /// One f32.
    Singles,
}

/// A version of the tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AMX, which multiplies tiles of 16 by 32 with 32 by 16 bfloat16. It takes subnormal numbers as zero. What is no product of
    /// pairs is as with [`Isa::Avx512`].
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
    /// AVX-512 with `vdpbf16ps`, which multiplies 16 pairs at once. It takes subnormal numbers as zero.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// AVX-512, pairs widened to f32.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 and FMA, likewise.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// NEON with `bfmmla`, which multiplies two rows with two columns of four bfloat16. It takes subnormal numbers as zero, and
    /// rounds what is not exact to the neighbour whose last bit is one.
    #[cfg(target_arch = "aarch64")]
    Bf16Mmla,
    /// NEON, pairs widened to f32.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Loops that the compiler makes vectors of as the target's baseline allows, likewise.
    Portable,
    /// The tiles of AMX in plain loops: slow on every machine, and what AMX is held to. Used only where [`ISA`] names it.
    Blocks,
}

thread_local! {
    /// The version that this thread's products use instead of the fastest one: see [`Isa::used_in`].
    static OVERRIDE: Cell<Option<Isa>> = const { Cell::new(None) };
}

impl Isa {
    /// The versions that run on this processor, the fastest first, but for those that [`ISA`] leaves out.
    pub fn available() -> &'static [Isa] {
        available()
    }

    /// Its name: as [`ISA`] has it.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Isa::Amx => "amx",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => "avx512bf16",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Isa::Bf16Mmla => "bfmmla",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "neon",
            Isa::Portable => "portable",
            Isa::Blocks => "blocks",
        }
    }

    /// The version that products begun by this thread use.
    pub fn current() -> Isa {
        OVERRIDE.get().unwrap_or_else(|| available()[0])
    }

    /// Runs `f` with this version in the products that it begins on this thread: to compare versions.
    ///
    /// # Panics
    /// If the processor does not have it.
    pub fn used_in<T>(self, f: impl FnOnce() -> T) -> T {
        assert!(available().contains(&self), "{self:?} on a processor that has {:?}", available());
        struct Restore(Option<Isa>);
        impl Drop for Restore {
            fn drop(&mut self) {
                OVERRIDE.set(self.0);
            }
        }
        let _restore = Restore(OVERRIDE.replace(Some(self)));
        f()
    }

    /// Operations per second at best, on all threads of the pool together: of bfloat16 pairs and of f32, with operands in the
    /// first-level caches. Takes a tenth of a second.
    pub fn peaks(self) -> [f64; 2] {
        [Elements::Pairs, Elements::Singles].map(|elements| peak::peak(self, elements))
    }

    /// Words that a left operand has for a word of the right one: pairs that are widened are so on the left beforehand.
    pub(crate) fn left_words(self, elements: Elements) -> usize {
        if elements == Elements::Pairs && self.widens() { 2 } else { 1 }
    }

    /// True if pairs are multiplied in [`blocks`].
    fn has_blocks(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Isa::Amx => true,
            Isa::Blocks => true,
            _ => false,
        }
    }

    /// Rows of the left operand that are read at once.
    pub(crate) fn rows(self, elements: Elements) -> usize {
        if elements == Elements::Pairs && self.has_blocks() { blocks::BLOCK } else { MR }
    }

    /// Rows of a left operand of so many pairs that a task takes: whole tiles whose words fit the second-level cache.
    pub(crate) fn task_rows(self, pairs: usize) -> usize {
        if !self.has_blocks() {
            return 22 * MR;
        }
        const WORDS: usize = 1 << 18;
        (WORDS / pairs.max(1) / blocks::BLOCK).clamp(1, 6) * blocks::BLOCK
    }

    fn widens(self) -> bool {
        match self {
            _ if self.has_blocks() => false,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => false,
            #[cfg(target_arch = "aarch64")]
            Isa::Bf16Mmla => false,
            _ => true,
        }
    }

    /// Rows `[.., cols]` of a left operand rounded to bfloat16, one after the other: as many words as [`Isa::left_words`] says
    /// for each pair; or in tiles. The missing second half of an odd row is zero. Where pairs are multiplied as they are,
    /// subnormal numbers count as zero.
    pub(crate) fn rounded(self, x: &[f32], cols: usize) -> Lines {
        if self.has_blocks() {
            return blocks::rounded(self, x, cols);
        }
        let each = cols.div_ceil(2) * self.left_words(Elements::Pairs);
        let mut lines = Lines::default();
        let write = |words: &mut [MaybeUninit<u32>]| {
            words.chunks_exact_mut(each).zip(x.chunks_exact(cols)).for_each(|(words, x)| self.round(words, x));
        };
        // SAFETY: each row is written, and there are as many as the length says.
        unsafe { lines.fill(x.len() / cols * each, write) };
        lines
    }

    /// Writes the words of one row.
    fn round(self, words: &mut [MaybeUninit<u32>], x: &[f32]) {
        assert!(words.len() == x.len().div_ceil(2) * self.left_words(Elements::Pairs));
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the processor has the instructions, or this version would not exist; there is a word for each pair.
            Isa::Avx512Bf16 => unsafe { x86::pair_up(words, x) },
            #[cfg(target_arch = "aarch64")]
            Isa::Bf16Mmla => neon::pair_up(words, x),
            _ => widened(words, x),
        }
    }

    /// A panel of pairs `[pairs, NR]` as a left operand: `[pairs, NR]`, `[pairs, 2, NR]`, or in tiles.
    pub(crate) fn left_of_panel<'a>(self, panel: &'a [u32], room: &'a mut Lines) -> Left<'a> {
        if self.has_blocks() {
            blocks::turned(panel, room);
            return Left::rows(self, Elements::Pairs, room, panel.len() / NR);
        }
        if !self.widens() {
            return Left { words: panel, row: 1, step: NR };
        }
        let write = |words: &mut [MaybeUninit<u32>]| {
            for (words, pairs) in words.chunks_exact_mut(2 * NR).zip(panel.chunks_exact(NR)) {
                let (low, high) = words.split_at_mut(NR);
                low.iter_mut().zip(pairs).for_each(|(low, word)| _ = low.write(word << 16));
                high.iter_mut().zip(pairs).for_each(|(high, word)| _ = high.write(word & 0xffff_0000));
            }
        };
        // SAFETY: all words are written.
        unsafe { room.fill(2 * panel.len(), write) };
        Left { words: room, row: 1, step: 2 * NR }
    }
}

multiversion! {
    /// Each number rounded to bfloat16, as f32.
    fn widened(words: &mut [MaybeUninit<u32>], x: &[f32]) {
        let (words, rest) = words.split_at_mut(x.len());
        for (word, &x) in words.iter_mut().zip(x) {
            word.write(simd::bf16_bits(x) << 16);
        }
        for word in rest {
            word.write(0);
        }
    }
}

/// The left operand: the word of `row` and step k is at `row · self.row + k · self.step`, and where there are two words for
/// a step, the second lies `step / 2` after it. In tiles that holds of rows and steps which are multiples of 16.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub words: &'a [u32],
    pub row: usize,
    pub step: usize,
}

impl<'a> Left<'a> {
    /// Rows of `steps` steps, one after the other, as [`Isa::rounded`] makes them.
    pub fn rows(isa: Isa, elements: Elements, words: &'a [u32], steps: usize) -> Self {
        if elements == Elements::Pairs && isa.has_blocks() {
            return Self { words, row: blocks::pad(steps), step: blocks::SIDE };
        }
        let each = isa.left_words(elements);
        Self { words, row: each * steps, step: each }
    }

    /// From this row and step on.
    pub fn from(self, row: usize, step: usize) -> Self {
        Self { words: &self.words[row * self.row + step * self.step..], ..self }
    }
}

/// Destination of a block of products: `rows × cols` with the given row stride.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
    /// Nothing is there yet: the first sums are stored, not added.
    pub fresh: bool,
}

/// Adds left · rightᵀ to `y`, over `steps` words of k. All passes over k are made for one panel before the next, so that
/// the sums they add to (64 columns of `y`) stay in the second-level cache.
pub(crate) fn multiply(
    (isa, elements): (Isa, Elements),
    left: &Left<'_>,
    right: &[u32],
    steps: usize,
    out: &Target,
    y: &mut [MaybeUninit<f32>],
) {
    if elements == Elements::Pairs && isa.has_blocks() {
        return blocks::multiply(isa, left, right, steps, out, y);
    }
    let passes = steps.div_ceil(KC).max(1);
    let depth = steps.div_ceil(passes).max(1);
    for (n, b) in right.chunks_exact(steps * NR).enumerate() {
        let cols = NR.min(out.cols.saturating_sub(n * NR));
        if cols == 0 {
            break;
        }
        for first in (0..steps).step_by(depth) {
            let count = depth.min(steps - first);
            // While this part of a panel is used, what comes next is fetched, a share with every tile, unless all of it is near.
            let next = if size_of_val(right) > NEAR { &right[(n * steps + first + count) * NR..] } else { &[] };
            let mut next = next[..next.len().min(depth * NR)].chunks(next_share(depth * NR, out.rows.div_ceil(MR)));
            let b = &b[first * NR..][..count * NR];
            for m in (0..out.rows).step_by(MR) {
                fetch(next.next().unwrap_or_default());
                let rows = MR.min(out.rows - m);
                let y = &mut y[m * out.stride + n * NR..];
                let target = Target { rows, cols, stride: out.stride, fresh: out.fresh && first == 0 };
                tile((isa, elements), &left.from(m, first), b, y, &target);
            }
        }
    }
}

/// Words of `len` that are fetched with each of so many tiles: whole lines of a cache.
fn next_share(len: usize, tiles: usize) -> usize {
    len.div_ceil(tiles.max(1)).next_multiple_of(LINE)
}

/// Bytes of a right operand that the second-level cache is sure to hold.
const NEAR: usize = 1 << 18;

/// Asks for these words in the second-level cache.
#[inline(always)]
fn fetch(words: &[u32]) {
    #[cfg(target_arch = "x86_64")]
    for line in words.chunks(LINE) {
        // SAFETY: every x86-64 processor has the instruction, which reads nothing.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = words;
}

/// One tile: up to [`MR`] rows of `a`, `b [steps, NR]`, to `out.rows × out.cols` elements of `y`.
fn tile((isa, elements): (Isa, Elements), a: &Left<'_>, b: &[u32], y: &mut [MaybeUninit<f32>], out: &Target) {
    let steps = b.len() / NR;
    assert!((1..=MR).contains(&out.rows) && (1..=NR).contains(&out.cols) && steps > 0);
    assert!(y.len() >= (out.rows - 1) * out.stride + out.cols);
    let second = (isa.left_words(elements) - 1) * (a.step / 2);
    assert!(a.words.len() > (out.rows - 1) * a.row + (steps - 1) * a.step + second);
    // SAFETY: the processor has the instructions, or this version would not exist; the assertions above bound every access.
    unsafe {
        match (isa, elements) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16, Elements::Pairs) => x86::dot(a, b, y, out),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Elements::Pairs) => x86::avx512_pairs(a, b, y, out),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            (Isa::Amx, _) => x86::avx512_singles(a, b, y, out),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16 | Isa::Avx512, Elements::Singles) => x86::avx512_singles(a, b, y, out),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Elements::Pairs) => x86::avx2_pairs(a, b, y, out),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Elements::Singles) => x86::avx2_singles(a, b, y, out),
            #[cfg(target_arch = "aarch64")]
            (Isa::Bf16Mmla, Elements::Pairs) => neon::matrices(a, b, y, out),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, Elements::Pairs) => neon::pairs(a, b, y, out),
            #[cfg(target_arch = "aarch64")]
            (Isa::Bf16Mmla | Isa::Neon, Elements::Singles) => neon::singles(a, b, y, out),
            (Isa::Portable | Isa::Blocks, Elements::Pairs) => {
                lanes::tile::<lanes::Loops, lanes::Pairs, { lanes::LOOPS }>(a, b, y, out)
            }
            (Isa::Portable | Isa::Blocks, Elements::Singles) => {
                lanes::tile::<lanes::Loops, lanes::Whole, { lanes::LOOPS }>(a, b, y, out)
            }
        }
    }
}

/// Initialised memory is a special case of memory that may not be.
pub(crate) fn as_uninit(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: the two types have the same layout, and this module writes numbers only.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<f32>]) }
}

/// The words of f32: [`Elements::Singles`].
pub(crate) fn as_words(values: &[f32]) -> &[u32] {
    // SAFETY: the two types have the same layout, and every value of one is one of the other.
    unsafe { &*(std::ptr::from_ref(values) as *const [u32]) }
}
