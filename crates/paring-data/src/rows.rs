//! Files of token ids: safetensors, and pickles of torch.

use std::path::Path;

use paring_format::{Checkpoint, Dtype, pickle};

use crate::{Error, Result};

const TENSOR: &str = "input_ids";

/// All ids and the length of a row of the tensor `input_ids` of a safetensors file, integers `[n, t]`.
pub(super) fn safetensors(path: &Path) -> Result<(Vec<u32>, usize)> {
    let name = path.display().to_string();
    let file = Checkpoint::open_file(path)?;
    let Some(info) = file.info(TENSOR) else {
        return Err(Error::data(name, "no tensor input_ids, expected integers [n, t]"));
    };
    let (shape, dtype) = (info.shape.clone(), info.dtype);
    let [_, len] = shape[..] else {
        return Err(Error::data(name, format!("{TENSOR} has shape {shape:?}, expected [n, t]")));
    };
    let bytes = file.read(TENSOR)?;
    let wide: Vec<i64> = match dtype {
        Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        Dtype::I32 => bytes.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect(),
        Dtype::U32 => bytes.as_chunks().0.iter().map(|b| i64::from(u32::from_le_bytes(*b))).collect(),
        Dtype::I16 => bytes.as_chunks().0.iter().map(|b| i64::from(i16::from_le_bytes(*b))).collect(),
        Dtype::U8 => bytes.iter().map(|b| i64::from(*b)).collect(),
        _ => {
            return Err(Error::data(name, format!("{TENSOR} has type {}, expected integers", dtype.name())));
        }
    };
    let ids = wide.iter().enumerate().map(|(i, &v)| {
        u32::try_from(v).map_err(|_| {
            Error::data(&name, format!("{TENSOR}: {v} at element {i} is not a token id, expected 0 to {}", u32::MAX))
        })
    });
    Ok((ids.collect::<Result<_>>()?, len))
}

/// All ids and the length of a row of a file of `torch.save`, as SpQR's code stores its tokens.
pub(super) fn pickled(path: &Path) -> Result<(Vec<u32>, usize)> {
    let bad = |reason: String| Error::data(path.display().to_string(), reason);
    let rows = pickle::tokens(path)?;
    let len = rows.first().map_or(0, Vec::len);
    let mut ids = Vec::new();
    for (k, row) in rows.iter().enumerate() {
        if row.len() != len {
            return Err(bad(format!(
                "row {k} has {} tokens, expected {len} as in row 0; all rows need the same length",
                row.len()
            )));
        }
        for (i, &v) in row.iter().enumerate() {
            ids.push(u32::try_from(v).map_err(|_| {
                bad(format!("row {k}: {v} at element {i} is not a token id, expected 0 to {}", u32::MAX))
            })?);
        }
    }
    Ok((ids, len))
}
