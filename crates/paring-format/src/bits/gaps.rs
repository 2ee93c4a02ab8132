//! Ascending positions as a stream of gaps: where the weights are that a matrix keeps exact.
//!
//! Reading starts at position 0 and takes codes of one width, 1 to 16 bits, off a [stream](super::stream). A code below
//! 2^width − 1 says how many positions to skip before the next listed one; reading continues after that one. The greatest
//! code, all ones, says to skip 2^width − 1 positions and lists none.

use super::stream::{Sink, Source};
use crate::{Error, Result};

/// The widths that a code may have.
pub const WIDTHS: std::ops::RangeInclusive<u32> = 1..=16;

/// The distances, as the codes count them.
fn gaps(at: &[u32]) -> impl Iterator<Item = u32> {
    let mut next = 0u32;
    at.iter().map(move |&at| {
        let gap = at.wrapping_sub(next);
        next = at.wrapping_add(1);
        gap
    })
}

/// Bits of the stream of the ascending positions `at`, with codes of `width` bits.
pub fn bits(at: &[u32], width: u32) -> u64 {
    let skip = (1u32 << width) - 1;
    gaps(at).map(|gap| u64::from(gap / skip) + 1).sum::<u64>() * u64::from(width)
}

/// The width with the shortest stream; of equals, the least.
pub fn best_width(at: &[u32]) -> u32 {
    WIDTHS.min_by_key(|&width| bits(at, width)).unwrap_or(1)
}

/// The stream of the ascending positions `at`.
pub fn encode(at: &[u32], width: u32) -> Vec<u8> {
    let skip = (1u32 << width) - 1;
    let mut sink = Sink::new(bits(at, width).div_ceil(8) as usize);
    for gap in gaps(at) {
        (0..gap / skip).for_each(|_| sink.push(skip, width));
        sink.push(gap % skip, width);
    }
    sink.finish()
}

/// The `count` positions of a stream, all below `limit`.
///
/// Errors when the width is not 1 to 16, the stream ends early or late, or a position is beyond the limit or 2^32.
pub fn decode(stream: &[u8], width: u32, count: usize, limit: usize) -> Result<Vec<u32>> {
    if !WIDTHS.contains(&width) {
        return Err(Error::parts(format!("gaps of {width} bits; they have 1 to 16")));
    }
    let skip = (1u32 << width) - 1;
    let limit = (limit as u64).min(1 << 32);
    let mut source = Source::new(stream);
    // A position takes at least one bit.
    let mut at = Vec::with_capacity(count.min(stream.len().saturating_mul(8)));
    // Never more than the limit and one code, so that nothing overflows.
    let mut next = 0u64;
    while at.len() < count {
        let Some(code) = source.next(width) else {
            return Err(Error::parts(format!("ends after {} of {count} positions", at.len())));
        };
        let position = next + u64::from(code);
        if position >= limit {
            return Err(Error::parts(format!("position {position} (outlier {}) is outside the matrix", at.len())));
        }
        next = position;
        if code != skip {
            at.push(position as u32);
            next += 1;
        }
    }
    source.finish()?;
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    #[test]
    fn every_width_gives_the_positions_back() {
        let mut rng = Rng(4);
        for width in WIDTHS {
            let skip = (1u32 << width) - 1;
            for spread in [1, 2, 30, 3000] {
                let mut at: Vec<u32> = Vec::new();
                for _ in 0..200 {
                    let next = at.last().map_or(0, |last| last + 1);
                    // Around multiples of the skip, and anywhere.
                    let gap = if rng.below(2) == 0 { skip * rng.below(3) as u32 } else { rng.below(spread) as u32 };
                    at.push(next + gap);
                }
                let stream = encode(&at, width);
                assert_eq!(stream.len() as u64, bits(&at, width).div_ceil(8));
                let limit = at[199] as usize + 1;
                assert_eq!(decode(&stream, width, 200, limit).unwrap(), at);
                assert!(decode(&stream, width, 200, limit - 1).is_err());
                assert!(decode(&stream[..stream.len() - 1], width, 200, limit).is_err());
                let mut long = stream.clone();
                long.push(0);
                assert!(decode(&long, width, 200, limit).is_err());
                assert!(bits(&at, best_width(&at)) <= bits(&at, width));
            }
        }
    }

    #[test]
    fn worked_examples() {
        assert_eq!(encode(&[1, 2, 12], 3), [0b1100_0001, 0b0000_0101]);
        // 0, then 7 and 2: a skip of seven, and the position two further.
        assert_eq!(decode(&[0b1011_1000, 0], 3, 2, 99).unwrap(), [0, 10]);
        // The last position that an index can name.
        let last = encode(&[u32::MAX], 16);
        assert_eq!(decode(&last, 16, 1, usize::MAX).unwrap(), [u32::MAX]);
    }

    #[test]
    fn endless_skips_end() {
        for width in WIDTHS {
            let text = decode(&[0xff; 4096], width, 3, 1000).unwrap_err().to_string();
            assert!(text.contains("outside the matrix"), "{text}");
            assert!(decode(&[0xff; 4096], width, 3, usize::MAX).is_err());
        }
        assert!(decode(&[], 0, 0, 1).is_err() && decode(&[], 17, 0, 1).is_err());
        assert!(decode(&[], 1, 0, 1).unwrap().is_empty());
        assert!(decode(&[], 1, usize::MAX, 1).is_err());
    }

    /// Gaps against compressed sparse rows with 16 bits a column and 32 bits a row.
    #[test]
    fn gaps_are_never_larger_than_sparse_rows() {
        let mut rng = Rng(9);
        for cols in [1usize, 40, 4096, 65536, 131070] {
            for share in [1, 30, 4000, 65536, 1 << 20] {
                let rows = 20;
                let at: Vec<u32> = (0..(rows * cols) as u32).filter(|_| rng.below(share) == 0).collect();
                for width in [best_width(&at), 16] {
                    let sparse = 16 * at.len() as u64 + 32 * (rows as u64 + 1);
                    assert!(bits(&at, width) <= sparse, "{cols} {share}");
                }
            }
        }
    }
}
