//! n-bit codes in 32-bit words, as compressed-tensors 0.18 and later lays them out.
//!
//! A code `q` of `bits` bits is stored as `q + 2^(bits-1)`, unsigned. The codes of one row form a stream of bits, least
//! significant bit first, which is cut into words: a code may straddle two words. Each row starts on a fresh word, and
//! the bits after its last code are 0.

pub mod gaps;
pub mod stream;

use crate::{Error, Result};

/// The least and the greatest code of `bits` bits (1 to 8).
pub fn range(bits: u32) -> (i8, i8) {
    let half = 1i32 << (bits - 1);
    ((-half) as i8, (half - 1) as i8)
}

/// Words of a row of `count` codes, unless the number of bits overflows.
pub fn words(count: usize, bits: u32) -> Option<usize> {
    Some(count.checked_mul(bits as usize)?.div_ceil(32))
}

/// Packs row-major codes `[codes.len() / cols, cols]` into words `[rows, words(cols)]`.
///
/// Errors when `bits` is not 1 to 8, a code is out of range, or the codes are no whole number of rows.
pub fn pack(codes: &[i8], cols: usize, bits: u32) -> Result<Vec<i32>> {
    let width = row_words(cols, bits)?;
    if !codes.len().is_multiple_of(cols) {
        return Err(Error::parts(format!("{} codes are no whole number of rows of {cols}", codes.len())));
    }
    let (low, high) = range(bits);
    if let Some(at) = codes.iter().position(|&code| code < low || code > high) {
        return Err(Error::parts(format!("code {} (element {at}) is outside {low}..={high}", codes[at])));
    }
    let offset = 1i32 << (bits - 1);
    let mut packed = Vec::with_capacity(codes.len() / cols * width);
    for row in codes.chunks_exact(cols) {
        // The accumulator holds at most 31 bits between codes, so a code of 8 bits always fits.
        let (mut pending, mut filled) = (0u64, 0u32);
        for &code in row {
            pending |= u64::from((i32::from(code) + offset) as u32) << filled;
            filled += bits;
            if filled >= 32 {
                packed.push(pending as u32 as i32);
                pending >>= 32;
                filled -= 32;
            }
        }
        if filled > 0 {
            packed.push(pending as u32 as i32);
        }
    }
    Ok(packed)
}

/// The codes `[rows, cols]` of words `[rows, words(cols)]`. Bits after the last code of a row are not looked at.
///
/// Errors when `bits` is not 1 to 8 or the number of words is another one.
pub fn unpack(packed: &[i32], rows: usize, cols: usize, bits: u32) -> Result<Vec<i8>> {
    let width = row_words(cols, bits)?;
    check_words(packed.len(), rows, width)?;
    let (offset, mask) = (1i32 << (bits - 1), (1u64 << bits) - 1);
    // Each code stands for at least one bit of the words, so this is no more than 32 codes a word read.
    let mut codes = Vec::with_capacity(packed.len() / width * cols);
    for row in packed.chunks_exact(width) {
        let mut row = row.iter();
        let (mut pending, mut filled) = (0u64, 0u32);
        for _ in 0..cols {
            if filled < bits {
                let word = row.next().copied().unwrap_or(0);
                pending |= u64::from(word as u32) << filled;
                filled += 32;
            }
            codes.push(((pending & mask) as i32 - offset) as i8);
            pending >>= bits;
            filled -= bits;
        }
    }
    Ok(codes)
}

/// Packs row-major codes `[rows, cols]` along the rows: words `[words(rows), cols]`. Zero points are stored so.
///
/// Errors as [`pack`].
pub fn pack_columns(codes: &[i8], cols: usize, bits: u32) -> Result<Vec<i32>> {
    if cols == 0 || !codes.len().is_multiple_of(cols) {
        return Err(Error::parts(format!("{} codes are no whole number of rows of {cols}", codes.len())));
    }
    let rows = codes.len() / cols;
    let height = row_words(rows, bits)?;
    let packed = pack(&transpose(codes, rows, cols), rows, bits)?;
    Ok(transpose(&packed, cols, height))
}

/// The codes `[rows, cols]` of words `[words(rows), cols]`.
///
/// Errors as [`unpack`].
pub fn unpack_columns(packed: &[i32], rows: usize, cols: usize, bits: u32) -> Result<Vec<i8>> {
    let height = row_words(rows, bits)?;
    check_words(packed.len(), height, cols)?;
    let codes = unpack(&transpose(packed, height, cols), cols, rows, bits)?;
    Ok(transpose(&codes, cols, rows))
}

