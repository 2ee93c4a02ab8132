//! Pairs of bfloat16 in registers of AVX-512.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::wide::{Pairs, Wide};
use super::x86::Zmm;

/// Bit 4 of odd words.
const ODD: i32 = 16 << 16;

/// The upper halves of lanes.
const UPPER: i32 = 0xffff_0000_u32 as i32;

/// Sixteen places, so far apart, from `first` on.
const fn places(step: i32, first: i32) -> [i32; 16] {
    let mut all = [0; 16];
    let mut i = 0;
    while i < 16 {
        all[i] = first + step * i as i32;
        i += 1;
    }
    all
}

/// The function `(a & b) | c` of `vpternlog`.
const AND_OR: i32 = 0xea;

/// For each byte of 64 bits in which four words lie `2 · width` bits apart, the bit that it begins with, `less` below that of a code.
/// Bytes above a code get the next bits, which nobody looks at.
const fn shifts(width: usize, half: usize, less: usize) -> [u8; 64] {
    let mut all = [0; 64];
    let mut byte = 0;
    while byte < 64 {
        let bit = 2 * width * (byte % 8 / 2) + half * width + byte % 2 * 8;
        all[byte] = ((bit + 64 - less) % 64) as u8;
        byte += 1;
    }
    all
}

/// # Safety
/// Needs AVX-512 VBMI.
#[inline(always)]
unsafe fn shifted(control: [u8; 64], words: __m512i) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_multishift_epi64_epi8(_mm512_loadu_si512(control.as_ptr().cast()), words) }
}

/// The bytes of codes of three bits for each four words: three of eight.
const THREE_OF_EIGHT: [u8; 64] = {
    let mut all = [0; 64];
    let mut byte = 0;
    while byte < 64 {
        all[byte] = (byte / 8 * 3 + byte % 8 % 3) as u8;
        byte += 1;
    }
    all
};

// SAFETY of all methods: the trait's promises about instructions and pointers.
impl<const VBMI: bool> Pairs for Zmm<VBMI> {
    #[inline(always)]
    unsafe fn words(width: u32, from: *const u8) -> __m512i {
        // SAFETY: see above.
        unsafe {
            if width == 4 {
                return _mm512_cvtepu8_epi16(_mm256_loadu_si256(from.cast()));
            }
            if VBMI && width == 2 {
                return _mm512_cvtepu16_epi64(_mm_loadu_si128(from.cast()));
            }
            if VBMI && width == 3 {
                let all = _mm512_castsi256_si512(_mm256_loadu_si256(from.cast()));
                return _mm512_permutexvar_epi8(_mm512_loadu_si512(THREE_OF_EIGHT.as_ptr().cast()), all);
            }
            // The third and fourth code of a lane in the upper half of it too; what lies above a word's codes is not looked at.
            let bits = _mm512_and_si512(Self::fields(width, from), _mm512_set1_epi32(0xffff));
            let up = _mm512_set1_epi32(16 - 2 * width as i32);
            _mm512_or_si512(bits, _mm512_sllv_epi32(bits, up))
        }
    }

    #[inline(always)]
    unsafe fn half(width: u32, half: u32, words: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe {
            match (VBMI, width, half) {
                (true, 2, 0) => shifted(const { shifts(2, 0, 0) }, words),
                (true, 2, _) => shifted(const { shifts(2, 1, 0) }, words),
                (true, 3, 0) => shifted(const { shifts(3, 0, 0) }, words),
                (true, 3, _) => shifted(const { shifts(3, 1, 0) }, words),
                (_, _, 0) => words,
                _ => _mm512_srlv_epi16(words, _mm512_set1_epi16(width as i16)),
            }
        }
    }

