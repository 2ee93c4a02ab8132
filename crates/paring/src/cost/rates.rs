//! Speed of this machine in the parts of a run: the run's own operations on small matrices, a few hundredths of a second
//! each.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use paring_format::{Compressed, Dtype, Values};
use paring_kernels::device::Copies;
use paring_kernels::gram::Gram;
use paring_kernels::matmul::Matrix;
use paring_kernels::plain::add;

use super::sheet::{Linear, Sheet};
use super::work::Work;
use crate::compress::stored::{encoded, sample};
use crate::compress::{Job, Kind, Selection, kinds};
use crate::methods::{Matrix as Swept, Stored};
use crate::pipeline::stats::Stats;
use crate::plan::Curvature;
use crate::plan::{Pattern, Permutation, Recipe};
use crate::report::Stage;
use crate::{Error, Precision, Result};

/// Columns of a matrix that is tried, at most.
const COLS: usize = 2048;
/// Rows of a matrix that is swept, for each thread.
const ROWS: usize = 64;
/// Tokens of a product that is tried.
const TOKENS: usize = 512;
/// Seconds that an operation is repeated for, at least twice.
const LONG: f64 = 0.02;
/// Numbers of a tensor large enough to leave every cache, and of one that is tried at least.
const LARGE: usize = 8 << 20;
const SMALL: usize = 64 << 10;

/// Operations and bytes a second.
pub(super) struct Rates {
    /// Operations of products with weights.
    pub product: f64,
    /// Operations of products in f32, where blocks are trained.
    pub train: f64,
    /// Operations of Gram matrices.
    pub gram: f64,
    /// Operations of factors.
    pub factor: f64,
    /// Bytes through memory, read or written.
    pub memory: f64,
    /// Bytes from the host to the GPU.
    pub link: f64,
    /// Seconds to read a weight and lay it out, to encode and digest one, and to decode and digest one.
    pub each: [f64; 3],
    /// Seconds to sweep a row of so many columns.
    pub sweeps: Vec<(usize, f64)>,
}

/// The shortest of several times of `f` with all that it starts on `device`, in seconds; the first does not count.
fn shortest(device: &Device, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut f = || f().and_then(|()| Ok(device.synchronize()?));
    f()?;
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while best.is_infinite() || begin.elapsed().as_secs_f64() < LONG {
        let start = Instant::now();
        f()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best.max(1e-9))
}

/// Numbers that look random, of mean 0.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// A linear to try things on.
struct Trial<'a> {
    linear: &'a Linear<'a>,
    recipe: &'a Recipe,
    kind: &'a Kind,
}

