//! Properties of every rounding; the cases compare with the definition.

use candle_core::{Device, Tensor};

use super::*;
use crate::cases::quantize::{all, tokens};

fn tensor(x: &[f32], shape: (usize, usize, usize)) -> Tensor {
    Tensor::from_slice(x, shape, &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn factors_come_after_the_product() {
    let (count, cols, rows) = (9, 64, 5);
    let (x, w) = (tokens(count, cols), crate::test_values(rows * cols, 1.0, 4));
    // Codes times anything of bfloat16 are exact in f32.
    let w: Vec<f32> = w.iter().map(|&v| crate::simd::round_bf16(v)).collect();
    let weight = crate::matmul::Matrix::new(rows, cols, w, crate::matmul::Precision::Bf16);
    let exact = weight.dense().unwrap();
    for how in all() {
        let Rounded { values: codes, factors } = how.round(&tensor(&x, (3, 3, cols))).unwrap();
        if !matches!(how.scales, Scales::Group(_)) {
            let codes = values(&codes);
            assert!(codes.iter().all(|&v| crate::simd::round_bf16(v) == v), "{how:?}: not exact in bfloat16");
        }
        let got = values(&scale_rows(weight.matmul(&codes).unwrap(), factors.as_ref()).unwrap());
        let x = how.apply(&tensor(&x, (1, count, cols))).unwrap().reshape((count, cols)).unwrap();
        let want = values(&x.matmul(&exact.t().unwrap()).unwrap());
        let sizes = values(&x.abs().unwrap().matmul(&exact.abs().unwrap().t().unwrap()).unwrap());
        // Scales of groups of integers are rounded with their codes, to 2^-9; otherwise only the order of sums differs.
        let bound = if matches!(how.scales, Scales::Group(_)) { 4e-3 } else { 1e-6 };
        for ((got, want), size) in got.iter().zip(&want).zip(&sizes) {
            assert!((got - want).abs() <= bound * size, "{how:?}: {got} want {want}");
        }
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    assert_eq!(all().count(), 57);
    let x = tensor(&tokens(4 * 250, 96), (4, 250, 96));
    for how in all() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| values(&how.apply(&x).unwrap()))
        };
        assert_eq!(run(1), run(3), "{how:?}");
    }
}

#[test]
fn extremes_and_refusals() {
    let x = tensor(&[1.0, -2.0, 0.5, 3.0], (1, 1, 4));
    assert_eq!(range(&x).unwrap(), [-2.0, 3.0]);
    assert_eq!(range(&x.abs().unwrap()).unwrap(), [0.0, 3.0]);
    let how = |scales| Rounding { element: Element::Int(8), symmetric: true, scales };
    for size in [0, 3, 8] {
        let error = how(Scales::Group(size)).round(&x).unwrap_err().to_string();
        assert!(error.contains(&format!("4 features are not whole groups of {size}")), "{error}");
    }
    let factors = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
    assert!(scale_rows(x.clone(), Some(&factors)).is_err());
    assert_eq!(values(&scale_rows(x.reshape((2, 2)).unwrap(), Some(&factors)).unwrap()), [1.0, -2.0, 1.0, 6.0]);
    let one = factors.narrow(0, 1, 1).unwrap();
    assert_eq!(values(&scale_rows(x.clone(), Some(&one)).unwrap()), [2.0, -4.0, 1.0, 6.0]);
    // What is not a number stays so, and does not become a code.
    let bad = tensor(&[f32::NAN, 1.0], (1, 1, 2));
    assert!(values(&how(Scales::Token).apply(&bad).unwrap())[0].is_nan());
}
