//! Contents of a checkpoint, by format and tensor.

mod words;

use std::collections::{BTreeMap, BTreeSet};

use paring_format::{Checkpoint, Scheme, Values, near};
use paring_model::families;
use serde::Serialize;

use crate::output::modules::compressed_module;
use crate::output::modules::{group_of, kind};
use crate::{Error, Result};

/// One matrix, or one other tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorSummary {
    /// Module path of a linear, or the tensor's name.
    pub name: String,
    /// Shape of the decoded tensor.
    pub shape: Vec<usize>,
    /// Layout, with bits and group size where there are codes; otherwise the element type.
    pub format: String,
    /// Bits on disk per element, scales and zero points included.
    pub bits_per_weight: f64,
    /// Share of exact zeros.
    pub sparsity: f64,
    /// Weights kept exact.
    pub outliers: usize,
}

/// A group of linears with the same quantization.
#[derive(Clone, Debug, Serialize)]
pub struct GroupSummary {
    /// Its name in the config.
    pub name: String,
    /// Targets: module paths, patterns, a class.
    pub targets: Vec<String>,
    /// Layout.
    pub format: String,
    /// The weights, in words; `None` when they are dense.
    pub weights: Option<String>,
    /// Quantization of the linears' inputs as the model runs, if any.
    pub inputs: Option<String>,
    /// Quantization of their outputs, if any.
    pub outputs: Option<String>,
    /// Linears in it.
    pub linears: usize,
    /// Bytes of their tensors.
    pub bytes: u64,
}

/// A whole checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The layouts of the linears, joined by `+`.
    pub format: String,
    /// The groups of the quantization, in the order of the config; none for a dense model.
    pub groups: Vec<GroupSummary>,
    /// Quantization of the attention's keys and values as the model runs, if any.
    pub kv_cache: Option<String>,
    /// All linears and other tensors, by name.
    pub tensors: Vec<TensorSummary>,
    /// Bits per element over all tensors.
    pub bits_per_weight: f64,
    /// Share of zeros over the matrices other than embeddings and head.
    pub sparsity: f64,
    /// Share of weights kept exact, by kind of linear (`q_proj`, `down_proj`, …), over the matrices whose layout can keep
    /// some; empty when there are none.
    pub outlier_shares: BTreeMap<String, f64>,
    /// Bytes of the weight files.
    pub bytes: u64,
    /// Remarks about files that disagree, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Positions of a matrix's outliers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierMap {
    /// Module path.
    pub module: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// 1 where a weight is kept exact, in file order, row-major `[rows, cols]`.
    pub mask: Vec<u8>,
}

impl Summary {
    /// The module with the most outliers, the first by name among equals; `None` when there are no outliers.
    pub fn most_outliers(&self) -> Option<&str> {
        let most = self.tensors.iter().rev().max_by_key(|tensor| tensor.outliers)?;
        (most.outliers > 0).then_some(&most.name)
    }
}

/// The outliers of the matrix at this module path. Errors when there is no such matrix, or it keeps no weight exact.
pub fn outliers(checkpoint: &Checkpoint, module: &str) -> Result<OutlierMap> {
    if !matrices(checkpoint).any(|known| known == module) {
        return Err(no_matrix(checkpoint, module));
    }
    let c = checkpoint.read_module(module)?;
    match c.outlier_mask().filter(|mask| mask.contains(&1)) {
        Some(mask) => Ok(OutlierMap { module: module.to_string(), rows: c.rows, cols: c.cols, mask }),
        None => Err(Error::Plan(format!("{module}: this matrix keeps no outliers; choose another"))),
    }
}

/// Paths of the matrices of a checkpoint, compressed or not, by tensors: those of several come several times.
fn matrices(checkpoint: &Checkpoint) -> impl Iterator<Item = &str> {
    checkpoint.names().filter_map(|name| {
        let plain =
            || name.strip_suffix(".weight").filter(|_| checkpoint.info(name).is_some_and(|i| i.shape.len() == 2));
        compressed_module(checkpoint, name).or_else(plain)
    })
}

/// The error that there is no matrix of this name, with one that there is: the nearest, or the first below that name.
fn no_matrix(checkpoint: &Checkpoint, module: &str) -> Error {
    let near = near::did_you_mean(module, matrices(checkpoint).collect::<BTreeSet<_>>());
    let below = |name: &&str| name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'));
    let example = || matrices(checkpoint).find(below).or_else(|| matrices(checkpoint).next());
    let instead = near.or_else(|| Some(format!("names look like {}", example()?)));
    Error::Plan(format!("no matrix {module}; {}", instead.unwrap_or_else(|| "the model has none".into())))
}

