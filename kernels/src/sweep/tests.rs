//! The fast sweep against the plain one.

use super::*;
pub(super) use crate::cases::sweep::{formats, problem, random};
use crate::matmul::Precision;

/// Inside one slice both sweeps do the same operations in the same order: every bit is equal.
#[test]
fn one_slice_is_equal_to_the_definition_bit_for_bit() {
    for (rows, cols) in [(1, 8), (16, 32), (33, 48), (5, 64)] {
        let (w, norms, u) = problem(rows, cols);
        let given: Vec<u8> = (0..rows * cols).map(|i| u8::from(i % 3 == 1)).collect();
        for curvature in
            [CurvatureData::Flat, CurvatureData::Diagonal(norms.as_slice()), CurvatureData::Full(u.as_slice())]
        {
            for drop in [
                None,
                Some(Drop::Threshold { sparsity: 0.4 }),
                Some(Drop::PerRow { count: cols / 2 }),
                Some(Drop::NofM { n: 2, m: 4 }),
                Some(Drop::NofM { n: 5, m: 8 }),
                Some(Drop::Given(&given)),
            ] {
                for format in std::iter::once(None).chain(formats().into_iter().map(Some)) {
                    let group_size = 16;
                    let before = format.map(|f| fit_tiles(&w, cols, [1, group_size], &f, None));
                    let group_of: Vec<u32> = (0..cols as u32).map(|j| j / group_size as u32).collect();
                    let mut rules = [Precision::F32, Precision::Bf16, Precision::F16]
                        .map(|stored| Rule { drop, round: None, stored })
                        .to_vec();
                    if let (Some(format), Some(grids)) = (format, &before) {
                        let fits =
                            [Fit::AtSlice { group_size, importance: None }, Fit::Before { grids, group_of: &group_of }];
                        rules = fits
                            .map(|fit| Rule { drop, round: Some(Round { format, fit }), stored: format.stored })
                            .to_vec();
                    }
                    for rule in rules {
                        let fast = sweep(w.clone(), cols, cols, curvature, rule);
                        let plain = reference::sweep(w.clone(), cols, cols, curvature, rule);
                        assert_eq!(fast.weight, plain.weight, "{rows}x{cols} {curvature:?} {rule:?}");
                        assert_eq!(fast.codes, plain.codes);
                        assert_eq!(fast.dropped, plain.dropped);
                        assert_eq!(fast.grids, plain.grids);
                        assert!((fast.loss - plain.loss).abs() <= 1e-9 * plain.loss);
                    }
                }
            }
        }
    }
}

/// Across slices the sums run in another order, so a weight next to a tie may be decided otherwise: almost all
/// decisions are equal and the loss is the same to 1 %.
#[test]
fn several_slices_agree_with_the_definition() {
    for (rows, cols, slice) in [(20, 72, 32), (40, 130, 64), (17, 200, 48)] {
        let (w, _, u) = problem(rows, cols);
        let stored = Precision::F32;
        let format = GridFormat::int(3, false, stored);
        for rule in [
            Rule { drop: Some(Drop::Threshold { sparsity: 0.5 }), round: None, stored },
            Rule { drop: Some(Drop::NofM { n: 2, m: 4 }), round: None, stored },
            Rule {
                drop: None,
                round: Some(Round { format, fit: Fit::AtSlice { group_size: 24, importance: None } }),
                stored,
            },
            Rule {
                drop: Some(Drop::NofM { n: 1, m: 8 }),
                round: Some(Round { format, fit: Fit::AtSlice { group_size: 100, importance: None } }),
                stored,
            },
        ] {
            let fast = sweep(w.clone(), cols, slice, CurvatureData::Full(&u), rule);
            let plain = reference::sweep(w.clone(), cols, slice, CurvatureData::Full(&u), rule);
            let differ = fast.weight.iter().zip(&plain.weight).filter(|(a, b)| (**a - **b).abs() > 1e-4).count();
            assert!(differ * 100 <= rows * cols, "{differ} of {} differ: {rule:?}", rows * cols);
            assert!((fast.loss / plain.loss - 1.0).abs() < 0.01, "{} want {}", fast.loss, plain.loss);
        }
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let (w, _, u) = problem(70, 150);
    let format = GridFormat::int(4, true, Precision::Bf16);
    let rule = Rule {
        drop: Some(Drop::Threshold { sparsity: 0.3 }),
        round: Some(Round { format, fit: Fit::AtSlice { group_size: 32, importance: None } }),
        stored: Precision::Bf16,
    };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| sweep(w.clone(), 150, 64, CurvatureData::Full(&u), rule))
    };
    let one = run(1);
    for threads in [2, 5] {
        let other = run(threads);
        assert!(one.weight == other.weight && one.codes == other.codes && one.loss == other.loss);
    }
}

