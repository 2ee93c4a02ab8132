//! Grids by hand and by their definition: both sweeps fit theirs by this code, so that comparing the sweeps says nothing of it.

use super::*;
use crate::sweep::Scales;
use crate::sweep::tests::{formats, random};

fn symmetric(bits: u32) -> GridFormat {
    GridFormat::int(bits, true, Precision::F32)
}

/// The rule of the published codes, with the range that each kind of tile has.
#[test]
fn grids_of_integers_span_the_range_and_zero() {
    let asymmetric = GridFormat::int(3, false, Precision::F32);
    for (x, format, scale, zero) in [
        ([-1.0f32, 6.0, 2.0], asymmetric, 1.0, 1.0),
        // Zero is among the values even where none is beside it.
        ([3.0, 7.0, 5.0], asymmetric, 1.0, 0.0),
        ([-3.5, -1.0, -2.0], asymmetric, 0.5, 7.0),
        ([0.0, 0.0, 0.0], asymmetric, 2.0 / 7.0, 3.0),
        // As far to one side as to the other, unless no value is negative.
        ([-1.0, 7.0, 2.0], symmetric(3), 2.0, 4.0),
        ([-7.0, 1.0, 2.0], symmetric(3), 2.0, 4.0),
        ([7.0, 1.0, 0.0], symmetric(3), 1.0, 4.0),
        ([0.0, 0.0, 0.0], symmetric(3), 2.0 / 7.0, 4.0),
        ([-1.0, 15.0, 2.0], symmetric(4), 2.0, 8.0),
    ] {
        assert_eq!(format.fit(&x), (scale, zero), "{x:?} {format:?}");
    }
    assert_eq!((largest(&[-7.0, 3.0]), largest(&[2.0, 3.0]), largest(&[])), (7.0, 3.0, 0.0));
}

/// The scale that is stored is never zero, for what is divided by zero is not finite.
#[test]
fn scales_below_the_stored_type_become_its_least() {
    let x = [1e-9f32, -1e-9];
    let half = GridFormat::int(4, true, Precision::F16);
    assert_eq!(half.fit(&x), (2f32.powi(-24), 8.0));
    let tiny = [1e-44f32, -1e-44];
    assert_eq!(GridFormat::int(8, true, Precision::F32).fit(&tiny), (f32::MIN_POSITIVE, 128.0));
    assert_eq!(GridFormat::int(8, true, Precision::Bf16).fit(&tiny), (f32::MIN_POSITIVE, 128.0));
}

