//! Dead inputs, orders of visit, damping and distortion.

use super::*;
use crate::plan::Pattern;
use crate::plan::method::SPARSEGPT;

fn sparsegpt(percdamp: f64) -> Recipe {
    let pattern = Some(Pattern::NofM { keep: 1, of: 2 });
    Recipe { pattern, percdamp, ..Recipe::new(&SPARSEGPT) }
}

/// Eigenvalues 1 ± `off`: positive definite once more than `off` − 1 is added to the diagonal, whose mean is 1.
fn indefinite(off: f32) -> Stats {
    Stats::Gram(vec![1.0, off, off, 1.0].into())
}

#[test]
fn damping_is_raised_tenfold_three_times_and_no_more() {
    for (off, percdamp, want) in [(0.5, 0.01, 0.01), (1.05, 0.01, 0.1), (1.5, 0.01, 1.0), (9.0, 0.01, 10.0)] {
        let prepared = sparsegpt(percdamp).prepare(Some(&indefinite(off)), None, "layer").unwrap();
        assert!((prepared.damp().unwrap() / want - 1.0).abs() < 1e-12, "{off}: {:?}", prepared.damp());
    }
    let error = sparsegpt(0.01).prepare(Some(&indefinite(20.0)), None, "model.layers.3.mlp.down_proj").unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("model.layers.3.mlp.down_proj: ") && text.contains("damping 10"), "{text}");
}

#[test]
fn no_damping_at_all_is_raised_too() {
    let prepared = sparsegpt(0.0).prepare(Some(&indefinite(1.0)), None, "layer").unwrap();
    assert_eq!(prepared.damp(), Some(1e-3));
}

#[test]
fn a_factor_that_needed_f64_is_told() {
    // A 2 × 2 block whose determinant is one unit in the last place, in a matrix beyond those that are f64 at once.
    let n = 520;
    let mut gram = vec![0f32; n * n];
    (0..n).for_each(|i| gram[i * (n + 1)] = 1.0);
    let (i, j) = (n - 2, n - 1);
    (gram[i * n + j], gram[j * n + i], gram[j * n + j]) = (1.0, 1.0, 1.0 + f32::EPSILON);
    let prepared = sparsegpt(0.0).prepare(Some(&Stats::Gram(gram.into())), None, "layer").unwrap();
    let told = "the Gram matrix was factored in f64, because in f32 pivot 518 was not positive";
    assert_eq!((prepared.damp(), prepared.repairs()), (Some(0.0), vec![told.to_string()]));
    let repairs = |off| sparsegpt(0.01).prepare(Some(&indefinite(off)), None, "layer").unwrap().repairs();
    assert!(repairs(0.5).is_empty());
    assert_eq!(repairs(1.05), ["the Gram matrix was singular with damping 0.01, so 0.1 was used"]);
}

#[test]
fn dead_columns_are_counted_and_cleared() {
    let stats = Stats::Gram(vec![2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0].into());
    let prepared = sparsegpt(0.01).prepare(Some(&stats), None, "layer").unwrap();
    assert_eq!(prepared.dead(), 1);
    let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let want = [1.0, 0.0, 3.0, 4.0, 0.0, 6.0];
    assert_eq!(prepared.cleared(&weight, 3), want.as_slice());
    assert_eq!(prepared.visited(weight.as_slice().into(), 3), want);
}

#[test]
fn statistics_that_are_not_finite_are_an_error() {
    let error = sparsegpt(0.01).prepare(Some(&indefinite(f32::NAN)), None, "layer").unwrap_err();
    assert!(error.to_string().starts_with("layer: "), "{error}");
}