#[test]
fn the_mse_grid_has_a_lower_error_than_the_full_range() {
    let mut next = random(5);
    // Near to a normal distribution: few values at the ends of the range.
    let x: Vec<f32> = (0..256).map(|_| 1.75 * (0..6).map(|_| next()).sum::<f32>()).collect();
    let error = |f: GridFormat, size: usize| {
        let of_group = |x: &[f32]| {
            let (scale, zero) = f.fit(x);
            let scale = f.applied(scale);
            x.iter().map(|&v| (f.decode(f.encode(v, scale, zero), scale, zero) - v).abs().powf(2.4)).sum::<f32>()
        };
        x.chunks(size).map(of_group).sum::<f32>()
    };
    let four = GridFormat { element: Element::E2m1, symmetric: true, ..GridFormat::int(4, true, Precision::F32) };
    for (plain, size) in [
        (GridFormat::int(3, false, Precision::F32), 256),
        (GridFormat { scales: Scales::E4m3 { global: 300.0 }, ..four }, 16),
        (GridFormat { scales: Scales::Exponent, ..four }, 256),
    ] {
        let (shrunk, whole) = (error(GridFormat { search: Search::Mse, ..plain }, size), error(plain, size));
        assert!(shrunk < whole, "{shrunk} {whole} {plain:?}");
    }
}

/// A tile that is worked on in pieces is fitted to all of them, whichever holds the extremes.
#[test]
fn large_and_ragged_tiles_are_fitted_to_all_their_values() {
    let (rows, cols) = (700, 301);
    let mut next = random(9);
    let mut weight: Vec<f32> = (0..rows * cols).map(|_| next()).collect();
    (weight[3], weight[rows * cols - 2]) = (3.0, -7.0);
    let format = GridFormat { element: Element::E4m3, symmetric: true, ..GridFormat::int(8, true, Precision::F32) };
    let whole = fit_tiles(&weight, cols, [rows, cols], &format, None);
    assert_eq!((whole.groups, whole.scales), (1, vec![7.0 / 448.0; rows]));
    assert_eq!(largest(&weight), 7.0);
    let tiles = fit_tiles(&weight, cols, [128, 100], &format, None);
    assert_eq!((tiles.groups, tiles.scales.len(), &tiles.zeros), (4, rows * 4, &vec![0.0; rows * 4]));
    for (row, scales) in tiles.scales.chunks_exact(4).enumerate() {
        for (group, &scale) in scales.iter().enumerate() {
            let amax = (row / 128 * 128..(row / 128 * 128 + 128).min(rows))
                .flat_map(|r| &weight[r * cols + group * 100..r * cols + (group * 100 + 100).min(cols)])
                .fold(0f32, |most, v| most.max(v.abs()));
            assert_eq!(scale, amax / 448.0, "row {row}, group {group}");
        }
    }
    // Integers in sixteen bits choose between two scales by their error over all pieces.
    let format = GridFormat::int(4, true, Precision::Bf16);
    let (scale, _) = format.fit(&weight);
    let error = |scale: f32| weight.iter().map(|&v| f64::from(format.rounded(v, scale, 8.0) - v).powi(2)).sum::<f64>();
    let ways = [Precision::round_down, Precision::round_up].map(|round| round(Precision::Bf16, 14.0 / 15.0));
    assert!(ways.contains(&scale) && ways.iter().all(|&other| error(scale) <= error(other) * (1.0 + 1e-5)));
}

