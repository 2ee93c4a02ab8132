//! The cost of choices of arithmetic; cases/gram.rs holds sums to the definition.

use super::*;
use crate::simd::round_bf16;

#[test]
fn precisions_are_read_as_they_are_written() {
    for precision in GramPrecision::ALL {
        assert_eq!(precision.to_string().parse(), Ok(precision));
    }
    for text in ["", "F32", "bf16", "tf16"] {
        assert!(text.parse::<GramPrecision>().is_err(), "{text}");
    }
}

#[test]
fn the_cpu_has_one_precision() {
    assert!(Gram::new(3, Precision::F32).multiplied(GramPrecision::F32).is_ok());
    for how in [GramPrecision::Tf32, GramPrecision::Bf16x3] {
        let error = Gram::new(3, Precision::F32).multiplied(how).err().unwrap().to_string();
        assert!(error.starts_with(&format!("{how} ")), "{error}");
    }
}

/// The parts of `x` whose products are summed: x is about the sum of both.
fn parts(x: f32, how: GramPrecision) -> [f32; 2] {
    match how {
        GramPrecision::F32 => [x, 0.0],
        // To the nearest of ten bits of mantissa, ties to even.
        GramPrecision::Tf32 => {
            let bits = x.to_bits();
            [f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff), 0.0]
        }
        GramPrecision::Bf16x3 => [round_bf16(x), round_bf16(x - round_bf16(x))],
    }
}

/// The sum of all products of parts but the smallest, as a GPU makes it.
fn product(a: f32, b: f32, how: GramPrecision) -> f64 {
    let ([a, a_low], [b, b_low]) = (parts(a, how), parts(b, how));
    let [a, a_low, b, b_low] = [a, a_low, b, b_low].map(f64::from);
    a * b + a * b_low + a_low * b
}

/// The figures in the documentation of [`GramPrecision`].
#[test]
fn what_the_precisions_of_products_cost() {
    let (tokens, dim) = (2048, 48);
    let x = crate::test_values(tokens * dim, 1.0, 1);
    let exact = reference::gram(&x, dim, Precision::F32);
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let off = |how| {
        let mut sums = vec![0f64; dim * dim];
        for token in x.chunks_exact(dim) {
            for (sums, &a) in sums.chunks_exact_mut(dim).zip(token) {
                sums.iter_mut().zip(token).for_each(|(sum, &b)| *sum += product(a, b, how));
            }
        }
        norm(&mut sums.iter().zip(&exact).map(|(a, b)| a - b)) / norm(&mut exact.iter().copied())
    };
    assert_eq!(off(GramPrecision::F32), 0.0);
    let [three, tf32] = [off(GramPrecision::Bf16x3), off(GramPrecision::Tf32)];
    println!("bf16x3 {three:e} tf32 {tf32:e}");
    assert!((1e-7..5e-6).contains(&three), "bf16x3: {three:e}");
    assert!((1e-6..5e-5).contains(&tf32), "tf32: {tf32:e}");
}

/// The figures in the documentation of [`Gram`].
#[test]
fn sums_in_two_levels_lose_less() {
    let x = crate::test_values(262_144, 1.0, 3);
    let exact: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
    let sum = |x: &[f32]| x.iter().fold(0f32, |sum, v| sum + v * v);
    let off = |sum: f32| (f64::from(sum) / exact - 1.0).abs();
    let (one, two) = (off(sum(&x)), off(x.chunks(8192).map(sum).sum::<f32>()));
    println!("one level {one:e} two levels {two:e}");
    assert!(two < 2e-6 && one > 4.0 * two, "one level {one:e}, two levels {two:e}");
}

/// The figures in the documentation of [`Gram`], of what the CPU does.
#[test]
fn long_sums_on_the_cpu_lose_little() {
    const TOKENS: usize = 262_144;
    let (dim, batch) = (3, 2048);
    let x: Vec<f32> = crate::test_values(TOKENS * dim, 1.0, 3).into_iter().map(round_bf16).collect();
    for isa in crate::matmul::Isa::available() {
        let mut gram = Gram::new(dim, Precision::Bf16);
        let add =
            |x: &[f32]| gram.add(&candle_core::Tensor::from_slice(x, (x.len() / dim, dim), &Device::Cpu).unwrap());
        isa.used_in(|| x.chunks(batch * dim).try_for_each(add)).unwrap();
        let (got, want) = (gram.finish(1.0).unwrap(), reference::gram(&x, dim, Precision::F32));
        let got = got.to_host().unwrap();
        for i in 0..dim {
            let off = (f64::from(got[i * dim + i]) / want[i * dim + i] - 1.0).abs();
            assert!(off < 2e-6, "{isa:?}: the diagonal is off by {off:e} of itself");
        }
    }
}

#[test]
fn what_a_gpu_needs_is_bounded() {
    let (short, long) = (1000 * 64, 8192 * 64);
    assert_eq!(gpu_scratch(1000, 64, Precision::Bf16, GramPrecision::F32), 2 * short);
    assert_eq!(gpu_scratch(100_000, 64, Precision::F16, GramPrecision::Tf32), 2 * long);
    assert_eq!(gpu_scratch(100_000, 64, Precision::F32, GramPrecision::Bf16x3), 4 * long);
    assert_eq!(gpu_scratch(100_000, 64, Precision::F32, GramPrecision::Tf32), 0);
    assert_eq!(quadratic_gpu_scratch(3, 8, Precision::F32), 8 * 24);
    assert_eq!(quadratic_gpu_scratch(100_000, 4096, Precision::F16), 128 << 20);
    assert_eq!(quadratic_gpu_scratch(100_000, 4096, Precision::Bf16), (160 << 20) + 2 * 4096 * 4096 + 4 * 4096);
}

#[test]
fn inputs_without_a_number_change_nothing() {
    for (tokens, dim) in [(0, 4), (3, 0), (0, 0)] {
        let x = Tensor::zeros((tokens, dim), candle_core::DType::F32, &Device::Cpu).unwrap();
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            let mut gram = Gram::new(dim, precision);
            gram.add(&x).unwrap();
            assert_eq!(gram.tokens(), 0);
            assert!(gram.finish(1.0).unwrap().to_host().unwrap().iter().all(|&sum| sum == 0.0));
        }
    }
}
