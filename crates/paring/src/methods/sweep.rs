//! All methods but SpQR on some matrices: the plan's words into rules of the sweep, and its results into what the file holds.

use std::borrow::Cow;

use paring_format::message;
use paring_format::{Compressed, Dtype, Values};
use paring_kernels::matmul::Precision;
use paring_kernels::sweep::{self, Drop, Fit, GridFormat, Grids, Part, Round, Rule, Swept};
use paring_kernels::sweep::{fit_tiles, fit_weighted, share_of, weighted_squares};

use super::{Change, Matrix, Outcome, Prepared, grids};
use crate::plan::{Opt, Pattern, Recipe, Search};
use crate::{Error, Result};

/// A matrix that is to be swept, apart from its values in visiting order.
struct SweepInput<'a> {
    /// The values in file order, where those that the sweep leaves are compared with them.
    original: Option<Cow<'a, [f32]>>,
    rows: usize,
    /// The type of the dequantized weights.
    dtype: Dtype,
    /// The rounding of those that get no grid.
    stored: Precision,
    format: Option<GridFormat>,
    /// Rows and columns that share a scale.
    tile: [usize; 2],
    /// Grids that are fitted before the sweep.
    before: Option<Grids>,
    /// The change that their search made.
    change: Option<Change>,
    /// The importance of each column in visiting order, for those that are fitted in the sweep.
    importance: Option<Vec<f32>>,
    /// The group of each column in visiting order, for those grids.
    group_of: Vec<u32>,
    /// 1 where a weight goes, or is zero and has to stay so, in visiting order; `None` where that is not known.
    removed: Option<Vec<u8>>,
}

/// In slices of `slice` columns.
pub(super) fn compress(
    recipe: &Recipe,
    matrices: Vec<Matrix<'_>>,
    cols: usize,
    slice: usize,
    prepared: &Prepared,
) -> Result<Vec<Outcome>> {
    let lacks_mask = |matrix: &&Matrix<'_>| {
        recipe.pattern == Some(Pattern::Given) && matrix.given.is_none_or(|given| given.len() != matrix.weight.len())
    };
    if let Some(matrix) = matrices.iter().find(lacks_mask) {
        return Err(Error::Plan(format!("{}: no mask of its shape is given; expected one", matrix.module)));
    }
    let (inputs, weights): (Vec<SweepInput<'_>>, Vec<Vec<f32>>) =
        matrices.into_iter().map(|matrix| input(recipe, matrix, cols, prepared)).unzip();
    let mut parts = Vec::with_capacity(inputs.len());
    for (input, weight) in inputs.iter().zip(weights) {
        let rule = rule(recipe, input, cols);
        let wide = |reason| Opt::Device.misfit(message![format!("{reason}: use "), Opt::Device.with("cpu")]);
        prepared.curvature().check(&rule, slice).map_err(wide)?;
        parts.push(Part { weight, rule });
    }
    let swept = sweep::fan(parts, cols, slice, prepared.curvature())?;
    Ok(inputs.into_iter().zip(swept).map(|(input, swept)| finish(recipe, input, swept, cols, prepared)).collect())
}

/// The matrix, and its values in visiting order.
fn input<'a>(recipe: &Recipe, matrix: Matrix<'a>, cols: usize, prepared: &Prepared) -> (SweepInput<'a>, Vec<f32>) {
    let Matrix { weight, stored, given, .. } = matrix;
    let rows = weight.len() / cols;
    let format = recipe.rounding.map(|r| grids::format(&r, &stored, &weight));
    let tile = recipe.rounding.map_or([1, cols], |r| r.tile(rows, cols));
    let removed = removed(recipe, &weight, given, (cols, prepared));
    // Weights that are known to go have no part in the grids that are fitted before.
    let staying = given
        .filter(|_| recipe.fits_before())
        .map(|given| weight.iter().zip(given).map(|(&w, &goes)| if goes == 1 { 0.0 } else { w }).collect::<Vec<f32>>());
    let fitted = staying.as_deref().unwrap_or(&weight);
    let before = grids_before(recipe, fitted, format.as_ref(), tile, (cols, prepared));
    let (before, change) = before.map_or((None, None), |(grids, change)| (Some(grids), change));
    let input = SweepInput {
        rows,
        dtype: recipe.rounding.map_or(stored.dtype, |r| r.dequantized(stored.dtype)),
        stored: stored.precision(),
        format,
        tile,
        before,
        change,
        importance: prepared.importance_visited(),
        group_of: (0..cols).map(|k| (prepared.column(k) / tile[1]) as u32).collect(),
        removed,
        original: prepared.needs_original().then(|| weight.clone()),
    };
    (input, prepared.visited(weight, cols))
}