/// The error of such values is not finite, and the grid still is theirs.
#[test]
fn huge_values_get_a_grid_of_their_size() {
    let x = [3e30f32, -1e30, 2e30, 0.0];
    for element in [Element::Int(3), Element::E2m3, Element::E2m1] {
        let format =
            GridFormat { element, symmetric: true, search: Search::Mse, ..GridFormat::int(3, true, Precision::F32) };
        let (scale, _) = format.fit(&x);
        assert!(scale > 1e29 && scale < 1e31, "{element:?}: {scale}");
    }
}

/// Among equals the first columns are chosen, in both forms and for every curvature.
#[test]
fn ties_in_groups_of_n_and_m_go_to_the_first_columns() {
    let (rows, cols) = (53, 48);
    let norms = vec![0.5; cols];
    let identity: Vec<f32> = (0..cols * cols).map(|i| if i % (cols + 1) == 0 { 2.0 } else { 0.0 }).collect();
    // In a row all magnitudes are equal, or all but those of the second column of each four, which are larger.
    let weight: Vec<f32> = (0..rows * cols)
        .map(|i| {
            let (row, col) = (i / cols, i % cols);
            let sign = if (row + col * 3) % 5 < 2 { -1.0 } else { 1.0 };
            sign * (1 + row) as f32 * if row % 2 == 1 && col % 4 == 1 { 2.0 } else { 1.0 }
        })
        .collect();
    for (n, m, equal, larger) in [
        (1, 2, [1, 0, 1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 1, 0, 1, 0]),
        (2, 4, [1, 1, 0, 0, 1, 1, 0, 0], [1, 0, 1, 0, 1, 0, 1, 0]),
        (3, 4, [1, 1, 1, 0, 1, 1, 1, 0], [1, 0, 1, 1, 1, 0, 1, 1]),
        (5, 8, [1, 1, 1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 1, 0, 1, 0]),
    ] {
        let want: Vec<u8> = (0..rows * cols)
            .map(|i| if i / cols % 2 == 1 { larger[i % cols % 8] } else { equal[i % cols % 8] })
            .collect();
        let rule = Rule { drop: Some(Drop::NofM { n, m }), round: None, stored: Precision::F32 };
        for curvature in
            [CurvatureData::Flat, CurvatureData::Diagonal(norms.as_slice()), CurvatureData::Full(identity.as_slice())]
        {
            for slice in [cols, 16] {
                assert_eq!(sweep(weight.clone(), cols, slice, curvature, rule).dropped, want, "{n}:{m} {curvature:?}");
                assert_eq!(reference::sweep(weight.clone(), cols, slice, curvature, rule).dropped, want);
            }
        }
    }
}

/// A threshold takes all scores that equal it, and a count per row the first of them.
#[test]
fn ties_at_a_threshold_are_all_dropped_and_those_of_a_count_from_the_left() {
    let (rows, cols) = (3, 8);
    let weight = [2.0f32, -1.0, 1.0, 1.0, 3.0, -1.0, 0.5, 4.0].repeat(rows);
    for (drop, want) in [
        // The twelfth of 24 in order is a 1: ⌊0.5 · 24⌋ counts from 0.
        (Drop::Threshold { sparsity: 0.5 }, [0, 1, 1, 1, 0, 1, 1, 0]),
        (Drop::Threshold { sparsity: 0.0 }, [0, 0, 0, 0, 0, 0, 1, 0]),
        (Drop::PerRow { count: 3 }, [0, 1, 1, 0, 0, 0, 1, 0]),
        (Drop::PerRow { count: 0 }, [0; 8]),
        (Drop::PerRow { count: 8 }, [1; 8]),
    ] {
        let rule = Rule { drop: Some(drop), round: None, stored: Precision::F32 };
        for swept in [
            sweep(weight.clone(), cols, cols, CurvatureData::Flat, rule),
            reference::sweep(weight.clone(), cols, cols, CurvatureData::Flat, rule),
        ] {
            assert_eq!(swept.dropped, want.repeat(rows), "{drop:?}");
            let kept: f64 = weight.iter().zip(&swept.dropped).map(|(w, &d)| f64::from(w * w) * f64::from(d)).sum();
            assert_eq!(swept.loss, kept, "{drop:?}");
        }
    }
}

