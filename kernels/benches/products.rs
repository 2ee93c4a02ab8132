//! Products of bfloat16 pairs, Gram matrices and attention, in each version that the processor has, as shares of what its
//! tile reaches with operands in the first-level caches. `cargo bench -p paring-kernels --bench products`, with parts of the
//! wanted names after `--`.

use std::hint::black_box;
use std::time::Instant;

use candle_core::{Device, Tensor};
use paring_kernels::attention::{Scores, causal};
use paring_kernels::gram::Gram;
use paring_kernels::matmul::{Isa, Matrix, Precision};

/// As in the program.
#[global_allocator]
static ALLOCATOR: paring_kernels::allocator::PoolingAllocator = paring_kernels::allocator::PoolingAllocator;

/// Tokens, columns, rows.
const PRODUCTS: [[usize; 3]; 5] =
    [[8192, 576, 1536], [2048, 4096, 4096], [2048, 576, 192], [2048, 1536, 576], [2048, 2048, 5632]];

/// Tokens and features.
const GRAMS: [[usize; 2]; 4] = [[2048, 576], [2048, 1536], [2048, 2048], [2048, 5632]];

/// Windows and tokens.
const ATTENTIONS: [[usize; 2]; 2] = [[4, 512], [1, 2048]];

fn random(shape: &[usize]) -> Tensor {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The least of as many runs as half a second has, and of five, after a warm-up: others may use the processor too.
fn seconds(f: &mut dyn FnMut()) -> f64 {
    f();
    let (begun, mut runs, mut least) = (Instant::now(), 0, f64::INFINITY);
    while runs < 5 || begun.elapsed().as_secs_f64() < 0.5 {
        runs += 1;
        let start = Instant::now();
        f();
        least = least.min(start.elapsed().as_secs_f64());
    }
    least
}

fn main() {
    println!(
        "{} threads; operations of each in 1e9 a second, and the share of the peak of bfloat16 pairs",
        rayon::current_num_threads()
    );
    for &isa in Isa::available() {
        isa.used_in(|| measure(isa));
    }
    let [tokens, cols, rows] = PRODUCTS[0];
    let x = random(&[tokens, cols]);
    let w = Matrix::new(rows, cols, random(&[rows * cols]).to_vec1().unwrap(), Precision::F32);
    let rate = (2 * tokens * cols * rows) as f64 / seconds(&mut || drop(black_box(w.matmul(&x).unwrap()))) / 1e9;
    println!("faer, f32, [{tokens}, {cols}] x [{cols}, {rows}]: {rate:.0}");
}

fn measure(isa: Isa) {
    let [pairs, singles] = isa.peaks().map(|rate| rate / 1e9);
    println!("{isa:?}: peak {pairs:.0}, in f32 {singles:.0}");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let print = |what: String, operations: f64, run: &mut dyn FnMut()| {
        let name = format!("{isa:?} {what}");
        if wanted.iter().all(|part| name.contains(part)) {
            let rate = operations / seconds(run) / 1e9;
            println!("  {what}: {rate:.0}, {:.2}", rate / pairs);
        }
    };
    for [tokens, cols, rows] in PRODUCTS {
        let x = random(&[tokens, cols]);
        let w = Matrix::new(rows, cols, random(&[rows * cols]).to_vec1().unwrap(), Precision::Bf16);
        let run = &mut || drop(black_box(w.matmul(&x).unwrap()));
        print(format!("[{tokens}, {cols}] x [{cols}, {rows}]"), (2 * tokens * cols * rows) as f64, run);
    }
    for [tokens, dim] in GRAMS {
        let x = random(&[tokens, dim]);
        let mut gram = Gram::new(dim, Precision::Bf16);
        print(format!("Gram [{tokens}, {dim}]"), (tokens * dim * dim) as f64, &mut || gram.add(&x).unwrap());
    }
    for [windows, tokens] in ATTENTIONS {
        let (q, kv) = (random(&[windows, tokens, 9, 64]), random(&[windows, tokens, 3, 64]));
        let run = &mut || drop(black_box(causal(&q, &kv, &kv, &Scores::scaled(0.125), Precision::Bf16).unwrap()));
        print(format!("attention of {windows} x {tokens}"), (2 * windows * tokens * tokens * 576) as f64, run);
    }
}
