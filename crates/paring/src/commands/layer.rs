//! One layer, for experiments: tensors of a safetensors file in, tensors out.

use paring_format::message;
use std::path::Path;

use candle_core::{Device, Tensor as CandleTensor};
use paring_format::writer::{InputFiles, NamedFile, NamedTensor, tensor_file};
use paring_format::{Checkpoint, Compressed, Dtype, Values};
use paring_kernels::gram::{Gram, Quadratic, Squares};
use paring_kernels::square_matrix::SquareMatrix;

use crate::methods::Stored;
use crate::pipeline::device::DeviceBudget;
use crate::pipeline::stats::Stats;
use crate::plan::Curvature;
use crate::plan::Opt;
use crate::plan::Recipe;
use crate::report::DeviceReport;
use crate::{Error, Precision, Result};

/// Results of a run on one layer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LayerResult {
    /// Device.
    #[serde(flatten)]
    pub place: DeviceReport,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// tr(ΔW·H·ΔWᵀ), with H scaled as in the published codes; `None` when the file holds no inputs.
    pub loss: Option<f64>,
    /// The loss as a share of tr(W·H·Wᵀ).
    pub error: Option<f64>,
    /// Share of exact zeros.
    pub sparsity: f64,
    /// Weights kept exact.
    pub outliers: usize,
    /// Damping that was used.
    pub damp: Option<f64>,
}

/// Reads `weight` `[R, C]` and `activations` `[n, t, C]` (or `[n·t, C]` with `sequences` = n) or `hessian` `[C, C]` from
/// `input`, applies the recipe, and writes `dense` `[R, C]` f32 and the method's results to `output`: `mask` u8, `codes`
/// u8, `scales` and `zeros` f32 `[R, groups]`, `group_index` i32 `[C]` (−1 for a column that is not rounded),
/// `outlier_mask` u8, `loss` f32 `[1]`. An earlier file is replaced where this wrote it too, others with `overwrite` alone.
/// Computes on `device`.
pub fn run(
    input: &Path,
    (output, overwrite): (&Path, bool),
    recipe: &Recipe,
    sequences: Option<usize>,
    device: &Device,
) -> Result<LayerResult> {
    let mut inputs = InputFiles::default();
    inputs.add(input);
    let output = NamedFile { path: output, inputs: &inputs, is_own: &is_own, overwrite };
    output.check()?;
    let budget = DeviceBudget::new(device, None)?.with_hint(message!["a smaller layer, or ", Opt::Device.with("cpu")]);
    compress(input, &output, recipe, sequences, device).map_err(|e| budget.with_context(e, input.display()))
}

