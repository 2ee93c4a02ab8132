//! Masks that are searched, and weights that are fitted under them.

use paring_format::Dtype;
use paring_kernels::matmul::Precision;
use serde_json::json;

use super::super::published::recipe as published;
use crate::methods::{Outcome, Stored};
use crate::pipeline::stats::Stats;
use crate::plan::{ActOrder, MaskSearch, Pattern, Recipe, Rounding, Search};

pub(super) const ROWS: usize = 50;
pub(super) const COLS: usize = 64;

pub(super) fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A Gram matrix of inputs that depend on each other; feature 3 is always zero.
pub(super) fn gram() -> Vec<f32> {
    let tokens = 3 * COLS;
    let x = values(tokens * COLS, 7);
    let at = |t: usize, j: usize| match j {
        3 => 0.0,
        _ => x[t * COLS + j] + 0.6 * x[t * COLS + (j + 1) % COLS] + 0.4 * x[t * COLS],
    };
    let sum = |i: usize, j: usize| (0..tokens).map(|t| at(t, i) * at(t, j)).sum::<f32>() / tokens as f32;
    (0..COLS * COLS).map(|k| sum(k / COLS, k % COLS)).collect()
}

pub(super) fn made(recipe: &Recipe, weight: &[f32], stored: Dtype) -> Outcome {
    recipe.check().unwrap();
    let stats = Stats::Gram(gram().into());
    let prepared = recipe.prepare(Some(&stats), Some(weight), "module").unwrap();
    recipe.compress(weight, COLS, &prepared, Stored::plain(stored), "module").unwrap()
}

/// tr(ΔW·H·ΔWᵀ) by its definition.
pub(super) fn error(weight: &[f32], made: &[f32]) -> f64 {
    let h = gram();
    let row = |(a, b): (&[f32], &[f32])| -> f64 {
        let d: Vec<f64> = a.iter().zip(b).map(|(a, b)| f64::from(a - b)).collect();
        (0..COLS * COLS).map(|k| d[k / COLS] * f64::from(h[k]) * d[k % COLS]).sum()
    };
    weight.chunks(COLS).zip(made.chunks(COLS)).map(row).sum()
}

fn pattern() -> Pattern {
    Pattern::NofM { keep: 2, of: 4 }
}

#[test]
fn searched_masks_lose_less_and_keep_their_pattern() {
    let weight = values(ROWS * COLS, 3);
    for (pattern, mask) in [
        (pattern(), MaskSearch::Descent),
        (pattern(), MaskSearch::Admm),
        (Pattern::Unstructured(0.5), MaskSearch::Descent),
        (Pattern::Unstructured(0.5), MaskSearch::Admm),
    ] {
        let base =
            Recipe { pattern: Some(pattern), blocksize: 32, ..published(&json!({"algo": "sparsegpt"})).unwrap() };
        let plain = made(&base, &weight, Dtype::Bf16);
        let searched = made(&Recipe { mask, refit: true, ..base }, &weight, Dtype::Bf16);
        let (before, after) = (error(&weight, plain.dense()), error(&weight, searched.dense()));
        assert!(after < 0.95 * before, "{pattern} {mask}: {before} became {after}");
        let distortion = searched.distortion.unwrap();
        assert!((distortion / after - 1.0).abs() < 1e-2, "{distortion} and not {after}");
        assert!(searched.changes.iter().all(|change| change.after <= change.before), "{:?}", searched.changes);
        let [first, last] = [searched.changes.first().unwrap(), searched.changes.last().unwrap()];
        assert!((first.before / last.after - 1.0) > 0.03, "{:?}", searched.changes);
        assert!(searched.dense().iter().all(|&w| Precision::Bf16.round(w) == w));
        assert!(searched.dense().iter().zip(&searched.dropped).all(|(w, d)| *d == 0 || *w == 0.0));
        let zeros = |outcome: &Outcome| outcome.dense().iter().filter(|&&w| w == 0.0).count();
        assert!(zeros(&searched) >= ROWS * COLS / 2 && zeros(&searched) <= zeros(&plain) + ROWS);
        if pattern.group().is_some() {
            assert!(searched.dropped.chunks(4).all(|d| d.iter().filter(|&&d| d == 1).count() == 2));
        }
    }
}

#[test]
fn any_mask_can_be_fitted() {
    let weight = values(ROWS * COLS, 5);
    for method in ["wanda", "magnitude", "sparsegpt"] {
        for pattern in [pattern(), Pattern::Unstructured(0.5)] {
            let base = Recipe { pattern: Some(pattern), ..published(&json!({"algo": method})).unwrap() };
            let plain = made(&base, &weight, Dtype::F32);
            let fitted = made(&Recipe { refit: true, ..base }, &weight, Dtype::F32);
            assert_eq!(plain.dropped, fitted.dropped);
            let (before, after) = (error(&weight, plain.dense()), error(&weight, fitted.dense()));
            assert!(after < before, "{method} {pattern}: {before} became {after}");
            assert_eq!(fitted.changes.len(), 1);
            assert!(fitted.distortion.is_some());
        }
    }
}

#[test]
fn masks_are_searched_before_weights_are_rounded() {
    let weight = values(ROWS * COLS, 9);
    for act_order in [ActOrder::None, ActOrder::Static] {
        let rounding = Some(Rounding { act_order, ..Rounding::int(4, Some(16)) });
        let base = published(&json!({"algo": "sparsegpt"})).unwrap();
        let base = Recipe { pattern: Some(pattern()), rounding, blocksize: 32, ..base };
        let plain = made(&base, &weight, Dtype::F32);
        let recipe = Recipe { mask: MaskSearch::Descent, refit: true, ..base };
        let searched = made(&recipe, &weight, Dtype::F32);
        let (before, after) = (error(&weight, plain.dense()), error(&weight, searched.dense()));
        assert!(after < before, "{before} became {after}");
        assert!((searched.distortion.unwrap() / after - 1.0).abs() < 1e-2);
        for made in [&plain, &searched] {
            let zeros = |group: &[f32]| group.iter().filter(|&&w| w == 0.0).count();
            assert!(made.dense().chunks(4).all(|group| zeros(group) >= 2), "{act_order:?}");
            assert_eq!(made.codes().len(), weight.len());
        }
        // What the search of scales changed is said beside that of the mask.
        let weighted = rounding.map(|rounding| Rounding { search: Search::Weighted, static_groups: true, ..rounding });
        let weighted = made(&Recipe { rounding: weighted, ..recipe }, &weight, Dtype::F32);
        let steps: Vec<&str> = weighted.changes.iter().map(|change| change.step).collect();
        assert_eq!(steps, ["descent", "refit", "scales"]);
    }
}

#[test]
fn what_does_not_go_together_is_said() {
    let recipe = |algo: &str| published(&json!({"algo": algo, "bits": 4})).unwrap();
    let gptq = Recipe { refit: true, ..recipe("gptq") };
    let wanda = published(&json!({"algo": "wanda"})).unwrap();
    let wanda = Recipe { pattern: Some(pattern()), mask: MaskSearch::Admm, ..wanda };
    let grouped = Rounding { act_order: ActOrder::Group, ..Rounding::int(4, Some(16)) };
    let grouped = Recipe { pattern: Some(pattern()), rounding: Some(grouped), ..recipe("sparsegpt") };
    for (recipe, words) in
        [(gptq, "nothing is removed"), (wanda, "wanda has its own"), (grouped, "cannot be combined with pruning")]
    {
        let text = recipe.check().unwrap_err().to_string();
        assert!(text.contains(words) && text.lines().count() == 1, "{text}");
    }
}
