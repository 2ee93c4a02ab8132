//! Writing files of masks, one mask at a time.

use std::io;

use serde_json::{Map, Value, json};

use super::{Bits, DIGEST, FORMAT, Masks, OWN, SHAPES, VERSION, hexadecimal};
use crate::writer::{Described, NamedFile, header_of};
use crate::{Dtype, Error, Result};

/// A module whose mask is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedModule {
    /// Its path.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

/// Writes a file of the masks of these modules, sorted by name, of which [`super::Digest`] made `digest`. `mask` is called once
/// for each, in that order. The file is opened again and compared. Returns its bytes.
///
/// # Errors
/// Those of `mask`, a file that cannot be written or replaced, and masks that are others than those of the digest.
pub fn write(
    file: &NamedFile<'_>,
    modules: &[MaskedModule],
    digest: u64,
    mask: &mut dyn FnMut(&MaskedModule) -> Result<Bits>,
) -> Result<u64> {
    let name = file.path.display().to_string();
    let shapes: Map<String, Value> =
        modules.iter().map(|module| (module.name.clone(), json!([module.rows, module.cols]))).collect();
    let (shapes, digest_text) = (Value::Object(shapes).to_string(), hexadecimal(digest));
    // The name comes first, for `is_own`.
    let notes = [FORMAT, VERSION, (DIGEST, digest_text.as_str()), (SHAPES, shapes.as_str())];
    let described = |module: &MaskedModule| {
        let shape = vec![module.rows, module.cols.div_ceil(8)];
        let bytes = Dtype::U8.bytes_of(&shape).unwrap_or(usize::MAX);
        Described { name: format!("{}{OWN}", module.name), dtype: Dtype::U8, shape, bytes }
    };
    let (header, end) = header_of(&name, modules.iter().map(described), &notes)?;
    let mut failed = None;
    let written = file.write(header.len() + end, |to| {
        to.write_all(&header)?;
        for module in modules {
            let bits = mask(module).and_then(|bits| match (bits.rows(), bits.cols()) == (module.rows, module.cols) {
                true => Ok(bits),
                false => {
                    Err(Error::shard(&name, format!("{}: its shape changed meanwhile; run it again", module.name)))
                }
            });
            match bits {
                Ok(bits) => to.write_all(bits.bytes())?,
                Err(error) => {
                    failed = Some(error);
                    return Err(io::ErrorKind::Other.into());
                }
            }
        }
        Ok(())
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let bytes = written?.bytes;
    Masks::open(file.path)?;
    Ok(bytes)
}

/// Tells whether a file that begins so is one of masks that [`write()`] made.
pub fn is_own(head: &[u8]) -> bool {
    let note = format!("\"{}\":\"{}\"", FORMAT.0, FORMAT.1);
    head.windows(note.len()).any(|part| part == note.as_bytes())
}
