//! Rows that hold, group by group, the group's queries, its key and its value, as fused matrices of Falcon make them. That is each
//! of its three layouts: the new architecture's; multi-query, with one group; and heads with keys of their own, with a group
//! each.

use candle_core::Tensor;

use crate::{AttentionInfo, Result};

/// Queries of a group.
fn each(attention: &AttentionInfo) -> usize {
    attention.heads / attention.kv_heads
}

/// Queries `[b, t, heads, head_dim]`, keys and values `[b, t, kv_heads, head_dim]` of `qkv [b, t, (heads + 2 · kv_heads) ·
/// head_dim]`.
pub(super) fn split(attention: &AttentionInfo, qkv: &Tensor) -> Result<[Tensor; 3]> {
    let (b, t, _) = qkv.dims3()?;
    let &AttentionInfo { kv_heads: groups, head_dim, .. } = attention;
    let each = each(attention);
    let x = qkv.reshape((b, t, groups, each + 2, head_dim))?;
    let part = |from: usize, count: usize| -> Result<Tensor> {
        Ok(x.narrow(3, from, count)?.reshape((b, t, groups * count, head_dim))?)
    };
    Ok([part(0, each)?, part(each, 1)?, part(each + 1, 1)?])
}

/// The rows that [`split`] takes apart.
pub(super) fn join(attention: &AttentionInfo, parts: &[&Tensor]) -> Result<Tensor> {
    let &AttentionInfo { kv_heads: groups, head_dim, .. } = attention;
    let of_groups = |x: &&Tensor| -> Result<Tensor> {
        let (b, t, heads, _) = x.dims4()?;
        Ok(x.reshape((b, t, groups, heads / groups, head_dim))?)
    };
    let parts = parts.iter().map(of_groups).collect::<Result<Vec<_>>>()?;
    let joined = Tensor::cat(&parts, 3)?;
    let (b, t) = (joined.dim(0)?, joined.dim(1)?);
    Ok(joined.reshape((b, t, groups * (each(attention) + 2) * head_dim))?)
}

/// For each feature of such a row: true if it belongs to a key.
pub(super) fn keys(attention: &AttentionInfo) -> Vec<bool> {
    let &AttentionInfo { kv_heads: groups, head_dim, .. } = attention;
    let each = each(attention);
    (0..groups * (each + 2) * head_dim).map(|i| i / head_dim % (each + 2) == each).collect()
}
