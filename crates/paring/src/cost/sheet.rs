//! A run as far as its cost depends on it: shapes, types and choices, gathered from a job that was not run.

use std::collections::BTreeMap;

use paring_format::layouts::part_names;
use paring_format::{Checkpoint, Dtype, ScaleType};
use paring_model::{BlockInfo, LinearInfo};

use super::allocation::Measures;
use crate::compress::{Job, Kind, Selection, kinds, stored};
use crate::pipeline::activations::{batch_windows, spilled};
use crate::plan::{Allocation, Curvature, Pattern, Plan, Recipe};
use crate::{Precision, Result};

/// A run.
#[derive(Clone)]
pub(super) struct Sheet<'a> {
    pub blocks: Vec<Block<'a>>,
    /// Tensors outside the blocks, in the shards that they are written in.
    pub outer: Vec<Vec<Tensor>>,
    /// Width of the activations between blocks.
    pub dim: usize,
    pub windows: usize,
    pub seqlen: usize,
    /// Windows of each batch.
    pub batches: Vec<usize>,
    pub precision: Precision,
    pub threads: usize,
    /// Statistics are taken fan by fan.
    pub sequential: bool,
    /// Passes through a block hand on what they computed.
    pub holds: bool,
    /// The dense model passes through each block beside the other one, for its statistics.
    pub dense: bool,
    /// Steps at most in which each block is trained.
    pub trains: Option<usize>,
    /// Scales of the cache of keys and values come from the data.
    pub cache: bool,
    /// Masks are given.
    pub masks: bool,
    /// The error of each layer is computed.
    pub errors: bool,
    /// Bytes of activations that stay in memory.
    pub resident: usize,
    /// The model is part of the program: its pages stay.
    pub built_in: bool,
    /// The bytes of the output do not depend on its numbers.
    pub is_known: bool,
    /// Measurements before the run that choose settings of linears; `None` where none are.
    pub measures: Option<Measures>,
}

#[derive(Clone)]
pub(super) struct Block<'a> {
    pub info: BlockInfo,
    pub linears: Vec<Linear<'a>>,
    /// Norms and biases.
    pub rest: Vec<Tensor>,
}

/// A tensor that is copied.
#[derive(Clone, Copy)]
pub(super) struct Tensor {
    /// Bytes in the input.
    pub read: usize,
    /// Bytes in the output.
    pub written: usize,
}

#[derive(Clone)]
pub(super) struct Linear<'a> {
    pub info: LinearInfo,
    /// Bytes in the input.
    pub read: usize,
    /// Bytes of each of its tensors in the output.
    pub written: Vec<usize>,
    /// Its treatment; `None`: it is copied.
    pub made: Option<Treatment<'a>>,
}

/// Treatment of a linear.
#[derive(Clone, Debug)]
pub(super) struct Treatment<'a> {
    pub recipe: &'a Recipe,
    need: Curvature,
    /// It becomes codes in the output.
    pub coded: bool,
}

impl Linear<'_> {
    pub fn weights(&self) -> usize {
        self.info.rows * self.info.cols
    }
}

impl<'a> Treatment<'a> {
    /// `need` are the statistics of inputs that its run collects.
    pub fn new(recipe: &'a Recipe, need: Curvature, kind: &Kind) -> Self {
        let coded = recipe.rounding.is_some() && kind.layout.name() != paring_format::layouts::DENSE.name();
        Self { recipe, need, coded }
    }

    /// The statistics that it needs.
    pub fn need(&self) -> Curvature {
        self.need
    }

    /// True if its sweep moves errors to later columns.
    pub fn moves(&self) -> bool {
        self.recipe.method.curvature == Curvature::Full
    }

    /// Columns of a slice of the sweep, out of `cols`.
    pub fn slice(&self, cols: usize) -> usize {
        if self.moves() { self.recipe.blocksize.min(cols) } else { cols }
    }

    /// True if scales of the inputs come from the data.
    pub fn ranges(&self) -> bool {
        self.recipe.stores_input_scales()
    }
}