/// Codes and zero points that lie between two integers take the even one.
#[test]
fn halves_round_to_the_even_code() {
    // A range of 2^bits − 1 has the scale 1, and its lower end, turned round, is the zero point before it is rounded.
    for (x, zero, codes) in [
        ([-0.5f32, 2.5, 0.5, 1.5], 0.0, [0, 2, 0, 2]),
        ([-1.5, 1.5, 0.5, -0.5], 2.0, [0, 3, 2, 2]),
        ([-2.5, 0.5, -1.5, -0.5], 2.0, [0, 2, 0, 2]),
    ] {
        for format in [GridFormat::int(2, false, Precision::F32), GridFormat::int(2, false, Precision::Bf16)] {
            assert_eq!(format.fit(&x), (1.0, zero), "{x:?}");
            let fit = Fit::AtSlice { group_size: 4, importance: None };
            let rule = Rule { drop: None, round: Some(Round { format, fit }), stored: format.stored };
            for swept in [
                sweep(x.to_vec(), 4, 4, CurvatureData::Flat, rule),
                reference::sweep(x.to_vec(), 4, 4, CurvatureData::Flat, rule),
            ] {
                assert_eq!(swept.codes, codes, "{x:?}");
                assert_eq!(swept.weight, codes.map(|code| f32::from(code) - zero), "{x:?}");
                assert_eq!(swept.grids, Some(Grids { groups: 1, scales: vec![1.0], zeros: vec![zero] }));
            }
        }
    }
}

