//! The output head: activations → logits and likelihoods, with the head's rows read and multiplied in pieces.

use candle_core::{Storage, Tensor};
use paring_kernels::matmul::Matrix;
use paring_kernels::plain::{max, sum_exp};
use rayon::prelude::*;

use crate::{Error, Result, parts::embedding::row_length, source::Source};

/// Rows of the head (vocabulary entries) in memory at a time.
const VOCAB_CHUNK: usize = 4096;
/// Positions multiplied with a piece of the head at a time: few enough that their logits stay in the cache.
const POSITION_CHUNK: usize = 256;
/// Positions for which the head is read once. Their normalised activations are in memory together.
const POSITION_GROUP: usize = 64 * POSITION_CHUNK;

/// The head of a model: a stored matrix `[vocab, dim]`, tied to the embedding or not.
pub struct Head {
    /// Module path, without `.weight`.
    module: String,
    /// Whether it is a linear of its own, whose inputs may be quantized.
    own: bool,
    vocab: usize,
    dim: usize,
}

/// The running log-sum-exp of one position.
#[derive(Clone, Copy)]
struct Running {
    top: f32,
    /// Of exp(logit − top), in f64 across pieces so that the number of pieces leaves no trace.
    sum: f64,
    target: f32,
}

impl Head {
    /// The stored `lm_head`, `[vocab, dim]` in any layout; where none is stored and the config has them `tied`, the
    /// embedding table, module `embedding`. A stored head is used even where the config ties it: it is either a copy of
    /// the embedding or what is meant. Errors when the head is missing or has another shape.
    pub fn open(source: &Source, embedding: &str, vocab: usize, dim: usize, tied: bool) -> Result<Self> {
        let hint = "tie_word_embeddings is right";
        let own = source.has_linear("lm_head") || !tied;
        let module = if own { "lm_head" } else { embedding };
        match own {
            true => source.expect_linear(module, vocab, dim, hint)?,
            false => source.expect_weight(module, vocab, dim, hint)?,
        }
        Ok(Self { module: module.to_string(), own, vocab, dim })
    }

    /// The last block's output `h [b, t, hidden]` → logits `[b, t, vocab]`. `norm` is what comes before the head:
    /// `[n, hidden]` → `[n, dim]`.
    pub fn logits(&self, source: &Source, h: &Tensor, norm: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let (b, t, dim) = h.dims3()?;
        let x = self.input(source, norm(&h.reshape((b * t, dim))?)?)?;
        let mut pieces = Vec::new();
        self.pieces(source, |_, matrix| {
            pieces.push(matrix.matmul(&x)?);
            Ok(())
        })?;
        Ok(Tensor::cat(&pieces, 1)?.reshape((b, t, self.vocab))?)
    }

