//! All methods but SpQR on some matrices: the plan's words into rules of the sweep, and what the sweep made into what the
//! file holds.

use paring_format::message;
use paring_format::{Compressed, Dtype, Values};
use paring_kernels::sweep::{self, Drop, Fit, GridFormat, Grids, Part, Round, Rule, Swept, fit_tiles, share_of};

use super::{Matrix, Outcome, Prepared, grids};
use crate::Result;
use crate::plan::{ActOrder, Opt, Pattern, Recipe};

/// What is known of a matrix before it is swept.
struct Begun {
    /// In visiting order.
    visited: Vec<f32>,
    /// The type of the dequantized weights.
    dtype: Dtype,
    format: Option<GridFormat>,
    /// Rows and columns that share a scale.
    tile: [usize; 2],
    /// Grids that are fitted before the sweep.
    before: Option<Grids>,
    /// The group of each column in visiting order, for those grids.
    group_of: Vec<u32>,
    /// 1 where a zero has to stay.
    zeros: Option<Vec<u8>>,
}

/// In slices of `slice` columns.
pub(super) fn compress(
    recipe: &Recipe,
    matrices: &[Matrix<'_>],
    cols: usize,
    slice: usize,
    prepared: &Prepared,
) -> Result<Vec<Outcome>> {
    let begun: Vec<Begun> = matrices.iter().map(|matrix| begin(recipe, matrix, cols, prepared)).collect();
    let mut parts = Vec::with_capacity(begun.len());
    for (begun, matrix) in begun.iter().zip(matrices) {
        let rule = Rule { drop: drop(recipe, begun, cols), round: begun.round(), stored: matrix.stored.precision() };
        let wide = |reason| Opt::Device.misfit(message![format!("{reason}: use "), Opt::Device.with("cpu")]);
        prepared.curvature().check(&rule, slice).map_err(wide)?;
        parts.push(Part { weight: begun.visited.clone(), rule });
    }
    let swept = sweep::fan(parts, cols, slice, prepared.curvature())?;
    Ok(begun.into_iter().zip(swept).map(|(begun, swept)| finish(recipe, begun, swept, cols, prepared)).collect())
}

fn begin(recipe: &Recipe, matrix: &Matrix<'_>, cols: usize, prepared: &Prepared) -> Begun {
    let &Matrix { weight, stored, .. } = matrix;
    let rows = weight.len() / cols;
    let dtype = recipe.rounding.map_or(stored.dtype, |r| r.dequantized(stored.dtype));
    let format = recipe.rounding.map(|r| grids::format(&r, &stored, weight));
    let tile = recipe.rounding.map_or([1, cols], |r| r.tile(rows, cols));
    // Grids of full rows and more, asked for as such, are fitted before dead columns are cleared (algorithm descriptions
    // of GPTQ and SparseGPT).
    let whole = match (format, recipe.rounding) {
        (Some(format), Some(r)) if r.group_size().is_none() => Some(fit_tiles(weight, cols, tile, &format)),
        _ => None,
    };
    let mut w = weight.to_vec();
    prepared.clear_dead(&mut w, cols);
    let beforehand = recipe
        .rounding
        .is_some_and(|r| r.static_groups || r.act_order == ActOrder::Static || !recipe.method.needs_data());
    let before = match (whole, format) {
        (None, Some(format)) if beforehand => Some(fit_tiles(&w, cols, tile, &format)),
        (whole, _) => whole,
    };
    Begun {
        visited: prepared.permuted(w.into(), cols),
        dtype,
        format,
        tile,
        before,
        group_of: (0..cols).map(|k| (prepared.column(k) / tile[1]) as u32).collect(),
        zeros: (recipe.pattern.is_none() && weight.contains(&0.0)).then(|| prepared.zeros(weight, cols)),
    }
}

impl Begun {
    fn round(&self) -> Option<Round<'_>> {
        let fit = match &self.before {
            Some(grids) => Fit::Before { grids, group_of: &self.group_of },
            None => Fit::AtSlice { group_size: self.tile[1] },
        };
        self.format.map(|format| Round { format, fit })
    }
}

fn drop<'a>(recipe: &Recipe, begun: &'a Begun, cols: usize) -> Option<Drop<'a>> {
    match recipe.pattern {
        None => begun.zeros.as_deref().map(Drop::Given),
        Some(Pattern::NofM { keep, of }) => Some(Drop::NofM { n: of - keep, m: of }),
        Some(Pattern::Unstructured(s)) if recipe.method.share_per_row => {
            Some(Drop::PerRow { count: share_of(s, cols) })
        }
        Some(Pattern::Unstructured(sparsity)) => Some(Drop::Threshold { sparsity }),
    }
}

fn finish(recipe: &Recipe, begun: Begun, swept: Swept, cols: usize, prepared: &Prepared) -> Outcome {
    let Begun { visited, dtype, format, tile, before, .. } = begun;
    let rows = visited.len() / cols;
    // Groups that follow the visit leave each column with a group of its own choosing.
    let follows = before.is_none() && prepared.is_permuted() && format.is_some();
    let group_index = follows.then(|| {
        let mut index = vec![0u32; cols];
        (0..cols).for_each(|k| index[prepared.column(k)] = (k / tile[1]) as u32);
        index
    });
    let Swept { weight: made, dropped, codes, grids, loss } = swept;
    let distortion = prepared.distortion(loss, &visited, &made, cols);
    let (dropped, codes) = (prepared.restored(dropped, cols), prepared.restored(codes, cols));
    let (scales, zeros) = match (&grids, &format) {
        (Some(grids), Some(format)) => {
            (grids.scales.iter().map(|&scale| format.applied(scale)).collect(), grids.zeros.clone())
        }
        _ => Default::default(),
    };
    let dense = prepared.restored(made, cols);
    let values = match (grids, format, recipe.rounding) {
        (Some(grids), Some(format), Some(r)) => grids::values(codes, grids, r.element, &format, tile, group_index),
        _ => Values::Dense(dense.clone()),
    };
    let compressed = Compressed { rows, cols, dtype, values };
    Outcome { compressed, dense, dropped, scales, zeros, loss, distortion, seconds: 0.0 }
}