impl Rates {
    /// Tries the run's own operations where the run computes, in at most `room` bytes of memory.
    pub fn of(job: &Job, selection: &Selection, sheet: &Sheet<'_>, room: u64) -> Result<Self> {
        let kinds = kinds(&job.plan)?;
        let linears: Vec<&Linear<'_>> = sheet.linears().collect();
        let trial = |linear: &&Linear<'_>| {
            let number = selection.choice(&linear.info.name)?;
            Some((number, job.plan.choice(number)?.recipe, kinds.get(number)?.as_ref()?))
        };
        // One of each width, in the order of the first block.
        let mut trials: Vec<Trial<'_>> = Vec::new();
        for linear in linears {
            if trials.iter().all(|trial| trial.linear.info.cols != linear.info.cols)
                && let Some((_, recipe, kind)) = trial(&linear)
            {
                trials.push(Trial { linear, recipe, kind });
            }
        }
        let widest = trials.iter().max_by_key(|trial| trial.linear.info.cols);
        let widest = widest.ok_or_else(|| Error::Plan("no linear is left to compress".into()))?;
        let precision = sheet.precision;
        let device = job.budget.device();
        // A tensor and its copy.
        let large = (room as usize / (2 * size_of::<f32>())).clamp(SMALL, LARGE);
        let memory = {
            let one = Tensor::zeros(large, DType::F32, device)?;
            12.0 * large as f64 / shortest(device, || Ok(add(&one, &one).map(drop)?))?
        };
        let link = match device.is_cpu() {
            true => f64::INFINITY,
            false => {
                // As activations come that wait on the host.
                let copies = Copies::new(device)?;
                let one = copies.take(&Tensor::zeros(LARGE, DType::F32, device)?)?;
                4.0 * LARGE as f64 / shortest(device, || Ok(copies.bring(&one)?.arrive().map(drop)?))?
            }
        };
        let cols = widest.linear.info.cols.min(COLS);
        let (product, gram) = products(device, cols, precision)?;
        let train = match sheet.trains {
            Some(_) if precision != Precision::F32 => products(device, cols, Precision::F32)?.0,
            _ => product,
        };
        let (factor, sweeps) = (f64::INFINITY, Vec::new());
        let each = each(widest, device, precision)?;
        let mut rates = Self { product, train, gram, factor, memory, link, each, sweeps };
        for trial in &trials {
            let (factor, sweep) = swept(trial, device, sheet, &rates)?;
            rates.factor = rates.factor.min(factor);
            rates.sweeps.push((trial.linear.info.cols, sweep));
        }
        Ok(rates)
    }

    /// Seconds that a part of the run takes, about.
    pub fn seconds(&self, stage: Stage, work: &Work, sheet: &Sheet<'_>) -> f64 {
        let linears = || sheet.linears();
        let weights = |l: &Linear<'_>| l.weights() as f64;
        let made: f64 = linears().filter(|l| l.made.is_some()).map(weights).sum();
        let threads = sheet.threads as f64;
        match stage {
            Stage::Read => {
                // Blocks are read by one thread, what is compressed by all of them.
                let blocks: f64 = if sheet.windows > 0 { linears().map(weights).sum() } else { 0.0 };
                self.each[0] * (blocks + made / threads)
            }
            Stage::Forward => (work.operations / self.product + work.moved / self.memory).max(work.carried / self.link),
            Stage::Train => work.operations / self.train + work.moved / self.memory,
            Stage::Gram => work.operations / self.gram,
            Stage::Factor => work.operations / self.factor,
            Stage::Sweep => {
                let of = |l: &Linear<'_>| {
                    let sweep = self.sweeps.iter().find(|(cols, _)| *cols == l.info.cols);
                    l.info.rows as f64 * sweep.map_or(0.0, |&(_, seconds)| seconds)
                };
                linears().filter(|l| l.made.is_some()).map(of).sum()
            }
            Stage::Error => work.operations / self.product + work.moved / self.memory + work.carried / self.link,
            Stage::Pack => self.each[1] * made / threads.min(2.0),
            // Blocks are written while others are worked on.
            Stage::Write => {
                let outer: f64 = sheet.outer.iter().flatten().map(|t| (t.read + t.written) as f64).sum();
                2.0 * outer / self.memory
            }
            Stage::Check => self.each[2] * made / threads + (work.moved - made).max(0.0) / self.memory,
            Stage::Head | Stage::Allocate => 0.0,
        }
    }
}

/// Operations a second of products and of Gram matrices.
fn products(device: &Device, cols: usize, precision: Precision) -> Result<(f64, f64)> {
    let x = Tensor::from_vec(noise(TOKENS * cols), (TOKENS, cols), device)?;
    let rows = cols.min(1024);
    let matrix = Matrix::on_device(device, rows, cols, noise(rows * cols), precision)?;
    let product = shortest(device, || Ok(matrix.matmul(&x).map(drop)?))?;
    let mut gram = Gram::on_device(device, cols, precision)?;
    let add = shortest(device, || Ok(gram.add(&x)?))?;
    Ok((2.0 * (rows * cols * TOKENS) as f64 / product, (cols * cols * TOKENS) as f64 / add))
}

