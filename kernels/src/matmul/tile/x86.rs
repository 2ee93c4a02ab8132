//! The tile on x86-64.

use std::arch::x86_64::*;
use std::mem::{MaybeUninit, transmute};

use super::lanes::{Lanes, Pairs, Whole, Widen, tile};
use super::{Left, Target};

/// Pairs of bfloat16 and sums of f32 under `vdpbf16ps`.
#[derive(Clone, Copy)]
struct Dot(__m512);

/// 16 lanes.
#[derive(Clone, Copy)]
struct F512(__m512);

/// 8 lanes.
#[derive(Clone, Copy)]
struct F256(__m256);

impl Lanes for Dot {
    const N: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's promise about instructions.
        Self(unsafe { F512::zero() }.0)
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm512_loadu_ps(from.cast()) })
    }

    #[inline(always)]
    unsafe fn splat(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { F512::splat(from) }.0)
    }

    #[inline(always)]
    unsafe fn multiply_add(self, left: Self, right: Self) -> Self {
        // SAFETY: the caller's promise; the same 512 bits, read as 32 bfloat16 values.
        unsafe {
            let left = transmute::<__m512, __m512bh>(left.0);
            Self(_mm512_dpbf16_ps(self.0, left, transmute::<__m512, __m512bh>(right.0)))
        }
    }

    #[inline(always)]
    unsafe fn add_to(self, at: *mut f32, fresh: bool) {
        // SAFETY: the caller's promise.
        unsafe { F512(self.0).add_to(at, fresh) }
    }
}

impl Lanes for F512 {
    const N: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's promise about instructions.
        Self(unsafe { _mm512_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm512_loadu_ps(from.cast()) })
    }

    #[inline(always)]
    unsafe fn splat(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm512_set1_ps(f32::from_bits(*from)) })
    }

    #[inline(always)]
    unsafe fn multiply_add(self, left: Self, right: Self) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm512_fmadd_ps(left.0, right.0, self.0) })
    }

    #[inline(always)]
    unsafe fn add_to(self, at: *mut f32, fresh: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            let sum = if fresh { self.0 } else { _mm512_add_ps(_mm512_loadu_ps(at), self.0) };
            _mm512_storeu_ps(at, sum);
        }
    }
}

impl Widen for F512 {
    #[inline(always)]
    unsafe fn low(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_loadu_si512(from.cast()))) })
    }

    #[inline(always)]
    unsafe fn high(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        let words = unsafe { _mm512_loadu_si512(from.cast()) };
        // SAFETY: the caller's promise about instructions.
        Self(unsafe { _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32))) })
    }
}

impl Lanes for F256 {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's promise about instructions.
        Self(unsafe { _mm256_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_loadu_ps(from.cast()) })
    }

    #[inline(always)]
    unsafe fn splat(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_set1_ps(f32::from_bits(*from)) })
    }

    #[inline(always)]
    unsafe fn multiply_add(self, left: Self, right: Self) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_fmadd_ps(left.0, right.0, self.0) })
    }

    #[inline(always)]
    unsafe fn add_to(self, at: *mut f32, fresh: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            let sum = if fresh { self.0 } else { _mm256_add_ps(_mm256_loadu_ps(at), self.0) };
            _mm256_storeu_ps(at, sum);
        }
    }
}

impl Widen for F256 {
    #[inline(always)]
    unsafe fn low(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_loadu_si256(from.cast()))) })
    }

    #[inline(always)]
    unsafe fn high(from: *const u32) -> Self {
        // SAFETY: the caller's promise.
        let words = unsafe { _mm256_loadu_si256(from.cast()) };
        // SAFETY: the caller's promise about instructions.
        Self(unsafe { _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32 as i32))) })
    }
}

/// A version of the tile: its name, its instructions, its lanes, vectors of a row and the reading of words.
macro_rules! version {
    ($name:ident, $features:literal, $lanes:ty, $regs:literal, $read:ty) => {
        /// # Safety
        /// As of [`tile`], with the instructions in the attribute.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(a: &Left<'_>, b: &[u32], y: &mut [MaybeUninit<f32>], out: &Target) {
            // SAFETY: the caller's promise.
            unsafe { tile::<$lanes, $read, $regs>(a, b, y, out) }
        }
    };
}

// 24 of 32 registers hold sums, or 12 of 16.
version!(dot, "avx512f,avx512bf16", Dot, 4, Whole);
version!(avx512_pairs, "avx512f", F512, 4, Pairs);
version!(avx512_singles, "avx512f", F512, 4, Whole);
version!(avx2_pairs, "avx2,fma", F256, 2, Pairs);
version!(avx2_singles, "avx2,fma", F256, 2, Whole);

/// One word for each pair of `x`, rounded to bfloat16.
///
/// # Safety
/// Needs AVX-512 F and BF16, and a word for each pair of `x`.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn pair_up(words: &mut [MaybeUninit<u32>], x: &[f32]) {
    for at in (0..x.len()).step_by(32) {
        // SAFETY: the mask keeps the access inside the words of the pairs.
        unsafe {
            let (pairs, count) = pairs(x, at);
            _mm512_mask_storeu_epi32(words.as_mut_ptr().add(at / 2).cast(), first(count), pairs);
        }
    }
}

/// 16 words of every 256: a word for each pair of `x`, rounded to bfloat16, and zeros after them.
///
/// # Safety
/// Needs AVX-512 F and BF16.
#[cfg(target_os = "linux")]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn pair_up_spread(words: &mut [MaybeUninit<u32>], x: &[f32]) {
    assert!(x.is_empty() || words.len() >= (x.len() - 1) / 32 * 256 + 16);
    for at in (0..x.len()).step_by(32) {
        // SAFETY: the assertion is about the last of these.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().add(at * 8).cast(), pairs(x, at).0) };
    }
}

/// Up to 16 pairs of `x` from there on, and their number.
///
/// # Safety
/// Needs AVX-512 F and BF16, and at < x.len().
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pairs(x: &[f32], at: usize) -> (__m512i, usize) {
    let left = x.len() - at;
    // SAFETY: the masks keep the accesses inside `x`; the same 512 bits as a number of another kind.
    unsafe {
        let from = x.as_ptr().add(at);
        let low = _mm512_maskz_loadu_ps(first(left), from);
        let high = _mm512_maskz_loadu_ps(first(left.saturating_sub(16)), from.wrapping_add(16));
        (transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)), left.div_ceil(2))
    }
}

/// The first so many of 16 lanes.
fn first(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}
