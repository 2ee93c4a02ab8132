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

/// The compression of a column's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Snappy,
    Gzip,
    Brotli,
    Zstd,
    Lz4,
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
            3 => "LZO",
            // Deprecated, because Hadoop and others disagree about what it is.
            5 => "LZ4 in Hadoop's framing",
            _ => "an unknown codec",
        };
        Err(wrong(format!("packed with {name}, expected Snappy, gzip, Brotli, Zstandard, raw LZ4 or nothing")))
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
            Codec::Lz4 => {
                fits("LZ4", LZ4_RATIO)?;
                let mut out = vec![0; size];
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