    /// −log p(`ids[t + 1]`) at each position but the last of each row of `h [b, t, hidden]`; see
    /// [`crate::Decoder::nll`] and, for `norm`, [`Head::logits`]. Memory: one piece of the head, one block of logits, and the normalised activations of
    /// `POSITION_GROUP` positions.
    pub fn nll(
        &self,
        source: &Source,
        h: &Tensor,
        ids: &[u32],
        norm: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<f32>> {
        let (b, t, _) = h.dims3()?;
        if row_length(ids, b)? != t {
            return Err(Error::UnevenRows { tokens: ids.len(), rows: b });
        }
        if let Some(&token) = ids.iter().find(|&&token| token as usize >= self.vocab) {
            return Err(Error::TokenOutOfRange { token, vocab: self.vocab });
        }
        let (each, mut out) = (t - 1, Vec::with_capacity(b * (t - 1)));
        let targets: Vec<u32> = ids.chunks_exact(t).flat_map(|row| &row[1..]).copied().collect();
        for first in (0..targets.len()).step_by(POSITION_GROUP) {
            let last = (first + POSITION_GROUP).min(targets.len());
            let mut parts = Vec::new();
            let mut at = first;
            while at < last {
                let (row, start) = (at / each, at % each);
                let count = (each - start).min(last - at);
                parts.push(h.get(row)?.narrow(0, start, count)?);
                at += count;
            }
            let x = self.input(source, norm(&Tensor::cat(&parts, 0)?)?)?;
            out.extend(self.group(source, &x, &targets[first..last])?);
        }
        Ok(out)
    }

    /// The head's input `x [n, dim]`, rounded where the config says so.
    fn input(&self, source: &Source, x: Tensor) -> Result<Tensor> {
        match if self.own { source.input(&self.module)? } else { None } {
            Some(rounding) => Ok(rounding.apply(&x)?),
            None => Ok(x),
        }
    }

    /// Normalised `x [n, dim]` and n targets → n values.
    fn group(&self, source: &Source, x: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
        let mut running = vec![Running { top: f32::NEG_INFINITY, sum: 0.0, target: 0.0 }; targets.len()];
        self.pieces(source, |first, matrix| {
            for (piece, states) in running.chunks_mut(POSITION_CHUNK).enumerate() {
                let start = piece * POSITION_CHUNK;
                let logits = matrix.matmul(&x.narrow(0, start, states.len())?)?;
                let width = logits.dim(1)?;
                let targets = &targets[start..start + states.len()];
                with_f32(&logits, |logits| {
                    let rows = logits.par_chunks_exact(width).zip(targets);
                    states.par_iter_mut().zip(rows).for_each(|(state, (row, &target))| {
                        state.add(row);
                        if let Some(&logit) = (target as usize).checked_sub(first).and_then(|at| row.get(at)) {
                            state.target = logit;
                        }
                    });
                })?;
            }
            Ok(())
        })?;
        Ok(running.iter().map(|r| (r.sum.ln() + f64::from(r.top) - f64::from(r.target)) as f32).collect())
    }

    /// Calls `f` with the first row's number and the matrix of each piece of the head, in order.
    fn pieces(&self, source: &Source, mut f: impl FnMut(usize, &Matrix) -> Result<()>) -> Result<()> {
        let weight = format!("{}.weight", self.module);
        // A dense head is read row by row; a compressed one is decoded whole, once for each call.
        let whole = if source.holds(&weight, &[self.vocab, self.dim]) {
            None
        } else {
            Some(source.dense(&self.module, self.vocab, self.dim)?)
        };
        for first in (0..self.vocab).step_by(VOCAB_CHUNK) {
            let count = VOCAB_CHUNK.min(self.vocab - first);
            let values = match &whole {
                Some(values) => values[first * self.dim..(first + count) * self.dim].to_vec(),
                None => source.rows(&weight, first, count, self.dim)?,
            };
            f(first, &Matrix::new(count, self.dim, values, source.precision()))?;
        }
        Ok(())
    }
}

impl Running {
    /// Takes in the logits of one piece.
    fn add(&mut self, row: &[f32]) {
        let top = max(row).max(self.top);
        if top > self.top {
            self.sum *= (f64::from(self.top) - f64::from(top)).exp();
            self.top = top;
        }
        self.sum += sum_exp(row, self.top);
    }
}

/// The values of an f32 tensor: borrowed where they lie in host memory, copied from elsewhere.
fn with_f32<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    if let Storage::Cpu(cpu) = &*storage {
        let start = layout.start_offset();
        return Ok(f(&cpu.as_slice::<f32>()?[start..start + layout.shape().elem_count()]));
    }
    drop(storage);
    Ok(f(&x.flatten_all()?.to_vec1::<f32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_give_the_same_sum() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32 * 0.05 - 20.0).collect();
        let expected = logits.iter().map(|&v| f64::from(v).exp()).sum::<f64>().ln();
        for piece in [1, 3, 16, 17, 333, 1000] {
            let mut state = Running { top: f32::NEG_INFINITY, sum: 0.0, target: 0.0 };
            logits.chunks(piece).for_each(|row| state.add(row));
            let got = state.sum.ln() + f64::from(state.top);
            assert!((got - expected).abs() < 1e-6, "{piece}: {got} instead of {expected}");
        }
    }
}
