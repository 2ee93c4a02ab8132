//! Packed weights beside what `cases` holds them to on every device.

use super::few::Inputs;
use super::instructions::Instructions;
use super::*;
use crate::cases::packed::Parts;
use crate::cases::{flat, values};
use crate::device::present;
use crate::matmul::Isa;

#[test]
fn a_product_does_not_depend_on_threads_or_on_other_inputs() {
    let shape = (320, 576);
    let parts = Parts::new(Code::Signed(4), shape, 64, 1, Precision::Bf16);
    for device in &present() {
        let packed = Packed::codes(shape.0, shape.1, &parts.grid(), Precision::Bf16).unwrap();
        let packed = packed.on_device(device).unwrap();
        let x = Tensor::from_vec(values(8 * 576, 1.0, 2), (8, 576), device).unwrap();
        let run = |threads: usize, x: &Tensor| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| flat(&packed.matmul(x).unwrap()).unwrap())
        };
        let all = run(1, &x);
        assert!(all == run(3, &x));
        for count in [1, 2, 3, 5] {
            let some = run(2, &x.narrow(0, 0, count).unwrap());
            assert!(some == all[..count * 320], "{count} of 8 inputs on {device:?}");
        }
    }
}

/// The products of all rows with some inputs, by these instructions.
#[cfg(target_arch = "x86_64")]
fn products_on(on: Instructions, packed: &Packed, x: &[f32]) -> Vec<f32> {
    let packed = packed.host().unwrap();
    let inputs = Inputs::new(x, packed.cols, packed.order.as_deref(), |x| packed.product.round(x));
    let inputs = inputs.arranged(packed.arrangement(on));
    let mut out = vec![0f32; packed.rows * inputs.count];
    packed.few(on, 0..packed.rows, &inputs, &mut out);
    out
}

/// Processors without permutations of bytes compute the same.
#[cfg(target_arch = "x86_64")]
#[test]
fn permutations_of_bytes_change_no_bit() {
    // Where the processor has none there is nothing to compare: both are the same.
    let here = Isa::available().iter().any(|isa| isa.used_in(Instructions::current) == Instructions::Avx512Vbmi);
    let pairs = if here { [Instructions::Avx512Vbmi, Instructions::Avx512Bf16] } else { [Instructions::current(); 2] };
    let compare = |packed: &Packed, name: &str| {
        for tokens in [1, 3] {
            let x = values(tokens * packed.shape().1, 1.0, 2);
            let [a, b] = pairs.map(|on| products_on(on, packed, &x));
            assert!(a == b, "{name}, {tokens} tokens");
        }
    };
    let shape = (9, 320);
    let types = [Code::E4m3, Code::E2m3, Code::E2m1].into_iter().chain((2..=8).map(Code::Signed));
    for code in types {
        for (group, fractional) in [(16, true), (16, false), (32, true), (64, false), (320, true)] {
            let parts = Parts::new(code, shape, group, 1, Precision::Bf16).with_zeros(fractional);
            let packed = Packed::codes(shape.0, shape.1, &parts.grid(), Precision::Bf16).unwrap();
            compare(&packed, &format!("{code:?}, groups of {group}, fractional {fractional}"));
            let grid = Grid { zeros: None, fractional: false, ..parts.grid() };
            compare(&Packed::codes(shape.0, shape.1, &grid, Precision::Bf16).unwrap(), "no zeros");
        }
    }
    let mut w: Vec<f32> = values(9 * 320, 1.0, 1).iter().map(|&v| Precision::Bf16.round(v)).collect();
    w.iter_mut().enumerate().filter(|(i, _)| i * 7919 % 13 < 7).for_each(|(_, v)| *v = 0.0);
    compare(&Packed::dense(9, 320, &w, Precision::Bf16, Precision::Bf16).unwrap(), "half of them zero");
}

#[test]
fn packed_weights_take_what_their_bits_say() {
    let shape = (64, 1024);
    for (bits, expected) in [(2, 2.25), (3, 3.25), (4, 4.25), (8, 8.25)] {
        let parts = Parts::new(Code::Signed(bits), shape, 64, 1, Precision::Bf16);
        for device in &present() {
            let packed = Packed::codes(shape.0, shape.1, &parts.grid(), Precision::Bf16).unwrap();
            let got = packed.on_device(device).unwrap().bytes() as f64 * 8.0 / (64.0 * 1024.0);
            assert!((expected..expected * 1.02).contains(&got), "{bits} bits on {device:?}: {got}");
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_errors() {
    let parts = Parts::new(Code::Signed(4), (4, 64), 32, 1, Precision::Bf16);
    let fails = |grid: &Grid, shape: (usize, usize)| Packed::codes(shape.0, shape.1, grid, Precision::Bf16).is_err();
    let grid = parts.grid();
    assert!(!fails(&grid, (4, 64)));
    assert!(fails(&grid, (4, 65)) && fails(&Grid { group: 16, ..parts.grid() }, (4, 64)));
    assert!(fails(&Grid { group: 0, ..parts.grid() }, (4, 64)) && fails(&Grid { height: 0, ..parts.grid() }, (4, 64)));
    assert!(fails(&Grid { index: Some(&[0; 3]), ..parts.grid() }, (4, 64)));
    assert!(fails(&Grid { order: Some(&[64; 64]), ..parts.grid() }, (4, 64)));
    assert!(fails(&Grid { outliers: (&[256], &[1.0]), ..parts.grid() }, (4, 64)));
    assert!(Packed::dense(2, 2, &[1.0; 3], Precision::F32, Precision::F32).is_err());
    let packed = Packed::codes(4, 64, &grid, Precision::Bf16).unwrap();
    let x = Tensor::zeros((1, 63), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(packed.matmul(&x).is_err());
    // A weight and inputs of two devices, and a weight that moves on from a GPU.
    for device in present().iter().filter(|device| !device.is_cpu()) {
        let host = Packed::codes(4, 64, &grid, Precision::Bf16).unwrap();
        let x = Tensor::zeros((1, 64), candle_core::DType::F32, device).unwrap();
        assert!(host.matmul(&x).is_err());
        let there = host.on_device(device).unwrap();
        assert!(there.matmul(&x.to_device(&Device::Cpu).unwrap()).is_err());
        assert!(there.on_device(device).is_err());
    }
}
