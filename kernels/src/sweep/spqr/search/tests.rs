//! The purpose of the search: a lower weighted error.

use crate::sweep::Search;
use crate::sweep::spqr::tests::rules;
use crate::sweep::spqr::{Rule, flat, sweep};
use crate::sweep::tests::{problem, random};

/// Σ h (q − w)².
fn loss(weight: &[f32], made: &[f32], h: &[f32]) -> f64 {
    let off = |(i, (w, q)): (usize, (&f32, &f32))| f64::from(h[i % h.len()]) * f64::from(w - q).powi(2);
    weight.iter().zip(made).enumerate().map(off).sum()
}

/// Most where statistics are coded again.
#[test]
fn the_weighted_error_falls() {
    let (rows, cols) = (96, 64);
    let (weight, _, u) = problem(rows, cols);
    let mut next = random(5);
    let h: Vec<f32> = (0..cols).map(|_| 0.1 + next().abs() * 3.0).collect();
    for rule in rules().into_iter().filter(|rule| rule.search == Search::Weighted && rule.keep_last == 0) {
        let plain = Rule { search: Search::MinMax, ..rule };
        let is_coded = rule.second.scale_bits.is_some() && rule.zero_bits().is_some() && rule.bits == 3;
        let most = if is_coded { 0.9 } else { 1.01 };
        let lost = |rule: Rule<'_>| loss(&weight, &flat(weight.clone(), cols, 32, &rule).weight, &h);
        let alone = |rule| Rule { threshold: None, importance: Some(&h), ..rule };
        let (found, usual) = (lost(alone(rule)), lost(alone(plain)));
        assert!(found <= most * usual, "{found} of {usual}: {rule:?}");
        // The importance is what counts.
        let even = lost(Rule { importance: None, ..alone(rule) });
        assert!(found < even, "{found} of {even}: {rule:?}");
        if rule.threshold.is_some_and(|threshold| threshold < 0.001) {
            // All weights stay exact, but for what 16 bits make of a sum.
            continue;
        }
        let lost = |rule| {
            let made = sweep(weight.clone(), cols, 32, &u, &rule);
            let kept = made.outliers.iter().filter(|&&kept| kept == 1).count();
            made.loss + f64::from(rule.threshold.unwrap_or(0.0)) * kept as f64
        };
        let (found, usual) = (lost(rule), lost(plain));
        assert!(found <= 1.02 * usual, "{found} of {usual} in the sweep: {rule:?}");
    }
}
