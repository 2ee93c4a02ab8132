//! Sixteen numbers in a register of AVX-512.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::wide::{Pairs, Wide};
use crate::matmul::Precision;

/// True if the processor has what [`Zmm`] needs.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[derive(Clone, Copy)]
pub(super) struct Zmm<const VBMI: bool>(__m512);

/// The first bits of lanes that are [`Wide::fields`] of 4 · `WIDTH` bits: the word of 32 bits, and the bit in it.
const fn begin<const WIDTH: usize>() -> ([i32; 16], [i32; 16]) {
    let (mut words, mut bits) = ([0; 16], [0; 16]);
    let mut lane = 0;
    while lane < 16 {
        words[lane] = (4 * WIDTH * lane / 32) as i32;
        bits[lane] = (4 * WIDTH * lane % 32) as i32;
        lane += 1;
    }
    (words, bits)
}

/// Lanes of a width that no instruction widens: two words of which the bits are put together.
///
/// # Safety
/// Needs AVX-512, and 64 bytes at `from`.
#[inline(always)]
unsafe fn gathered((words, bits): ([i32; 16], [i32; 16]), from: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let all = _mm512_loadu_si512(from.cast());
        let (words, bits) = (_mm512_loadu_si512(words.as_ptr().cast()), _mm512_loadu_si512(bits.as_ptr().cast()));
        let low = _mm512_srlv_epi32(_mm512_permutexvar_epi32(words, all), bits);
        let next = _mm512_permutexvar_epi32(_mm512_add_epi32(words, _mm512_set1_epi32(1)), all);
        // A shift by 32 leaves nothing.
        _mm512_or_si512(low, _mm512_sllv_epi32(next, _mm512_sub_epi32(_mm512_set1_epi32(32), bits)))
    }
}

/// The numbers of the 32 magnitudes of `e2m3`.
const MAGNITUDES: [f32; 32] = {
    let mut all = [0f32; 32];
    let mut code = 0;
    while code < 32 {
        all[code] = crate::minifloat::e2m3_number(code as u8);
        code += 1;
    }
    all
};

// SAFETY of all methods: the trait's promises about instructions and pointers.
impl<const VBMI: bool> Wide for Zmm<VBMI> {
    type Bits = __m512i;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn bf16(from: *const u16) -> Self {
        // SAFETY: see above.
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)))
        }
    }

    #[inline(always)]
    unsafe fn f16(from: *const u16) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn prefetch(place: *const u8) {
        // SAFETY: see above; nothing is read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn divide(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn rounded(self, precision: Precision) -> Self {
        // SAFETY: see above.
        unsafe {
            match precision {
                Precision::F32 => self,
                Precision::Bf16 => {
                    // Half to even; weights are finite.
                    let bits = _mm512_castps_si512(self.0);
                    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                    let up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
                    Self(_mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(0xffff_0000_u32 as i32))))
                }
                Precision::F16 => Self(_mm512_cvtph_ps(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0))),
            }
        }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn expand(self, mask: u16) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_maskz_expand_ps(mask, self.0) })
    }

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> __m512i {
        // SAFETY: see above.
        unsafe {
            let (both, low) = (_mm_loadl_epi64(from.cast()), _mm_set1_epi8(15));
            let high = _mm_and_si128(_mm_srli_epi16::<4>(both), low);
            _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(_mm_and_si128(both, low), high))
        }
    }

    #[inline(always)]
    unsafe fn fields(width: u32, from: *const u8) -> __m512i {
        // SAFETY: see above.
        unsafe {
            match width {
                2 => _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())),
                3 => gathered(const { begin::<3>() }, from),
                4 => _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())),
                5 => gathered(const { begin::<5>() }, from),
                6 => gathered(const { begin::<6>() }, from),
                7 => gathered(const { begin::<7>() }, from),
                _ => _mm512_loadu_si512(from.cast()),
            }
        }
    }

    #[inline(always)]
    unsafe fn shifted(bits: __m512i, by: u32) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_srlv_epi32(bits, _mm512_set1_epi32(by as i32)) }
    }

    #[inline(always)]
    unsafe fn pick(table: Self, bits: __m512i) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_permutexvar_ps(bits, table.0) })
    }

    #[inline(always)]
    unsafe fn whole(width: u32, bits: __m512i) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_cvtepi32_ps(_mm512_and_si512(bits, _mm512_set1_epi32((1 << width) - 1)))) }
    }

    #[inline(always)]
    unsafe fn e4m3(bits: __m512i) -> Self {
        // SAFETY: see above.
        unsafe {
            // Exponent and mantissa as those of half precision, whose bias is 8 more.
            let sign = _mm512_and_si512(_mm512_slli_epi32::<8>(bits), _mm512_set1_epi32(0x8000));
            let rest = _mm512_and_si512(_mm512_slli_epi32::<7>(bits), _mm512_set1_epi32(0x3f80));
            let half = _mm512_cvtepi32_epi16(_mm512_or_si512(sign, rest));
            Self(_mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256.0)))
        }
    }

    #[inline(always)]
    unsafe fn e2m3(bits: __m512i) -> Self {
        // SAFETY: see above.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(MAGNITUDES.as_ptr()), _mm512_loadu_ps(MAGNITUDES.as_ptr().add(16)));
            let magnitude = _mm512_castps_si512(_mm512_permutex2var_ps(low, bits, high));
            let sign = _mm512_slli_epi32::<26>(_mm512_and_si512(bits, _mm512_set1_epi32(32)));
            Self(_mm512_castsi512_ps(_mm512_or_si512(magnitude, sign)))
        }
    }

    #[inline(always)]
    unsafe fn power(bits: __m512i) -> Self {
        // SAFETY: see above.
        unsafe {
            // The smallest power is subnormal.
            let least = _mm512_set1_epi32(1 << 22);
            Self(_mm512_castsi512_ps(_mm512_max_epi32(_mm512_slli_epi32::<23>(bits), least)))
        }
    }
}

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
            (
                Self(_mm512_permutex2var_ps(self.0, even, other.0)),
                Self(_mm512_permutex2var_ps(self.0, odd, other.0)),
            )
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
