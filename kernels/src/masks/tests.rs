use super::*;
use crate::matmul::Precision;
use crate::test_values;

/// H of inputs that depend on each other, and weights.
fn problem(rows: usize, n: usize) -> (Vec<f32>, Vec<f32>) {
    let tokens = 2 * n;
    let x = test_values(tokens * n, 1.0, 5 + n as u32 as u64);
    let mixed = |t: usize, j: usize| x[t * n + j] + 0.7 * x[t * n + (j + 1) % n] + 0.5 * x[t * n];
    let mut h = vec![0f32; n * n];
    for i in 0..n {
        for j in 0..n {
            h[i * n + j] = (0..tokens).map(|t| mixed(t, i) * mixed(t, j)).sum::<f32>() / tokens as f32;
        }
        h[i * n + i] += 0.01;
    }
    (h, test_values(rows * n, 1.0, 9))
}

/// Removes the smallest weights of every `of`.
fn by_magnitude(target: &[f32], keep: usize, of: usize) -> (Vec<f32>, Vec<u8>) {
    let (mut weight, mut dropped) = (target.to_vec(), vec![0; target.len()]);
    for (w, d) in weight.chunks_mut(of).zip(dropped.chunks_mut(of)) {
        let scores: Vec<f32> = w.iter().map(|w| w.abs()).collect();
        crate::select::mask_smallest(&scores, (of - keep).min(w.len()), d);
        w.iter_mut().zip(d).filter(|(_, d)| **d == 1).for_each(|(w, _)| *w = 0.0);
    }
    (weight, dropped)
}

fn least_squares(o: &Objective, target: &[f32], w: &mut [f32], dropped: &[u8], steps: usize, to: Precision) -> Errors {
    let mut marks = dropped.to_vec();
    let errors = refine(o, target, (w, &mut marks), Refine { steps, ..Refine::default() }, to);
    assert_eq!(marks, dropped);
    errors
}

fn descend(
    objective: &Objective,
    target: &[f32],
    made: (&mut [f32], &mut [u8]),
    choice: Choice,
    passes: usize,
    stored: Precision,
) -> Errors {
    refine(objective, target, made, Refine { descent: Some((choice, passes)), steps: 0 }, stored)
}

fn wide(weight: &[f32]) -> Vec<f64> {
    weight.iter().map(|&w| f64::from(w)).collect()
}

fn total(h: &[f32], target: &[f32], weight: &[f64]) -> f64 {
    let n = h.len().isqrt();
    target.chunks(n).zip(weight.chunks(n)).map(|(t, w)| reference::error(h, t, w)).sum()
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * b.abs()
}

#[test]
fn products_and_errors_are_those_of_the_definition() {
    for (rows, n) in [(1, 3), (50, 70), (97, 130)] {
        let (h, target) = problem(rows, n);
        let (weight, _) = by_magnitude(&target, 1, 2);
        let objective = Objective::new(h.clone());
        assert!(near(objective.error(&target, &weight), total(&h, &target, &wide(&weight)), 1e-5));
        assert_eq!(objective.error(&target, &target), 0.0);
    }
}

#[test]
fn least_squares_come_to_the_best_weights_and_never_lose() {
    for (rows, n, keep) in [(1, 4, 2), (50, 32, 2), (97, 72, 1), (5, 66, 3)] {
        let (h, target) = problem(rows, n);
        let (start, dropped) = by_magnitude(&target, keep, 4);
        let objective = Objective::new(h.clone());
        let mut weight = start.clone();
        let errors = least_squares(&objective, &target, &mut weight, &dropped, 60, Precision::F32);
        let best: Vec<f64> =
            (target.chunks(n).zip(dropped.chunks(n))).flat_map(|(t, d)| reference::least_squares(&h, t, d)).collect();
        assert!(near(errors.before, total(&h, &target, &wide(&start)), 1e-5));
        assert!(near(errors.after, total(&h, &target, &wide(&weight)), 1e-4), "{errors:?}");
        assert!(near(errors.after, total(&h, &target, &best), 1e-3), "{errors:?} {}", total(&h, &target, &best));
        assert!(weight.iter().zip(&dropped).all(|(w, d)| *d == 0 || *w == 0.0));
        // What is best already stays, to the bit; so does everything without steps.
        let mut again = weight.clone();
        least_squares(&objective, &target, &mut again, &dropped, 1, Precision::F32);
        assert!(objective.error(&target, &again) <= objective.error(&target, &weight));
        let mut same = start.clone();
        least_squares(&objective, &target, &mut same, &dropped, 0, Precision::F32);
        assert_eq!(same, start);
        // In a smaller type, all weights are of it.
        let mut short = start.clone();
        let short_errors = least_squares(&objective, &target, &mut short, &dropped, 60, Precision::Bf16);
        assert!(short_errors.after <= short_errors.before);
        for (row, start) in short.chunks(n).zip(start.chunks(n)) {
            assert!(row == start || row.iter().all(|&w| Precision::Bf16.round(w) == w));
        }
    }
}

