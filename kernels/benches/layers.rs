//! Factors and sweeps of a layer, as shares of what the tile of f32 products reaches with operands in the first-level caches.
//! `cargo bench -p paring-kernels --bench layers`, with parts of the wanted names after `--`.

mod measure;

use std::cell::LazyCell;
use std::hint::black_box;

use candle_core::{Device, Tensor};
use paring_kernels::cholesky::inverse_factor;
use paring_kernels::gram::Gram;
use paring_kernels::matmul::{Isa, Precision};
use paring_kernels::sweep::spqr::{self, Outlier, SecondLevel};
use paring_kernels::sweep::{CurvatureData, Drop, Fit, GridFormat, Round, Rule, Search, sweep};

use measure::{random, seconds, wanted};

/// As in the program.
#[global_allocator]
static ALLOCATOR: paring_kernels::allocator::PoolingAllocator = paring_kernels::allocator::PoolingAllocator;

/// Sides of SmolLM2-135M and of a Llama with 1.1 billion parameters.
const SIDES: [usize; 4] = [576, 1536, 2048, 5632];

/// Rows and columns of their linears.
const LINEARS: [[usize; 2]; 5] = [[192, 576], [1536, 576], [576, 1536], [2048, 2048], [2048, 5632]];

/// Columns of a slice.
const SLICE: usize = 128;

/// A damped Gram matrix of as many tokens as features.
fn curvature(n: usize) -> Vec<f32> {
    let mut gram = Gram::new(n, Precision::Bf16);
    gram.add(&Tensor::from_vec(random(n * n, 1), (n, n), &Device::Cpu).unwrap()).unwrap();
    let mut h = gram.finish(1.0 / n as f32).unwrap().to_host().unwrap().into_owned();
    (0..n).for_each(|i| h[i * n + i] += 0.01);
    h
}

fn main() {
    let wanted = wanted();
    let peak = Isa::current().peaks()[1] / 1e9;
    println!("{} threads, {peak:.0}e9 operations a second in f32 at best", rayon::current_num_threads());
    let print = |name: String, operations: f64, run: &mut dyn FnMut()| {
        if wanted.iter().all(|part| name.contains(part)) {
            let rate = operations / seconds(run) / 1e9;
            println!("{name}: {rate:.0}, {:.2}", rate / peak);
        }
    };
    for n in SIDES {
        let h = LazyCell::new(|| curvature(n));
        let operations = 2.0 / 3.0 * (n as f64).powi(3);
        print(format!("factor {n}"), operations, &mut || drop(black_box(inverse_factor(&h, n).unwrap())));
    }
    for [rows, cols] in LINEARS {
        let u = LazyCell::new(|| inverse_factor(&curvature(cols), cols).unwrap());
        let weight = random(rows * cols, 1);
        let operations = (rows * cols * cols) as f64;
        let stored = Precision::Bf16;
        let format = GridFormat::int(4, false, stored);
        let fit = Fit::AtSlice { group_size: 64, importance: None };
        for (what, rule) in [
            ("SparseGPT 2:4", Rule { drop: Some(Drop::NofM { n: 2, m: 4 }), round: None, stored }),
            ("SparseGPT 50 %", Rule { drop: Some(Drop::Threshold { sparsity: 0.5 }), round: None, stored }),
            ("GPTQ", Rule { drop: None, round: Some(Round { format, fit }), stored }),
        ] {
            print(format!("{what} [{rows}, {cols}]"), operations, &mut || {
                drop(black_box(sweep(weight.clone(), cols, SLICE, CurvatureData::Full(&u), rule)));
            });
        }
        let second = SecondLevel { scale_bits: Some(3), zero_bits: Some(3), zero_symmetric: false, rows: 16 };
        let rule = spqr::Rule {
            bits: 3,
            group_size: 16,
            symmetric: false,
            round_zero: false,
            per_channel: true,
            second,
            threshold: Some(0.3),
            simplified: false,
            keep_last: 0,
            zeros: None,
            outlier: Outlier::Replaces,
            search: Search::MinMax,
            importance: None,
            stored,
        };
        print(format!("SpQR [{rows}, {cols}]"), operations, &mut || {
            drop(black_box(spqr::sweep(weight.clone(), cols, SLICE, &u, &rule)));
        });
    }
}
