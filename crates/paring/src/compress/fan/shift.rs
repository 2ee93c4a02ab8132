//! The shift of a fan's weights, where the dense model runs beside: between preparing and sweeping.

use super::prepare::Ready;
use crate::Result;
use crate::methods::{Shift, shared_amax};
use crate::pipeline::drift::Drift;
use crate::pipeline::stats::Stats;
use crate::plan::{DenseStream, Recipe};
use paring_model::LinearInfo;

/// Shifts the weights of a fan's linears, in place of those that were read.
pub(super) fn shift(ready: &mut [Ready<'_>], stats: Option<&Stats>, drift: &Drift, how: DenseStream) -> Result<()> {
    let Some(Stats::Gram(gram)) = stats else { return Ok(()) };
    let mut shifts: Vec<(f64, Shift<'_>)> = Vec::new();
    for linear in ready.iter_mut().filter(|linear| !linear.prepared.is_idle()) {
        let (name, recipe) = (&linear.linear.info.name, linear.linear.recipe);
        // With the damping that the sweep's factor needed, so that both solve the same equations.
        let damp = linear.prepared.damp().unwrap_or(recipe.percdamp);
        let known = shifts.iter().position(|(of, _)| *of == damp);
        let at = match known {
            Some(at) => at,
            None => {
                shifts.push((damp, Shift::new(gram, drift, how, damp, name)?));
                shifts.len() - 1
            }
        };
        let keep_zeros = recipe.pattern.is_none();
        let shifted = shifts[at].1.apply(&linear.linear.weight, linear.prepared.first_column(), keep_zeros);
        linear.linear.weight = shifted.weight;
        linear.shifted = Some(shifted.removed);
    }
    let weights: Vec<(&LinearInfo, &Recipe, &[f32])> =
        ready.iter().map(|ready| (&ready.linear.info, ready.linear.recipe, ready.linear.weight.as_slice())).collect();
    let shared = shared_amax(&weights);
    ready.iter_mut().zip(shared).for_each(|(ready, amax)| ready.linear.stored.amax = amax);
    Ok(())
}

/// Operations of [`shift`].
pub(super) fn work(ready: &[Ready<'_>]) -> f64 {
    let cols = ready.first().map_or(0, |linear| linear.linear.info.cols) as f64;
    let rows = ready.iter().filter(|linear| linear.shifted.is_some()).map(|linear| linear.linear.info.rows);
    let rows: usize = rows.sum();
    if rows == 0 { 0.0 } else { cols * cols * (cols / 3.0 + 4.0 * rows as f64) }
}