#[test]
fn rows_without_curvature_stay() {
    let (rows, n) = (3, 8);
    let (_, target) = problem(rows, n);
    let (start, dropped) = by_magnitude(&target, 2, 4);
    let objective = Objective::new(vec![0.0; n * n]);
    let mut weight = start.clone();
    let errors = least_squares(&objective, &target, &mut weight, &dropped, 5, Precision::F32);
    assert_eq!((errors, &weight), (Errors::default(), &start));
    for choice in [Choice::Keep { keep: 2, of: 4 }, Choice::AsMany { of: 8 }] {
        let mut marks = dropped.clone();
        descend(&objective, &target, (&mut weight, &mut marks), choice, 2, Precision::F32);
        assert_eq!((&weight, &marks), (&start, &dropped));
    }
}

#[test]
fn patterns_are_compared_as_in_the_definition() {
    for (rows, n, keep, of) in [(50, 32, 2, 4), (7, 140, 1, 4), (3, 66, 1, 2), (49, 24, 3, 8), (2, 150, 2, 3)] {
        let (h, target) = problem(rows, n);
        let (mut weight, mut dropped) = by_magnitude(&target, keep, of);
        let (mut want, mut marks) = (wide(&weight), dropped.clone());
        let objective = Objective::new(h.clone());
        let mut before = f64::INFINITY;
        for _ in 0..3 {
            let choice = Choice::Keep { keep, of };
            let errors = descend(&objective, &target, (&mut weight, &mut dropped), choice, 1, Precision::F32);
            assert!(errors.after <= errors.before && errors.before <= before * (1.0 + 1e-6), "{errors:?}");
            before = errors.after;
            for ((t, w), d) in target.chunks(n).zip(want.chunks_mut(n)).zip(marks.chunks_mut(n)) {
                reference::compare(&h, t, w, d, (keep, of));
            }
        }
        assert_eq!(dropped, marks, "{rows} x {n}, {keep}:{of}");
        assert!(weight.iter().zip(&want).all(|(&a, &b)| (f64::from(a) - b).abs() < 2e-3));
        for (w, d) in weight.chunks(of).zip(dropped.chunks(of)) {
            assert_eq!(d.iter().filter(|&&d| d == 0).count(), keep);
            assert!(w.iter().zip(d).all(|(w, d)| *d == 0 || *w == 0.0));
        }
    }
}

#[test]
fn exchanges_are_those_of_the_definition() {
    for (rows, n, keep, of) in [(50, 32, 8, 16), (3, 100, 20, 64), (2, 40, 4, 32)] {
        let (h, target) = problem(rows, n);
        let (mut weight, mut dropped) = by_magnitude(&target, keep, of);
        let (mut want, mut marks) = (wide(&weight), dropped.clone());
        let objective = Objective::new(h.clone());
        for _ in 0..2 {
            let kept = dropped.iter().filter(|&&d| d == 0).count();
            let choice = Choice::AsMany { of };
            let errors = descend(&objective, &target, (&mut weight, &mut dropped), choice, 1, Precision::F32);
            assert!(errors.after < errors.before);
            assert_eq!(kept, dropped.iter().filter(|&&d| d == 0).count());
            for ((t, w), d) in target.chunks(n).zip(want.chunks_mut(n)).zip(marks.chunks_mut(n)) {
                reference::exchange(&h, t, w, d, (of, 3));
            }
        }
        assert_eq!(dropped, marks, "{rows} x {n}, {keep}:{of}");
        assert!(weight.iter().zip(&want).all(|(&a, &b)| (f64::from(a) - b).abs() < 2e-3));
    }
}

#[test]
fn patterns_that_are_too_many_are_exchanged() {
    let (rows, n) = (5, 64);
    let (h, target) = problem(rows, n);
    let (start, dropped) = by_magnitude(&target, 8, 16);
    let objective = Objective::new(h);
    let made = [Choice::Keep { keep: 8, of: 16 }, Choice::AsMany { of: 16 }].map(|choice| {
        let (mut weight, mut marks) = (start.clone(), dropped.clone());
        descend(&objective, &target, (&mut weight, &mut marks), choice, 2, Precision::F32);
        (weight, marks)
    });
    assert_eq!(made[0], made[1]);
}

