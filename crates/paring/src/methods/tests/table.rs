//! Every row of the table of methods compresses: a new one is run here before it has golden data.

use paring_format::{Dtype, Values};
use serde_json::json;

use super::golden;
use crate::methods::{Matrix, Stored};
use crate::pipeline::stats::Stats;
use crate::plan::{Curvature, METHODS, Pattern, Recipe, Rounding};

const ROWS: usize = 8;
const COLS: usize = 32;

/// Recipes that a method may get: a share or a pattern to remove, and bits.
fn recipes() -> Vec<Recipe> {
    let mut all = Vec::new();
    for method in METHODS {
        let patterns: &[Option<Pattern>] = match method.drops {
            true => &[Some(Pattern::Unstructured(0.5)), Some(Pattern::NofM { keep: 2, of: 4 })],
            false => &[None],
        };
        for &pattern in patterns {
            for rounds in [false, true].into_iter().filter(|&rounds| if rounds { method.rounds } else { method.drops })
            {
                let rounding = rounds.then(|| Rounding::int(4, Some(16)));
                let base = golden::recipe(&json!({"algo": method.name, "blocksize": 16}));
                all.push(Recipe { pattern, rounding, ..base });
            }
        }
    }
    all
}

#[test]
fn every_row_compresses() {
    let weight: Vec<f32> = (0..ROWS * COLS).map(|i| ((i * 37 + 11) % 257) as f32 / 128.0 - 1.003).collect();
    let gram: Vec<f32> = (0..COLS * COLS).map(|i| if i % (COLS + 1) == 0 { 4.0 } else { 1.0 }).collect();
    for recipe in recipes() {
        let name = format!("{} {:?} {:?}", recipe.method, recipe.pattern, recipe.rounding);
        recipe.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        let stats = match recipe.method.curvature {
            Curvature::Flat => None,
            Curvature::Diagonal => Some(Stats::Norms(vec![2.0; COLS])),
            Curvature::Full => Some(Stats::Gram(gram.clone().into())),
        };
        // A method that needs data says so, and the others do without.
        let unprepared = recipe.prepare(None, Some(&weight), "layer").err().map(|error| error.to_string());
        assert_eq!(unprepared.is_some_and(|e| e.contains(recipe.method.name)), recipe.method.needs_data(), "{name}");
        let prepared = recipe.prepare(stats.as_ref(), Some(&weight), "layer").unwrap();
        let made = recipe.compress(&weight, COLS, &prepared, Stored::plain(Dtype::F32), "layer").unwrap();
        assert!(made.dense().iter().all(|w| w.is_finite()), "{name}");
        let dropped = made.dropped.iter().filter(|&&d| d == 1).count();
        // The published codes remove the weight at the threshold too: one more in each slice.
        let more = if matches!(recipe.pattern, Some(Pattern::Unstructured(_))) { COLS / 16 } else { 0 };
        let half = if recipe.pattern.is_some() { ROWS * COLS / 2 } else { 0 };
        assert!((half..=half + more).contains(&dropped), "{name}: {dropped}");
        assert_eq!(matches!(made.compressed.values, Values::Dense(_)), recipe.rounding.is_none(), "{name}");
        assert_eq!(matches!(made.compressed.values, Values::Spqr(_)), recipe.method.spqr, "{name}");
        assert_eq!(made.compressed.to_dense(), made.dense(), "{name}");
        let matrix = Matrix::new(&weight, Stored::plain(Dtype::F32), "layer");
        let baseline = recipe.compress_baseline(&matrix, COLS, &prepared).unwrap();
        assert_eq!(baseline.is_some(), recipe.baseline().is_some(), "{name}");
    }
}