fn row_words(cols: usize, bits: u32) -> Result<usize> {
    if !(1..=8).contains(&bits) {
        return Err(Error::parts(format!("codes of {bits} bits; 1 to 8 can be packed")));
    }
    match words(cols, bits) {
        None | Some(0) => Err(Error::parts(format!("rows of {cols} codes cannot be packed"))),
        Some(width) => Ok(width),
    }
}

fn check_words(got: usize, rows: usize, width: usize) -> Result<()> {
    if rows.checked_mul(width) == Some(got) {
        return Ok(());
    }
    Err(Error::parts(format!("{got} packed words, expected {rows} rows of {width}")))
}

/// `[rows, cols]` to `[cols, rows]`.
fn transpose<T: Copy>(values: &[T], rows: usize, cols: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(values.len());
    for col in 0..cols {
        out.extend((0..rows).map(|row| values[row * cols + col]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// The definition: bit k of code i is bit `i * bits + k` of the row's stream.
    fn pack_bit_by_bit(codes: &[i8], cols: usize, bits: u32) -> Vec<i32> {
        let width = (cols * bits as usize).div_ceil(32);
        let mut out = Vec::new();
        for row in codes.chunks(cols) {
            let mut words = vec![0u32; width];
            for (i, &code) in row.iter().enumerate() {
                let value = (i32::from(code) + (1 << (bits - 1))) as u32;
                for k in 0..bits {
                    let at = i * bits as usize + k as usize;
                    words[at / 32] |= (value >> k & 1) << (at % 32);
                }
            }
            out.extend(words.iter().map(|&w| w as i32));
        }
        out
    }

    #[test]
    fn agrees_with_the_definition_and_comes_back() {
        let mut rng = Rng(1);
        for bits in 1..=8 {
            for cols in [1, 2, 3, 7, 8, 9, 31, 32, 33, 64, 65, 100] {
                for rows in [1, 2, 9, 33] {
                    let codes: Vec<i8> = (0..rows * cols).map(|_| rng.code(bits)).collect();
                    let packed = pack(&codes, cols, bits).unwrap();
                    assert_eq!(packed, pack_bit_by_bit(&codes, cols, bits), "{bits} bits, {rows}x{cols}");
                    assert_eq!(unpack(&packed, rows, cols, bits).unwrap(), codes, "{bits} bits, {rows}x{cols}");
                    let columns = pack_columns(&codes, cols, bits).unwrap();
                    assert_eq!(columns.len(), words(rows, bits).unwrap() * cols);
                    assert_eq!(
                        unpack_columns(&columns, rows, cols, bits).unwrap(),
                        codes,
                        "{bits} bits, {rows}x{cols}"
                    );
                }
            }
        }
    }

    #[test]
    fn worked_examples() {
        let hex = |words: Vec<i32>| words.iter().map(|&w| w as u32).collect::<Vec<_>>();
        let check = |codes: &[i8], bits, expected: &[u32]| {
            assert_eq!(hex(pack(codes, codes.len(), bits).unwrap()), expected);
        };
        check(&[-2, -1, 0, 1].repeat(4), 2, &[0xe4e4_e4e4]);
        check(&[-4, -3, -2, -1, 0, 1, 2, 3, -4, -3, -2], 3, &[0x88fa_c688, 0]);
        check(&[-8, -7, -6, -5, -4, -3, -2, -1, 0], 4, &[0x7654_3210, 8]);
        check(&[-128, -127, -126, -125, -124], 8, &[0x0302_0100, 4]);
        let zeros = [-8, 7, 0, 1, 3, -3];
        assert_eq!(hex(pack_columns(&zeros, 2, 4).unwrap()), [0xb80, 0x59f]);
        let zeros = [-8, -7, -6, -5, -4, -3, -2, -1, 7];
        assert_eq!(hex(pack_columns(&zeros, 1, 4).unwrap()), [0x7654_3210, 0xf]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(pack(&[0; 4], 4, 0).is_err());
        assert!(pack(&[0; 4], 4, 9).is_err());
        assert!(pack(&[0; 4], 3, 4).is_err());
        assert!(pack(&[], 0, 4).is_err());
        assert!(pack(&[8], 1, 4).is_err());
        assert!(pack(&[-9], 1, 4).is_err());
        assert!(pack_columns(&[0; 4], 3, 4).is_err());
        assert!(pack_columns(&[0; 4], 0, 4).is_err());
        assert!(unpack(&[0; 2], 1, 8, 4).is_err());
        assert!(unpack(&[], usize::MAX, 8, 4).is_err());
        assert!(unpack(&[], 1, usize::MAX, 4).is_err());
        assert!(unpack_columns(&[0; 2], 8, 1, 4).is_err());
        assert!(unpack_columns(&[], usize::MAX, 1, 4).is_err());
    }
}
