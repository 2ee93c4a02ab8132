//! Speed of a device in each operation, beside its own bandwidth and matrix rate; and whether its results are right.

mod activations;
mod agreement;
mod codes;
mod floor;
mod shapes;
mod sweeps;

use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use paring_kernels::matmul::{Isa, Matrix};
use rayon::prelude::*;
use serde::Serialize;

use crate::plan::Opt;
use crate::{Precision, Result};

pub use agreement::{Agreement, check};
pub use shapes::{SHAPES, Shapes};

use floor::Work;

/// The operations that can be measured, each with a line of help. A common prefix chooses several.
pub static OPERATIONS: &[(&str, &str)] = &[
    ("gram", "the Gram matrix of a batch"),
    ("factor", "the upper Cholesky factor of the inverse"),
    ("quadratic", "the error of a layer, tr(W H Wᵀ)"),
    ("select", "the threshold of a slice of scores"),
    ("transfer", "weights to the device; weights, codes and marks back: a part of each sweep on a GPU"),
    ("sweep-sparsegpt-50", "half of the weights dropped"),
    ("sweep-sparsegpt-2of4", "two of four weights dropped"),
    ("sweep-gptq-g128", "4 bits in groups of 128"),
    ("sweep-gptq-g64", "4 bits in groups of 64"),
    ("sweep-2of4-int4", "two of four dropped, the others in 4 bits"),
    ("sweep-spqr", "3 bits in groups of 16, scales and zeros in 3 bits, outliers"),
    ("matmul-f32", "activations times a weight"),
    ("matmul-bf16", "the same, rounded to bfloat16"),
    ("attention-f32", "causal attention"),
    ("attention-bf16", "the same, rounded to bfloat16"),
    ("norm", "root mean square norm"),
    ("swiglu", "the gate of an MLP"),
    ("add", "a sum of activations"),
    ("pack", "codes of 2 to 8 bits into words"),
    ("unpack", "and back"),
    ("decode", "codes of 4 and 8 bits to f32, on a CPU"),
    ("mask", "marks of what is not zero"),
];

/// Arithmetic of an operation's products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// f32 throughout.
    F32,
    /// bfloat16 with f32 sums.
    Bf16,
}

/// Rates of a device, measured in this process: bytes and operations per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    /// Bytes read and written by a copy.
    pub copy: f64,
    /// Operations of f32 products: on a CPU those of the fastest tile with its operands in the first-level caches, on a GPU
    /// those of a product of square matrices.
    pub f32: f64,
    /// The same with inputs rounded to bfloat16.
    pub bf16: f64,
}

/// One operation at one shape.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// A name of [`OPERATIONS`]; packing with its bits.
    pub operation: String,
    /// Rows and columns, or tokens and features.
    pub shape: [usize; 2],
    /// Median of the runs after the first.
    pub seconds: f64,
    /// Seconds that its bytes or its operations take at the device's rates, the larger of the two.
    pub floor: f64,
    /// Seconds over floor.
    pub ratio: f64,
    /// Operations a second if there are any, otherwise bytes a second.
    pub rate: f64,
    /// Unit of `rate`.
    pub rate_of: &'static str,
    /// Runs that were timed.
    pub runs: usize,
}

/// An operation that was not measured.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    /// As in [`Measurement`].
    pub operation: String,
    /// As in [`Measurement`].
    pub shape: [usize; 2],
    /// The reason, one line.
    pub reason: String,
    /// True if the operation failed; otherwise there was no time left.
    pub failed: bool,
}

/// Results of a benchmark.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// [`Shapes::name`].
    pub shapes: &'static str,
    /// The device's own rates.
    pub rates: Rates,
    /// In the order of [`OPERATIONS`].
    pub measured: Vec<Measurement>,
    /// Likewise.
    pub skipped: Vec<Skipped>,
    /// Seconds in all.
    pub seconds: f64,
}

/// Choice of measurements.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Prefixes of names of [`OPERATIONS`]; empty: all.
    pub operations: Vec<String>,
    /// Shapes to measure at.
    pub shapes: &'static Shapes,
    /// No operation starts after this time.
    pub budget: Duration,
}

impl BenchOptions {
    /// Errors on a prefix that no operation has.
    pub fn check(&self) -> Result<()> {
        let unknown = |asked: &&String| !OPERATIONS.iter().any(|(name, _)| name.starts_with(asked.as_str()));
        match self.operations.iter().find(unknown) {
            None => Ok(()),
            Some(asked) => {
                let names: Vec<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
                Err(Opt::Ops.wrong(asked, "no such operation").hint(format!("there are {}", names.join(", "))))
            }
        }
    }
}

/// Measures a device. An operation that fails is listed with its error. Errors when the rates cannot be measured.
pub fn run(device: &Device, options: &BenchOptions) -> Result<Bench> {
    options.check()?;
    let start = Instant::now();
    let rates = rates(device, options.shapes)?;
    let mut bencher = Bencher { device, options, rates, start, measured: Vec::new(), skipped: Vec::new() };
    sweeps::all(&mut bencher);
    activations::all(&mut bencher);
    codes::all(&mut bencher);
    let Bencher { measured, skipped, .. } = bencher;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Bench { shapes: options.shapes.name, rates, measured, skipped, seconds })
}

