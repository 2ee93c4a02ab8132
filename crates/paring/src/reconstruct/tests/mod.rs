//! Blocks that train: against torch, and what a reconstruction promises.

mod golden;

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Tensor;
use paring_format::{Checkpoint, Compressed, Dtype, Grid, Values};
use paring_kernels::squared_error::squared_error;
use paring_model::{Arithmetic, BlockInfo, Decoder};

use super::{Form, Measure, Outcome, Rate, Settings, Target, reconstruct};
use crate::{Precision, Result};

/// A folder of the repository.
fn folder(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

/// Opens a model in f32.
fn open(path: &str) -> Box<dyn Decoder> {
    let checkpoint = Arc::new(Checkpoint::open(&folder(path)).unwrap());
    paring_model::open(checkpoint, Arithmetic::weights_only(Precision::F32)).unwrap()
}

/// A dense matrix with an exact zero for each of four weights that are the two smallest, the first of equals first.
fn pruned(values: &[f32], cols: usize, dtype: Dtype) -> Compressed {
    let mut values = values.to_vec();
    for group in values.chunks_exact_mut(4) {
        let mut order = [0, 1, 2, 3];
        order.sort_by(|&a, &b| group[a].abs().total_cmp(&group[b].abs()));
        order[..2].iter().for_each(|&at| group[at] = 0.0);
    }
    Compressed { rows: values.len() / cols, cols, dtype, values: Values::Dense(values) }
}

/// Each linear of block `i` as `make` has it, fan by fan.
fn forms(model: &dyn Decoder, i: usize, make: impl Fn(&str, &[f32], usize) -> Form) -> Vec<Vec<Form>> {
    let mut block = model.block(i).unwrap();
    let fans = block.fans();
    let of_fan = |fan: &paring_model::Fan| {
        let linears = fan.linears.iter().map(|linear| {
            let values: Vec<f32> = linear.weight.dense().unwrap().flatten_all().unwrap().to_vec1().unwrap();
            make(&linear.name, &values, linear.cols)
        });
        linears.collect()
    };
    fans.into_iter().map(|fan| of_fan(fan)).collect()
}

/// A reconstruction of block `i` of a model.
fn run(
    model: &dyn Decoder,
    i: usize,
    forms: Vec<Vec<Form>>,
    (inputs, targets): (&Tensor, &Tensor),
    settings: &Settings,
) -> Result<Outcome> {
    let mut block = model.block(i).unwrap();
    let info: BlockInfo = model.block_info(i);
    let target = Target { block: block.as_mut(), info: &info, dtype_of: &|_| Dtype::F32 };
    reconstruct(target, forms, (inputs, targets), settings, &mut |_, _| Ok(()))
}

/// Some windows before and after the first block of a small model, and its pruned linears.
fn small() -> (Box<dyn Decoder>, Tensor, Tensor, Vec<Vec<Form>>) {
    let model = open("tests/golden/models/opt");
    let ids: Vec<u32> = (0..8 * 16u32).map(|i| i.wrapping_mul(2_654_435_761) % 64).collect();
    let inputs = model.embed(&ids, 8).unwrap();
    let targets = model.block(0).unwrap().forward(&inputs, &mut ()).unwrap();
    let forms = forms(&*model, 0, |_, values, cols| Form::Compressed(pruned(values, cols, Dtype::F32)));
    (model, inputs, targets, forms)
}

fn settings(steps: usize) -> Settings {
    Settings { rate: Rate::Absolute(1e-3), ..Settings::new(steps, 8, Precision::F32) }
}

fn dense(compressed: &Compressed) -> Vec<f32> {
    compressed.to_dense()
}

#[test]
fn the_loss_falls_and_pruned_weights_stay_zero() {
    let (model, inputs, targets, forms) = small();
    let outcome = run(&*model, 0, forms.clone(), (&inputs, &targets), &settings(40)).unwrap();
    assert!(outcome.after < 0.7 * outcome.before && outcome.kept > 0, "{} -> {}", outcome.before, outcome.after);
    for (before, after) in forms.iter().flatten().zip(outcome.linears.iter().flatten()) {
        let (Form::Compressed(before), Some(after)) = (before, after) else { panic!("a linear that did not train") };
        let (before, after) = (dense(before), dense(after));
        assert!(before.iter().zip(&after).all(|(before, after)| *before != 0.0 || after.to_bits() == 0));
        assert!(before != after);
    }
    let moved: Vec<&String> = outcome.vectors.iter().map(|(name, _)| name).collect();
    // Two norms and six linears with biases.
    assert_eq!(moved.len(), 2 * 2 + 6, "{moved:?}");
}

#[test]
fn the_state_that_is_kept_is_the_best_one() {
    let (model, inputs, targets, forms) = small();
    // A rate that destroys the block: it stays as it was given.
    let wild = Settings { rate: Rate::Absolute(10.0), ..settings(40) };
    let outcome = run(&*model, 0, forms.clone(), (&inputs, &targets), &wild).unwrap();
    assert_eq!((outcome.kept, outcome.after), (0, outcome.before));
    assert!(outcome.losses.len() < 40, "it did not end early");
    for (before, after) in forms.iter().flatten().zip(outcome.linears.iter().flatten()) {
        let (Form::Compressed(before), Some(after)) = (before, after) else { panic!("a linear that did not train") };
        assert_eq!(before, after);
    }
}

#[test]
fn what_is_stored_fits_the_type_of_the_file() {
    let (model, inputs, targets, _) = small();
    let forms = forms(&*model, 0, |_, values, cols| {
        let values: Vec<f32> = values.iter().map(|&v| Dtype::Bf16.round(v)).collect();
        Form::Compressed(pruned(&values, cols, Dtype::Bf16))
    });
    let mut block = model.block(0).unwrap();
    let info = model.block_info(0);
    let target = Target { block: block.as_mut(), info: &info, dtype_of: &|_| Dtype::Bf16 };
    let plain = Settings { measure: Measure::Plain, ..settings(30) };
    let outcome = reconstruct(target, forms, (&inputs, &targets), &plain, &mut |_, _| Ok(())).unwrap();
    let rounded = |values: &[f32]| values.iter().all(|&v| Dtype::Bf16.round(v).to_bits() == v.to_bits());
    assert!(outcome.linears.iter().flatten().flatten().all(|c| rounded(&dense(c))));
    assert!(outcome.vectors.iter().all(|(_, values)| rounded(values)));
    // The block holds what was kept, and the loss is its own.
    for (fan, stored) in block.fans().into_iter().zip(&outcome.linears) {
        for (linear, stored) in fan.linears.iter().zip(stored) {
            let values: Vec<f32> = linear.weight.dense().unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(Some(values), stored.as_ref().map(dense));
        }
    }
    let y = block.forward(&inputs.narrow(0, 7, 1).unwrap(), &mut ()).unwrap();
    let (loss, _) = squared_error(&y, &targets.narrow(0, 7, 1).unwrap()).unwrap();
    assert!((loss / outcome.after - 1.0).abs() < 1e-6, "{loss}, {}", outcome.after);
}

/// A token that the block makes a thousand times larger than the others is no more of the loss than they are.
#[test]
fn a_large_token_does_not_outweigh_the_others() {
    let (model, inputs, targets, forms) = small();
    let (windows, t, dim) = targets.dims3().unwrap();
    let size = |i: usize| if (i / dim).is_multiple_of(t) { 1000.0 } else { 1.0 };
    let sizes: Vec<f32> = (0..windows * t * dim).map(size).collect();
    let large = (&targets * Tensor::from_vec(sizes, (windows, t, dim), targets.device()).unwrap()).unwrap();
    let before = |targets: &Tensor, measure: Measure| {
        let settings = Settings { measure, ..settings(1) };
        run(&*model, 0, forms.clone(), (&inputs, targets), &settings).unwrap().before
    };
    let ratio = |measure: Measure| before(&large, measure) / before(&targets, measure);
    assert!(ratio(Measure::Plain) > 1e3, "{}", ratio(Measure::Plain));
    // The large tokens are now wrong by their whole size, one of sixteen.
    assert!(ratio(Measure::Relative) < 10.0, "{}", ratio(Measure::Relative));
}

#[test]
fn what_is_fixed_stays_with_its_bias() {
    let (model, inputs, targets, mut forms) = small();
    forms[1] = vec![Form::Fixed];
    let outcome = run(&*model, 0, forms, (&inputs, &targets), &settings(8)).unwrap();
    assert!(outcome.linears[1][0].is_none() && outcome.linears[0].iter().all(Option::is_some));
    let names: Vec<&String> = outcome.vectors.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2 * 2 + 5, "{names:?}");
    let fixed = &model.linears(0).into_iter().find(|linear| linear.fan == 1).unwrap().name;
    assert!(!names.iter().any(|name| name.starts_with(fixed.as_str())), "{names:?}");
}

