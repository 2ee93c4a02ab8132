//! The output head: activations → logits and likelihoods, with the head's rows read and multiplied in pieces.

use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use paring_kernels::likelihood::{Likelihood, Likely};
use paring_kernels::matmul::Matrix;

use crate::{Error, Packed, Result, Weight, parts::embedding::row_length, source::Source};

/// Rows of the head (vocabulary entries) in memory at a time.
const VOCAB_CHUNK: usize = 4096;
/// Positions multiplied with a piece of the head at a time, on the CPU: few enough that their logits stay in the cache.
const POSITION_CHUNK: usize = 256;
/// The same on a GPU, which wants large products: 64 MiB of logits.
const GPU_CHUNK: usize = 4096;
/// Positions for which the head is read once. Their normalised activations are in memory together.
const POSITION_GROUP: usize = 64 * POSITION_CHUNK;

/// The head of a model: a stored matrix `[vocab, dim]`, tied to the embedding or not.
pub struct Head {
    /// Module path, without `.weight`.
    module: String,
    /// True for a linear of its own, whose inputs may be quantized.
    own: bool,
    vocab: usize,
    dim: usize,
    /// The matrix, once it was asked for, of a model whose weights stay packed.
    packed: OnceLock<Packed>,
}

/// A head whose rows are read in pieces.
pub(crate) struct HeadRows {
    weight: String,
    whole: Option<Vec<f32>>,
    pub vocab: usize,
    pub dim: usize,
    /// True for a matrix of its own.
    pub own: bool,
}

impl HeadRows {
    /// Rows `first .. first + count`, row-major `[count, dim]`, f32.
    pub fn read(&self, source: &Source, first: usize, count: usize) -> Result<Vec<f32>> {
        match &self.whole {
            Some(values) => Ok(values[first * self.dim..(first + count) * self.dim].to_vec()),
            None => source.rows(&self.weight, first, count, self.dim),
        }
    }
}

impl Head {
    /// The stored `lm_head`, `[vocab, dim]` in any layout; where none is stored and the config has them `tied`, the
    /// embedding table, module `embedding`. A stored head is used even where the config ties it: it is either a copy of
    /// the embedding or what is meant. Errors when the head is missing or has another shape.
    pub fn open(source: &Source, embedding: &str, vocab: usize, dim: usize, tied: bool) -> Result<Self> {
        let hint = "tie_word_embeddings is right";
        let (shared, weight) = (format!("{embedding}.weight"), "lm_head.weight");
        // One matrix under either name is the embedding.
        let one =
            [source.checkpoint().stored_as(&shared), source.checkpoint().stored_as(weight)].iter().any(Option::is_some);
        let own = !tied || (source.has_linear("lm_head") && !one);
        let module = if own { "lm_head" } else { embedding };
        match own {
            true => source.require_linear(module, vocab, dim, hint)?,
            false => source.require_weight(module, vocab, dim, hint)?,
        }
        Ok(Self { module: module.to_string(), own, vocab, dim, packed: OnceLock::new() })
    }