/// Most timed runs of an operation, and the seconds after which there are no more.
const RUNS: usize = 5;
const LONG: f64 = 2.0;

/// The median time of some runs after a first one that warms up, and their number. The time of `prepare` is not
/// counted.
fn time<T>(
    device: &Device,
    mut prepare: impl FnMut() -> Result<T>,
    mut run: impl FnMut(T) -> Result<()>,
) -> Result<(f64, usize)> {
    let mut once = || -> Result<f64> {
        let input = prepare()?;
        device.synchronize()?;
        let start = Instant::now();
        run(input)?;
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    };
    once()?;
    let mut times = Vec::new();
    while times.len() < RUNS && times.iter().sum::<f64>() < LONG {
        times.push(once()?);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times.len()))
}

/// Pseudo-random f32 in −0.5 .. 0.5, the same on every run.
fn random(count: usize, seed: u64) -> Vec<f32> {
    const PIECE: usize = 1 << 14;
    let mut values = vec![0f32; count];
    values.par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| {
        let mut state = (seed << 32 | piece as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for value in values {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *value = (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        }
    });
    values
}

/// [`random`] as a tensor on a device.
fn random_tensor(shape: &[usize], seed: u64, device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_vec(random(shape.iter().product(), seed), shape, device)?)
}

fn rates(device: &Device, shapes: &Shapes) -> Result<Rates> {
    let count = shapes.copied / 4;
    let copy = if device.is_cpu() {
        let (from, mut to) = (random(count, 1), vec![0f32; count]);
        let copy = |_| {
            to.par_chunks_mut(1 << 18).zip(from.par_chunks(1 << 18)).for_each(|(to, from)| to.copy_from_slice(from));
            Ok(())
        };
        time(device, || Ok(()), copy)?.0
    } else {
        let from = random_tensor(&[count], 1, device)?;
        time(device, || Ok(()), |()| Ok(from.copy().map(drop)?))?.0
    };
    let copy = 2.0 * (count * 4) as f64 / copy;
    if device.is_cpu() {
        let [bf16, f32] = Isa::current().peaks();
        return Ok(Rates { copy, f32, bf16 });
    }
    let n = shapes.square;
    let x = random_tensor(&[n, n], 2, device)?;
    let product = |precision| -> Result<f64> {
        let matrix = Matrix::on_device(device, n, n, random(n * n, 3), precision)?;
        let seconds = time(device, || Ok(()), |()| Ok(matrix.matmul(&x).map(drop)?))?.0;
        Ok(2.0 * (n as f64).powi(3) / seconds)
    };
    Ok(Rates { copy, f32: product(Precision::F32)?, bf16: product(Precision::Bf16)? })
}

/// Runs the chosen operations and records their times.
struct Bencher<'a> {
    device: &'a Device,
    options: &'a BenchOptions,
    rates: Rates,
    start: Instant,
    measured: Vec<Measurement>,
    skipped: Vec<Skipped>,
}

impl Bencher<'_> {
    fn shapes(&self) -> &'static Shapes {
        self.options.shapes
    }

    fn wants(&self, operation: &str) -> bool {
        let asked = &self.options.operations;
        asked.is_empty() || asked.iter().any(|beginning| operation.starts_with(beginning.as_str()))
    }

    fn skip(&mut self, operation: &str, shape: [usize; 2], reason: String, failed: bool) {
        let reason = reason.lines().next().unwrap_or_default().to_string();
        self.skipped.push(Skipped { operation: operation.to_string(), shape, reason, failed });
    }

    /// Measures an operation if it is chosen and there is time. `begin` makes what it works on, `prepare` what a run uses
    /// up.
    fn measure<S, T>(
        &mut self,
        operation: &str,
        shape: [usize; 2],
        work: Work,
        begin: impl FnOnce(&Device) -> Result<S>,
        mut prepare: impl FnMut(&S) -> T,
        mut run: impl FnMut(&S, T) -> Result<()>,
    ) {
        if !self.wants(operation) {
            return;
        }
        if self.start.elapsed() > self.options.budget {
            let reason = format!("no time left of {} s", self.options.budget.as_secs());
            return self.skip(operation, shape, reason, false);
        }
        let timed =
            begin(self.device).and_then(|state| time(self.device, || Ok(prepare(&state)), |input| run(&state, input)));
        match timed {
            Err(error) => self.skip(operation, shape, error.to_string(), true),
            Ok((seconds, runs)) => {
                let floor = work.floor(&self.rates);
                let operation = operation.to_string();
                let (amount, rate_of) = work.counted();
                let (ratio, rate) = (seconds / floor, amount / seconds);
                self.measured.push(Measurement { operation, shape, seconds, floor, ratio, rate, rate_of, runs });
            }
        }
    }
}

#[cfg(test)]
mod tests;
