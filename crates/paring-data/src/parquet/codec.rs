//! Compression of pages: every result is bounded by the size that the page's header states, which the caller has checked.

use std::io;

use brotli_decompressor::BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW;
use brotli_decompressor::Decompressor;

use super::wrong;
use crate::guard::guarded;
use crate::unpack::{self, Packing};

/// Snappy's best ratio: a copy of 64 bytes takes three.
const SNAPPY_RATIO: usize = 22;
/// LZ4's best ratio: a byte adds up to 255 to the length of a copy.
const LZ4_RATIO: usize = 255;

/// The beginning of LZ4's own frames.
const LZ4_FRAME: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// The compression of a column's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Snappy,
    Gzip,
    Brotli,
    Zstd,
    Lz4,
    /// LZ4 as Hadoop frames it; older versions of Arrow put a raw block there.
    Lz4Hadoop,
}

impl Codec {
    /// The codec of a number in a column's metadata.
    pub fn from_number(number: i64) -> io::Result<Self> {
        let name = match number {
            0 => return Ok(Codec::None),
            1 => return Ok(Codec::Snappy),
            2 => return Ok(Codec::Gzip),
            4 => return Ok(Codec::Brotli),
            6 => return Ok(Codec::Zstd),
            7 => return Ok(Codec::Lz4),
            5 => return Ok(Codec::Lz4Hadoop),
            3 => "LZO",
            _ => "an unknown codec",
        };
        Err(wrong(format!("packed with {name}, expected Snappy, gzip, Brotli, Zstandard, LZ4 or nothing")))
    }

    /// Unpacks a page to exactly `size` bytes.
    pub fn unpack(self, packed: Vec<u8>, size: usize) -> io::Result<Vec<u8>> {
        let fits = |name: &str, ratio: usize| {
            if size <= packed.len().saturating_mul(ratio) {
                return Ok(());
            }
            Err(wrong(format!("{} bytes of {name} cannot hold a page of {size}", packed.len())))
        };
        match self {
            Codec::None if packed.len() == size => Ok(packed),
            Codec::None => Err(wrong(format!("a page of {} bytes says that it has {size}", packed.len()))),
            Codec::Snappy => {
                fits("Snappy", SNAPPY_RATIO)?;
                let stated = snap::raw::decompress_len(&packed).map_err(io::Error::other)?;
                if stated != size {
                    return Err(wrong(format!("Snappy of {stated} bytes in a page of {size}")));
                }
                snap::raw::Decoder::new().decompress_vec(&packed).map_err(io::Error::other)
            }
            Codec::Lz4 | Codec::Lz4Hadoop => {
                fits("LZ4", LZ4_RATIO)?;
                let mut out = vec![0; size];
                if self == Codec::Lz4Hadoop {
                    if packed.starts_with(&LZ4_FRAME) {
                        return Err(wrong("a frame of LZ4, expected Hadoop's framing or a raw block"));
                    }
                    if hadoop(&packed, &mut out).is_some() {
                        return Ok(out);
                    }
                }
                let made = lz4_flex::block::decompress_into(&packed, &mut out).map_err(io::Error::other)?;
                if made == size { Ok(out) } else { Err(wrong(format!("LZ4 of {made} bytes in a page of {size}"))) }
            }
            Codec::Gzip => unpack::whole(&packed, Packing::Gzip, size),
            Codec::Zstd => unpack::whole(&packed, Packing::Zstd, size),
            Codec::Brotli => guarded(|| {
                let mut reader = Decompressor::new(&packed[..], 4096);
                // Windows of up to 1 GiB are an extension that Parquet does not use; the standard ends at 16 MiB.
                reader.set_parameter(BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
                unpack::exactly(&mut reader, size)
            })
            .unwrap_or_else(|panic| Err(wrong(format!("not Brotli: {}", panic.replace('\n', " "))))),
        }
    }
}

/// Unpacks Hadoop's framing: the size that a block unpacks to, then raw blocks after their lengths until that is reached;
/// both of four bytes, the highest first. `None` where that is not what there is, or it is not `out` in length.
fn hadoop(packed: &[u8], out: &mut [u8]) -> Option<()> {
    fn number(packed: &mut &[u8]) -> Option<usize> {
        let (bytes, rest) = packed.split_first_chunk()?;
        *packed = rest;
        usize::try_from(u32::from_be_bytes(*bytes)).ok()
    }
    let (mut packed, mut made) = (packed, 0usize);
    while !packed.is_empty() {
        let end = made.checked_add(number(&mut packed)?).filter(|&end| end <= out.len())?;
        while made < end {
            let len = number(&mut packed)?;
            let (block, rest) = packed.split_at_checked(len)?;
            made += lz4_flex::block::decompress_into(block, &mut out[made..end]).ok()?;
            packed = rest;
        }
    }
    (made == out.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of a page as Hadoop writes them: each list is one block, of pieces.
    fn framed(blocks: &[&[&[u8]]]) -> Vec<u8> {
        let mut out = Vec::new();
        for block in blocks {
            out.extend((block.concat().len() as u32).to_be_bytes());
            for piece in *block {
                let packed = lz4_flex::block::compress(piece);
                out.extend((packed.len() as u32).to_be_bytes());
                out.extend(packed);
            }
        }
        out
    }

    #[test]
    fn lz4_in_both_framings() {
        let text = b"one two one two one two one two one two one two one two";
        let unpack = |packed: &[u8]| Codec::Lz4Hadoop.unpack(packed.to_vec(), text.len());
        let (head, tail) = text.split_at(20);
        for packed in [
            framed(&[&[text]]),
            framed(&[&[head], &[tail]]),
            framed(&[&[head, tail]]),
            framed(&[&[], &[text]]),
            lz4_flex::block::compress(text),
        ] {
            assert_eq!(unpack(&packed).unwrap(), text);
            for end in 0..packed.len() {
                assert!(unpack(&packed[..end]).is_err(), "cut at {end}");
            }
            for at in 0..packed.len() {
                let mut changed = packed.clone();
                changed[at] ^= 0xff;
                // Nothing but a page of the size that was stated, whatever it says.
                if let Ok(out) = unpack(&changed) {
                    assert_eq!(out.len(), text.len());
                }
            }
        }
        let huge = [&u32::MAX.to_be_bytes()[..], &framed(&[&[text]])].concat();
        assert!(unpack(&huge).is_err());
        let frame = unpack(&[&LZ4_FRAME[..], &[0; 60]].concat()).unwrap_err().to_string();
        assert!(frame.contains("a frame of LZ4"), "{frame}");
    }
}
