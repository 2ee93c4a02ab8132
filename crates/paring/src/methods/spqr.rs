//! SpQR: the plan's words into the rule of its sweep, and the sweep's results into what the file holds.

use paring_format::message;
use paring_format::{Compressed, Outliers, Spqr, Statistic, Values};
use paring_kernels::sweep::CurvatureData;
use paring_kernels::sweep::spqr::{self, Outlier, Rule, SecondLevel, Swept};
use rayon::prelude::*;

use super::{Change, Matrix, Outcome, Prepared};
use crate::plan::Opt;
use crate::plan::{self, Recipe, Rounding};
use crate::{Error, Result};

/// More zeros than this share are taken for a pruned model's. Dead inputs and rows of zeros don't count.
const SPARSE: f64 = 0.1;

pub(super) fn compress(
    recipe: &Recipe,
    settings: &plan::Spqr,
    rounding: Rounding,
    matrices: &[Matrix<'_>],
    cols: usize,
    prepared: &Prepared,
) -> Result<Vec<Outcome>> {
    let CurvatureData::Full(factor) = prepared.curvature() else {
        let names: Vec<&str> = matrices.iter().map(|matrix| matrix.module).collect();
        return Err(Error::Plan(format!("{}: no calibration statistics for spqr", names.join(", "))));
    };
    let marks: Vec<Option<Vec<u8>>> =
        matrices.iter().map(|matrix| zeros_to_keep(&matrix.weight, cols, prepared)).collect();
    let mut parts = Vec::with_capacity(matrices.len());
    let importance = prepared.importance_visited();
    for (matrix, marks) in matrices.iter().zip(&marks) {
        let visited = prepared.visited(matrix.weight.as_ref().into(), cols);
        let mut rule = rule(settings, rounding, matrix, marks.as_deref(), &visited, cols, &factor.diagonal)?;
        rule.importance = importance.as_deref();
        parts.push((visited, rule));
    }
    let rules: Vec<Rule<'_>> = parts.iter().map(|(_, rule)| *rule).collect();
    let swept = spqr::fan(parts, cols, recipe.blocksize, factor)?;
    let finish = |((matrix, rule), made)| finish(settings, rounding, matrix, rule, made, cols, prepared);
    Ok(matrices.iter().zip(&rules).zip(swept).map(finish).collect())
}

/// One matrix on the same grids, both levels of them, without outliers and with errors that move nowhere.
pub(super) fn compress_flat(
    recipe: &Recipe,
    settings: &plan::Spqr,
    rounding: Rounding,
    matrix: &Matrix<'_>,
    cols: usize,
    prepared: &Prepared,
) -> Result<Outcome> {
    let settings = &plan::Spqr { outlier_threshold: None, ..settings.clone() };
    let visited = prepared.visited(matrix.weight.as_ref().into(), cols);
    let marks = zeros_to_keep(&matrix.weight, cols, prepared);
    let importance = prepared.importance_visited();
    let mut rule = rule(settings, rounding, matrix, marks.as_deref(), &visited, cols, &[])?;
    rule.importance = importance.as_deref();
    let made = spqr::flat(visited, cols, recipe.blocksize, &rule);
    Ok(Outcome { distortion: None, ..finish(settings, rounding, matrix, &rule, made, cols, prepared) })
}

/// The rule for one matrix, whose values in visiting order are `visited` and whose zeros that must stay have `marks`; `d` is
/// the diagonal of the factor, for a threshold. Errors when it would lose the zeros of a pruned one.
fn rule<'a>(
    settings: &plan::Spqr,
    rounding: Rounding,
    matrix: &Matrix<'_>,
    marks: Option<&'a [u8]>,
    visited: &[f32],
    cols: usize,
    d: &[f32],
) -> Result<Rule<'a>> {
    let mut rule = Rule {
        bits: rounding.element.bits(),
        group_size: rounding.group_size().unwrap_or(cols).min(cols),
        symmetric: rounding.symmetric,
        round_zero: settings.round_zero,
        per_channel: settings.per_channel,
        second: SecondLevel {
            scale_bits: settings.scale_bits,
            zero_bits: settings.zero_bits,
            zero_symmetric: settings.zero_symmetric,
            rows: settings.second_rows,
        },
        threshold: (settings.outlier_threshold).map(|relative| spqr::threshold(relative, visited, d)),
        simplified: settings.simplified_outliers,
        keep_last: settings.keep_last_columns,
        zeros: None,
        outlier: if matrix.stored.added_outliers { Outlier::Adds } else { Outlier::Replaces },
        stored: matrix.stored.precision(),
        search: rounding.search,
        importance: None,
    };
    if let Some(marks) = marks {
        // Integer zeros, stored as they are, are among the codes: then zero is on the grid of every group that has one.
        if !rule.round_zero || rule.zero_bits().is_some() {
            let share = 100.0 * marks.iter().filter(|&&m| m == 1).count() as f64 / marks.len() as f64;
            let problem = format!(
                "{}: {share:.0} % of its weights are zero, and fractional zero points would change them; use \
                another method",
                matrix.module
            );
            let whole = message!["use ", Opt::RoundZero, " without ", Opt::QqZeroBits, ", or "];
            return Err(Opt::RoundZero.misfit(problem).hint(whole.then(Opt::Method.with("gptq"))));
        }
        rule.zeros = Some(marks);
    }
    Ok(rule)
}

