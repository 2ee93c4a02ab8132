//! Sixteen numbers in a register of AVX-512; with permutations of bytes or without.

use std::arch::x86_64::*;

use super::wide::Wide;
use crate::matmul::Precision;

/// True if the processor has what [`Zmm`] needs.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[derive(Clone, Copy)]
pub(super) struct Zmm<const VBMI: bool>(pub __m512);

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
