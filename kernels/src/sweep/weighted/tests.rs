//! The search against its definition, and what it is for.

use super::super::fit_tiles;
use super::*;
use crate::sweep::Search;
use crate::sweep::tests::{formats, random};

/// Formats with the search, of every width and kind.
fn searched() -> Vec<GridFormat> {
    let mut all = formats();
    all.extend([2, 3, 4, 8].map(|bits| GridFormat::int(bits, true, Precision::Bf16)));
    all.extend([2, 3, 5].map(|bits| GridFormat::int(bits, false, Precision::F16)));
    all.iter_mut().for_each(|format| format.search = Search::Weighted);
    all
}

/// Values of which few are far out, and their importance, of which some is nothing.
fn problem(rows: usize, cols: usize) -> (Vec<f32>, Vec<f32>) {
    let mut next = random(31);
    let weight = (0..rows * cols).map(|_| (0..4).map(|_| next()).sum::<f32>().powi(3)).collect();
    let importance = (0..cols).map(|j| if j % 7 == 3 { 0.0 } else { next().powi(4) * 1e5 }).collect();
    (weight, importance)
}

fn tile_of(weight: &[f32], cols: usize, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> Vec<f32> {
    rows.flat_map(|r| weight[r * cols..][columns.clone()].to_vec()).collect()
}

/// Tiles of one row and of several, whole and cut off, in more strips than one.
#[test]
fn every_tile_gets_the_grid_of_the_definition() {
    let (rows, cols) = (101, 70);
    let (weight, importance) = problem(rows, cols);
    for format in searched() {
        for [height, width] in [[1, 16], [1, 70], [1, 64], [4, 32], [60, 70], [200, 70]] {
            let made = fit_tiles(&weight, cols, [height, width], &format, Some(&importance));
            for (row, group) in (0..rows).flat_map(|row| (0..made.groups).map(move |group| (row, group))) {
                let (top, columns) = (row / height * height, group * width..(group * width + width).min(cols));
                let tile = tile_of(&weight, cols, top..(top + height).min(rows), columns.clone());
                let want = reference::fit(&format, &tile, &importance[columns]);
                let at = row * made.groups + group;
                assert_eq!((made.scales[at], made.zeros[at]), want, "{format:?} {height}x{width} at {row}, {group}");
            }
        }
    }
}

/// Σ h (q − w)² of what the sweep makes of a row.
fn loss(format: &GridFormat, x: &[f32], h: &[f32], (scale, zero): (f32, f32)) -> f64 {
    let off = |x: f32| format.rounded(x, format.applied(scale), zero) - x;
    x.iter().zip(h).map(|(&x, &h)| f64::from(h) * f64::from(off(x)).powi(2)).sum()
}

/// Few bits gain most; no grid may be worse than the whole range by more than its scale's rounding.
#[test]
fn the_weighted_error_falls() {
    let (rows, cols) = (40, 64);
    let (weight, importance) = problem(rows, cols);
    for format in searched() {
        let plain = GridFormat { search: Search::MinMax, ..format };
        let made = fit_tiles(&weight, cols, [1, cols], &format, Some(&importance));
        let (mut before, mut after) = (0.0, 0.0);
        for (r, x) in weight.chunks_exact(cols).enumerate() {
            before += loss(&format, x, &importance, plain.fit(x));
            after += loss(&format, x, &importance, (made.scales[r], made.zeros[r]));
        }
        let most = match format.element {
            Element::Int(2 | 3) => 0.6,
            Element::Int(4) => 0.9,
            _ => 1.001,
        };
        let (_, errors) = fit_weighted(&weight, cols, [1, cols], &format, Some(&importance));
        assert!(errors.found <= errors.usual, "{format:?}: {errors:?}");
        assert!(after <= most * before, "{format:?}: {before} {after}");
    }
}

/// Columns without any importance leave their grid to all columns alike, as no importance at all does.
#[test]
fn columns_that_count_nothing_count_the_same() {
    let (weight, _) = problem(30, 32);
    for format in searched() {
        let unweighted = fit_tiles(&weight, 32, [1, 16], &format, None);
        assert_eq!(unweighted, fit_tiles(&weight, 32, [1, 16], &format, Some(&[0.0; 32])), "{format:?}");
        assert_eq!(unweighted, fit_tiles(&weight, 32, [1, 16], &format, Some(&[3e38; 32])), "{format:?}");
    }
}

/// Zeros, values of one sign, and values whose squares are beyond every float.
#[test]
fn odd_values_have_grids_with_scales() {
    let importance = [1.0f32; 4];
    for format in searched() {
        for x in [[0.0f32; 4], [1.0, 2.0, 3.0, 4.0], [-9.0, -1.0, -1.5, -3.0], [1e30, -1e30, 2e29, 0.0], [1e-40; 4]] {
            let Grids { scales, zeros, .. } = fit_tiles(&x, 4, [1, 4], &format, Some(&importance));
            assert_eq!((scales[0], zeros[0]), reference::fit(&format, &x, &importance), "{format:?} {x:?}");
            assert!(scales[0] > 0.0 && (0.0..=255.0).contains(&zeros[0]), "{format:?} {x:?}");
        }
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let (weight, importance) = problem(150, 96);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let fit = |format: &GridFormat, tile| fit_tiles(&weight, 96, tile, format, Some(&importance));
        pool.install(|| searched().iter().flat_map(|f| [fit(f, [1, 32]), fit(f, [64, 48])]).collect::<Vec<_>>())
    };
    assert_eq!(on(1), on(3));
}