/// Reads every tensor once, one at a time.
pub fn inspect(checkpoint: &Checkpoint) -> Result<Summary> {
    let quant = checkpoint.quant_config()?;
    // Tensors of one module belong together only where they make a compressed matrix.
    let mut modules: BTreeMap<&str, u64> = BTreeMap::new();
    let mut others = Vec::new();
    for name in checkpoint.names() {
        match compressed_module(checkpoint, name) {
            Some(module) => {
                *modules.entry(module).or_default() += checkpoint.info(name).map_or(0, |i| i.stored_bytes() as u64)
            }
            None => others.push(name),
        }
    }
    let mut totals = Totals::default();
    let mut groups = quant.as_ref().map_or_else(Vec::new, |quant| quant.groups.iter().map(GroupSummary::new).collect());
    for (module, bytes) in modules {
        if let Some(group) = group_of(quant.as_ref(), module)?.and_then(|i| groups.get_mut(i)) {
            group.linears += 1;
            group.bytes += bytes;
        }
        totals.add_module(checkpoint, module, bytes)?;
    }
    // Embeddings and the head are not pruned. Of a model that no family reads, they are not known.
    let outer = families::outer(checkpoint).ok();
    let is_outer = |name: &str| {
        let of_head = |head: &str| name.strip_prefix(head).is_some_and(|rest| rest.starts_with('.'));
        outer.as_ref().is_some_and(|outer| outer.embeddings.iter().any(|e| e == name) || of_head(&outer.head))
    };
    for name in others {
        totals.add_tensor(checkpoint, name, is_outer(name))?;
    }
    let Totals { mut tensors, elements, bits, zeros, weights, kinds } = totals;
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let quantized = quant.as_ref().map_or("dense", |quant| &quant.format);
    let sparse = checkpoint.names().filter_map(|name| checkpoint.info(name)?.sparse());
    let mut formats: Vec<&str> = sparse.collect::<BTreeSet<_>>().into_iter().collect();
    // Sparse weights of a dense model are its format; "dense" is not one more.
    if formats.is_empty() || quantized != "dense" {
        formats.push(quantized);
    }
    let format = formats.join("+");
    Ok(Summary {
        kv_cache: quant.as_ref().and_then(|quant| quant.kv_cache.as_ref()).map(words::activations),
        format,
        groups,
        tensors,
        bits_per_weight: bits / elements.max(1.0),
        sparsity: zeros / weights.max(1.0),
        outlier_shares: kinds.into_iter().map(|(kind, (n, of))| (kind, n as f64 / of.max(1) as f64)).collect(),
        bytes: checkpoint.file_bytes(),
        notes: checkpoint.notes().to_vec(),
    })
}

/// Sums over the tensors of a checkpoint.
#[derive(Default)]
struct Totals {
    tensors: Vec<TensorSummary>,
    elements: f64,
    bits: f64,
    zeros: f64,
    weights: f64,
    /// Outliers and weights by kind of linear.
    kinds: BTreeMap<String, (usize, usize)>,
}

impl Totals {
    /// Adds a compressed matrix that is stored in so many bytes.
    fn add_module(&mut self, checkpoint: &Checkpoint, module: &str, bytes: u64) -> Result<()> {
        let c = checkpoint.read_module(module)?;
        let format = checkpoint.linear_format(module)?;
        let outliers = match &c.values {
            Values::Spqr(spqr) => {
                let (of_kind, total) = self.kinds.entry(kind(module).to_string()).or_default();
                *of_kind += spqr.outliers.at.len();
                *total += c.rows * c.cols;
                spqr.outliers.at.len()
            }
            Values::Dense(_) | Values::Codes { .. } => 0,
        };
        let count = (c.rows * c.cols) as f64;
        let zero = c.to_dense().iter().filter(|&&v| v == 0.0).count() as f64;
        self.elements += count;
        self.bits += bytes as f64 * 8.0;
        self.zeros += zero;
        self.weights += count;
        self.tensors.push(TensorSummary {
            name: module.to_string(),
            shape: vec![c.rows, c.cols],
            format: words::matrix(&c, &format.describe()),
            bits_per_weight: bytes as f64 * 8.0 / count,
            sparsity: zero / count,
            outliers,
        });
        Ok(())
    }

    /// Adds a tensor of no compressed matrix; `is_outer` says that it is an embedding or the head.
    fn add_tensor(&mut self, checkpoint: &Checkpoint, name: &str, is_outer: bool) -> Result<()> {
        let Some(info) = checkpoint.info(name) else { return Ok(()) };
        let count: usize = info.shape.iter().product();
        let zero = count_zeros(checkpoint, name)?;
        self.elements += count as f64;
        self.bits += info.stored_bytes() as f64 * 8.0;
        if info.shape.len() == 2 && !is_outer {
            self.zeros += zero;
            self.weights += count as f64;
        }
        self.tensors.push(TensorSummary {
            name: name.to_string(),
            shape: info.shape.clone(),
            format: format!("{} {}", info.sparse().unwrap_or("dense"), info.dtype.name()),
            bits_per_weight: info.stored_bytes() as f64 * 8.0 / (count.max(1)) as f64,
            sparsity: zero / (count.max(1)) as f64,
            outliers: 0,
        });
        Ok(())
    }
}

impl GroupSummary {
    /// A group without its linears.
    fn new((name, scheme): &(String, Scheme)) -> Self {
        Self {
            name: name.clone(),
            targets: scheme.targets.clone(),
            format: scheme.format.clone(),
            weights: scheme.weights.as_ref().map(ToString::to_string),
            inputs: scheme.input.as_ref().map(words::activations),
            outputs: scheme.output.as_ref().map(words::activations),
            linears: 0,
            bytes: 0,
        }
    }
}

/// Zeros of a tensor, read in pieces of rows so that a large embedding is never whole in memory.
fn count_zeros(checkpoint: &Checkpoint, name: &str) -> Result<f64> {
    let Some(info) = checkpoint.info(name) else { return Ok(0.0) };
    let (dtype, rows) = (info.dtype, info.shape.first().copied().unwrap_or(1));
    if info.shape.is_empty() || !dtype.is_float() {
        return Ok(0.0);
    }
    let per_row = info.bytes() / rows.max(1);
    let step = ((16 << 20) / per_row.max(1)).max(1);
    let mut zeros = 0;
    for first in (0..rows).step_by(step) {
        let bytes = checkpoint.read_rows(name, first, step.min(rows - first))?;
        zeros += dtype.decode_f32(&bytes).iter().filter(|&&v| v == 0.0).count();
    }
    Ok(zeros as f64)
}
