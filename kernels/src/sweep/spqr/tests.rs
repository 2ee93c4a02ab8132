//! The fast sweep against the plain one.

use super::*;
use crate::cases::spqr::rules as published;
use crate::sweep::tests::problem;

/// One rule of each kind, and the same with searched grids where there is a grid per row.
pub(super) fn rules() -> Vec<Rule<'static>> {
    let searched = |rule: Rule<'static>| Rule { search: Search::Weighted, ..rule };
    published().into_iter().chain(published().into_iter().filter(|rule| rule.per_channel).map(searched)).collect()
}

/// Inside one slice both sweeps do the same operations in the same order, but for the sums of the search.
#[test]
fn one_slice_is_equal_to_the_definition() {
    for (rows, cols) in [(1, 8), (16, 32), (33, 48), (40, 24)] {
        let (w, _, u) = problem(rows, cols);
        for rule in rules() {
            let fast = sweep(w.clone(), cols, cols, &u, &rule);
            let plain = reference::sweep(w.clone(), cols, cols, &u, &rule);
            assert_eq!(fast.codes, plain.codes, "{rows}x{cols} {rule:?}");
            assert_eq!(fast.outliers, plain.outliers, "{rows}x{cols} {rule:?}");
            assert_eq!(fast.scales.coded, plain.scales.coded);
            assert_eq!(fast.zeros.coded, plain.zeros.coded);
            // A mean of the others is summed in another order.
            for (a, b) in fast.weight.iter().zip(&plain.weight) {
                assert!((a - b).abs() < 1e-5, "{a} want {b}: {rule:?}");
            }
            assert!((fast.loss - plain.loss).abs() <= 1e-5 * plain.loss.max(1e-9), "{rule:?}");
            if rule.threshold.is_some() && rows > 1 {
                assert!(fast.outliers.contains(&1) && fast.outliers.contains(&0), "the threshold decides: {rule:?}");
            }
        }
    }
}

/// Slices make no difference if errors are not spread.
#[test]
fn flat_is_the_sweep_with_the_identity() {
    let (rows, cols) = (33, 50);
    let (w, ..) = problem(rows, cols);
    let mut identity = vec![0f32; cols * cols];
    identity.iter_mut().step_by(cols + 1).for_each(|v| *v = 1.0);
    for rule in rules() {
        let (made, want) = (flat(w.clone(), cols, 16, &rule), sweep(w.clone(), cols, cols, &identity, &rule));
        assert!(made.weight == want.weight && made.codes == want.codes && made.outliers == want.outliers, "{rule:?}");
        assert!(made.scales == want.scales && made.zeros == want.zeros && want.loss > 0.0, "{rule:?}");
    }
}

/// Across slices the sums run in another order, so a weight next to a tie may be decided otherwise.
#[test]
fn several_slices_agree_with_the_definition() {
    for (rows, cols, slice) in [(20, 72, 32), (40, 130, 64)] {
        let (w, _, u) = problem(rows, cols);
        for rule in rules() {
            let fast = sweep(w.clone(), cols, slice, &u, &rule);
            let plain = reference::sweep(w.clone(), cols, slice, &u, &rule);
            let differ = fast.weight.iter().zip(&plain.weight).filter(|(a, b)| (**a - **b).abs() > 1e-3).count();
            // One that moves an extreme moves the second-level grid of its neighbours too.
            let coded = fast.scales.coded.is_some() || fast.zeros.coded.is_some();
            let bound = if coded { 0.1 } else { 0.02 };
            assert!(differ as f64 <= bound * (rows * cols) as f64, "{differ} differ: {rule:?}");
            assert!((fast.loss / plain.loss - 1.0).abs() < 0.05, "{} want {}: {rule:?}", fast.loss, plain.loss);
        }
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let (w, _, u) = problem(70, 150);
    for rule in rules() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| sweep(w.clone(), 150, 64, &u, &rule))
        };
        let (one, other) = (run(1), run(5));
        assert!(one.weight == other.weight && one.codes == other.codes && one.loss == other.loss);
    }
}

/// The weights are what codes, statistics and outliers say, bit for bit.
#[test]
fn codes_decode_to_the_weights() {
    let (rows, cols) = (40, 96);
    let (w, _, u) = problem(rows, cols);
    for rule in rules() {
        let made = sweep(w.clone(), cols, 32, &u, &rule);
        let groups = cols.div_ceil(rule.group_size);
        for i in (0..rows * cols).filter(|&i| made.outliers[i] == 0) {
            let at = i / cols * groups + i % cols / rule.group_size;
            let line = grid::AffineGrid {
                scale: made.scales.values[at],
                zero: made.zeros.values[at],
                max_code: rule.max_code(),
                stored: rule.stored,
            };
            let said = line.decode(f32::from(made.codes[i]));
            assert_eq!(said.to_bits(), made.weight[i].to_bits(), "{said} {} {rule:?}", made.weight[i]);
        }
        for (statistic, bits) in [(&made.scales, rule.second.scale_bits), (&made.zeros, rule.zero_bits())] {
            let Some(coded) = &statistic.coded else { continue };
            for (i, &value) in statistic.values.iter().enumerate() {
                let at = i / groups / rule.second.rows * groups + i % groups;
                assert!(u32::from(coded.codes[i]) < 1 << bits.unwrap());
                let inner = rule.stored.round(f32::from(coded.codes[i]) - coded.zeros[at]);
                assert_eq!(rule.stored.round(coded.scales[at] * inner), value);
            }
        }
    }
}