/// Bytes of a linear in a checkpoint, and the type of its floats.
fn stored_as(checkpoint: &Checkpoint, info: &LinearInfo) -> (usize, Dtype) {
    let stored: Vec<_> =
        part_names().iter().filter_map(|local| checkpoint.info(&format!("{}.{local}", info.name))).collect();
    let bytes = stored.iter().map(|tensor| tensor.stored_bytes()).sum();
    let floats = stored.iter().map(|tensor| tensor.dtype).find(|dtype| dtype.is_float()).map(Dtype::in_memory);
    (bytes, floats.unwrap_or(Dtype::Bf16))
}

/// Bytes of a linear of so many bits per weight: those of one are not known before it is measured, but those of all are.
fn on_average(info: &LinearInfo, bits: f64) -> usize {
    ((info.rows * info.cols) as f64 * bits / 8.0) as usize
}

/// Tells whether the bytes of a plan's output do not depend on its numbers.
fn is_known(plan: &Plan, kinds: &[Option<Kind>]) -> bool {
    !matches!(plan.allocation, Some(Allocation::Bits { .. }))
        && kinds.iter().flatten().zip(plan.choices()).all(|(kind, (_, choice))| {
            let outliers = choice.recipe.spqr.as_ref().is_some_and(|s| s.outlier_threshold.is_some());
            let zeros = kind.layout.instead().is_some() && !matches!(choice.recipe.pattern, Some(Pattern::NofM { .. }));
            !outliers && !zeros && choice.outlier_share.is_none()
        })
}

/// The windows of each batch, `batch` at most.
fn batches(windows: usize, batch: usize) -> Vec<usize> {
    let batch = batch.max(1);
    (0..windows).step_by(batch).map(|first| batch.min(windows - first)).collect()
}

