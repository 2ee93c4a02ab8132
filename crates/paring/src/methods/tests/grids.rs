//! Files decode to the sweep's result, bit for bit, for every element, every way to share scales, every method.

use paring_format::layouts::layout;
use paring_format::{Dtype, Element, Grid, ScaleType, Scheme, Values};
use paring_kernels::sweep::largest;
use paring_model::LinearInfo;
use serde_json::json;

use super::golden;
use crate::methods::{Outcome, Stored, shared_amax};
use crate::pipeline::stats::Stats;
use crate::plan::{ActOrder, Grouping, Pattern, Recipe, Rounding, Search};

const ROWS: usize = 11;
const COLS: usize = 96;

fn random(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Inputs with neighbours that go together, and one that is always zero.
fn gram() -> Vec<f32> {
    let mut next = random(3);
    let mut h = vec![0f32; COLS * COLS];
    for _ in 0..2 * COLS {
        let x: Vec<f32> = (0..COLS).map(|_| next()).collect();
        let x: Vec<f32> = (0..COLS).map(|j| if j == 7 { 0.0 } else { x[j] + x[(j + 1) % COLS] }).collect();
        (0..COLS * COLS).for_each(|at| h[at] += x[at / COLS] * x[at % COLS]);
    }
    h
}

/// Every element with every way to share its scales.
fn roundings() -> Vec<Rounding> {
    let mut all = Vec::new();
    for element in [Element::Int(3), Element::Int(8), Element::E4m3] {
        for grouping in [Grouping::Matrix, Grouping::Row, Grouping::Columns(16), Grouping::Tile(4, 36)] {
            for symmetric in [true, false] {
                if symmetric || element != Element::E4m3 {
                    all.push(Rounding { element, grouping, symmetric, ..Rounding::int(8, None) });
                }
            }
        }
    }
    for element in [Element::E4m3, Element::E2m3, Element::E2m1] {
        all.push(Rounding { element, scale_type: ScaleType::Exponent, symmetric: true, ..Rounding::int(8, Some(32)) });
    }
    let (grouping, scale_type) = (Grouping::Columns(16), ScaleType::E4m3);
    all.push(Rounding { element: Element::E2m1, grouping, scale_type, symmetric: true, ..Rounding::int(4, None) });
    all
}

/// The layout of compressed-tensors that such codes go to, if there is one.
fn format_of(r: &Rounding) -> Option<&'static str> {
    match (r.element, r.scale_type, r.grouping) {
        _ if r.act_order == ActOrder::Group && r.group_size().is_some() => None,
        (Element::Int(_), _, Grouping::Tile(..)) => None,
        (Element::Int(_), ..) => Some("pack-quantized"),
        (_, ScaleType::Float, _) => Some("float-quantized"),
        (Element::E4m3, ..) => Some("mxfp8-quantized"),
        (Element::E2m3, ..) => Some("mxfp6-pack-quantized"),
        (_, ScaleType::Exponent, _) => Some("mxfp4-pack-quantized"),
        (_, ScaleType::E4m3, _) => Some("nvfp4-pack-quantized"),
    }
}

fn grid(made: &Outcome) -> &Grid {
    let Values::Codes { grid, .. } = &made.compressed.values else { panic!("no codes") };
    grid
}

#[test]
fn what_is_stored_is_what_the_sweep_left() {
    let stats = Stats::Gram(gram().into());
    let base = |method: &str| golden::recipe(&json!({"algo": method, "blocksize": 32}));
    let mut count = 0;
    for rounding in roundings() {
        let mut variants = vec![rounding, Rounding { search: Search::Mse, static_groups: true, ..rounding }];
        variants.push(Rounding { act_order: ActOrder::Static, ..rounding });
        variants.push(Rounding { act_order: ActOrder::Group, ..rounding });
        for (method, pattern) in [
            ("rtn", None),
            ("gptq", None),
            ("sparsegpt", Some(Pattern::NofM { keep: 2, of: 4 })),
            ("sparsegpt", Some(Pattern::Unstructured(0.5))),
        ] {
            for rounding in &variants {
                let recipe = Recipe { pattern, rounding: Some(*rounding), ..base(method) };
                // The same choices that the program refuses.
                if recipe.check().is_err() {
                    assert!(rounding.act_order != ActOrder::None, "{:?}", recipe.check());
                    continue;
                }
                for (i, dtype) in [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().enumerate() {
                    let name = format!("{method} {pattern:?} {rounding:?} {dtype}");
                    let mut next = random(i as u64 + 20);
                    // A model that was pruned, when this recipe does not prune.
                    let mut weight: Vec<f32> = (0..ROWS * COLS).map(|_| dtype.round(0.1 * next())).collect();
                    if pattern.is_none() {
                        weight.iter_mut().step_by(3).for_each(|w| *w = 0.0);
                        weight[2 * COLS..3 * COLS].fill(-0.0);
                    }
                    recipe.check_cols(&name, COLS).unwrap();
                    let prepared = recipe.prepare(Some(&stats), None, &name).unwrap();
                    let made = recipe.compress(&weight, COLS, &prepared, Stored::plain(dtype), &name).unwrap();
                    check(&name, &made, rounding, dtype);
                    if pattern.is_none() {
                        let kept = weight.iter().zip(made.dense()).filter(|(w, _)| **w == 0.0);
                        assert!(
                            kept.clone().count() > 300 && kept.into_iter().all(|(_, v)| v.to_bits() == 0),
                            "{name}"
                        );
                    }
                    count += 1;
                }
            }
        }
    }
    assert!(count > 600, "{count}");
}

fn check(name: &str, made: &Outcome, rounding: &Rounding, dtype: Dtype) {
    let c = &made.compressed;
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&c.to_dense()), bits(made.dense()), "{name}");
    assert_eq!(c.dtype, rounding.dequantized(dtype), "{name}");
    let grid = grid(made);
    assert_eq!(grid.tile, rounding.tile(ROWS, COLS), "{name}");
    assert_eq!(made.scales.len(), ROWS * grid.groups(COLS), "{name}");
    for (dropped, (code, value)) in made.dropped.iter().zip(made.codes().iter().zip(made.dense())) {
        let zero = rounding.element.int_bits().is_some() || *code == 0;
        assert!(*dropped == 0 || (value.to_bits() == 0 && zero), "{name}");
    }
    // No number is lost, and errors are of the size of a step.
    assert!(made.dense().iter().all(|v| v.is_finite()) && made.dense().iter().any(|v| *v != 0.0), "{name}");
    if let Some(format) = format_of(rounding) {
        let layout = layout(format).unwrap();
        let scheme = Scheme::of(c, format, vec!["Linear".into()]);
        let parts = layout.encode(&scheme, c).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(&layout.decode(&scheme, parts).unwrap(), c, "{name}");
    }
}