/// The weights that are known to be zero in the end, in visiting order: those of the mask that is given, and of a recipe that
/// prunes nothing the zeros of the matrix.
fn removed(
    recipe: &Recipe,
    weight: &[f32],
    given: Option<&[u8]>,
    (cols, prepared): (usize, &Prepared),
) -> Option<Vec<u8>> {
    let goes = |mark: &u8| *mark == 1;
    match (recipe.pattern, given) {
        (Some(Pattern::Given), given) => Some(prepared.marks(given?, cols, goes)),
        (None, given) => {
            let zeros = weight.contains(&0.0).then(|| prepared.marks(weight, cols, |w| *w == 0.0));
            let given = given.map(|given| prepared.marks(given, cols, goes));
            match (zeros, given) {
                (Some(mut zeros), Some(given)) => {
                    zeros.iter_mut().zip(given).for_each(|(mark, given)| *mark |= given);
                    Some(zeros)
                }
                (zeros, given) => zeros.or(given),
            }
        }
        _ => None,
    }
}

/// The grids that are fitted before the sweep, and what their search changed; `None` where none are.
fn grids_before(
    recipe: &Recipe,
    weight: &[f32],
    format: Option<&GridFormat>,
    tile: [usize; 2],
    (cols, prepared): (usize, &Prepared),
) -> Option<(Grids, Option<Change>)> {
    let format = format.filter(|_| recipe.fits_before())?;
    let weight = match (recipe.rounding?.group_size(), format.search) {
        // Grids of full rows and more, asked for as such, are fitted before dead columns are cleared (algorithm descriptions
        // of GPTQ and SparseGPT).
        (None, Search::MinMax | Search::Mse) => Cow::Borrowed(weight),
        _ => prepared.cleared(weight, cols),
    };
    if format.search != Search::Weighted {
        return Some((fit_tiles(&weight, cols, tile, format, None), None));
    }
    let (grids, errors) = fit_weighted(&weight, cols, tile, format, prepared.importance());
    let all = weighted_squares(&weight, cols, prepared.importance());
    let change = Change { step: "scales", before: errors.usual / all, after: errors.found / all };
    Some((grids, Some(change).filter(|change| change.before.is_finite() && change.after.is_finite())))
}

impl SweepInput<'_> {
    fn round(&self) -> Option<Round<'_>> {
        let fit = match &self.before {
            Some(grids) => Fit::Before { grids, group_of: &self.group_of },
            None => Fit::AtSlice { group_size: self.tile[1], importance: self.importance.as_deref() },
        };
        self.format.map(|format| Round { format, fit })
    }
}

fn rule<'a>(recipe: &Recipe, input: &'a SweepInput<'_>, cols: usize) -> Rule<'a> {
    Rule { drop: drop(recipe, input, cols), round: input.round(), stored: input.stored }
}

fn drop<'a>(recipe: &Recipe, input: &'a SweepInput<'_>, cols: usize) -> Option<Drop<'a>> {
    match recipe.pattern {
        None | Some(Pattern::Given) => input.removed.as_deref().map(Drop::Given),
        Some(Pattern::NofM { keep, of }) => Some(Drop::NofM { n: of - keep, m: of }),
        Some(Pattern::Unstructured(s)) if recipe.method.share_per_row => {
            Some(Drop::PerRow { count: share_of(s, cols) })
        }
        Some(Pattern::Unstructured(sparsity)) => Some(Drop::Threshold { sparsity }),
    }
}

fn finish(recipe: &Recipe, input: SweepInput<'_>, swept: Swept, cols: usize, prepared: &Prepared) -> Outcome {
    let SweepInput { original, rows, dtype, format, tile, before, change, .. } = input;
    // Groups that follow the visit leave each column with a group that no number of columns gives.
    let follows = before.is_none() && prepared.is_permuted() && format.is_some();
    let group_index = follows.then(|| {
        let mut index = vec![0u32; cols];
        (0..cols).for_each(|k| index[prepared.column(k)] = (k / tile[1]) as u32);
        index
    });
    let Swept { weight: made, dropped, codes, grids, loss } = swept;
    let distortion = original.and_then(|original| prepared.distortion(loss, &original, &made, cols));
    let (dropped, codes) = (prepared.restored(dropped, cols), prepared.restored(codes, cols));
    let (scales, zeros) = match (&grids, &format) {
        (Some(grids), Some(format)) => {
            (grids.scales.iter().map(|&scale| format.applied(scale)).collect(), grids.zeros.clone())
        }
        _ => Default::default(),
    };
    let dense = prepared.restored(made, cols);
    let (values, decoded) = match (grids, format, recipe.rounding) {
        (Some(grids), Some(format), Some(r)) => {
            (grids::values(codes, grids, r.element, &format, tile, group_index), Some(dense))
        }
        _ => (Values::Dense(dense), None),
    };
    let compressed = Compressed { rows, cols, dtype, values };
    Outcome {
        compressed,
        decoded,
        dropped,
        scales,
        zeros,
        loss,
        distortion,
        changes: change.into_iter().collect(),
        seconds: 0.0,
    }
}
