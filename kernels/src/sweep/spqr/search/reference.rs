//! The definition: one row, one grid and one weight after the other.

use super::super::Rule;
use super::super::grid::{AffineGrid, FirstLevel, SecondGrids};
use super::{CODES, Costs, PARTS, SHIFTS, second_grids};

/// As [`super::fit`]; `rows` has the values of each row.
pub(in crate::sweep::spqr) fn fit(
    rule: &Rule<'_>,
    rows: &[Vec<f32>],
    costs: &Costs<'_>,
    first: &mut FirstLevel<'_>,
) -> Vec<SecondGrids> {
    let tiles = second_grids(rule, first);
    for (r, x) in rows.iter().enumerate().filter(|(r, _)| first.constant[*r].is_none()) {
        let tile = tiles.get(r / rule.tile_rows()).copied().unwrap_or_default();
        let mut least = f32::INFINITY;
        for grid in tried(rule, tile, (first.scales[r], first.zeros[r])) {
            let error = error(rule, x, costs, grid);
            if error < least && grid.0 > 0.0 {
                (least, first.scales[r], first.zeros[r]) = (error, grid.0, grid.1);
            }
        }
    }
    tiles
}

/// All grids that a row is tried with, in order, from the one that spans its weights.
fn tried(rule: &Rule<'_>, [scales, zeros]: SecondGrids, (scale, zero): (f32, f32)) -> Vec<(f32, f32)> {
    let middle = rule.max_code() / 2.0;
    let of_scale = |trial: f32| {
        let centre = middle - scale / trial * (middle - zero);
        let zeros = match zeros {
            _ if rule.symmetric => vec![(rule.max_code() + 1.0) / 2.0],
            Some(grid) => beside(grid, centre),
            None => SHIFTS.into_iter().map(|shift| shifted(rule, centre, shift, zero)).collect(),
        };
        zeros.into_iter().map(move |zero| (trial, zero))
    };
    let scales = match scales {
        Some(grid) => beside(grid, scale),
        None => PARTS.into_iter().map(|part| rule.stored.round(scale * part)).collect(),
    };
    scales.into_iter().flat_map(of_scale).collect()
}

/// The values of the codes around the one for `wanted`.
fn beside(grid: AffineGrid, wanted: f32) -> Vec<f32> {
    let count = CODES.min(grid.max_code as usize + 1);
    let last = grid.max_code + 1.0 - count as f32;
    let first = (wanted / grid.scale + grid.zero - (count as f32 - 1.0) / 2.0).round_ties_even().clamp(0.0, last);
    (0..count).map(|at| grid.decode(first + at as f32)).collect()
}

/// The zero of a trial, where `near` is that of the whole range.
fn shifted(rule: &Rule<'_>, centre: f32, shift: f32, near: f32) -> f32 {
    let zero = match rule.round_zero {
        true => (centre + 4.0 * shift).round_ties_even().clamp(near.min(0.0), near.max(rule.max_code())),
        false => centre + shift,
    };
    rule.stored.round(zero)
}

/// Σ min(h·error², limit) on a grid.
fn error(rule: &Rule<'_>, x: &[f32], costs: &Costs<'_>, (scale, zero): (f32, f32)) -> f32 {
    let (inverse, square) = (1.0 / scale, scale * scale);
    let cost = |(&x, &h): (&f32, &f32)| {
        let at = x * inverse + zero;
        let off = at - at.round_ties_even().clamp(0.0, rule.max_code());
        (h * (off * off)).min(costs.limit / square)
    };
    x.iter().zip(costs.h).map(cost).fold(0f32, |sum, cost| sum + cost) * square
}