/// The grids that are tried for `x`, in order, and the power by which their errors count.
fn tried(format: &GridFormat, x: &[f32]) -> (f32, Vec<(f32, f32)>) {
    let (mut lo, mut hi) = x.iter().fold((0f32, 0f32), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    let amax = hi.max(-lo);
    let parts = (0..80).map(|i| 1.0 - i as f32 / 100.0);
    if !matches!(format.element, Element::Int(_)) {
        return match format.search {
            Search::Mse => (2.4, parts.map(|p| (format.scale_for(p * amax), 0.0)).collect()),
            _ => (2.4, vec![(format.scale_for(amax), 0.0)]),
        };
    }
    if format.symmetric {
        (lo, hi) = (if lo < 0.0 { -amax } else { lo }, amax);
    }
    if amax == 0.0 {
        (lo, hi) = (-1.0, 1.0);
    }
    let rounds: [fn(Precision, f32) -> f32; 3] = [Precision::round, Precision::round_down, Precision::round_up];
    match (format.search, format.stored) {
        (Search::Mse, _) => (2.4, parts.map(|p| format.scale_and_zero(p * lo, p * hi, rounds[0])).collect()),
        (_, Precision::F32) => (2.0, vec![format.scale_and_zero(lo, hi, rounds[0])]),
        (_, _) => (2.0, rounds[1..].iter().map(|round| format.scale_and_zero(lo, hi, *round)).collect()),
    }
}

fn error(format: &GridFormat, x: &[f32], (scale, zero): (f32, f32), power: f32) -> f64 {
    let applied = format.applied(scale);
    let value = |v: f32| format.decode(format.encode(v, applied, zero), applied, zero);
    x.iter().map(|&v| f64::from((value(v) - v).abs()).powf(f64::from(power))).sum()
}

/// Every kind of grid, with the search and without it, over tiles of one piece and of two.
#[test]
fn the_best_of_the_grids_that_are_tried_is_taken() {
    let mut next = random(21);
    let mut values = |count: usize, shift: f32| -> Vec<f32> {
        // Few values far out, so that the whole range is seldom the best.
        (0..count).map(|_| (0..4).map(|_| next()).sum::<f32>().powi(3) + shift).collect()
    };
    let mut tiles = vec![values(3, 0.0), values(40, 0.0), values(1000, 0.0), values(40, 9.0), values(40, -9.0)];
    tiles.push(values(PIECE + 900, 0.0));
    let mut shrunk = 0;
    for plain in formats() {
        for search in [Search::MinMax, Search::Mse] {
            let format = GridFormat { search, ..plain };
            for x in tiles.iter().filter(|x| x.len() < PIECE || matches!(format.element, Element::Int(3 | 8))) {
                let got = format.fit(x);
                let (power, grids) = tried(&format, x);
                assert!(grids.contains(&got), "{got:?}: {format:?}");
                let made = error(&format, x, got, power);
                for &other in &grids {
                    let theirs = error(&format, x, other, power);
                    // Sums of f32 may take for the least what is so but for their rounding.
                    assert!(made <= theirs * (1.0 + 1e-3), "{made} {theirs} {other:?} {format:?}");
                }
                shrunk += usize::from(search == Search::Mse && got != grids[0]);
            }
        }
    }
    assert!(shrunk > 10, "{shrunk}");
}

/// Of equally good grids the first, which has the widest range, is that of the published codes.
#[test]
fn among_equals_the_first_grid_is_taken() {
    let format = GridFormat { search: Search::Mse, ..symmetric(2) };
    let x = [-1.5f32, 1.5, 0.0, 0.0];
    let best = |grids: &[(f32, f32)]| format.best(&x, 2.0, grids.iter().copied());
    assert_eq!(best(&[(1.0, 2.0), (1.0, 1.0), (0.5, 2.0)]), (1.0, 2.0));
    assert_eq!(best(&[(9.0, 2.0), (1.0, 2.0), (1.0, 1.0)]), (1.0, 2.0));
    assert_eq!(best(&[]), (1.0, 0.0));
    // No float holds the errors of the first two.
    let huge = [1e30f32, -1e30];
    assert_eq!(format.best(&huge, 2.0, [(1.0, 2.0), (2.0, 2.0)].into_iter()), (1.0, 2.0));
    assert_eq!(format.best(&huge, 2.0, [(1.0, 2.0), (1e30, 2.0)].into_iter()), (1e30, 2.0));
}

/// Tiles of one row and of several, whole and cut off at the edges, each by itself.
#[test]
fn tiles_are_fitted_one_by_one() {
    let (rows, cols) = (10, 26);
    let mut next = random(22);
    let weight: Vec<f32> = (0..rows * cols).map(|_| next()).collect();
    let format = GridFormat { scales: Scales::Float, ..GridFormat::int(4, false, Precision::F32) };
    for [height, width] in [[1, 1], [1, 8], [1, 26], [1, 40], [2, 26], [4, 8], [3, 40], [10, 13], [40, 5]] {
        let made = fit_tiles(&weight, cols, [height, width], &format, None);
        assert_eq!(made.groups, cols.div_ceil(width));
        for row in 0..rows {
            for group in 0..made.groups {
                let lines = weight.chunks_exact(cols).skip(row / height * height).take(height);
                let tile: Vec<f32> =
                    lines.flat_map(|line| &line[group * width..(group * width + width).min(cols)]).copied().collect();
                let at = row * made.groups + group;
                assert_eq!((made.scales[at], made.zeros[at]), format.fit(&tile), "{height}x{width} at {row}, {group}");
            }
        }
    }
}
