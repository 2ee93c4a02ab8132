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
const fn narrow<const BITS: u32>(x: u64) -> u64 {
    together(together(together(x, 8, BITS), 16, 2 * BITS), 32, 4 * BITS)
}

/// The low `8 * BITS` bits as eight bytes.
#[inline(always)]
const fn widen<const BITS: u32>(x: u64) -> u64 {
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

/// Writes what `code` makes of the values into a stream of BITS bits each, least significant bit first. Bytes of `out`
/// after the last code are left as they are or are zero; there must be enough of them.
///
/// Returns all codes or-ed: where that has more than BITS bits, a code was too wide, and `out` makes no sense.
fn write<const BITS: u32, T: Copy>(values: &[T], code: impl Fn(T) -> u8, out: &mut [u8]) -> u8 {
    let mut seen = [0u8; 16];
    let (mut values, mut out) = (values, out);
    let reach = reach(BLOCK, BITS);
    while let (Some((block, rest)), true) = (values.split_at_checked(BLOCK), out.len() >= reach) {
        let mut codes = [0u8; BLOCK];
        codes.iter_mut().zip(block).for_each(|(to, &value)| *to = code(value));
        for codes in codes.as_chunks::<16>().0 {
            seen.iter_mut().zip(codes).for_each(|(seen, code)| *seen |= code);
        }
        squeeze::<BITS>(&codes, &mut out[..reach]);
        values = rest;
        out = &mut out[BLOCK / 8 * BITS as usize..];
    }
    for (eight, out) in values.chunks(8).zip(out.chunks_mut(BITS as usize)) {
        let mut codes = [0u8; 8];
        for ((to, &value), seen) in codes.iter_mut().zip(eight).zip(&mut seen) {
            *to = code(value);
            *seen |= *to;
        }
        let count = out.len();
        out.copy_from_slice(&narrow::<BITS>(u64::from_le_bytes(codes)).to_le_bytes()[..count]);
    }
    seen.into_iter().fold(0, |all, seen| all | seen)
}

/// Fills `out` with what `value` makes of the codes of a stream of BITS bits each, which must have as many.
fn read<const BITS: u32, T: Copy>(stream: &[u8], value: impl Fn(u8) -> T, out: &mut [T]) {
    let (mut stream, mut out) = (stream, out);
    let reach = reach(BLOCK, BITS);
    while out.len() >= BLOCK && stream.len() >= reach {
        let (block, rest) = out.split_at_mut(BLOCK);
        let mut codes = [0u8; BLOCK];
        stretch::<BITS>(&stream[..reach], &mut codes);
        block.iter_mut().zip(codes).for_each(|(to, code)| *to = value(code));
        out = rest;
        stream = &stream[BLOCK / 8 * BITS as usize..];
    }
    for (eight, stream) in out.chunks_mut(8).zip(stream.chunks(BITS as usize)) {
        let mut bytes = [0u8; 8];
        bytes[..stream.len()].copy_from_slice(stream);
        let codes = widen::<BITS>(u64::from_le_bytes(bytes)).to_le_bytes();
        eight.iter_mut().zip(codes).for_each(|(out, code)| *out = value(code));
    }
}

/// [`write`] for a width known at run time, 1 to 8.
///
/// # Panics
/// If the width is another one.
pub(crate) fn write_codes<T: Copy>(values: &[T], bits: u32, code: impl Fn(T) -> u8, out: &mut [u8]) -> u8 {
    match bits {
        1 => write::<1, T>(values, code, out),
        2 => write::<2, T>(values, code, out),
        3 => write::<3, T>(values, code, out),
        4 => write::<4, T>(values, code, out),
        5 => write::<5, T>(values, code, out),
        6 => write::<6, T>(values, code, out),
        7 => write::<7, T>(values, code, out),
        8 => write::<8, T>(values, code, out),
        _ => panic!("codes of {bits} bits"),
    }
}

/// [`read`] for a width known at run time, 1 to 8.
///
/// # Panics
/// If the width is another one.
pub(crate) fn read_codes<T: Copy>(stream: &[u8], bits: u32, value: impl Fn(u8) -> T, out: &mut [T]) {
    match bits {
        1 => read::<1, T>(stream, value, out),
        2 => read::<2, T>(stream, value, out),
        3 => read::<3, T>(stream, value, out),
        4 => read::<4, T>(stream, value, out),
        5 => read::<5, T>(stream, value, out),
        6 => read::<6, T>(stream, value, out),
        7 => read::<7, T>(stream, value, out),
        8 => read::<8, T>(stream, value, out),
        _ => panic!("codes of {bits} bits"),
    }
}
