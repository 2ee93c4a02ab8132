//! A model with all its blocks in memory: tokens → logits.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use paring_model::{Block, CacheType, Decoder, Next, extend};

use crate::{Error, Result};

/// Tokens of one sequence that go through the blocks together. Longer ones are cut, so that memory is bounded; the cuts are
/// at multiples of it in the sequence, so that results do not depend on how tokens came.
pub const CHUNK: usize = 512;
/// Tokens that texts need to have in common for a copy of them to be worth it.
pub const LEAST_SHARED: usize = 16;
/// Rows of logits in memory at a time.
const LOGIT_ROWS: usize = 64;

/// A model that generates.
pub struct Engine {
    decoder: Arc<dyn Decoder>,
    blocks: Vec<Box<dyn Block>>,
    cache_type: CacheType,
}

/// A text that a model has seen: its tokens, and what the model keeps of them. A clone is a fork.
#[derive(Clone)]
pub struct Sequence {
    ids: Vec<u32>,
    cache: paring_model::Sequence,
}

/// The rows whose logits a step is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// None: a part of a prompt.
    Nothing,
    /// That of the last token, from which the next one is chosen.
    Last,
    /// Those of all tokens.
    All,
}

/// Takes logits, a row at a time: the number of the step, the position of the token in its sequence, and the logits
/// after it, `[vocab]`.
pub type SeeLogits<'a> = dyn FnMut(usize, usize, &[f32]) -> Result<()> + 'a;

/// The next tokens of a sequence.
pub struct Step<'a> {
    /// The sequence, which grows by them.
    pub sequence: &'a mut Sequence,
    /// One or more tokens.
    pub tokens: &'a [u32],
    /// The logits that are asked for.
    pub want: Want,
}

impl Sequence {
    /// Its tokens.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True if the model has seen no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// A fork of its first `len` tokens, which alone are copied.
    ///
    /// # Errors
    /// As copies on a device.
    pub fn prefix(&self, len: usize) -> Result<Self> {
        Ok(Self { ids: self.ids[..len.min(self.ids.len())].to_vec(), cache: self.cache.prefix(len)? })
    }

    /// Forgets the tokens from position `len` on.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        self.cache.truncate(len)?;
        self.ids.truncate(len);
        Ok(())
    }

    /// Number of tokens that it begins with in common with `ids`.
    pub fn common(&self, ids: &[u32]) -> usize {
        common(&self.ids, ids)
    }
}

