//! Masks that are given, and masks that are all that is taken.

use paring_format::Dtype;

use super::masks::{COLS, ROWS, error, gram, made, values};
use crate::methods::{Matrix, Outcome, Stored};
use crate::pipeline::stats::Stats;
use crate::plan::method::{GPTQ, MAGNITUDE, RTN, SPARSEGPT, WANDA};
use crate::plan::{ActOrder, MaskSearch, Pattern, Recipe, Rounding};

/// The outcome of a recipe for a matrix under marks of the weights that go.
fn under(recipe: &Recipe, weight: &[f32], marks: &[u8], stored: Dtype) -> Outcome {
    recipe.check().unwrap();
    let stats = Stats::Gram(gram().into());
    let prepared = recipe.prepare(Some(&stats), Some(weight), "module").unwrap();
    let matrix = Matrix::new(weight, Stored::plain(stored), "module").under(Some(marks));
    recipe.compress_all(vec![matrix], COLS, &prepared).unwrap().remove(0)
}

/// Every third weight, and none of the first row.
fn thirds() -> Vec<u8> {
    (0..ROWS * COLS).map(|i| u8::from(i >= COLS && i % 3 == 1)).collect()
}

#[test]
fn a_sweep_under_its_own_mask_is_the_same_sweep() {
    let weight = values(ROWS * COLS, 11);
    for pattern in [Pattern::NofM { keep: 2, of: 4 }, Pattern::Unstructured(0.6)] {
        for stored in [Dtype::F32, Dtype::Bf16] {
            let found = Recipe { pattern: Some(pattern), blocksize: 32, ..Recipe::new(&SPARSEGPT) };
            let weight: Vec<f32> = weight.iter().map(|&w| stored.round(w)).collect();
            let want = made(&found, &weight, stored);
            let given = Recipe { pattern: Some(Pattern::Given), ..found };
            let got = under(&given, &weight, &want.dropped, stored);
            // Bit for bit: the mask is all that it has to know.
            assert!(got.dense() == want.dense() && got.dropped == want.dropped, "{pattern} {stored}");
            assert_eq!((got.loss, got.distortion), (want.loss, want.distortion));
        }
    }
}

#[test]
fn masks_that_are_given_are_kept_exactly() {
    let (weight, marks) = (values(ROWS * COLS, 12), thirds());
    let plain: Vec<f32> = weight.iter().zip(&marks).map(|(&w, &mark)| if mark == 1 { 0.0 } else { w }).collect();
    let given = |method| Recipe { pattern: Some(Pattern::Given), ..Recipe::new(method) };
    for method in [&MAGNITUDE, &WANDA] {
        assert_eq!(under(&given(method), &weight, &marks, Dtype::F32).dense(), plain, "{method}");
        // No statistics are needed for that.
        let prepared = given(method).prepare(None, None, "module").unwrap();
        let matrix = Matrix::new(&weight, Stored::plain(Dtype::F32), "module").under(Some(&marks));
        assert_eq!(given(method).compress_all(vec![matrix], COLS, &prepared).unwrap()[0].dense(), plain, "{method}");
    }
    let rounding = Rounding { act_order: ActOrder::Static, ..Rounding::int(4, Some(16)) };
    let lost = |outcome: &Outcome| error(&weight, outcome.dense());
    let bare = error(&weight, &plain);
    // A sweep clears the weights of the feature that is always zero; least squares alone leave them.
    let dropped: Vec<u8> = marks.iter().enumerate().map(|(i, &mark)| mark | u8::from(i % COLS == 3)).collect();
    for (recipe, most) in [
        (given(&SPARSEGPT), bare),
        (Recipe { refit: true, ..given(&SPARSEGPT) }, bare),
        (Recipe { refit: true, ..given(&MAGNITUDE) }, bare),
        (Recipe { rounding: Some(rounding), ..given(&SPARSEGPT) }, bare),
        (Recipe { rounding: Some(rounding), refit: true, ..given(&SPARSEGPT) }, bare),
        (Recipe { rounding: Some(rounding), ..Recipe::new(&GPTQ) }, bare),
    ] {
        let made = under(&recipe, &weight, &marks, Dtype::F32);
        let zeros = made.dense().iter().zip(&marks).filter(|(w, mark)| **mark == 1 && **w != 0.0).count();
        let want = if recipe.method.name == MAGNITUDE.name { &marks } else { &dropped };
        assert!(zeros == 0 && made.dropped == *want, "{recipe:?}: {zeros} weights");
        assert!(lost(&made) < most, "{recipe:?}: {} of {most}", lost(&made));
        // What the sweep says is the error that it has (sums in f32).
        let told = made.distortion.unwrap();
        assert!((told / lost(&made) - 1.0).abs() < 2e-3, "{recipe:?}: {told} {}", lost(&made));
    }
    // Grids are fitted to what stays: a weight that goes may be as large as it likes.
    let mut tall = weight.clone();
    tall.iter_mut().zip(&marks).filter(|(_, mark)| **mark == 1).for_each(|(w, _)| *w *= 1e3);
    let nearest = Recipe { rounding: Some(Rounding::int(4, Some(16))), ..Recipe::new(&RTN) };
    assert_eq!(
        under(&nearest, &tall, &marks, Dtype::F32).dense(),
        under(&nearest, &weight, &marks, Dtype::F32).dense()
    );
    // A recipe whose masks are given does not find its own.
    let prepared = given(&MAGNITUDE).prepare(None, None, "module").unwrap();
    let error = given(&MAGNITUDE).compress(&weight, COLS, &prepared, Stored::plain(Dtype::F32), "module");
    assert!(error.err().unwrap().to_string().starts_with("module: no mask of its shape is given"));
}

#[test]
fn of_a_mask_alone_the_weights_stay() {
    let weight: Vec<f32> = values(ROWS * COLS, 13).iter().map(|&w| Dtype::Bf16.round(w)).collect();
    for (mask, refit, pattern) in [
        (MaskSearch::SparseGpt, false, Pattern::NofM { keep: 2, of: 4 }),
        (MaskSearch::Descent, true, Pattern::NofM { keep: 2, of: 4 }),
        (MaskSearch::Admm, true, Pattern::Unstructured(0.6)),
    ] {
        let whole = Recipe { pattern: Some(pattern), mask, refit, ..Recipe::new(&SPARSEGPT) };
        let plain = made(&whole, &weight, Dtype::Bf16);
        let only = made(&Recipe { mask_only: true, ..whole }, &weight, Dtype::Bf16);
        assert_eq!(only.dropped, plain.dropped);
        for ((only, plain), w) in only.dense().iter().zip(plain.dense()).zip(&weight) {
            assert_eq!(only.to_bits(), if *plain == 0.0 { plain.to_bits() } else { w.to_bits() });
        }
        // The sums of the sweep are not of these weights.
        assert!(only.told_distortion().is_none() && only.changes.is_empty());
        assert!(error(&weight, only.dense()) > error(&weight, plain.dense()));
    }
}