#[allow(clippy::too_many_arguments)]
fn finish(
    settings: &plan::Spqr,
    rounding: Rounding,
    matrix: &Matrix<'_>,
    rule: &Rule<'_>,
    made: Swept,
    cols: usize,
    prepared: &Prepared,
) -> Outcome {
    let rows = matrix.weight.len() / cols;
    let distortion = prepared.distortion(made.loss, &matrix.weight, &made.weight, cols);
    let order: Vec<u32> = (0..cols).map(|k| prepared.column(k) as u32).collect();
    let kept = made.outliers.par_iter().enumerate().filter(|(_, kept)| **kept == 1);
    let at: Vec<u32> = kept.map(|(i, _)| i as u32).collect();
    let values = at.iter().map(|&i| made.weight[i as usize]).collect();
    let coded = |coded: &spqr::Coded, bits: u32| Statistic::Coded {
        bits,
        rows: settings.second_rows,
        codes: coded.codes.clone(),
        scales: coded.scales.clone(),
        zeros: coded.zeros.clone(),
    };
    let scales = match (&made.scales.coded, settings.scale_bits) {
        (Some(codes), Some(bits)) => coded(codes, bits),
        _ => Statistic::Plain(made.scales.values.clone()),
    };
    let largest = ((1u32 << rounding.element.bits()) - 1) as f32;
    let fits = |z: &f32| (0.0..=largest).contains(z) && z.fract() == 0.0;
    let zeros = match (&made.zeros.coded, rule.zero_bits()) {
        (Some(codes), Some(bits)) => coded(codes, bits),
        _ if rounding.symmetric => Statistic::Constant((largest + 1.0) / 2.0),
        _ if settings.round_zero && made.zeros.values.iter().all(fits) => {
            Statistic::Integers(made.zeros.values.iter().map(|&z| z as u8).collect())
        }
        _ => Statistic::Plain(made.zeros.values.clone()),
    };
    let spqr = Spqr {
        bits: rounding.element.bits(),
        group_size: rule.group_size,
        order: Spqr::order_of(order),
        codes: made.codes,
        scales,
        zeros,
        outliers: Outliers { at, values },
    };
    let dropped =
        rule.zeros.map_or_else(|| vec![0; matrix.weight.len()], |marks| prepared.restored(marks.to_vec(), cols));
    Outcome {
        compressed: Compressed { rows, cols, dtype: matrix.stored.dtype, values: Values::Spqr(Box::new(spqr)) },
        decoded: Some(prepared.restored(made.weight, cols)),
        dropped,
        scales: made.scales.values,
        zeros: made.zeros.values,
        loss: made.loss,
        distortion,
        changes: changes(made.searched),
        seconds: 0.0,
    }
}

/// The change that the search for grids made, in shares of the weighted squares of the weights that it saw.
fn changes(searched: Option<spqr::Searched>) -> Vec<Change> {
    let change = searched.map(|s| Change { step: "scales", before: s.usual / s.all, after: s.found / s.all });
    change.filter(|change| change.before.is_finite() && change.after.is_finite()).into_iter().collect()
}

/// Bits per weight as the published driver counts them, with a share of `outliers` (arXiv 2306.03078, section on the
/// average number of bits): 16 bits for a number that is not coded, 32 for an outlier.
pub fn average_bits(rounding: &Rounding, settings: &plan::Spqr, outliers: f64) -> f64 {
    let (bits, scale_bits) = (f64::from(rounding.element.bits()), settings.scale_bits.map_or(16.0, f64::from));
    let zero_bits = settings.zero_bits.map_or(16.0, f64::from);
    let Some(group_size) = rounding.group_size() else { return bits + 32.0 * outliers };
    let (group, both) = (group_size as f64, (group_size * settings.second_rows) as f64);
    let statistics = match settings.round_zero {
        true => (scale_bits + bits) / group + 32.0 / both,
        false => (scale_bits + zero_bits) / group + 64.0 / both,
    };
    bits + statistics + 32.0 * outliers
}

/// Marks the zeros of a pruned matrix, in the order of visit; `None` when it is not sparse.
fn zeros_to_keep(weight: &[f32], cols: usize, prepared: &Prepared) -> Option<Vec<u8>> {
    let mut live = vec![true; cols];
    prepared.dead.iter().for_each(|&j| live[j] = false);
    let zeros = |row: &[f32]| row.iter().zip(&live).filter(|(v, live)| **v == 0.0 && **live).count();
    // A dead input, or a row of zeros, needs no mark: its groups are constant.
    let alive = cols - prepared.dead.len();
    let count: usize = weight.par_chunks_exact(cols).map(zeros).filter(|&zeros| zeros < alive).sum();
    (count as f64 > SPARSE * weight.len() as f64).then(|| prepared.marks(weight, cols, |w| *w == 0.0))
}
