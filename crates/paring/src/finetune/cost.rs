//! The size and the time of a fine-tuning: a block is run on a few hundred tokens, the rest is counted.

use std::time::Instant;

use candle_core::Device;
use paring_kernels::matmul::Matrix;
use paring_model::{BlockInfo, Decoder, LinearInfo};

use super::batch::TOGETHER;
use super::head::VOCAB_CHUNK;
use super::pair::targeted;
use super::settings::{Settings, Subject};
use super::trainer::RESIDENT;
use crate::report::resident;
use crate::{Precision, Result};

/// Tokens that the block is run on.
const SAMPLE: usize = 512;
/// Bytes a second of files that the system keeps in memory, or of a fast disk.
const DISK_RATE: f64 = 2e9;

/// The size of a fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amount {
    /// Numbers that train.
    pub trained: usize,
    /// Seconds of a step.
    pub seconds: f64,
    /// Bytes of values, moments and gradients that a step reads and writes.
    pub moved: u64,
    /// Bytes on the disk while it trains.
    pub disk: u64,
    /// The most resident memory of the process.
    pub memory: u64,
}

/// The size and the time of steps over so many tokens of this model. Reads its first block.
///
/// # Errors
/// When the block cannot be read or has no backward pass.
pub fn amount(student: &dyn Decoder, has_teacher: bool, settings: &Settings, tokens: usize) -> Result<Amount> {
    let (blocks, dim) = (student.blocks(), student.hidden_size());
    let info = student.block_info(0);
    let weights: usize = info.linears.iter().map(|linear| linear.rows * linear.cols).sum();
    let own_head = student.ending()?.has_own_head();
    let head = student.vocab_size() * dim;
    let (of_block, of_rest) = match &settings.subject {
        Subject::Weights { masked } => {
            let of_block = if *masked { kept(student, &info)? } else { weights };
            let vectors: usize = info.norms.iter().map(|norm| norm.dim * norm.tensors.len()).sum();
            (of_block + vectors, if own_head { head } else { 0 } + dim)
        }
        Subject::Adapter { rank, targets, .. } => {
            let linears = info.linears.iter().filter(|linear| targeted(targets, &linear.name));
            (linears.map(|linear| rank * (linear.rows + linear.cols)).sum(), 0)
        }
    };
    let trained = of_block * blocks + of_rest;

    let sample = SAMPLE.min(tokens.max(2)).min(student.max_positions());
    let h = student.embed(&vec![0; sample], 1)?;
    let block = student.block(0)?;
    let start = Instant::now();
    block.forward(&h, &mut ())?;
    let forward = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let (y, tape) = block.record(&h)?;
    block.backward(tape, &y, &mut block.gradients())?;
    let back = start.elapsed().as_secs_f64();
    drop(block);
    let teacher = if has_teacher { forward } else { 0.0 };
    let of_blocks = (forward + back + teacher) * blocks as f64 * tokens as f64 / sample as f64;
    // Two products of the head for the loss, one or two for its gradients, and those of a teacher's.
    let passes = 3.0 + f64::from(u8::from(own_head)) + if settings.loss.divergence == 0.0 { 0.0 } else { 2.0 };
    let of_head = passes * 2.0 * head as f64 * tokens as f64 / product_rate(dim, student.arithmetic().precision)?;
    let moved = 36 * trained as u64;
    let states = (4 * (blocks + 1) * tokens * dim) as u64 * if settings.loss.states == 0.0 { 1 } else { 2 };

    // While a block is updated: values, moments, gradients and the matrices as the model sees them. On the way back: weights, values,
    // the sums of gradients and those that wait; and what a pass keeps of each token.
    let inner: usize = info.linears.iter().map(|linear| linear.rows.max(linear.cols)).max().unwrap_or(dim);
    let together = TOGETHER.min(tokens);
    let pass = 4 * together * (16 * dim + 8 * inner);
    let of_update = 16 * of_block + 6 * weights;
    let of_back = 8 * of_block + 12 * weights + pass;
    let of_loss = 4 * (4 * tokens * dim + VOCAB_CHUNK * dim * 3);
    let (resident, peak) = (resident().0, of_update.max(of_back).max(of_loss));
    Ok(Amount {
        trained,
        seconds: of_blocks + of_head + moved as f64 / DISK_RATE,
        moved,
        disk: 28 * trained as u64 + states.saturating_sub(RESIDENT as u64),
        // The states at work, their gradients, and a teacher's are in memory for all tokens of a step.
        memory: (resident + peak + 4 * tokens * dim * (2 + usize::from(has_teacher))) as u64
            + states.min(RESIDENT as u64),
    })
}

/// The weights of a block's linears that are not 0.
fn kept(student: &dyn Decoder, info: &BlockInfo) -> Result<usize> {
    let of = |linear: &LinearInfo| {
        let matrix = student.checkpoint().read_linear(&linear.name, linear.rows, linear.cols)?;
        Ok(matrix.into_dense().iter().filter(|v| **v != 0.0).count())
    };
    info.linears.iter().map(of).sum()
}

/// Operations a second of a product of this width.
fn product_rate(dim: usize, precision: Precision) -> Result<f64> {
    let (rows, tokens) = (1024, 256);
    let matrix = Matrix::new(rows, dim, vec![0.5; rows * dim], precision);
    let x = candle_core::Tensor::ones((tokens, dim), candle_core::DType::F32, &Device::Cpu)?;
    matrix.matmul(&x)?;
    let start = Instant::now();
    (0..3).try_for_each(|_| matrix.matmul(&x).map(drop))?;
    Ok(3.0 * 2.0 * (rows * dim * tokens) as f64 / start.elapsed().as_secs_f64().max(1e-9))
}
