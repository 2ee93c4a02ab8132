//! Products of one input with weights that stay packed, as rates of bytes of weights beside a read of as many bytes by the same
//! threads. `cargo bench -p paring-kernels --bench packed`, with parts of the wanted names after `--`.

mod measure;

use std::hint::black_box;

use candle_core::{Device, Tensor};
use paring_kernels::matmul::Precision;
use paring_kernels::packed::{Code, Grid, Packed, Statistic};
use rayon::prelude::*;

use measure::{random, seconds, wanted};

/// As in the program.
#[global_allocator]
static ALLOCATOR: paring_kernels::allocator::PoolingAllocator = paring_kernels::allocator::PoolingAllocator;

/// Rows, columns, and number of matrices that are gone through in turn: small ones within the caches of a processor, and ones that no
/// cache holds.
const SETS: [[usize; 3]; 3] = [[1536, 576, 16], [1536, 576, 120], [5632, 2048, 24]];

/// The wrapping sum of all words, on all threads.
fn read(words: &[u64]) -> u64 {
    let part = words.len().div_ceil(rayon::current_num_threads());
    let sum = |part: &[u64]| part.iter().fold(0u64, |sum, &word| sum.wrapping_add(word));
    words.par_chunks(part.max(1)).map(sum).reduce(|| 0, u64::wrapping_add)
}

fn codes(rows: usize, cols: usize, code: Code, group: usize, kind: &str) -> Packed {
    let bits = match code {
        Code::Signed(bits) | Code::Unsigned(bits) => bits,
        Code::E4m3 => 8,
        Code::E2m3 => 6,
        Code::E2m1 => 4,
    };
    let mask = if bits == 8 { 0x77 } else { (1u8 << bits) - 1 };
    let codes: Vec<u8> = random(rows * cols, 3).iter().map(|v| (v.to_bits() >> 8) as u8 & mask).collect();
    let count = rows * cols.div_ceil(group);
    let scales: Vec<f32> = random(count, 5).iter().map(|v| Precision::Bf16.round(v.abs() + 0.01)).collect();
    let small: Vec<u8> = scales.iter().map(|v| (v.to_bits() >> 12) as u8 & 7).collect();
    let tiles = rows.div_ceil(16) * cols.div_ceil(group);
    let coded = || Statistic::Coded { codes: &small, height: 16, scales: &scales[..tiles], zeros: &scales[..tiles] };
    let powers: Vec<f32> = small.iter().map(|&v| 2f32.powi(-i32::from(v))).collect();
    let eight: Vec<f32> = small.iter().map(|&v| f32::from(v) + 1.0).collect();
    // One weight of a hundred is none of a code.
    let places: Vec<u32> = (0..(rows * cols) as u32).step_by(100).collect();
    let outliers = vec![1.0; places.len()];
    let (scales, zeros) = match kind {
        "zeros" => {
            let zeros = small.iter().map(|&v| i32::from(v)).collect();
            (Statistic::Floats(&scales), Some(Statistic::Integers(zeros)))
        }
        "coded" | "outliers" => (coded(), Some(coded())),
        "powers" => (Statistic::Powers(&powers), None),
        "eight" => (Statistic::E4m3(&eight, 3.0), None),
        _ => (Statistic::Floats(&scales), None),
    };
    let outliers = if kind == "outliers" { (&places[..], &outliers[..]) } else { (&[][..], &[][..]) };
    let grid = Grid {
        code,
        codes: &codes,
        group,
        height: 1,
        fractional: matches!(kind, "coded" | "outliers"),
        scales,
        zeros,
        index: None,
        order: None,
        outliers,
        weight: Precision::Bf16,
    };
    Packed::codes(rows, cols, &grid, Precision::Bf16).unwrap()
}

fn main() {
    // On a thread of the pool, as in the program: others take microseconds to hand work over.
    rayon::scope(|_| print_all());
}

fn print_all() {
    let wanted = wanted();
    println!("{} threads; 1e9 bytes of weights a second, and the share of a read", rayon::current_num_threads());
    for [rows, cols, count] in SETS {
        let print = |name: &str, make: &dyn Fn() -> Packed| {
            let name = format!("{count} of [{rows}, {cols}], {name}");
            if !wanted.iter().all(|part| name.contains(part)) {
                return;
            }
            let weights: Vec<Packed> = (0..count).map(|_| make()).collect();
            let bytes: usize = weights.iter().map(Packed::bytes).sum();
            let words = vec![1u64; bytes / 8];
            let reading = bytes as f64 / seconds(&mut || _ = black_box(read(black_box(&words)))) / 1e9;
            let x = Tensor::from_vec(random(cols, 7), (1, cols), &Device::Cpu).unwrap();
            let pass = &mut || weights.iter().for_each(|weight| drop(black_box(weight.matmul(&x).unwrap())));
            let rate = bytes as f64 / seconds(pass) / 1e9;
            let bits = bytes as f64 * 8.0 / (count * rows * cols) as f64;
            println!("  {name}, {bits:.2} bits: {rate:.1} of {reading:.1}, {:.2}", rate / reading);
        };
        let values = random(rows * cols, 1).iter().map(|&v| Precision::Bf16.round(v)).collect::<Vec<f32>>();
        print("bfloat16", &|| Packed::dense(rows, cols, &values, Precision::Bf16, Precision::Bf16).unwrap());
        let half: Vec<f32> = values.iter().enumerate().map(|(i, &v)| if i % 4 < 2 { v } else { 0.0 }).collect();
        print("bfloat16, half of them zero", &|| {
            Packed::dense(rows, cols, &half, Precision::Bf16, Precision::Bf16).unwrap()
        });
        for bits in [2, 3, 4, 8] {
            let code = Code::Signed(bits);
            print(&format!("{bits} bits, groups of 64"), &|| codes(rows, cols, code, 64, "plain"));
        }
        print("4 bits, groups of 64, zero points", &|| codes(rows, cols, Code::Signed(4), 64, "zeros"));
        print("4 bits, groups of 32", &|| codes(rows, cols, Code::Signed(4), 32, "plain"));
        print("8 bits, a row", &|| codes(rows, cols, Code::Signed(8), cols, "plain"));
        print("fp8, a row", &|| codes(rows, cols, Code::E4m3, cols, "plain"));
        print("NVFP4", &|| codes(rows, cols, Code::E2m1, 16, "eight"));
        print("MXFP4", &|| codes(rows, cols, Code::E2m1, 32, "powers"));
        print("MXFP6", &|| codes(rows, cols, Code::E2m3, 32, "powers"));
        print("SpQR of 3 bits, groups of 16", &|| codes(rows, cols, Code::Unsigned(3), 16, "coded"));
        print("SpQR of 4 bits, groups of 16", &|| codes(rows, cols, Code::Unsigned(4), 16, "coded"));
        print("SpQR of 3 bits, 1 % outliers", &|| codes(rows, cols, Code::Unsigned(3), 16, "outliers"));
    }
}