#[test]
fn descent_and_steps_together_lose_less_than_descent_alone() {
    let (rows, n) = (60, 64);
    let (h, target) = problem(rows, n);
    let objective = Objective::new(h);
    let (mut weight, mut dropped) = by_magnitude(&target, 2, 4);
    let work = Refine { descent: Some((Choice::Keep { keep: 2, of: 4 }, 2)), steps: 6 };
    let errors = refine(&objective, &target, (&mut weight, &mut dropped), work, Precision::F32);
    assert!(errors.after < errors.between && errors.between < errors.before, "{errors:?}");
    assert!(near(errors.after, objective.error(&target, &weight), 1e-5));
    assert!(weight.iter().zip(&dropped).all(|(w, d)| *d == 0 || *w == 0.0));
    assert!(dropped.chunks(4).all(|d| d.iter().filter(|&&d| d == 1).count() == 2));
}

#[test]
fn a_dead_group_keeps_its_pattern_of_zeros() {
    let (rows, n) = (2, 8);
    let (mut h, mut target) = problem(rows, n);
    for j in 0..4 {
        for i in 0..n {
            (h[i * n + j], h[j * n + i]) = (0.0, 0.0);
        }
        h[j * n + j] = 1.0;
    }
    target.chunks_mut(n).for_each(|row| row[..4].fill(0.0));
    let (mut weight, mut dropped) = by_magnitude(&target, 2, 4);
    let choice = Choice::Keep { keep: 2, of: 4 };
    descend(&Objective::new(h), &target, (&mut weight, &mut dropped), choice, 3, Precision::F32);
    for (w, d) in weight.chunks(4).zip(dropped.chunks(4)) {
        assert_eq!(d.iter().filter(|&&d| d == 0).count(), 2, "{w:?} {d:?}");
    }
}

#[test]
fn alternating_masks_are_near_those_of_the_definition_and_better_than_magnitudes() {
    let (rows, n) = (40, 48);
    let (h, target) = problem(rows, n);
    let objective = Objective::new(h.clone());
    for removal in [Removal::Total(rows * n / 2), Removal::Groups { n: 2, of: 4 }] {
        let settings = Admm::default();
        let (weight, dropped) = alternate(&objective, &target, removal, settings).unwrap();
        assert_eq!(dropped.iter().filter(|&&d| d == 1).count(), rows * n / 2);
        assert!(weight.iter().zip(&dropped).all(|(w, d)| *d == 0 || *w == 0.0));
        let want = reference::alternate(&h, &target, removal, settings);
        let other = dropped.iter().zip(&want).filter(|(a, b)| a != b).count();
        assert!(other * 50 < dropped.len(), "{other} of {} marks differ", dropped.len());
        let fitted = |dropped: &[u8]| {
            let mut weight = target.clone();
            weight.iter_mut().zip(dropped).filter(|(_, d)| **d == 1).for_each(|(w, _)| *w = 0.0);
            least_squares(&objective, &target, &mut weight, dropped, 30, Precision::F32).after
        };
        let (of, keep) = if let Removal::Groups { .. } = removal { (4, 2) } else { (target.len(), target.len() / 2) };
        let (plain, ours) = (fitted(&by_magnitude(&target, keep, of).1), fitted(&dropped));
        assert!(ours < 0.9 * plain, "{removal:?}: {ours} against {plain}");
        if let Removal::Groups { .. } = removal {
            assert!(dropped.chunks(4).all(|d| d.iter().filter(|&&d| d == 1).count() == 2));
        }
    }
    let mut indefinite = h;
    indefinite[1] = 1e3;
    indefinite[n] = 1e3;
    let failed = alternate(&Objective::new(indefinite), &target, Removal::Total(5), Admm::default());
    assert!(matches!(failed, Err(admm::Failed::NotPositive(_))));
}

#[test]
fn threads_make_no_difference() {
    let (rows, n) = (150, 140);
    let (h, target) = problem(rows, n);
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let objective = Objective::new(h.clone());
            let (mut weight, mut dropped) =
                alternate(&objective, &target, Removal::Groups { n: 2, of: 4 }, Admm::default()).unwrap();
            let choice = Choice::Keep { keep: 2, of: 4 };
            descend(&objective, &target, (&mut weight, &mut dropped), choice, 2, Precision::F32);
            let errors = least_squares(&objective, &target, &mut weight, &dropped, 5, Precision::Bf16);
            let total = alternate(&objective, &target, Removal::Total(rows * n / 3), Admm::default()).unwrap();
            (weight, dropped, errors, total)
        })
    };
    let one = run(1);
    assert!([2, 5].into_iter().all(|threads| run(threads) == one));
}
