//! Rows of words that hold whole codes only, as releases before 0.18 packed widths of 3, 5, 6 and 7 bits.
//!
//! A word takes up to eight codes as one 64-bit word of bytes, which [`lanes`](super::lanes) narrows; the two that are
//! left of ten codes of 3 bits are moved by themselves. In blocks, as there.

use super::lanes::{all_of, any_of, narrow, widen};

/// Words in a block.
const BLOCK: usize = 64;

/// Codes in a word.
const fn codes_in_word(bits: u32) -> usize {
    (32 / bits) as usize
}

/// Bytes of codes that a block touches: eight are loaded or stored where a word begins, if it has fewer or more.
const fn reach(bits: u32) -> usize {
    let codes = codes_in_word(bits);
    (BLOCK - 1) * codes + if codes > 8 { codes } else { 8 }
}

/// A word of the codes in eight bytes, from the first of them, and in two more, each less than 2^BITS.
#[inline(always)]
fn join<const BITS: u32>(eight: u64, two: u16) -> u32 {
    match codes_in_word(BITS) {
        10 => narrow::<BITS>(eight) as u32 | u32::from((two | two >> (8 - BITS)) & 0x3f) << 24,
        codes => narrow::<BITS>(eight & u64::MAX >> (64 - 8 * codes)) as u32,
    }
}

/// Takes apart what [`join`] made; bytes of no code are of no use.
#[inline(always)]
fn split<const BITS: u32>(word: u32) -> (u64, u16) {
    let two = word >> 24;
    (widen::<BITS>(u64::from(word)), (two & 7 | two << 5 & 0x700) as u16)
}

#[inline(always)]
fn write_width<const BITS: u32>(codes: &[i8], out: &mut [u8]) -> u8 {
    let half = 1u8 << (BITS - 1);
    let each = codes_in_word(BITS);
    let mut seen = 0u64;
    let (mut codes, mut out) = (codes, out.as_chunks_mut::<4>().0);
    while codes.len() >= reach(BITS) && out.len() >= BLOCK {
        let (block, rest) = out.split_at_mut(BLOCK);
        // Room for ten codes of each word, and for the eight that are loaded from the last.
        let mut stored = [0u8; 10 * BLOCK];
        let count = each * BLOCK;
        let add = |(stored, &code): (&mut u8, &i8)| *stored = (code as u8).wrapping_add(half);
        stored[..count].iter_mut().zip(&codes[..count]).for_each(add);
        seen |= all_of(&stored);
        let (mut eights, mut twos) = ([0u64; BLOCK], [0u16; BLOCK]);
        for i in 0..BLOCK {
            let mut eight = [0u8; 8];
            eight.copy_from_slice(&stored[i * each..][..8]);
            eights[i] = u64::from_le_bytes(eight);
            if each > 8 {
                twos[i] = u16::from_le_bytes([stored[i * each + 8], stored[i * each + 9]]);
            }
        }
        for ((word, &eight), &two) in block.iter_mut().zip(&eights).zip(&twos) {
            *word = join::<BITS>(eight, two).to_le_bytes();
        }
        codes = &codes[count..];
        out = rest;
    }
    for (codes, word) in codes.chunks(each).zip(out) {
        let mut stored = [0u8; 10];
        stored.iter_mut().zip(codes).for_each(|(stored, &code)| *stored = (code as u8).wrapping_add(half));
        let [eight @ .., a, b] = stored;
        let (eight, two) = (u64::from_le_bytes(eight), u16::from_le_bytes([a, b]));
        seen |= eight | u64::from(two);
        *word = join::<BITS>(eight, two).to_le_bytes();
    }
    any_of(seen)
}

#[inline(always)]
fn read_width<const BITS: u32>(words: &[u8], codes: &mut [i8]) {
    let half = 1u8 << (BITS - 1);
    let each = codes_in_word(BITS);
    let (mut words, mut codes) = (words.as_chunks::<4>().0, codes);
    while codes.len() >= reach(BITS) && words.len() >= BLOCK {
        let (mut eights, mut twos) = ([0u64; BLOCK], [0u16; BLOCK]);
        for ((eight, two), &word) in eights.iter_mut().zip(&mut twos).zip(&words[..BLOCK]) {
            (*eight, *two) = split::<BITS>(u32::from_le_bytes(word));
        }
        let mut stored = [0u8; 10 * BLOCK];
        // Bytes of no code are written over by the next word.
        for i in 0..BLOCK {
            stored[i * each..][..8].copy_from_slice(&eights[i].to_le_bytes());
            if each > 8 {
                stored[i * each + 8..][..2].copy_from_slice(&twos[i].to_le_bytes());
            }
        }
        let (block, rest) = codes.split_at_mut(each * BLOCK);
        block.iter_mut().zip(&stored).for_each(|(code, stored)| *code = stored.wrapping_sub(half) as i8);
        codes = rest;
        words = &words[BLOCK..];
    }
    for (codes, &word) in codes.chunks_mut(each).zip(words) {
        let (eight, two) = split::<BITS>(u32::from_le_bytes(word));
        let stored = eight.to_le_bytes().into_iter().chain(two.to_le_bytes());
        codes.iter_mut().zip(stored).for_each(|(code, stored)| *code = stored.wrapping_sub(half) as i8);
    }
}

/// Writes a row of codes, each plus `2^(bits-1)`, into words, of which there must be enough; `bits` is 3, 5, 6 or 7.
///
/// Returns all codes or-ed, as they are stored: where that has more bits, a code was out of range, and `out` makes no
/// sense.
///
/// # Panics
/// If `bits` is another number.
#[inline(always)]
pub(super) fn write(codes: &[i8], bits: u32, out: &mut [u8]) -> u8 {
    match bits {
        3 => write_width::<3>(codes, out),
        5 => write_width::<5>(codes, out),
        6 => write_width::<6>(codes, out),
        7 => write_width::<7>(codes, out),
        _ => panic!("padded words of {bits} bits"),
    }
}

/// Fills `codes` from words that [`write()`] made, of which there must be enough.
///
/// # Panics
/// If `bits` is not 3, 5, 6 or 7.
#[inline(always)]
pub(super) fn read(words: &[u8], bits: u32, codes: &mut [i8]) {
    match bits {
        3 => read_width::<3>(words, codes),
        5 => read_width::<5>(words, codes),
        6 => read_width::<6>(words, codes),
        7 => read_width::<7>(words, codes),
        _ => panic!("padded words of {bits} bits"),
    }
}
