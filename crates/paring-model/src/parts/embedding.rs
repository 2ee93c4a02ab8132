//! Token embedding, read row by row.

use candle_core::Tensor;
use paring_kernels::device::upload;

use crate::{Error, Result, source::Source};

/// The rows of `ids` in the stored table `name [vocab, dim]`, as `[batch, t, dim]` f32. Each row that occurs is read
/// once and no other; the table is never in memory. Errors on ids of `vocab` and above and on uneven rows.
pub fn embed(source: &Source, name: &str, vocab: usize, dim: usize, ids: &[u32], batch: usize) -> Result<Tensor> {
    let t = row_length(ids, batch)?;
    let mut order: Vec<(u32, usize)> = Vec::with_capacity(ids.len());
    for (at, &token) in ids.iter().enumerate() {
        if token as usize >= vocab {
            return Err(Error::TokenOutOfRange { token, vocab });
        }
        order.push((token, at));
    }
    order.sort_unstable();
    let mut out = vec![0f32; ids.len() * dim];
    for same in order.chunk_by(|a, b| a.0 == b.0) {
        let row = source.rows(name, same[0].0 as usize, 1, dim)?;
        for &(_, at) in same {
            out[at * dim..(at + 1) * dim].copy_from_slice(&row);
        }
    }
    Ok(upload(out, (batch, t, dim), source.device())?)
}

/// Tokens in each of `batch` equal rows; errors when there are none or they do not come out even.
pub fn row_length(ids: &[u32], batch: usize) -> Result<usize> {
    match ids.len().checked_rem(batch) {
        Some(0) if !ids.is_empty() => Ok(ids.len() / batch),
        _ => Err(Error::UnevenRows { tokens: ids.len(), rows: batch }),
    }
}
