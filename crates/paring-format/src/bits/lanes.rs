//! Streams of codes of one width, a block of them at a time.
//!
//! Codes of up to four bits are put together in pairs within a byte, until they are wider than that; codes of five bits
//! and more eight at a time in a 64-bit word, of bytes first, of pairs next, of fours last. All are shifts and masks of
//! whole arrays, which the compiler does many at once.

/// Codes in a block. Short enough for registers and the nearest cache; long enough that loops over it are vectorised
/// before they are unrolled.
const BLOCK: usize = 512;

/// The low `count` bits of every `lane` bits.
const fn low(lane: u32, count: u32) -> u64 {
    let ones = u64::MAX >> (64 - count);
    let (mut mask, mut at) = (0, 0);
    while at < 64 {
        mask |= ones << at;
        at += lane;
    }
    mask
}

/// Lanes of `lane` bits with `count` bits of data each, pushed together in pairs.
#[inline(always)]
const fn together(x: u64, lane: u32, count: u32) -> u64 {
    let keep = low(2 * lane, count);
    (x & keep) | (x >> (lane - count) & keep << count)
}

/// Takes apart what [`together`] made. Bits that are no data are not looked at.
#[inline(always)]
const fn apart(x: u64, lane: u32, count: u32) -> u64 {
    let keep = low(2 * lane, count);
    (x & keep) | (x << (lane - count) & keep << lane)
}

/// Eight bytes of less than 2^BITS as `8 * BITS` bits.
#[inline(always)]
pub(super) const fn narrow<const BITS: u32>(x: u64) -> u64 {
    together(together(together(x, 8, BITS), 16, 2 * BITS), 32, 4 * BITS)
}

/// The low `8 * BITS` bits as eight bytes.
#[inline(always)]
pub(super) const fn widen<const BITS: u32>(x: u64) -> u64 {
    apart(apart(apart(x, 32, 4 * BITS), 16, 2 * BITS), 8, BITS)
}

/// Bytes that [`squeeze`] and [`stretch`] touch for this many codes: the last of the overlapping words sticks out.
const fn reach(codes: usize, bits: u32) -> usize {
    match bits {
        3 => reach(codes / 2, 6),
        5..=7 => (codes / 8 - 1) * bits as usize + 8,
        _ => codes * bits as usize / 8,
    }
}

