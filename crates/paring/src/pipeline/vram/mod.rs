//! GPU memory of a run, and the windows that fit in it.

use paring_format::message;
use paring_kernels::gram::{self, GramPrecision};
use paring_kernels::{attention, matmul};
use paring_model::{AttentionInfo, BlockInfo};
use serde::Serialize;

use super::shapes::{Fan, activations, fans};
use crate::plan::Curvature;
use crate::plan::Opt;
use crate::{Precision, Result};

/// Tokens of a batch at most: products are at full speed long before.
const BATCH_TOKENS: usize = 16384;
/// Tokens of a batch for which activations of all windows leave the device rather than make it smaller.
const FEW_TOKENS: usize = 2048;
/// Rows of the head, and positions, whose logits are on the device together.
const HEAD_ROWS: usize = 4096;
const HEAD_POSITIONS: usize = 4096;

/// A run as far as the memory of its device depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The block with the most weights.
    pub block: &'a BlockInfo,
    /// Width of the activations between blocks.
    pub dim: usize,
    /// Windows of data; 0 when the method needs none.
    pub windows: usize,
    /// Tokens in a window.
    pub seqlen: usize,
    /// Type that products round their inputs to: weights lie on the device in that type.
    pub precision: Precision,
    /// Precision of products of f32 inputs for Gram matrices.
    pub products: GramPrecision,
    /// The curvature that the method sweeps with; [`Curvature::Flat`] also where a model is only run.
    pub need: Curvature,
    /// True if something is compressed. Without Gram matrices that is done on the host.
    pub sweeps: bool,
    /// Columns of a slice of the sweep.
    pub slice: usize,
    /// The fewest weights of a row that share a grid; 0 where none are rounded, or where whole rows or more share one.
    pub group: usize,
    /// Token ids, when the run ends in the head.
    pub head: Option<usize>,
}

/// Something that takes memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: u64,
}

/// A moment of a run, and all that lies on the device then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The work at that moment.
    pub at: &'static str,
    /// The parts of memory.
    pub parts: Vec<Part>,
}

impl Point {
    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// Use of a device by a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Windows that go through a block together, 1 or more; 0 when there are none.
    pub batch: usize,
    /// True if the activations between blocks stay on the device; otherwise they wait on the host.
    pub holds_activations: bool,
    /// The moments of a block.
    pub points: Vec<Point>,
}

impl Device {
    /// The moment at which most is on the device.
    pub fn peak(&self) -> Option<&Point> {
        self.points.iter().max_by_key(|point| point.bytes())
    }

    /// Most bytes on the device at once; what the driver and the libraries take for themselves is not among them.
    pub fn bytes(&self) -> u64 {
        self.peak().map_or(0, Point::bytes)
    }
}

/// Plans the use of a device of which `pass` may fill `budget` bytes: as many windows together as fit, up to 16,384
/// tokens, with the activations between blocks on the device if 2,048 tokens (or one window) still go through a block
/// together.
///
/// # Errors
/// When not even one window fits with the activations between blocks on the host.
pub fn device(pass: &Pass<'_>, budget: u64) -> Result<Device> {
    let seqlen = pass.seqlen.max(1);
    let most = (BATCH_TOKENS / seqlen).clamp(1, pass.windows.max(1));
    let few = (FEW_TOKENS / seqlen).clamp(1, most);
    let fits = |batch: &usize, holds: bool| points(pass, *batch, holds).iter().all(|point| point.bytes() <= budget);
    let on_device = (few..=most).rev().find(|batch| fits(batch, true)).map(|batch| (batch, true));
    let found = on_device.or_else(|| (1..=most).rev().find(|batch| fits(batch, false)).map(|batch| (batch, false)));
    if let Some((batch, holds_activations)) = found {
        let batch = if pass.windows == 0 { 0 } else { batch };
        let holds_activations = holds_activations && batch > 0;
        return Ok(Device { batch, holds_activations, points: points(pass, batch, holds_activations) });
    }
    let least = Device { batch: 1, holds_activations: false, points: points(pass, 1, false) };
    let gib = |bytes: u64| bytes as f64 / f64::from(1u32 << 30);
    let at = least.peak().map_or("", |point| point.at);
    let problem = format!(
        ": a block needs {:.2} GiB on the device ({at}, one window of {} tokens at a time), and {:.2} GiB are allowed",
        gib(least.bytes()),
        pass.seqlen,
        gib(budget)
    );
    let hint = match at {
        FORWARD | GRAM => message!["allow more, or choose a shorter ", Opt::Seqlen],
        _ => "allow more".into(),
    };
    Err(Opt::MaxVram.misfit(message![Opt::MaxVram, problem]).hint(hint))
}

const FORWARD: &str = "forward";
const GRAM: &str = "gram";
const FACTOR: &str = "factor";
const SWEEP: &str = "sweep";
const ERROR: &str = "error";
const HEAD: &str = "head";