fn compress(
    input: &Path,
    output: &NamedFile<'_>,
    recipe: &Recipe,
    sequences: Option<usize>,
    device: &Device,
) -> Result<LayerResult> {
    recipe.check()?;
    let file = Checkpoint::open_file(input)?;
    let name = input.display().to_string();
    let Some(info) = file.info("weight") else {
        return Err(Error::content(name, "no tensor weight, expected weight [R, C] and activations or hessian"));
    };
    let &[rows, cols] = info.shape.as_slice() else {
        return Err(Error::content(name, format!("weight has shape {:?}, expected [R, C]", info.shape)));
    };
    if rows == 0 || cols == 0 {
        return Err(Error::content(
            name,
            format!("weight has shape [{rows}, {cols}], which is empty; expected at least one row and column"),
        ));
    }
    recipe.check_cols(&name, cols)?;
    let dtype = info.dtype;
    let weight = file.read_f32("weight", &[rows, cols])?;
    let hessian = hessian(&file, &name, cols, sequences, device)?;
    let stats = stats(recipe, (&file, &name, cols), hessian.as_ref(), sequences, device)?;
    let prepared = recipe.prepare(stats.as_ref(), Some(&weight), &name)?;
    let outcome = recipe.compress(&weight, cols, &prepared, Stored::plain(dtype), &name)?;
    let dense = outcome.compressed.to_dense();
    let (loss, error) = match &hessian {
        None => (None, None),
        Some(h) => {
            let change: Vec<f32> = dense.iter().zip(&weight).map(|(a, b)| a - b).collect();
            let quadratic = Quadratic::new(h, Precision::F32)?;
            let (loss, all) = (quadratic.trace(&change)?, quadratic.trace(&weight)?);
            (Some(loss), Some(if all > 0.0 { loss / all } else { 0.0 }))
        }
    };
    let f32s = |name: &str, shape: Vec<usize>, values: &[f32]| NamedTensor {
        name: name.into(),
        dtype: Dtype::F32,
        shape,
        bytes: Dtype::F32.encode(values),
    };
    let u8s = |name: &str, bytes: Vec<u8>| NamedTensor {
        name: name.into(),
        dtype: Dtype::U8,
        shape: vec![rows, cols],
        bytes,
    };
    let mut outlier_mask = outcome.compressed.outlier_mask().unwrap_or_else(|| vec![0; rows * cols]);
    // Columns that are not rounded at all belong to no group, and are no outliers.
    let kept = kept_columns(&outcome.compressed, recipe);
    kept.iter().for_each(|&j| outlier_mask.chunks_exact_mut(cols).for_each(|row| row[j] = 0));
    let outliers = outlier_mask.iter().filter(|&&kept| kept == 1).count();
    let mut tensors = vec![
        f32s("dense", vec![rows, cols], &dense),
        u8s("mask", outcome.dropped.clone()),
        u8s("outlier_mask", outlier_mask),
        f32s("loss", vec![1], &[loss.unwrap_or(outcome.loss) as f32]),
    ];
    if let Some((groups, mut index)) = group_index(&outcome.compressed) {
        kept.iter().for_each(|&j| index[j] = -1);
        let index = index.iter().flat_map(|group| group.to_le_bytes()).collect();
        tensors.push(u8s("codes", outcome.codes()));
        tensors.push(f32s("scales", vec![rows, groups], &outcome.scales));
        tensors.push(f32s("zeros", vec![rows, groups], &outcome.zeros));
        tensors.push(NamedTensor { name: "group_index".into(), dtype: Dtype::I32, shape: vec![cols], bytes: index });
    }
    let (pieces, bytes) = tensor_file(&output.path.display().to_string(), tensors, &[NOTE])?;
    output.write(bytes, |file| pieces.iter().try_for_each(|piece| file.write_all(piece)))?;
    let zeros = dense.iter().filter(|&&v| v == 0.0).count();
    let sparsity = zeros as f64 / dense.len() as f64;
    let place = DeviceReport::new(device)?;
    Ok(LayerResult { place, rows, cols, loss, error, sparsity, outliers, damp: prepared.damp() })
}

/// The entry of its metadata that tells a file that is made here from others.
const NOTE: (&str, &str) = ("written_by", "paring layer");

/// Tells whether a file that begins so is one that is made here.
fn is_own(head: &[u8]) -> bool {
    let note = format!("\"{}\":\"{}\"", NOTE.0, NOTE.1);
    head.windows(note.len()).any(|part| part == note.as_bytes())
}

/// The statistics that a recipe needs of the inputs of a layer, of `cols` features. Errors when the file has none.
fn stats(
    recipe: &Recipe,
    (file, name, cols): (&Checkpoint, &str, usize),
    hessian: Option<&SquareMatrix>,
    sequences: Option<usize>,
    device: &Device,
) -> Result<Option<Stats>> {
    Ok(match (recipe.statistics(), hessian) {
        (Curvature::Flat, _) => None,
        (_, None) => {
            let text =
                format!("{} needs a tensor activations or hessian, and the file has neither; add one", recipe.method);
            return Err(Error::content(name, text));
        }
        // The norms are half of the diagonal: H = (2/n) Σ x xᵀ, s = (1/n) Σ x².
        (Curvature::Diagonal, Some(h)) => match norms(file, name, cols, sequences, device)? {
            Some(norms) => Some(Stats::Norms(norms)),
            None => Some(Stats::Norms(h.diagonal()?.into_iter().map(|d| d / 2.0).collect())),
        },
        (Curvature::Full, Some(h)) => Some(Stats::Gram(h.clone())),
    })
}