    #[inline(always)]
    unsafe fn marked(bits: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_ternarylogic_epi32::<AND_OR>(bits, _mm512_set1_epi16(15), _mm512_set1_epi32(ODD)) }
    }

    #[inline(always)]
    unsafe fn quarters(half: u32, words: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe {
            let bits = match (VBMI, half) {
                (true, 0) => shifted(const { shifts(3, 0, 1) }, words),
                (true, _) => shifted(const { shifts(3, 1, 1) }, words),
                (false, 0) => _mm512_add_epi16(words, words),
                (false, _) => _mm512_srli_epi16::<2>(words),
            };
            let marks = _mm512_set1_epi32(ODD + half as i32 * 0x1_0001);
            _mm512_ternarylogic_epi32::<AND_OR>(bits, _mm512_set1_epi16(14), marks)
        }
    }

    #[inline(always)]
    unsafe fn narrowed(low: Self, high: Self) -> __m512i {
        // SAFETY: see above; the same 512 bits.
        unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high.0, low.0)) }
    }

    #[inline(always)]
    unsafe fn pick_words(table: __m512i, bits: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_permutexvar_epi16(bits, table) }
    }

    #[inline(always)]
    unsafe fn load_words(from: *const u16) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn parity(odd: u32, bits: __m512i) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(_mm512_castsi512_ps(match odd {
                0 => _mm512_slli_epi32::<16>(bits),
                _ => _mm512_and_si512(bits, _mm512_set1_epi32(UPPER)),
            }))
        }
    }

    #[inline(always)]
    unsafe fn join_words(low: *const u16, high: *const u16) -> __m512i {
        // SAFETY: see above.
        unsafe {
            let low = _mm512_castsi256_si512(_mm256_loadu_si256(low.cast()));
            _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(high.cast()))
        }
    }

    #[inline(always)]
    unsafe fn expand_words(mask: u32, from: *const u16) -> __m512i {
        // SAFETY: see above; what is read of the second half begins at most at the sixteenth word.
        unsafe {
            if VBMI {
                return _mm512_maskz_expand_epi16(mask, _mm512_loadu_si512(from.cast()));
            }
            let widened = |from: *const u16| _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            let low = _mm512_maskz_expand_epi32(mask as u16, widened(from));
            let next = from.add((mask as u16).count_ones() as usize);
            let high = _mm512_maskz_expand_epi32((mask >> 16) as u16, widened(next));
            let low = _mm512_castsi256_si512(_mm512_cvtepi32_epi16(low));
            _mm512_inserti64x4::<1>(low, _mm512_cvtepi32_epi16(high))
        }
    }

    #[inline(always)]
    unsafe fn repeat_two(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_castpd_ps(_mm512_set1_pd(from.cast::<f64>().read_unaligned()))) }
    }

    #[inline(always)]
    unsafe fn repeat_four(from: *const f32) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_broadcast_f32x4(_mm_loadu_ps(from)) })
    }

    #[inline(always)]
    unsafe fn unzipped(self, other: Self) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            let even = _mm512_loadu_si512(const { places(2, 0) }.as_ptr().cast());
            let odd = _mm512_loadu_si512(const { places(2, 1) }.as_ptr().cast());
            (Self(_mm512_permutex2var_ps(self.0, even, other.0)), Self(_mm512_permutex2var_ps(self.0, odd, other.0)))
        }
    }

    #[inline(always)]
    unsafe fn biased(which: u32, bits: __m512i) -> Self {
        // SAFETY: see above.
        unsafe {
            // The byte as the second lowest of a lane: units of its last place are 2^-8 · 2^15 · 2^-15.
            let moved = match which {
                0 => _mm512_slli_epi32::<8>(bits),
                1 => bits,
                2 => _mm512_srli_epi32::<8>(bits),
                _ => _mm512_srli_epi32::<16>(bits),
            };
            let (byte, base) = (_mm512_set1_epi32(0xff00), _mm512_castps_si512(_mm512_set1_ps(32768.0)));
            Self(_mm512_castsi512_ps(_mm512_ternarylogic_epi32::<AND_OR>(moved, byte, base)))
        }
    }

    #[inline(always)]
    unsafe fn tiny_e4m3(upper: u32, bits: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe {
            // Sign, four bits of exponent and three of mantissa: the exponent goes to the lowest bits of a longer one, whose bias is
            // 120 more. Subnormal numbers become subnormal ones.
            let bits = if upper == 1 { bits } else { _mm512_slli_epi16::<8>(bits) };
            _mm512_and_si512(_mm512_srai_epi16::<4>(bits), _mm512_set1_epi16(0x87f0_u16 as i16))
        }
    }

    #[inline(always)]
    unsafe fn dot(self, weights: __m512i, x: __m512i) -> Self {
        // SAFETY: see above; the same 512 bits.
        unsafe {
            let (weights, x) = (transmute::<__m512i, __m512bh>(weights), transmute::<__m512i, __m512bh>(x));
            Self(_mm512_dpbf16_ps(self.0, weights, x))
        }
    }
}