/// Contents of the device at each moment of a block, `batch` windows at a time.
fn points(pass: &Pass<'_>, batch: usize, holds: bool) -> Vec<Point> {
    let fans = fans(&pass.block.linears);
    let element = if pass.precision == Precision::F32 { 4 } else { 2 };
    let f32s = |count: usize| 4 * count as u64;
    let part = |name, bytes: u64| Part { name, bytes };
    let runs = pass.windows > 0;
    let weights = if runs { element * fans.iter().map(|fan| fan.weights() as u64).sum::<u64>() } else { 0 };
    let hidden = if holds { f32s(pass.windows * pass.seqlen * pass.dim) } else { 0 };
    // The weights of the next block are on their way while this one is worked on.
    let common = [
        part("weights of the block", weights),
        part("weights of the next block", weights),
        part("activations of all windows", hidden),
    ];
    let tokens = batch * pass.seqlen;
    let widest = fans.iter().map(|fan| fan.cols).max().unwrap_or(0);
    // A batch that waits on the host is brought and taken away while another one is worked on.
    let moving = if holds { 0 } else { f32s(2 * tokens * pass.dim) };
    let rounded = matmul::gpu_scratch(tokens, widest, pass.precision) as u64;
    let AttentionInfo { heads, kv_heads, head_dim, window, .. } = pass.block.attention;
    let attention = attention::gpu_scratch(pass.seqlen, heads, kv_heads, head_dim, window, pass.precision) as u64;
    let of_batch = f32s(tokens * activations(pass.block, pass.dim)) + rounded.max(attention) + moving;
    let grams: u64 = match pass.need {
        Curvature::Flat => 0,
        Curvature::Diagonal => fans.iter().map(|fan| f32s(fan.cols)).sum(),
        Curvature::Full => fans.iter().map(|fan| f32s(fan.cols * fan.cols)).sum(),
    };
    let at =
        |at, more: Vec<Part>| Point { at, parts: common.iter().cloned().chain(more).filter(|p| p.bytes > 0).collect() };
    let mut points = Vec::new();
    if runs {
        points.push(at(FORWARD, vec![part("activations of a batch", of_batch)]));
    }
    if runs && pass.need != Curvature::Flat {
        let scratch = gram::gpu_scratch(tokens, widest, pass.precision, pass.products) as u64;
        points.push(at(
            GRAM,
            vec![
                part("activations of a batch", of_batch),
                part("Gram matrices", grams),
                part("inputs as they are multiplied", if pass.need == Curvature::Full { scratch } else { 0 }),
            ],
        ));
    }
    if pass.need == Curvature::Full {
        let square = f32s(widest * widest);
        points.push(at(
            FACTOR,
            vec![
                part("Gram matrices", grams),
                part("damped matrix", square),
                part("factor", square),
                part("scratch of the factor", square),
            ],
        ));
    }
    if pass.sweeps && pass.need == Curvature::Full {
        let [swept, measured] = sweep_parts(pass, &fans, grams);
        points.extend([at(SWEEP, swept), at(ERROR, measured)]);
    }
    if let Some(vocab) = pass.head {
        let rows = vocab.min(HEAD_ROWS);
        let hidden = part("activations of all windows", hidden);
        let logits = part("logits of a piece", f32s(rows * HEAD_POSITIONS.min(tokens)));
        let piece = part("piece of the head", (4 + element) * (rows * pass.dim) as u64);
        let of_batch = part("activations of a batch", f32s(2 * tokens * pass.dim));
        points.push(Point { at: HEAD, parts: [hidden, piece, logits, of_batch].into() });
    }
    points
}

/// The largest memory of a fan's sweep and of its error, beside Gram matrices of `grams` bytes.
fn sweep_parts(pass: &Pass<'_>, fans: &[Fan], grams: u64) -> [Vec<Part>; 2] {
    let f32s = |count: usize| 4 * count as u64;
    let part = |name, bytes: u64| Part { name, bytes };
    let factor = |fan: &Fan| f32s(fan.cols * fan.cols);
    let swept = |fan: &Fan| {
        // A scale and a zero for each group, and of SpQR what they are coded with.
        let grids = if pass.group == 0 { 0 } else { 3 * fan.rows * fan.cols.div_ceil(pass.group) };
        vec![
            part("Gram matrices", grams),
            part("factor", factor(fan)),
            part("weights of a fan", f32s(fan.weights())),
            part("errors of a slice", f32s(fan.rows * pass.slice.min(fan.cols))),
            part("codes and marks", 2 * fan.weights() as u64),
            part("grids", f32s(grids)),
        ]
    };
    let measured = |fan: &Fan| {
        let scratch = gram::quadratic_gpu_scratch(fan.rows, fan.cols, pass.precision) as u64;
        vec![part("Gram matrices", grams), part("factor", factor(fan)), part("weights in pieces", scratch)]
    };
    let most = |of: &dyn Fn(&Fan) -> Vec<Part>| {
        fans.iter().map(of).max_by_key(|parts| parts.iter().map(|p| p.bytes).sum::<u64>()).unwrap_or_default()
    };
    [most(&swept), most(&measured)]
}

#[cfg(test)]
mod tests;