/// Number of tokens that two texts begin with in common.
pub fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Engine {
    /// Reads all blocks of a model. Sequences will keep keys and values in `cache_type`. Costs the memory of all weights.
    ///
    /// # Errors
    /// When a block cannot be read, and on a device that cannot hold the type.
    pub fn new(decoder: Arc<dyn Decoder>, cache_type: CacheType) -> Result<Self> {
        Self::read(decoder, cache_type, &mut |_| ())
    }

    /// The same; `read` hears how many blocks there are already.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn read(decoder: Arc<dyn Decoder>, cache_type: CacheType, read: &mut dyn FnMut(usize)) -> Result<Self> {
        let mut blocks = Vec::with_capacity(decoder.blocks());
        for i in 0..decoder.blocks() {
            read(i);
            if i + 1 < decoder.blocks() {
                decoder.prefetch(i + 1);
            }
            blocks.push(decoder.block(i)?);
        }
        decoder.load_head()?;
        let engine = Self { decoder, blocks, cache_type };
        engine.sequence()?;
        Ok(engine)
    }

    /// The model.
    pub fn decoder(&self) -> &dyn Decoder {
        self.decoder.as_ref()
    }

    /// Number of token ids.
    pub fn vocab(&self) -> usize {
        self.decoder.vocab_size()
    }

    /// Tokens in the longest sequence; `None` where nothing limits it.
    pub fn longest(&self) -> Option<usize> {
        self.decoder.longest()
    }

    /// The type of keys and values.
    pub fn cache_type(&self) -> CacheType {
        self.cache_type
    }

    /// A sequence of no tokens.
    ///
    /// # Errors
    /// On a device that cannot hold the type of its keys and values.
    pub fn sequence(&self) -> Result<Sequence> {
        Ok(Sequence { ids: Vec::new(), cache: paring_model::Sequence::new(self.decoder(), self.cache_type)? })
    }

    /// Extends sequences by their next tokens, all in one batch: the logits of each step, `[rows, vocab]` in one row after
    /// the other.
    ///
    /// # Errors
    /// On tokens out of range, sequences that become too long, and logits that are not finite. What was computed until then
    /// stays in the sequences, which agree with their caches.
    pub fn advance(&self, steps: &mut [Step<'_>]) -> Result<Vec<Vec<f32>>> {
        let mut logits = vec![Vec::new(); steps.len()];
        self.advance_with(steps, &mut |step, _, row| {
            logits[step].extend_from_slice(row);
            Ok(())
        })?;
        Ok(logits)
    }

    /// The same, a row at a time. Rows of a step come in order. Memory is bounded whatever the number of tokens.
    ///
    /// # Errors
    /// As [`Engine::advance`], and those of `see`.
    pub fn advance_with(&self, steps: &mut [Step<'_>], see: &mut SeeLogits<'_>) -> Result<()> {
        let mut done = vec![0; steps.len()];
        loop {
            let counts: Vec<usize> = steps
                .iter()
                .zip(&done)
                .map(|(step, &done)| (CHUNK - step.sequence.len() % CHUNK).min(step.tokens.len() - done))
                .collect();
            if counts.iter().all(|&count| count == 0) {
                return Ok(());
            }
            self.pass(steps, (&mut done, &counts), see)?;
        }
    }

    /// One pass: of each step so many tokens after those that are done.
    fn pass(
        &self,
        steps: &mut [Step<'_>],
        (done, counts): (&mut [usize], &[usize]),
        see: &mut SeeLogits<'_>,
    ) -> Result<()> {
        let mut nexts = Vec::new();
        for ((step, &done), &count) in steps.iter_mut().zip(&*done).zip(counts) {
            if count > 0 {
                nexts.push(Next { sequence: &mut step.sequence.cache, ids: &step.tokens[done..done + count] });
            }
        }
        // On a thread of the pool: from outside, each of the many small products would be handed over.
        let h = rayon::scope(|_| extend(self.decoder(), &self.blocks, &mut nexts))?;
        let (mut rows, mut first) = (Vec::new(), 0);
        for (i, step) in steps.iter_mut().enumerate() {
            let (before, count) = (step.sequence.len(), counts[i]);
            step.sequence.ids.extend_from_slice(&step.tokens[done[i]..done[i] + count]);
            done[i] += count;
            let from = match step.want {
                Want::Nothing => count,
                Want::Last if done[i] < step.tokens.len() => count,
                Want::Last => count.saturating_sub(1),
                Want::All => 0,
            };
            rows.extend((from..count).map(|k| Row { step: i, position: before + k, at: first + k }));
            first += count;
        }
        rows.chunks(LOGIT_ROWS).try_for_each(|rows| self.show(&h, rows, see))
    }

    /// Shows the logits of some rows of `h [1, n, dim]`.
    fn show(&self, h: &Tensor, rows: &[Row], see: &mut SeeLogits<'_>) -> Result<()> {
        let parts: Vec<Tensor> = rows.iter().map(|row| h.narrow(1, row.at, 1)).collect::<candle_core::Result<_>>()?;
        let logits = self.logits(&Tensor::cat(&parts, 1)?)?;
        for (row, logits) in rows.iter().zip(logits.chunks_exact(self.vocab())) {
            if let Some(&value) = logits.iter().find(|value| !value.is_finite()) {
                return Err(Error::Logits { position: row.position, value });
            }
            see(row.step, row.position, logits)?;
        }
        Ok(())
    }

    /// The last block's output `h [1, n, dim]` → logits `[n, vocab]` in host memory: the only place that asks for them.
    fn logits(&self, h: &Tensor) -> Result<Vec<f32>> {
        let logits = self.decoder.logits(h)?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }
}

/// A row of a pass whose logits are asked for.
struct Row {
    step: usize,
    position: usize,
    /// Its place in the pass.
    at: usize,
}