/// Writes part of a block, each byte less than 2^BITS, to the [`reach`] bytes of `out`.
#[inline(always)]
fn squeeze<const BITS: u32>(codes: &[u8], out: &mut [u8]) {
    if BITS == 8 {
        out.copy_from_slice(codes);
    } else if BITS <= 4 {
        let mut pairs = [0u8; BLOCK / 2];
        let pairs = &mut pairs[..codes.len() / 2];
        for (pair, &two) in pairs.iter_mut().zip(codes.as_chunks::<2>().0) {
            let two = u16::from_le_bytes(two);
            *pair = (two | two >> (8 - BITS)) as u8;
        }
        match BITS {
            1 => squeeze::<2>(pairs, out),
            2 => squeeze::<4>(pairs, out),
            3 => squeeze::<6>(pairs, out),
            _ => squeeze::<8>(pairs, out),
        }
    } else {
        let mut words = [0u64; BLOCK / 8];
        let words = &mut words[..codes.len() / 8];
        for (word, &eight) in words.iter_mut().zip(codes.as_chunks::<8>().0) {
            *word = narrow::<BITS>(u64::from_le_bytes(eight));
        }
        // The stores overlap: what one writes beyond its codes is written over by the next.
        for (i, word) in words.iter().enumerate() {
            out[i * BITS as usize..][..8].copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// Takes apart what [`squeeze`] made.
#[inline(always)]
fn stretch<const BITS: u32>(stream: &[u8], codes: &mut [u8]) {
    if BITS == 8 {
        codes.copy_from_slice(stream);
    } else if BITS <= 4 {
        let mut pairs = [0u8; BLOCK / 2];
        let pairs = &mut pairs[..codes.len() / 2];
        match BITS {
            1 => stretch::<2>(stream, pairs),
            2 => stretch::<4>(stream, pairs),
            3 => stretch::<6>(stream, pairs),
            _ => stretch::<8>(stream, pairs),
        }
        for (two, &pair) in codes.as_chunks_mut::<2>().0.iter_mut().zip(&*pairs) {
            let pair = u16::from(pair);
            let keep = (1u16 << BITS) - 1;
            *two = ((pair | pair << (8 - BITS)) & (keep | keep << 8)).to_le_bytes();
        }
    } else {
        let mut words = [0u64; BLOCK / 8];
        let words = &mut words[..codes.len() / 8];
        for (i, word) in words.iter_mut().enumerate() {
            let mut eight = [0u8; 8];
            eight.copy_from_slice(&stream[i * BITS as usize..][..8]);
            *word = u64::from_le_bytes(eight);
        }
        for (eight, word) in codes.as_chunks_mut::<8>().0.iter_mut().zip(&*words) {
            *eight = widen::<BITS>(*word).to_le_bytes();
        }
    }
}

/// Bytes or-ed, eight at a time: [`any_of`] makes one of them. A sum of words is what the compiler does many at once.
#[inline(always)]
pub(super) fn all_of(bytes: &[u8]) -> u64 {
    bytes.as_chunks::<8>().0.iter().fold(0, |seen, &eight| seen | u64::from_le_bytes(eight))
}

/// The eight bytes of a word or-ed.
#[inline(always)]
pub(super) fn any_of(seen: u64) -> u8 {
    seen.to_le_bytes().into_iter().fold(0, |all, seen| all | seen)
}

/// [`write()`] for one width.
#[inline(always)]
fn write_width<const BITS: u32>(codes: &[i8], out: &mut [u8]) -> u8 {
    let half = 1u8 << (BITS - 1);
    if BITS == 8 {
        // Every code fits, and is stored as a byte.
        out.iter_mut().zip(codes).for_each(|(out, &code)| *out = (code as u8).wrapping_add(half));
        return 0;
    }
    let mut seen = 0u64;
    let (mut codes, mut out) = (codes, out);
    let reach = reach(BLOCK, BITS);
    while let (Some((block, rest)), true) = (codes.split_first_chunk::<BLOCK>(), out.len() >= reach) {
        let stored = block.map(|code| (code as u8).wrapping_add(half));
        seen |= all_of(&stored);
        squeeze::<BITS>(&stored, &mut out[..reach]);
        codes = rest;
        out = &mut out[BLOCK / 8 * BITS as usize..];
    }
    for (eight, out) in codes.chunks(8).zip(out.chunks_mut(BITS as usize)) {
        let mut stored = [0u8; 8];
        stored.iter_mut().zip(eight).for_each(|(stored, &code)| *stored = (code as u8).wrapping_add(half));
        let stored = u64::from_le_bytes(stored);
        seen |= stored;
        let count = out.len();
        out.copy_from_slice(&narrow::<BITS>(stored).to_le_bytes()[..count]);
    }
    any_of(seen)
}

/// [`read`] for one width.
#[inline(always)]
fn read_width<const BITS: u32>(stream: &[u8], codes: &mut [i8]) {
    let half = 1u8 << (BITS - 1);
    if BITS == 8 {
        codes.iter_mut().zip(stream).for_each(|(code, stored)| *code = stored.wrapping_sub(half) as i8);
        return;
    }
    let (mut stream, mut codes) = (stream, codes);
    let reach = reach(BLOCK, BITS);
    while codes.len() >= BLOCK && stream.len() >= reach {
        let (block, rest) = codes.split_at_mut(BLOCK);
        let mut stored = [0u8; BLOCK];
        stretch::<BITS>(&stream[..reach], &mut stored);
        block.iter_mut().zip(stored).for_each(|(code, stored)| *code = stored.wrapping_sub(half) as i8);
        codes = rest;
        stream = &stream[BLOCK / 8 * BITS as usize..];
    }
    for (eight, stream) in codes.chunks_mut(8).zip(stream.chunks(BITS as usize)) {
        let mut bytes = [0u8; 8];
        bytes[..stream.len()].copy_from_slice(stream);
        let stored = widen::<BITS>(u64::from_le_bytes(bytes)).to_le_bytes();
        eight.iter_mut().zip(stored).for_each(|(code, stored)| *code = stored.wrapping_sub(half) as i8);
    }
}

/// Writes codes of `bits` bits, each plus `2^(bits-1)`, into a stream, least significant bit first. Bytes of `out` after
/// the last code are left as they are or are zero; there must be enough of them.
///
/// Returns all codes or-ed, as they are stored: where that has more bits, a code was out of range, and `out` makes no
/// sense.
///
/// # Panics
/// If `bits` is not 1 to 8.
#[inline(always)]
pub(super) fn write(codes: &[i8], bits: u32, out: &mut [u8]) -> u8 {
    match bits {
        1 => write_width::<1>(codes, out),
        2 => write_width::<2>(codes, out),
        3 => write_width::<3>(codes, out),
        4 => write_width::<4>(codes, out),
        5 => write_width::<5>(codes, out),
        6 => write_width::<6>(codes, out),
        7 => write_width::<7>(codes, out),
        8 => write_width::<8>(codes, out),
        _ => panic!("codes of {bits} bits"),
    }
}

/// Fills `codes` from a stream that [`write()`] made, which must have as many.
///
/// # Panics
/// If `bits` is not 1 to 8.
#[inline(always)]
pub(super) fn read(stream: &[u8], bits: u32, codes: &mut [i8]) {
    match bits {
        1 => read_width::<1>(stream, codes),
        2 => read_width::<2>(stream, codes),
        3 => read_width::<3>(stream, codes),
        4 => read_width::<4>(stream, codes),
        5 => read_width::<5>(stream, codes),
        6 => read_width::<6>(stream, codes),
        7 => read_width::<7>(stream, codes),
        8 => read_width::<8>(stream, codes),
        _ => panic!("codes of {bits} bits"),
    }
}