    /// The last block's output `h [b, t, hidden]` → logits `[b, t, vocab]`. `norm` is what comes before the head:
    /// `[n, hidden]` → `[n, dim]`.
    pub fn logits(&self, source: &Source, h: &Tensor, norm: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let (b, t, dim) = h.dims3()?;
        let x = self.input(source, norm(&h.reshape((b * t, dim))?)?)?;
        if source.keeps_packed() {
            return Ok(self.packed(source)?.matmul(&x)?.reshape((b, t, self.vocab))?);
        }
        let mut pieces = Vec::new();
        self.pieces(source, x.device(), |_, matrix| {
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
            let found = self.likelihoods(source, &Tensor::cat(&parts, 0)?, &targets[first..last], &norm)?;
            out.extend(found.iter().map(|likely| likely.nll));
        }
        Ok(out)
    }

    /// The likelihood of a target after each row of the last block's output `h [n, hidden]`; see
    /// [`crate::Decoder::likelihoods`].
    pub fn likelihoods(
        &self,
        source: &Source,
        h: &Tensor,
        targets: &[u32],
        norm: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<Likely>> {
        let rows = h.dims2()?.0;
        if rows != targets.len() {
            return Err(Error::UnevenRows { tokens: targets.len(), rows });
        }
        if let Some(&token) = targets.iter().find(|&&token| token as usize >= self.vocab) {
            return Err(Error::TokenOutOfRange { token, vocab: self.vocab });
        }
        if rows == 0 {
            return Ok(Vec::new());
        }
        let x = self.input(source, norm(h)?)?;
        let mut likelihood = Likelihood::new(x.device(), targets)?;
        let chunk = if x.device().is_cpu() { POSITION_CHUNK } else { GPU_CHUNK };
        self.pieces(source, x.device(), |first, matrix| {
            for start in (0..targets.len()).step_by(chunk) {
                let count = chunk.min(targets.len() - start);
                likelihood.add(start, first, &matrix.matmul(&x.narrow(0, start, count)?)?)?;
            }
            Ok(())
        })?;
        Ok(likelihood.finish()?)
    }

    /// The matrix for passes that train: rows can be asked for in pieces. A compressed head is decoded whole here.
    ///
    /// # Errors
    /// When its inputs are rounded to codes, through which there is no backward pass.
    pub(crate) fn rows(&self, source: &Source) -> Result<HeadRows> {
        if self.own && source.input(&self.module)?.is_some() {
            return Err(Error::NoBackward { what: "a head whose inputs are rounded to codes" });
        }
        self.open_rows(source)
    }

    fn open_rows(&self, source: &Source) -> Result<HeadRows> {
        let weight = format!("{}.weight", self.module);
        let whole = match source.holds(&weight, &[self.vocab, self.dim]) {
            true => None,
            false => Some(source.dense(&self.module, self.vocab, self.dim)?),
        };
        Ok(HeadRows { weight, whole, vocab: self.vocab, dim: self.dim, own: self.own })
    }

    /// Reads the matrix where it stays in memory.
    pub fn load(&self, source: &Source) -> Result<()> {
        if source.keeps_packed() { self.packed(source).map(drop) } else { Ok(()) }
    }

    /// The matrix in memory. Two threads may read it at once, the first time; one of the two is kept.
    fn packed(&self, source: &Source) -> Result<&Packed> {
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let weight = format!("{}.weight", self.module);
        let packed = match source.checkpoint().info(&weight).map(|info| info.dtype) {
            Some(dtype) if source.holds(&weight, &[self.vocab, self.dim]) => {
                let piece = |first| source.rows(&weight, first, VOCAB_CHUNK.min(self.vocab - first), self.dim);
                let pieces = (0..self.vocab).step_by(VOCAB_CHUNK).map(piece);
                Packed::pieces(source.device(), (self.vocab, self.dim), pieces, dtype, source.precision())?
            }
            _ => {
                let matrix = source.checkpoint().read_linear(&self.module, self.vocab, self.dim)?;
                Packed::on(source.device(), &matrix, source.precision())?
            }
        };
        Ok(self.packed.get_or_init(|| packed))
    }

    /// The head's input `x [n, dim]`, rounded where the config says so.
    fn input(&self, source: &Source, x: Tensor) -> Result<Tensor> {
        match if self.own { source.input(&self.module)? } else { None } {
            Some(rounding) => Ok(rounding.apply(&x)?),
            None => Ok(x),
        }
    }

    /// Calls `f` with the first row's number and the matrix (on the device) of each piece of the head, in order.
    fn pieces(&self, source: &Source, device: &Device, mut f: impl FnMut(usize, &Matrix) -> Result<()>) -> Result<()> {
        // A dense head is read row by row; a compressed one is decoded whole, once for each call.
        let rows = self.open_rows(source)?;
        for first in (0..self.vocab).step_by(VOCAB_CHUNK) {
            let count = VOCAB_CHUNK.min(self.vocab - first);
            let values = rows.read(source, first, count)?;
            f(first, &Matrix::on_device(device, count, self.dim, values, source.precision())?)?;
        }
        Ok(())
    }
}