/// A rule that rounds.
fn round(format: GridFormat, fit: Fit<'_>) -> Rule<'_> {
    Rule { drop: None, round: Some(Round { format, fit }), stored: format.stored }
}

/// True if a sweep of such lengths ends in a panic.
fn refused(weight: &[f32], [cols, slice]: [usize; 2], curvature: curvature::OnHost<'_>, rule: Rule<'_>) -> bool {
    let run = || sweep(weight.to_vec(), cols, slice, curvature, rule);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
}

/// Lengths that do not fit end in a panic before anything is read or written beyond them.
#[test]
fn lengths_that_do_not_fit_are_refused() {
    let (rows, cols) = (5, 16);
    let (w, norms, u) = problem(rows, cols);
    let stored = Precision::F32;
    let format = GridFormat::int(4, false, stored);
    let grids = fit_tiles(&w, cols, [1, 8], &format, None);
    let group_of: Vec<u32> = (0..cols as u32).map(|j| j / 8).collect();
    let nothing = Rule { drop: None, round: None, stored };
    let dropping = |drop| Rule { drop: Some(drop), ..nothing };
    let full = CurvatureData::Full(u.as_slice());
    for slice in [1, 8, 16, 100] {
        let sides = [cols, slice];
        assert!(!refused(&w, sides, full, nothing));
        assert!(!refused(&w, sides, full, round(format, Fit::Before { grids: &grids, group_of: &group_of })));
        assert!(refused(&w[1..], sides, full, nothing));
        for u in [&u[1..], &u[cols..], &[u.as_slice(), &[0.0]].concat()] {
            assert!(refused(&w, sides, CurvatureData::Full(u), nothing));
        }
        assert!(refused(&w, sides, CurvatureData::Diagonal(&norms[1..]), nothing));
        for drop in [Drop::Given(&[0; 79]), Drop::Given(&[0; 81]), Drop::NofM { n: 0, m: 0 }] {
            assert!(refused(&w, sides, full, dropping(drop)), "{drop:?}");
        }
        assert!(refused(&w, sides, full, round(format, Fit::AtSlice { group_size: 0, importance: None })));
        for group_of in [&group_of[1..], &[2; 16]] {
            assert!(refused(&w, sides, full, round(format, Fit::Before { grids: &grids, group_of })));
        }
        let scales = Grids { scales: grids.scales[1..].to_vec(), ..grids.clone() };
        let zeros = Grids { zeros: grids.zeros[1..].to_vec(), ..grids.clone() };
        for grids in [&scales, &zeros] {
            assert!(refused(&w, sides, full, round(format, Fit::Before { grids, group_of: &group_of })));
        }
    }
    assert!(refused(&w, [0, 8], CurvatureData::Flat, nothing) && refused(&w, [cols, 0], CurvatureData::Flat, nothing));
}

/// A slice is visited in pieces where errors are not spread, of whole groups, and as a whole where they are.
#[test]
fn slices_wider_than_a_piece_are_equal_to_the_definition() {
    let (rows, cols) = (50, 280);
    let (w, norms, u) = problem(rows, cols);
    let stored = Precision::F32;
    let format = GridFormat::int(3, false, stored);
    let fitted = Some(Round { format, fit: Fit::AtSlice { group_size: 56, importance: None } });
    for curvature in [CurvatureData::Flat, CurvatureData::Diagonal(norms.as_slice()), CurvatureData::Full(u.as_slice())]
    {
        for drop in [
            None,
            Some(Drop::Threshold { sparsity: 0.3 }),
            Some(Drop::NofM { n: 3, m: 7 }),
            Some(Drop::NofM { n: 70, m: 140 }),
        ] {
            for round in [None, fitted] {
                let rule = Rule { drop, round, stored };
                let fast = sweep(w.clone(), cols, cols, curvature, rule);
                let plain = reference::sweep(w.clone(), cols, cols, curvature, rule);
                assert!(fast.weight == plain.weight && fast.codes == plain.codes, "{curvature:?} {rule:?}");
                assert!(fast.dropped == plain.dropped && fast.grids == plain.grids, "{curvature:?} {rule:?}");
                assert!((fast.loss - plain.loss).abs() <= 1e-9 * plain.loss, "{} want {}", fast.loss, plain.loss);
            }
        }
    }
}

/// A fan is its matrices one by one.
#[test]
fn a_fan_is_each_of_its_matrices() {
    let cols = 40;
    let (_, norms, u) = problem(1, cols);
    let factor = crate::square_matrix::SquareMatrix::on_device(&candle_core::Device::Cpu, u.clone()).unwrap();
    let factor = crate::cholesky::Factor::new(factor, crate::cholesky::Arithmetic::Double).unwrap();
    let weights = [3, 1, 5].map(|rows| problem(rows, cols).0);
    let rules = [1, 2, 3].map(|n| Rule { drop: Some(Drop::NofM { n, m: 4 }), round: None, stored: Precision::F32 });
    for (owned, borrowed) in [
        (CurvatureData::Flat, CurvatureData::Flat),
        (CurvatureData::Diagonal(norms.clone()), CurvatureData::Diagonal(norms.as_slice())),
        (CurvatureData::Full(factor), CurvatureData::Full(u.as_slice())),
    ] {
        assert!(!owned.prefers_many(), "one after the other on a CPU");
        let part = |(weight, rule): (&Vec<f32>, Rule<'static>)| Part { weight: weight.clone(), rule };
        let swept = fan(weights.iter().zip(rules).map(part).collect(), cols, 16, &owned).unwrap();
        assert_eq!(swept.len(), 3);
        for ((swept, weight), rule) in swept.iter().zip(&weights).zip(rules) {
            let alone = sweep(weight.clone(), cols, 16, borrowed, rule);
            assert!(swept.weight == alone.weight && swept.dropped == alone.dropped && swept.loss == alone.loss);
            // No GPU has to take the rule.
            let wide = Rule { drop: Some(Drop::NofM { n: 1, m: 500 }), ..rule };
            assert_eq!(owned.check(&wide, 1000), Ok(()));
        }
    }
}

#[test]
fn groups_fit_a_slice_or_what_a_gpu_visits_at_once() {
    use rule::DropKind::{Groups, Nothing};
    for (drop, slice, is_wide) in [
        (Groups { n: 1, m: 129 }, 129, true),
        (Groups { n: 1, m: 128 }, 129, false),
        (Groups { n: 1, m: 127 }, 200, false),
        (Groups { n: 1, m: 129 }, 128, false),
        (Groups { n: 1, m: 129 }, 127, false),
        (Nothing, 1000, false),
    ] {
        let want = if is_wide { Err(WideGroup { m: 129, slice }) } else { Ok(()) };
        assert_eq!(curvature::fits_gpu(drop, slice), want, "{drop:?} {slice}");
    }
    assert_eq!((share_of(0.5, 7), share_of(0.0, 7), share_of(0.29, 100)), (3, 0, 28), "as a product of f64");
}
