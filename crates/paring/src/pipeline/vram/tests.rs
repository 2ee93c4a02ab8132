use paring_kernels::attention;
use paring_kernels::gram::{self, GramPrecision};
use paring_model::BlockInfo;

use super::*;
use crate::Precision;
use crate::pipeline::shapes::llama;
use crate::plan::Curvature;

fn pass(block: &BlockInfo, dim: usize) -> Pass<'_> {
    let (windows, seqlen, slice) = (128, 2048, 128);
    let (precision, need) = (Precision::Bf16, Curvature::Full);
    let (products, group) = (GramPrecision::F32, 64);
    Pass { block, dim, windows, seqlen, precision, products, need, sweeps: true, slice, group, head: None }
}

fn part(device: &Device, at: &str, name: &str) -> u64 {
    let point = device.points.iter().find(|point| point.at == at).unwrap();
    point.parts.iter().find(|part| part.name == name).map_or(0, |part| part.bytes)
}

#[test]
fn a_block_of_seven_billion_is_counted_by_hand() {
    let block = llama(4096, 4096, 11008);
    let made = device(&pass(&block, 4096), 80 << 30).unwrap();
    assert!(made.batch == 8 && made.holds_activations, "{made:?}");
    let weights = 2 * (4 * 4096 * 4096 + 3 * 4096 * 11008);
    assert_eq!(part(&made, "forward", "weights of the block"), weights);
    assert_eq!(part(&made, "forward", "activations of all windows"), 4 * 128 * 2048 * 4096);
    // Inputs and outputs of the fans, queries and keys turned, two sums.
    let numbers = (4096 + 3 * 4096) + 2 * 4096 + (4096 + 2 * 11008) + (11008 + 4096) + 2 * 4096 + 2 * 4096;
    let forward = part(&made, "forward", "activations of a batch");
    // Attention takes more than inputs that are rounded 64 MiB at a time.
    let attention = attention::gpu_scratch(2048, 32, 32, 128, None, Precision::Bf16) as u64;
    assert_eq!(forward, 8 * 2048 * 4 * numbers + attention);
    assert_eq!(part(&made, "gram", "Gram matrices"), 4 * (3 * 4096 * 4096 + 11008 * 11008));
    assert_eq!(part(&made, "factor", "factor"), 4 * 11008 * 11008);
    // Gate and up are swept together, but their factor is smaller than that of down.
    assert_eq!(part(&made, "sweep", "weights of a fan"), 4 * 4096 * 11008);
    assert_eq!(part(&made, "sweep", "grids"), 12 * 4096 * 11008 / 64);
    let pieces = gram::quadratic_gpu_scratch(4096, 11008, Precision::Bf16) as u64;
    assert_eq!(part(&made, "error", "weights in pieces"), pieces);
    // Two bytes a number, 8,192 tokens at a time.
    assert_eq!(part(&made, "gram", "inputs as they are multiplied"), 2 * 8192 * 11008);
    assert_eq!(part(&made, "sweep", "errors of a slice"), 4 * 4096 * 128);
    assert_eq!(made.bytes(), made.points.iter().map(Point::bytes).max().unwrap());
}

#[test]
fn less_memory_means_smaller_batches_and_activations_on_the_host() {
    let block = llama(4096, 4096, 11008);
    let pass = pass(&block, 4096);
    let mut before = (usize::MAX, true);
    for gib in [80, 16, 12, 8, 4] {
        let Ok(made) = device(&pass, gib << 30) else { continue };
        assert!(made.bytes() <= gib << 30 && made.batch >= 1);
        // Activations leave the device before batches grow small, and do not come back.
        assert!(!made.holds_activations || before.1, "{gib} GiB: {made:?}");
        before = (made.batch, made.holds_activations);
    }
    assert!(!before.1);
    let error = device(&pass, 1 << 30).unwrap_err().to_string();
    assert!(error.starts_with("max-vram: a block needs ") && error.lines().count() == 1, "{error}");
    // What is reported as needed is enough.
    let needed = error.split_whitespace().nth(4).unwrap().parse::<f64>().unwrap() + 0.01;
    assert!(device(&pass, (needed * f64::from(1u32 << 30)) as u64).is_ok(), "{error}");
}

#[test]
fn what_is_not_needed_is_not_there() {
    let block = llama(64, 32, 96);
    // What has no Gram matrix is swept on the host.
    let rounding = device(&Pass { windows: 0, need: Curvature::Flat, ..pass(&block, 64) }, 1).unwrap();
    assert_eq!((rounding.batch, rounding.holds_activations, rounding.bytes()), (0, false, 0));
    let norms = device(&Pass { need: Curvature::Diagonal, ..pass(&block, 64) }, 1 << 30).unwrap();
    assert_eq!(norms.points.iter().map(|p| p.at).collect::<Vec<_>>(), ["forward", "gram"]);
    assert_eq!(part(&norms, "gram", "Gram matrices"), 4 * (3 * 64 + 96));
    let eval = Pass { need: Curvature::Flat, sweeps: false, head: Some(1000), ..pass(&block, 64) };
    let made = device(&eval, 1 << 30).unwrap();
    assert_eq!(made.points.iter().map(|p| p.at).collect::<Vec<_>>(), ["forward", "head"]);
    assert_eq!(part(&made, "head", "piece of the head"), 6 * 1000 * 64);
}