/// Scales move by shares of themselves, and none becomes 0 in a type that does not reach as low.
#[test]
fn scales_of_any_size_train_and_stay_above_zero() {
    let (model, inputs, targets, _) = small();
    let small_scale = 1e-7f32;
    let forms = forms(&*model, 0, |_, values, cols| {
        let rows = values.len() / cols;
        let codes = values.iter().map(|v| (v * 40.0).clamp(-8.0, 7.0) as i8).collect();
        // One row of scales that f16 has two digits for.
        let scales = (0..rows).map(|row| Dtype::F16.round(if row == 0 { small_scale } else { 0.025 })).collect();
        let values = Values::Codes { codes, grid: Grid::int(4, cols, scales, None) };
        Form::Compressed(Compressed { rows, cols, dtype: Dtype::F16, values })
    });
    let relative = Settings { rate: Rate::Relative(0.3), held_out: 0, ..settings(12) };
    let outcome = run(&*model, 0, forms.clone(), (&inputs, &targets), &relative).unwrap();
    assert_eq!(outcome.kept, 12);
    let grid = |compressed: &Compressed| match &compressed.values {
        Values::Codes { grid, .. } => grid.scales.clone(),
        _ => panic!("no codes"),
    };
    let mut moved = 0;
    for (before, after) in forms.iter().flatten().zip(outcome.linears.iter().flatten()) {
        let (Form::Compressed(before), Some(after)) = (before, after) else { panic!("a linear that did not train") };
        let (before, after) = (grid(before), grid(after));
        assert!(after.iter().all(|&scale| scale > 0.0 && Dtype::F16.round(scale) == scale));
        // A small scale stays small: its steps are shares of it.
        assert!(after[0] < 10.0 * small_scale, "{}", after[0]);
        moved += before.iter().zip(&after).filter(|(before, after)| before != after).count();
    }
    assert!(moved > 0);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (model, inputs, targets, forms) = small();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let outcome = pool.install(|| run(&*model, 0, forms.clone(), (&inputs, &targets), &settings(8)).unwrap());
        (outcome.losses, outcome.vectors, outcome.linears)
    };
    let one = run(1);
    assert!(run(2) == one && run(3) == one);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (model, inputs, targets, forms) = small();
    let failed = |forms: Vec<Vec<Form>>, targets: &Tensor, settings: &Settings| {
        run(&*model, 0, forms, (&inputs, targets), settings).unwrap_err().to_string()
    };
    let fewer = targets.narrow(0, 0, 7).unwrap();
    assert!(failed(forms.clone(), &fewer, &settings(1)).contains("8 windows of inputs and 7 of targets"));
    let all = Settings { held_out: 8, ..settings(1) };
    assert!(failed(forms.clone(), &targets, &all).contains("needs more windows than 8"));
    assert!(failed(forms[1..].to_vec(), &targets, &settings(1)).contains("forms of 3 fans for a block of 4"));
    let turned: Vec<Vec<Form>> = forms.iter().map(|fan| fan[..1].to_vec()).collect();
    assert!(failed(turned, &targets, &settings(1)).contains("1 forms for the 3 linears of fan qkv"));
    let mut stopped = model.block(0).unwrap();
    let info = model.block_info(0);
    let target = Target { block: stopped.as_mut(), info: &info, dtype_of: &|_| Dtype::F32 };
    let mut watch = |step: usize, _: f64| if step == 2 { Err(crate::Error::Plan("enough".into())) } else { Ok(()) };
    let ended = reconstruct(target, forms, (&inputs, &targets), &settings(9), &mut watch);
    assert_eq!(ended.unwrap_err().to_string(), "enough");
}

#[test]
fn a_run_with_one_window_trains_on_it_and_looks_at_it() {
    assert_eq!(Settings::new(4, 1, Precision::F32).held_out, 0);
}