/// Errors move to later columns on grids of every kind: the layer's error is lower than that of rounding to nearest.
#[test]
fn the_sweep_makes_up_for_errors_on_every_grid() {
    let stats = Stats::Gram(gram().into());
    let mut next = random(77);
    let weight: Vec<f32> = (0..ROWS * COLS).map(|_| 0.1 * next()).collect();
    let h = gram();
    for rounding in roundings() {
        let loss = |method: &str| {
            let recipe = Recipe { rounding: Some(rounding), ..golden::recipe(&json!({"algo": method})) };
            let prepared = recipe.prepare(Some(&stats), None, "layer").unwrap();
            let made = recipe.compress(&weight, COLS, &prepared, Stored::plain(Dtype::Bf16), "layer").unwrap();
            let change: Vec<f64> =
                made.dense().iter().zip(&weight).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect();
            golden::loss(&change, &h, COLS)
        };
        let (nearest, swept) = (loss("rtn"), loss("gptq"));
        assert!(swept < 0.9 * nearest, "{swept} {nearest} {rounding:?}");
    }
}

#[test]
fn linears_that_run_as_one_share_a_global_scale() {
    let four = roundings().pop().unwrap();
    let recipe = Recipe { rounding: Some(four), ..golden::recipe(&json!({"algo": "rtn"})) };
    let sets = [Some(0), Some(0), Some(0), None, Some(1), Some(1), None];
    let linear = |fused| LinearInfo { name: "a.proj".to_string(), rows: 2, cols: 16, fan: 0, fused };
    let linears = sets.map(linear);
    let weights: Vec<Vec<f32>> = (0..sets.len()).map(|i| [0.5, -1.0 - i as f32, 0.25, 0.0].repeat(8)).collect();
    let shared = |recipe: &Recipe| {
        let all: Vec<_> = (0..sets.len()).map(|i| (&linears[i], recipe, weights[i].as_slice())).collect();
        shared_amax(&all)
    };
    let amax = shared(&recipe);
    assert_eq!(amax, [Some(3.0), Some(3.0), Some(3.0), None, Some(6.0), Some(6.0), None]);
    let prepared = recipe.prepare(None, None, "layer").unwrap();
    let global = |(weight, amax): (&Vec<f32>, &Option<f32>)| {
        let stored = Stored { amax: *amax, ..Stored::plain(Dtype::Bf16) };
        grid(&recipe.compress(weight, 16, &prepared, stored, "layer").unwrap()).global
    };
    let globals: Vec<Option<f32>> = weights.iter().zip(&amax).map(global).collect();
    let own = |weight: &[f32]| Some(Dtype::Bf16.round(2688.0 / largest(weight)));
    let want = [2, 2, 2, 3, 5, 5, 6].map(|i: usize| own(&weights[i]));
    assert_eq!(globals, want);
    // Grids without a global scale have nothing to share.
    let plain = Recipe { rounding: Some(Rounding::int(4, None)), ..recipe };
    assert!(shared(&plain).iter().all(Option::is_none));
}

#[test]
fn columns_that_do_not_fill_their_groups_are_named() {
    for rounding in roundings() {
        let recipe = Recipe { rounding: Some(rounding), ..golden::recipe(&json!({"algo": "gptq"})) };
        let refused = recipe.check_cols("model.layers.0.mlp.up_proj", 41);
        match rounding.group_size() {
            None => refused.unwrap(),
            Some(size) => {
                let text = refused.unwrap_err().to_string();
                assert!(text.contains("model.layers.0.mlp.up_proj") && text.contains("41 columns"), "{text}");
                assert!(text.contains(&size.to_string()) && text.lines().count() == 1, "{text}");
            }
        }
    }
}

#[test]
fn spqr_rounds_to_integers_in_rows() {
    let spqr = golden::recipe(&json!({"algo": "spqr", "bits": 3, "groupsize": 16}));
    for rounding in roundings() {
        let checked = Recipe { rounding: Some(rounding), ..spqr.clone() }.check();
        let rows = rounding.in_rows();
        match rounding.element {
            Element::Int(_) if rows => checked.unwrap(),
            _ => assert!(checked.unwrap_err().to_string().starts_with("spqr rounds to integers"), "{rounding:?}"),
        }
    }
}
