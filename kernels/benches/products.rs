//! Products of bfloat16 pairs, Gram matrices and attention, in each version that the processor has, as shares of what its
//! tile reaches with operands in the first-level caches. `cargo bench -p paring-kernels --bench products`, with parts of the
//! wanted names after `--`.

mod measure;

use std::hint::black_box;

use candle_core::{Device, Tensor};
use paring_kernels::attention::{Scores, causal};
use paring_kernels::gram::Gram;
use paring_kernels::matmul::{Isa, Matrix, Precision};

use measure::{random, seconds, wanted};

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

fn tensor(shape: &[usize]) -> Tensor {
    Tensor::from_vec(random(shape.iter().product(), 1), shape, &Device::Cpu).unwrap()
}

fn main() {
    println!(
        "{} threads; operations of each in 1e9 a second, and the share of the peak of bfloat16 pairs",
        rayon::current_num_threads()
    );
    for &isa in Isa::available() {
        isa.used_in(|| print_all(isa));
    }
    let [tokens, cols, rows] = PRODUCTS[0];
    let x = tensor(&[tokens, cols]);
    let w = Matrix::new(rows, cols, tensor(&[rows * cols]).to_vec1().unwrap(), Precision::F32);
    let rate = (2 * tokens * cols * rows) as f64 / seconds(&mut || drop(black_box(w.matmul(&x).unwrap()))) / 1e9;
    println!("faer, f32, [{tokens}, {cols}] x [{cols}, {rows}]: {rate:.0}");
}

fn print_all(isa: Isa) {
    let [pairs, singles] = isa.peaks().map(|rate| rate / 1e9);
    println!("{isa:?}: peak {pairs:.0}, in f32 {singles:.0}");
    let wanted = wanted();
    let print = |what: String, operations: f64, run: &mut dyn FnMut()| {
        let name = format!("{isa:?} {what}");
        if wanted.iter().all(|part| name.contains(part)) {
            let rate = operations / seconds(run) / 1e9;
            println!("  {what}: {rate:.0}, {:.2}", rate / pairs);
        }
    };
    for [tokens, cols, rows] in PRODUCTS {
        let x = tensor(&[tokens, cols]);
        let w = Matrix::new(rows, cols, tensor(&[rows * cols]).to_vec1().unwrap(), Precision::Bf16);
        let run = &mut || drop(black_box(w.matmul(&x).unwrap()));
        print(format!("[{tokens}, {cols}] x [{cols}, {rows}]"), (2 * tokens * cols * rows) as f64, run);
    }
    for [tokens, dim] in GRAMS {
        let x = tensor(&[tokens, dim]);
        let mut gram = Gram::new(dim, Precision::Bf16);
        print(format!("Gram [{tokens}, {dim}]"), (tokens * dim * dim) as f64, &mut || gram.add(&x).unwrap());
    }
    for [windows, tokens] in ATTENTIONS {
        let (q, kv) = (tensor(&[windows, tokens, 9, 64]), tensor(&[windows, tokens, 3, 64]));
        let run = &mut || drop(black_box(causal(&q, &kv, &kv, &Scores::scaled(0.125), Precision::Bf16).unwrap()));
        print(format!("attention of {windows} x {tokens}"), (2 * windows * tokens * tokens * 576) as f64, run);
    }
}