impl<'a> Sheet<'a> {
    /// `batch` is how many windows go through a block together on a GPU. Errors as a run does before its work, and when a
    /// layout cannot hold what the recipe makes.
    pub fn of(job: &'a Job, selection: &Selection, batch: Option<usize>) -> Result<Self> {
        let kinds = kinds(&job.plan)?;
        let cast = kinds.iter().flatten().find_map(|kind| kind.layout.float_type());
        let (decoder, checkpoint) = (job.decoder.as_ref(), job.checkpoint.as_ref());
        let tensor = |name: &String| {
            let info = checkpoint.info(name);
            let of = |info: &paring_format::TensorInfo| match cast.filter(|_| info.dtype.is_float()) {
                Some(to) => info.bytes() / info.dtype.size() * to.size(),
                None => info.bytes(),
            };
            Tensor { read: info.map_or(0, |info| info.stored_bytes()), written: info.map_or(0, of) }
        };
        // Linears of one shape and one choice take the same bytes.
        let mut known: BTreeMap<(usize, usize, usize, &str), Vec<usize>> = BTreeMap::new();
        let mut linear = |info: LinearInfo| -> Result<Linear<'a>> {
            let (read, dtype) = stored_as(checkpoint, &info);
            let number = selection.choice(&info.name);
            let chosen = number.and_then(|n| Some((n, job.plan.choice(n)?, kinds.get(n)?.as_ref()?)));
            let Some((number, choice, kind)) = chosen else {
                let written = vec![info.rows * info.cols * cast.unwrap_or(dtype).size()];
                return Ok(Linear { info, read, written, made: None });
            };
            let dtype = kind.stored(dtype).dtype;
            let key = (number, info.rows, info.cols, dtype.name());
            let written = match known.get(&key) {
                Some(parts) => parts.clone(),
                None => {
                    let share = choice.outlier_share.unwrap_or(0.0);
                    let parts = match job.plan.allocation {
                        Some(Allocation::Bits { target, .. }) => vec![on_average(&info, target)],
                        _ => stored::parts(kind, choice.recipe, [info.rows, info.cols], dtype, share)?,
                    };
                    known.insert(key, parts.clone());
                    parts
                }
            };
            let mut written = written;
            let made = Treatment::new(choice.recipe, job.plan.need(choice.recipe), kind);
            if let Some(input) = choice.recipe.input.as_ref().filter(|_| made.ranges()) {
                let is_global = input.scale_type == ScaleType::E4m3;
                written.push(if is_global { 4 } else { dtype.size() + usize::from(!input.symmetric) });
            }
            Ok(Linear { info, read, written, made: Some(made) })
        };
        let mut blocks = Vec::with_capacity(decoder.blocks());
        for i in 0..decoder.blocks() {
            let info = decoder.block_info(i);
            let linears = info.linears.iter().cloned().map(&mut linear).collect::<Result<_>>()?;
            let mut rest: Vec<Tensor> = decoder.rest_names(i).iter().map(tensor).collect();
            if job.plan.kv_cache.is_some() {
                let scale = job.float_type().size();
                rest.extend([Tensor { read: 0, written: scale }; 2]);
            }
            blocks.push(Block { info, linears, rest });
        }
        let (windows, seqlen) = job.windows.as_ref().map_or((0, 1), |w| (w.count(), w.seqlen));
        let batch = batch.unwrap_or_else(|| batch_windows(seqlen));
        Ok(Self {
            blocks,
            outer: crate::compress::outer_shards(job).iter().map(|names| names.iter().map(tensor).collect()).collect(),
            dim: decoder.hidden_size(),
            windows,
            seqlen,
            batches: batches(windows, batch),
            precision: job.plan.precision,
            threads: rayon::current_num_threads(),
            sequential: job.plan.true_sequential,
            holds: job.holds(),
            dense: job.plan.dense_stream.is_some(),
            trains: job.plan.reconstruct_steps,
            cache: job.plan.kv_cache.is_some(),
            masks: job.masks.is_some(),
            errors: !job.plan.skip_out_loss,
            resident: job.resident_activations(),
            built_in: checkpoint.dir().is_none(),
            measures: Measures::of(job),
            is_known: is_known(&job.plan, &kinds),
        })
    }

    /// The same run over other calibration data.
    pub fn with_windows(&self, windows: usize, seqlen: usize) -> Self {
        Self { windows, seqlen, batches: batches(windows, batch_windows(seqlen)), ..self.clone() }
    }

    /// Models whose activations are there between two blocks: the dense one may run beside.
    pub fn models(&self) -> usize {
        1 + usize::from(self.dense || self.trains.is_some())
    }

    /// Models that pass through a block for its statistics.
    pub fn compared(&self) -> usize {
        1 + usize::from(self.dense)
    }

    pub fn tokens(&self) -> usize {
        self.windows * self.seqlen
    }

    /// Bytes of all tensors of the output.
    pub fn written(&self) -> u64 {
        let linears = self.linears().flat_map(|l| &l.written).sum::<usize>();
        (linears + self.copied().map(|t| t.written).sum::<usize>()) as u64
    }

    /// Bytes of the tensors in the largest shard.
    pub fn largest_shard(&self) -> u64 {
        let block = |block: &Block<'_>| {
            let linears = block.linears.iter().flat_map(|l| &l.written).sum::<usize>();
            linears + block.rest.iter().map(|t| t.written).sum::<usize>()
        };
        let outer = self.outer.iter().map(|shard| shard.iter().map(|t| t.written).sum());
        self.blocks.iter().map(block).chain(outer).max().unwrap_or(0) as u64
    }

    /// The linears of all blocks.
    pub fn linears(&self) -> impl Iterator<Item = &Linear<'a>> {
        self.blocks.iter().flat_map(|block| &block.linears)
    }

    /// The tensors that are copied.
    pub fn copied(&self) -> impl Iterator<Item = &Tensor> {
        self.blocks.iter().flat_map(|block| &block.rest).chain(self.outer.iter().flatten())
    }

    /// Bytes at most of what describes the tensors: headers, the index, the config's list of modules, the report.
    pub fn paper(&self) -> u64 {
        /// Of a tensor beside its name: type, shape, offsets and the name of its shard; and of a linear in the report.
        const EACH: [usize; 2] = [160, 700];
        let named = |l: &Linear<'_>| (l.written.len() + 2) * (2 * l.info.name.len() + EACH[0]) + EACH[1];
        let others = self.copied().count();
        (self.linears().map(named).sum::<usize>() + others * 2 * EACH[0] + (64 << 10)) as u64
    }

    /// Bytes of activations that wait in a file.
    pub fn spilled(&self) -> u64 {
        let bytes = |windows: &usize| 4 * windows * self.seqlen * self.dim;
        (self.models() * spilled(self.batches.iter().map(bytes), self.resident)) as u64
    }
}