/// The columns that a recipe corrects but does not round, in the order of the file.
fn kept_columns(c: &Compressed, recipe: &Recipe) -> Vec<usize> {
    let (Values::Spqr(made), Some(settings)) = (&c.values, &recipe.spqr) else { return Vec::new() };
    let column = |k: usize| made.order.as_ref().map_or(k, |order| order[k] as usize);
    (c.cols - settings.keep_last_columns.min(c.cols)..c.cols).map(column).collect()
}

/// The number of groups in a row and the group of each column of the file, of a matrix that has codes.
fn group_index(c: &Compressed) -> Option<(usize, Vec<i32>)> {
    match &c.values {
        Values::Dense(_) => None,
        Values::Codes { grid, .. } => {
            Some((grid.groups(c.cols), (0..c.cols).map(|j| grid.group_of(j) as i32).collect()))
        }
        Values::Spqr(spqr) => {
            let mut index = vec![0; c.cols];
            for position in 0..c.cols {
                let column = spqr.order.as_ref().map_or(position, |order| order[position] as usize);
                index[column] = (position / spqr.group_size) as i32;
            }
            Some((spqr.groups(c.cols), index))
        }
    }
}

/// The calibration inputs as one `[tokens, cols]` tensor, and the number of sequences.
fn activations(
    file: &Checkpoint,
    name: &str,
    cols: usize,
    n: Option<usize>,
    device: &Device,
) -> Result<Option<(CandleTensor, usize)>> {
    let Some(info) = file.info("activations") else { return Ok(None) };
    let (tokens, sequences) = match (info.shape.as_slice(), n) {
        (&[b, t, c], None) if c == cols => (b * t, b),
        (&[b, t, c], Some(n)) if c == cols && n > 0 => (b * t, n),
        (&[tokens, c], n) if c == cols && n != Some(0) => (tokens, n.unwrap_or(1)),
        (shape, _) => {
            let text = format!("activations have shape {shape:?}, expected [n, t, {cols}] or [n·t, {cols}]");
            return Err(Error::content(name, text));
        }
    };
    if tokens == 0 || sequences == 0 {
        return Err(Error::content(name, "the tensor activations is empty; expected at least one token"));
    }
    if !tokens.is_multiple_of(sequences) {
        let tokens = format!("{tokens} tokens of activations cannot be divided into ");
        return Err(Error::content(
            name,
            message![tokens, Opt::Sequences.with(sequences), " of equal length; use a divisor of the tokens"],
        ));
    }
    let shape = info.shape.clone();
    let x = CandleTensor::from_vec(file.read_f32("activations", &shape)?, (tokens, cols), device)?;
    Ok(Some((x, sequences)))
}

fn hessian(
    file: &Checkpoint,
    name: &str,
    cols: usize,
    sequences: Option<usize>,
    device: &Device,
) -> Result<Option<SquareMatrix>> {
    if file.info("hessian").is_some() {
        return Ok(Some(SquareMatrix::on_device(device, file.read_f32("hessian", &[cols, cols])?)?));
    }
    let Some((x, sequences)) = activations(file, name, cols, sequences, device)? else { return Ok(None) };
    let mut gram = Gram::on_device(device, cols, Precision::F32)?;
    gram.add(&x)?;
    Ok(Some(gram.finish(2.0 / sequences as f32)?))
}

fn norms(
    file: &Checkpoint,
    name: &str,
    cols: usize,
    sequences: Option<usize>,
    device: &Device,
) -> Result<Option<Vec<f32>>> {
    let Some((x, sequences)) = activations(file, name, cols, sequences, device)? else { return Ok(None) };
    let mut sums = Squares::on_device(device, cols)?;
    sums.add(&x)?;
    Ok(Some(sums.finish()?.iter().map(|s| (s / sequences as f64) as f32).collect()))
}
