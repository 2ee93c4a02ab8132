//! The search for likely outliers: three grids a row, against every weight left out in turn, and against the rest of an
//! SpQR sweep. `cargo bench -p paring-kernels --bench leave_one_out`

use std::hint::black_box;
use std::time::Instant;

use paring_kernels::matmul::Precision;
use paring_kernels::sweep::Search;
use paring_kernels::sweep::spqr::{Outlier, Rule, SecondLevel, likely_outliers, sweep};

const ROWS: usize = 1536;
const COLS: usize = 576;

fn rule() -> Rule<'static> {
    Rule {
        bits: 3,
        group_size: 16,
        symmetric: false,
        round_zero: false,
        per_channel: true,
        second: SecondLevel { scale_bits: Some(3), zero_bits: Some(3), zero_symmetric: false, rows: 16 },
        threshold: Some(0.3),
        simplified: false,
        keep_last: 0,
        zeros: None,
        outlier: Outlier::Replaces,
        search: Search::MinMax,
        importance: None,
        stored: Precision::Bf16,
    }
}

/// The squared errors of a group on the grid of exactly its values.
fn errors(x: impl Iterator<Item = f32> + Clone, d: impl Iterator<Item = f32>) -> f32 {
    let (lo, hi) = x.clone().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
    let scale = (hi - lo) / 7.0;
    let zero = -lo / scale;
    x.zip(d).fold(0.0, |sum, (x, d)| {
        let code = (x / scale + zero).round_ties_even().clamp(0.0, 7.0);
        sum + ((scale * (code - zero) - x) / d).powi(2)
    })
}

/// The definition: a grid for every weight that is left out.
fn plain(x: &[f32], d: &[f32], threshold: f32) -> usize {
    let width = d.len();
    fn without(v: &[f32], k: usize) -> impl Iterator<Item = f32> + Clone {
        v[..k].iter().chain(&v[k + 1..]).copied()
    }
    let mut marked = 0;
    for x in x.chunks_exact(width) {
        let all = errors(x.iter().copied(), d.iter().copied());
        for k in 0..width {
            marked += usize::from(all - errors(without(x, k), without(d, k)) > threshold);
        }
    }
    marked
}

/// The least of five times.
fn seconds<T>(mut f: impl FnMut() -> T) -> f64 {
    let time = |_| {
        let start = Instant::now();
        black_box(f());
        start.elapsed().as_secs_f64()
    };
    (0..5).map(time).fold(f64::INFINITY, f64::min)
}

fn main() {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let mut value = || (0..4).map(|_| next()).sum::<f32>();
    let weight: Vec<f32> = (0..ROWS * COLS).map(|_| value()).collect();
    let factor: Vec<f32> = (0..COLS * COLS)
        .map(|i| match (i / COLS).cmp(&(i % COLS)) {
            std::cmp::Ordering::Less => 0.01 * value(),
            std::cmp::Ordering::Equal => 0.5 + 0.1 * value().abs(),
            std::cmp::Ordering::Greater => 0.0,
        })
        .collect();
    let rule = rule();
    let d: Vec<f32> = (0..16).map(|k| factor[k * COLS + k]).collect();
    let groups = weight.len() as f64 / 16.0;

    let by_definition = seconds(|| plain(black_box(&weight), &d, 0.3));
    let fast = seconds(|| likely_outliers(black_box(&weight), &d, &rule, 0.3));
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    let whole = one.install(|| seconds(|| sweep(black_box(weight.clone()), COLS, 128, &factor, &rule)));
    let without = Rule { simplified: true, ..rule };
    let simplified = one.install(|| seconds(|| sweep(black_box(weight.clone()), COLS, 128, &factor, &without)));
    println!(
        "{ROWS}x{COLS}, groups of 16, one thread; nanoseconds a group of one row, and the ratio to the definition"
    );
    for (name, time) in [
        ("every weight left out in turn", by_definition),
        ("three grids, 16 rows at once", fast),
        ("whole sweep with the search", whole),
        ("whole sweep without it", simplified),
    ] {
        println!("{name:<32} {:>9.1} {:>8.3}", 1e9 * time / groups, time / by_definition);
    }
}
