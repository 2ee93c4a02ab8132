//! Settings for each linear under a budget for all: more bits, or fewer weights lost, where that gains most.
//!
//! A unit is a set of linears that must be alike, because servers fuse them. For each of its options it is known how much
//! the option takes of the budget, and how much it loses: the error of its linears in units of what an error of this size,
//! alone in the model, does to its predictions. Losses of units are taken to add up, which small ones do.

pub mod owl;
mod solve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use paring_model::LinearInfo;

use crate::plan::allocation::{Allotted, BITS, GROUP_SIZES, PARTS, Setting};

pub use solve::{Priced, solve};

/// The largest difference from the mean sparsity, in [`PARTS`]: beyond it losses no longer add up.
const SPREAD: u32 = 1500;
/// Steps between sparsities that are measured, and between those that are chosen among.
const MEASURED: u32 = 500;
const CHOSEN: u32 = 100;
/// The most weights that are removed.
const MOST: u32 = 9900;

/// Linears that get the same setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Their block.
    pub block: usize,
    /// The linears.
    pub linears: Vec<LinearInfo>,
}

impl Unit {
    /// The units of a block's linears, in the order of the first linear of each.
    pub fn of_block(block: usize, linears: impl IntoIterator<Item = LinearInfo>) -> Vec<Unit> {
        let mut units: Vec<Unit> = Vec::new();
        for linear in linears {
            let fused = |unit: &&mut Unit| linear.fused.is_some() && unit.linears[0].fused == linear.fused;
            match units.iter_mut().find(fused) {
                Some(unit) => unit.linears.push(linear),
                None => units.push(Unit { block, linears: vec![linear] }),
            }
        }
        units
    }

    /// The weights of all its linears.
    pub fn weights(&self) -> u64 {
        self.linears.iter().map(|linear| (linear.rows * linear.cols) as u64).sum()
    }

    /// The grids that fit its linears. With `group_size` given sizes of groups are as the recipe has them.
    pub fn grids(&self, free_groups: bool) -> Vec<Setting> {
        let divides = |size: &usize| self.linears.iter().all(|linear| linear.cols.is_multiple_of(*size));
        let mut sizes: Vec<Option<usize>> = vec![None];
        if free_groups {
            sizes = GROUP_SIZES.into_iter().filter(divides).map(Some).collect();
            if sizes.is_empty() {
                sizes.push(None);
            }
        }
        let of = |bits| sizes.iter().map(move |&group_size| Setting::Grid { bits, group_size });
        BITS.into_iter().flat_map(of).collect()
    }
}

/// Sparsities whose errors are measured so that some of `mean` of all weights can go.
pub fn measured_sparsities(mean: f64) -> Vec<Setting> {
    sparsities(mean, MEASURED).map(Setting::Sparsity).collect()
}

/// `mean` and its neighbours in steps, in [`PARTS`].
fn sparsities(mean: f64, step: u32) -> impl Iterator<Item = u32> {
    let mean = parts(mean);
    let steps = (SPREAD / step) as i64;
    let at = move |k: i64| u32::try_from(i64::from(mean) + k * i64::from(step)).ok();
    (-steps..=steps).filter_map(at).filter(move |&at| at == mean || (at > 0 && at <= MOST))
}

/// A share in whole [`PARTS`].
pub fn parts(share: f64) -> u32 {
    (share * PARTS).round() as u32
}

/// The options of a unit of so many `weights` with sparsities around `mean`, priced by the weights that they keep; their
/// losses lie between those that were measured, on logarithmic scales.
pub fn sparsity_options(mean: f64, weights: u64, measured: &[(Setting, f64)]) -> Vec<(Setting, Priced)> {
    let known: Vec<(f64, f64)> = measured
        .iter()
        .filter_map(|(setting, loss)| match setting {
            Setting::Sparsity(parts) => Some((f64::from(*parts), loss.max(f64::MIN_POSITIVE).ln())),
            Setting::Grid { .. } => None,
        })
        .collect();
    let option = |at: u32| {
        let size = weights * u64::from(PARTS as u32 - at);
        (Setting::Sparsity(at), Priced { size, loss: between(&known, f64::from(at)).exp() })
    };
    sparsities(mean, CHOSEN).map(option).collect()
}

/// The value at `x` of the lines through some points, the last ones continued.
fn between(points: &[(f64, f64)], x: f64) -> f64 {
    let next = points.partition_point(|(at, _)| *at < x).clamp(1, points.len().saturating_sub(1).max(1));
    match (points.get(next - 1), points.get(next)) {
        (Some(&(x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (Some(&(_, y)), None) => y,
        _ => 0.0,
    }
}

/// The settings of units, the one with the most weights first.
pub fn allotted(units: &[Unit], settings: &[Setting]) -> Vec<Allotted> {
    let mut by: BTreeMap<Setting, (u64, Vec<String>)> = BTreeMap::new();
    for (unit, setting) in units.iter().zip(settings) {
        let (weights, names) = by.entry(*setting).or_default();
        *weights += unit.weights();
        names.extend(unit.linears.iter().map(|linear| linear.name.clone()));
    }
    let mut all: Vec<(Setting, (u64, Vec<String>))> = by.into_iter().collect();
    all.sort_by(|(a, (x, _)), (b, (y, _))| y.cmp(x).then(a.cmp(b)));
    all.into_iter().map(|(setting, (_, linears))| Allotted { setting, linears }).collect()
}