/// Seconds to read, to pack and to check a weight.
fn each(trial: &Trial<'_>, device: &Device, precision: Precision) -> Result<[f64; 3]> {
    let (rows, cols) = (trial.linear.info.rows.min(2 * ROWS), trial.linear.info.cols);
    let count = (rows * cols) as f64;
    let dtype = trial.kind.stored(Dtype::Bf16).dtype;
    let bytes = dtype.encode(&noise(rows * cols));
    let read = shortest(device, || {
        let matrix = Matrix::on_device(device, rows, cols, dtype.decode_f32(&bytes), precision)?;
        drop(matrix);
        Ok(())
    })?;
    let share = 0.0;
    let pack = shortest(&Device::Cpu, || encoded(trial.kind, trial.recipe, [rows, cols], dtype, share).map(drop))?;
    // The matrix itself is made in that time, too.
    let make = shortest(&Device::Cpu, || {
        drop(sample(trial.recipe, [rows, cols], dtype, share, trial.kind));
        Ok(())
    })?;
    let values = Compressed { rows, cols, dtype, values: Values::Dense(noise(rows * cols)) };
    let digest = shortest(&Device::Cpu, || {
        std::hint::black_box(values.digest());
        Ok(())
    })?;
    Ok([read / count, ((pack - make).max(0.0) + digest) / count, (digest + read) / count])
}

/// Operations a second of a factor, and seconds to sweep a row of the linear: on fewer columns where it has many, as many
/// as its groups allow.
fn swept(trial: &Trial<'_>, device: &Device, sheet: &Sheet<'_>, rates: &Rates) -> Result<(f64, f64)> {
    let all = trial.linear.info.cols;
    let group = trial.recipe.rounding.and_then(|r| r.group_size()).unwrap_or(1).max(1);
    let unit = match trial.recipe.pattern {
        Some(Pattern::NofM { of, .. }) => group * of.max(1),
        _ => group,
    };
    let cols = if all > COLS && COLS >= unit { COLS / unit * unit } else { all };
    let rows = (ROWS * sheet.threads).min(trial.linear.info.rows);
    let name = &trial.linear.info.name;
    let full = trial.recipe.method.curvature == Curvature::Full;
    let stats = match trial.recipe.statistics() {
        Curvature::Flat => None,
        Curvature::Diagonal => Some(Stats::Norms(vec![1.0; cols])),
        Curvature::Full => {
            let mut gram = Gram::on_device(device, cols, Precision::F32)?;
            gram.add(&Tensor::from_vec(noise(64 * cols), (64, cols), device)?)?;
            Some(Stats::Gram(gram.finish(1.0)?))
        }
    };
    let weight = noise(rows * cols);
    let mut recipe = trial.recipe.clone();
    recipe.percdamp = recipe.percdamp.max(0.01);
    if let Some(spqr) = &mut recipe.spqr
        && matches!(spqr.permutation, Permutation::Given(_))
    {
        // Of all columns; any other order takes as long.
        spqr.permutation = Permutation::ActOrder;
    }
    let prepared = recipe.prepare(stats.as_ref(), Some(&weight), name)?;
    let start = Instant::now();
    drop(recipe.prepare(stats.as_ref(), Some(&weight), name)?);
    device.synchronize()?;
    let prepare = start.elapsed().as_secs_f64().max(1e-9);
    let factor = if full { 2.0 / 3.0 * (cols as f64).powi(3) / prepare } else { f64::INFINITY };
    let stored = Stored::plain(Dtype::Bf16);
    // Every other weight, of a mask that is given.
    let given =
        (recipe.pattern == Some(Pattern::Given)).then(|| (0..rows * cols).map(|i| (i % 2) as u8).collect::<Vec<u8>>());
    let matrix = || vec![Swept::new(&weight, stored, name).under(given.as_deref())];
    let seconds = shortest(device, || recipe.compress_all(matrix(), cols, &prepared).map(drop))? / rows as f64;
    // Of a row, the update of what lies to the right grows with the square of the columns, all else with the columns.
    let times = all as f64 / cols as f64;
    let update = if full { ((cols * cols) as f64 / rates.product).min(seconds) } else { 0.0 };
    Ok((factor, (seconds - update) * times + update * times * times))
}