/// Rows and groups of one value are held exactly where the statistics are free, and rows of zeros beside others too.
#[test]
fn constants_are_exact() {
    let (rows, cols) = (16, 32);
    let (mut w, _, _) = problem(rows, cols);
    let u: Vec<f32> = (0..cols * cols).map(|i| if i % (cols + 1) == 0 { 1.0 } else { 0.0 }).collect();
    for (r, value) in [(0, 0.0), (1, 0.3), (2, -0.3)] {
        w[r * cols..(r + 1) * cols].fill(value);
    }
    for rule in rules().into_iter().filter(|r| r.per_channel && r.stored == Precision::F32) {
        let made = sweep(w.clone(), cols, cols, &u, &rule);
        let free = rule.second.scale_bits.is_none();
        for (i, (made, w)) in made.weight.iter().zip(&w).take(3 * cols).enumerate() {
            let off = (made - w).abs();
            // With coded scales the best of the pairs of codes is taken.
            assert!(if free { off < 1e-6 } else { off < 0.06 }, "{off} at {i}: {rule:?}");
        }
    }
}

/// All weights of a group whose inputs are dead decode to exactly zero.
#[test]
fn dead_groups_stay_zero() {
    let (rows, cols) = (24, 32);
    let (mut w, _, u) = problem(rows, cols);
    let mut u = u;
    // A dead input is coupled to nothing.
    for j in 16..32 {
        for k in 0..cols {
            if j != k {
                u[j * cols + k] = 0.0;
                u[k * cols + j] = 0.0;
            }
        }
        (0..rows).for_each(|r| w[r * cols + j] = 0.0);
    }
    for rule in rules().into_iter().filter(|r| r.per_channel && 16 % r.group_size == 0) {
        let made = sweep(w.clone(), cols, cols, &u, &rule);
        for r in 0..rows {
            let dead = &made.weight[r * cols + 16..(r + 1) * cols];
            assert!(dead.iter().all(|&v| v == 0.0), "row {r}: {dead:?} {rule:?}");
        }
    }
}

#[test]
fn given_zeros_stay_zeros_on_integer_grids() {
    let (rows, cols) = (20, 64);
    let (w, _, u) = problem(rows, cols);
    let marks: Vec<u8> = (0..rows * cols).map(|i| u8::from(i * 7 % 3 != 0)).collect();
    let rule = Rule { zeros: Some(&marks), round_zero: true, threshold: None, ..rules()[1] };
    let scales = SecondLevel { scale_bits: Some(3), ..rule.second };
    let searched = Rule { search: Search::Weighted, ..rule };
    let outliers = Rule { threshold: Some(0.01), ..searched };
    // Groups that slices cut, too.
    let cut = Rule { group_size: 12, ..outliers };
    for rule in [rule, searched, outliers, cut, Rule { second: scales, ..outliers }] {
        let made = sweep(w.clone(), cols, 32, &u, &rule);
        let plain = reference::sweep(w.clone(), cols, 32, &u, &rule);
        let flat = flat(w.clone(), cols, 32, &rule);
        for weight in [&made.weight, &plain.weight, &flat.weight] {
            assert!(weight.iter().zip(&marks).all(|(&w, &m)| m == 0 || w == 0.0), "{rule:?}");
        }
        assert!((made.loss / plain.loss - 1.0).abs() < 0.05, "{} want {}: {rule:?}", made.loss, plain.loss);
        // In one slice, where sums have one order: many grids lose the same where most weights stay exact.
        let made = sweep(w.clone(), cols, cols, &u, &rule);
        let plain = reference::sweep(w.clone(), cols, cols, &u, &rule);
        let differ = made.codes.iter().zip(&plain.codes).filter(|(a, b)| a != b).count();
        assert!(differ * 50 <= rows * cols, "{differ} codes differ: {rule:?}");
    }
}

