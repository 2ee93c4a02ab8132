//! Causal attention with grouped queries.

use candle_core::{DType, Result, Tensor};

/// softmax(q kᵀ · scale + causal mask) v.
///
/// `q` is `[b, t, heads, d]`, `k` and `v` are `[b, t, groups, d]` (f32, `groups` divides `heads`; query head `h` reads
/// group `h / (heads / groups)`). Returns `[b, t, heads · d]`.
pub fn causal(q: &Tensor, k: &Tensor, v: &Tensor, scale: f32) -> Result<Tensor> {
    let (b, t, heads, d) = q.dims4()?;
    let groups = k.dim(2)?;
    let spread = |x: &Tensor| -> Result<Tensor> {
        let x = x.unsqueeze(3)?.expand((b, t, groups, heads / groups, d))?.reshape((b, t, heads, d))?;
        x.transpose(1, 2)?.contiguous()
    };
    let (q, k, v) = (q.transpose(1, 2)?.contiguous()?, spread(k)?, spread(v)?);
    let mask: Vec<f32> = (0..t * t).map(|i| if i % t > i / t { f32::NEG_INFINITY } else { 0.0 }).collect();
    let mask = Tensor::from_vec(mask, (t, t), q.device())?;
    let scores = (q.matmul(&k.t()?)? * f64::from(scale))?.broadcast_add(&mask)?;
    let top = scores.max_keepdim(3)?;
    let e = scores.broadcast_sub(&top)?.exp()?;
    let p = e.broadcast_div(&e.sum_keepdim(3)?)?;
    p.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((b, t, heads * d))?.to_dtype(DType::F32)
}
