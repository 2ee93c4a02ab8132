//! The loops over codes, compiled for what the processor has and chosen at run time: the same bits from all of them.
//!
//! The bodies of [`lanes`] and [`padded`] are compiled for AVX2 too. Where there is AVX-512 VBMI there are
//! loops of their own: it has an instruction that moves bytes to any place, and one that picks bytes at any bit.

use super::{lanes, padded};

/// The layout of codes in rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    /// Width of a code, 1 to 8.
    pub(super) bits: u32,
    /// True when no code lies across words.
    pub(super) padded: bool,
    /// Codes of a row, at least one.
    pub(super) codes: usize,
    /// Bytes of a row, at least one: enough of them, a multiple of four where words are padded.
    pub(super) bytes: usize,
}

/// The instruction set that a [`Version`] is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Vbmi,
}

/// One version of the loops, which this processor can run: no other can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(Set);

impl Version {
    /// All that this processor can run, the slowest first.
    pub(super) fn all() -> impl DoubleEndedIterator<Item = Version> {
        #[cfg(target_arch = "x86_64")]
        let more = [
            is_x86_feature_detected!("avx2").then_some(Set::Avx2),
            (is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vbmi"))
            .then_some(Set::Vbmi),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let more: [Option<Set>; 0] = [];
        [Some(Set::Baseline)].into_iter().chain(more).flatten().map(Version)
    }

    /// The fastest.
    pub(super) fn best() -> Version {
        Version::all().next_back().unwrap_or(Version(Set::Baseline))
    }

    /// Writes rows of codes, each plus `2^(bits-1)`, to rows of bytes that are zero.
    ///
    /// Returns all codes or-ed, as they are stored: where that has more bits, a code was out of range, and `out` makes no
    /// sense.
    pub(super) fn pack(self, rows: Rows, codes: &[i8], out: &mut [u8]) -> u8 {
        match self.0 {
            Set::Baseline => pack(rows, codes, out),
            // SAFETY: `all` has detected the features of the version it made.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::pack(rows, codes, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Vbmi => unsafe { vbmi::pack(rows, codes, out) },
        }
    }

    /// Fills rows of codes from rows of bytes as [`Version::pack`] makes them.
    pub(super) fn unpack(self, rows: Rows, words: &[u8], codes: &mut [i8]) {
        match self.0 {
            Set::Baseline => unpack(rows, words, codes),
            // SAFETY: `all` has detected the features of the version it made.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::unpack(rows, words, codes) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Vbmi => unsafe { vbmi::unpack(rows, words, codes) },
        }
    }
}

#[inline(always)]
fn pack(rows: Rows, codes: &[i8], out: &mut [u8]) -> u8 {
    let mut seen = 0;
    for (codes, out) in codes.chunks_exact(rows.codes).zip(out.chunks_exact_mut(rows.bytes)) {
        seen |= pack_row(rows, codes, out);
    }
    seen
}

#[inline(always)]
fn pack_row(rows: Rows, codes: &[i8], out: &mut [u8]) -> u8 {
    match rows.padded {
        false => lanes::write(codes, rows.bits, out),
        true => padded::write(codes, rows.bits, out),
    }
}

#[inline(always)]
fn unpack(rows: Rows, words: &[u8], codes: &mut [i8]) {
    for (words, codes) in words.chunks_exact(rows.bytes).zip(codes.chunks_exact_mut(rows.codes)) {
        unpack_row(rows, words, codes);
    }
}

#[inline(always)]
fn unpack_row(rows: Rows, words: &[u8], codes: &mut [i8]) {
    match rows.padded {
        false => lanes::read(words, rows.bits, codes),
        true => padded::read(words, rows.bits, codes),
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Rows;

    #[target_feature(enable = "avx2")]
    pub(super) fn pack(rows: Rows, codes: &[i8], out: &mut [u8]) -> u8 {
        super::pack(rows, codes, out)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn unpack(rows: Rows, words: &[u8], codes: &mut [i8]) {
        super::unpack(rows, words, codes);
    }
}

#[cfg(target_arch = "x86_64")]
mod vbmi {
    use std::arch::x86_64::*;

    use super::Rows;

    /// The contents of a lane of 64 bits: codes, one a byte, and the bytes that they are stored in.
    struct Lanes {
        codes: usize,
        bytes: usize,
        /// Lanes of one step: their codes fit in 64 bytes.
        count: usize,
    }

    impl Lanes {
        fn new(bits: u32, padded: bool) -> Lanes {
            let (codes, bytes) = if padded { ((32 / bits) as usize, 4) } else { (8, bits as usize) };
            Lanes { codes, bytes, count: (64 / codes).min(8) }
        }
    }

    /// For `_mm512_maskz_permutexvar_epi8`: byte `i` is moved from `from(i)`, or is 0.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn moves(from: impl Fn(usize) -> Option<usize>) -> (u64, __m512i) {
        let mask = (0..64).filter(|&i| from(i).is_some()).fold(0, |mask, i| mask | 1 << i);
        (mask, load(&std::array::from_fn(|i| from(i).unwrap_or(0) as u8)))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn pack(rows: Rows, codes: &[i8], out: &mut [u8]) -> u8 {
        let Rows { bits, padded, .. } = rows;
        if bits == 8 {
            return super::pack(rows, codes, out);
        }
        let half = _mm512_set1_epi8(1 << (bits - 1));
        // Products put together pairs of codes, then pairs of pairs; a shift puts together the halves of a lane.
        let pairs = _mm512_set1_epi16(1 | 1 << (8 + bits));
        let fours = _mm512_set1_epi32(1 | 1 << (16 + 2 * bits));
        let (low, shift) = (_mm512_set1_epi64(0xffff_ffff), _mm_cvtsi32_si128(32 - 4 * bits as i32));
        let lanes = Lanes::new(bits, padded);
        let (size, count) = (lanes.count * lanes.bytes, lanes.count * lanes.codes);
        // To a lane its first eight codes; what codes it has beyond them; from the lanes their bytes, side by side.
        let eight = moves(|i| (i / 8 < lanes.count && i % 8 < lanes.codes).then_some(i / 8 * lanes.codes + i % 8));
        let more =
            moves(|i| (i / 8 < lanes.count && i % 8 + 8 < lanes.codes).then_some(i / 8 * lanes.codes + 8 + i % 8));
        let gather = moves(|i| (i < size).then_some(i / lanes.bytes * 8 + i % lanes.bytes));
        let (shift_more, has_more) = (_mm_cvtsi32_si128(8 * bits as i32), lanes.codes > 8);
        let narrow = |now| {
            let now = _mm512_madd_epi16(_mm512_maddubs_epi16(pairs, now), fours);
            _mm512_or_si512(_mm512_and_si512(now, low), _mm512_srl_epi64(_mm512_andnot_si512(low, now), shift))
        };
        let mut seen = _mm512_setzero_si512();
        let mut last = 0;
        for (mut codes, mut out) in codes.chunks_exact(rows.codes).zip(out.chunks_exact_mut(rows.bytes)) {
            while let (Some(now), true) = (codes.first_chunk::<64>(), out.len() >= size) {
                let now = _mm512_add_epi8(load(&now.map(|code| code as u8)), half);
                seen = _mm512_or_si512(seen, now);
                let mut words = narrow(if padded { _mm512_maskz_permutexvar_epi8(eight.0, eight.1, now) } else { now });
                if has_more {
                    let more = narrow(_mm512_maskz_permutexvar_epi8(more.0, more.1, now));
                    words = _mm512_or_si512(words, _mm512_sll_epi64(more, shift_more));
                }
                let words = _mm512_maskz_permutexvar_epi8(gather.0, gather.1, words);
                match out.first_chunk_mut::<64>() {
                    // What is written beyond these codes is zero, and the next ones write over it.
                    Some(out) => store(out, words),
                    None => {
                        let mut bytes = [0; 64];
                        store(&mut bytes, words);
                        out[..size].copy_from_slice(&bytes[..size]);
                    }
                }
                codes = &codes[count..];
                out = &mut out[size..];
            }
            last |= super::pack_row(rows, codes, out);
        }
        let mut bytes = [0; 64];
        store(&mut bytes, seen);
        bytes.into_iter().fold(last, |all, seen| all | seen)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn unpack(rows: Rows, words: &[u8], codes: &mut [i8]) {
        let Rows { bits, padded, .. } = rows;
        if bits == 8 {
            return super::unpack(rows, words, codes);
        }
        let (half, keep) = (_mm512_set1_epi8(1 << (bits - 1)), _mm512_set1_epi8(((1u32 << bits) - 1) as i8));
        let lanes = Lanes::new(bits, padded);
        let (size, count) = (lanes.count * lanes.bytes, lanes.count * lanes.codes);
        // Its bytes to each lane, and from these a byte at every multiple of `bits`: of eight codes, and of more.
        let spread = moves(|i| (i / 8 < lanes.count && i % 8 < lanes.bytes).then_some(i / 8 * lanes.bytes + i % 8));
        let starts = load(&std::array::from_fn(|i| (i % 8 * bits as usize) as u8));
        let starts_more = load(&std::array::from_fn(|i| ((8 + i % 8) * bits as usize) as u8));
        // Where a code is: in the first eight of its lane or in more.
        let places = load(&std::array::from_fn(|i| match (i / lanes.codes, i % lanes.codes) {
            (lane, at) if at < 8 => (lane * 8 + at) as u8,
            (lane, at) => (64 + lane * 8 + at - 8) as u8,
        }));
        let has_more = lanes.codes > 8;
        for (mut words, mut codes) in words.chunks_exact(rows.bytes).zip(codes.chunks_exact_mut(rows.codes)) {
            while let (true, Some(now)) = (words.len() >= size, codes.first_chunk_mut::<64>()) {
                let stream = match words.first_chunk::<64>() {
                    Some(stream) => load(stream),
                    None => {
                        let mut bytes = [0; 64];
                        bytes[..size].copy_from_slice(&words[..size]);
                        load(&bytes)
                    }
                };
                let stream = _mm512_maskz_permutexvar_epi8(spread.0, spread.1, stream);
                let mut found = _mm512_multishift_epi64_epi8(starts, stream);
                if has_more {
                    let more = _mm512_multishift_epi64_epi8(starts_more, stream);
                    found = _mm512_permutex2var_epi8(found, places, more);
                } else if padded {
                    found = _mm512_permutexvar_epi8(places, found);
                }
                let mut bytes = [0; 64];
                store(&mut bytes, _mm512_sub_epi8(_mm512_and_si512(found, keep), half));
                // Beyond `count` there are none, and the next ones are written over them.
                *now = bytes.map(|byte| byte as i8);
                codes = &mut codes[count..];
                words = &words[size..];
            }
            super::unpack_row(rows, words, codes);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(bytes: &[u8; 64]) -> __m512i {
        // SAFETY: 64 bytes can be read; they need not be aligned.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(bytes: &mut [u8; 64], value: __m512i) {
        // SAFETY: 64 bytes can be written; they need not be aligned.
        unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), value) }
    }
}