/// Three grids a row find what leaving out every weight in turn finds.
#[test]
fn likely_outliers_are_those_of_the_definition() {
    let mut next = crate::sweep::tests::random(11);
    for (rows, width) in [(1, 2), (33, 8), (50, 16), (20, 128)] {
        // Sums of random numbers, some of them far out.
        let mut value = || (0..4).map(|_| next()).sum::<f32>() * if next() > 0.9 { 3.0 } else { 1.0 };
        let x: Vec<f32> = (0..rows * width).map(|_| value()).collect();
        let d: Vec<f32> = (0..width).map(|_| 0.5 + value().abs()).collect();
        for rule in rules() {
            for threshold in [0.01, 0.05, 0.3] {
                let fast = likely_outliers(&x, &d, &rule, threshold);
                let plain: Vec<u8> = (x.chunks_exact(width))
                    .flat_map(|x| reference::likely_outliers(x, &d, &rule, threshold))
                    .map(u8::from)
                    .collect();
                // A gain that is the difference of two sums may fall on the other side of the threshold.
                let differ = fast.iter().zip(&plain).filter(|(a, b)| a != b).count();
                assert!(differ * 1000 <= rows * width, "{differ} of {rows}x{width} at {threshold}: {rule:?}");
                assert!(rows < 30 || threshold > 0.2 || fast.contains(&1));
            }
        }
    }
}

/// The share of the weights' variance, in units of the factor, that the published code calls its threshold: by hand.
#[test]
fn the_threshold_is_a_share_of_the_mean_variance() {
    // Variances 1 and 16 over two rows less one, over the squares of d.
    let (weight, d) = ([1.0f32, 10.0, 3.0, 14.0, 2.0, 6.0], [0.5f32, 2.0]);
    assert_eq!(threshold(0.5, &weight, &d), 0.5 * (1.0 / 0.25 + 16.0 / 4.0) / 2.0);
    // One row has no variance, and is no division by zero.
    assert_eq!(threshold(0.5, &[1.0, 2.0], &d), 0.0);
    // More rows than a piece of the sums has: −1 and 1 in turn, of which the second column has twice as much.
    let rows = 200;
    let weight: Vec<f32> = (0..rows).flat_map(|r| if r % 2 == 0 { [-1.0, 2.0] } else { [1.0, -2.0] }).collect();
    let variance = rows as f64 / (rows - 1) as f64;
    assert_eq!(threshold(1.0, &weight, &[1.0, 1.0]), (variance * 2.5) as f32);
}

/// Rows that share statistics are one task's, and tasks fill their lanes.
#[test]
fn tasks_hold_whole_tiles() {
    let plain = rules()[0];
    let tall = |rows, scale_bits, zero_bits| Rule {
        second: SecondLevel { scale_bits, zero_bits, zero_symmetric: false, rows },
        ..plain
    };
    for (rule, rows) in [
        (plain, 48),
        (tall(16, Some(3), None), 48),
        (tall(16, None, Some(3)), 48),
        (tall(5, Some(3), Some(3)), 240),
        (tall(48, Some(3), Some(3)), 48),
        (tall(32, Some(3), Some(3)), 96),
        (tall(5, None, None), 48),
        // A constant zero is not coded.
        (Rule { symmetric: true, ..tall(5, None, Some(3)) }, 48),
        // All rows share a range.
        (Rule { per_channel: false, ..plain }, 1000),
    ] {
        assert_eq!(rule.task_rows(1000), rows, "{rule:?}");
    }
    assert_eq!(Rule { per_channel: false, ..plain }.task_rows(0), 1);
    assert_eq!((Rule { bits: 2, ..plain }.max_code(), Rule { bits: 8, ..plain }.max_code()), (3.0, 255.0));
    for (asked, bits, symmetric, round_zero, want) in [
        (None, 3, false, false, None),
        (Some(3), 3, false, false, Some(3)),
        (Some(3), 3, true, false, None),
        (Some(3), 3, false, true, None),
        (Some(4), 3, false, true, None),
        (Some(2), 3, false, true, Some(2)),
        (Some(2), 3, true, true, None),
    ] {
        assert_eq!(coded_zero_bits(asked, bits, symmetric, round_zero), want, "{asked:?} {bits}");
    }
}

/// A fan is its matrices one by one.
#[test]
fn a_fan_is_each_of_its_matrices() {
    let cols = 40;
    let (_, _, u) = problem(1, cols);
    let factor = crate::square_matrix::SquareMatrix::on_device(&candle_core::Device::Cpu, u.clone()).unwrap();
    let factor = Factor::new(factor, crate::cholesky::Arithmetic::Double).unwrap();
    let parts = [(3, rules()[1]), (7, rules()[2])].map(|(rows, rule)| (problem(rows, cols).0, rule));
    let swept = fan(parts.to_vec(), cols, 16, &factor).unwrap();
    assert_eq!(swept.len(), 2);
    for (swept, (weight, rule)) in swept.iter().zip(parts) {
        let alone = sweep(weight, cols, 16, &u, &rule);
        assert!(swept.weight == alone.weight && swept.codes == alone.codes && swept.loss == alone.loss);
    }
}
