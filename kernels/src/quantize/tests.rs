//! The fast form against the definition.

use candle_core::{Device, Tensor};

use super::*;

/// Every kind of number that a scale may stand for: ordinary tokens, one that is all zero, one-sided ones, tiny and huge
/// ones, exact halves.
fn tokens(count: usize, cols: usize) -> Vec<f32> {
    let mut x = crate::test_values(count * cols, 1.0, 3);
    for (i, row) in x.chunks_exact_mut(cols).enumerate() {
        match i % 7 {
            1 => row.fill(0.0),
            2 => row.iter_mut().for_each(|v| *v = v.abs()),
            3 => row.iter_mut().for_each(|v| *v = -v.abs()),
            4 => row.iter_mut().for_each(|v| *v *= 1e-30),
            5 => row.iter_mut().for_each(|v| *v *= 1e20),
            6 => row.iter_mut().enumerate().for_each(|(j, v)| *v = (j as f32 - 5.0) * 0.25),
            _ => {}
        }
    }
    x
}

fn tensor(x: &[f32], shape: (usize, usize, usize)) -> Tensor {
    Tensor::from_slice(x, shape, &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

const SCALES: [Scales; 8] = [
    Scales::Given(0.0123, 0.0),
    Scales::Given(0.02, -3.0),
    Scales::Tensor,
    Scales::Token,
    Scales::Group(16),
    Scales::Group(32),
    Scales::Exponent(32),
    Scales::Local(16, 684.0),
];

fn all() -> impl Iterator<Item = Rounding> {
    let elements = [Element::Int(8), Element::Int(4), Element::Int(2), Element::E4m3, Element::E2m1];
    let kinds = elements.into_iter().flat_map(|element| SCALES.map(|scales| (element, scales)));
    kinds.flat_map(|(element, scales)| [true, false].map(|symmetric| Rounding { element, symmetric, scales })).filter(
        |how| {
            let floats = !matches!(how.element, Element::Int(_));
            let zeros = !how.symmetric || matches!(how.scales, Scales::Given(_, zero) if zero != 0.0);
            // Floats have no zero points, and only they have scales of these types.
            !(floats && zeros) && (floats || !matches!(how.scales, Scales::Exponent(_) | Scales::Local(..)))
        },
    )
}

#[test]
fn agrees_with_the_definition() {
    let (count, cols) = (2 * 21, 96);
    let x = tokens(count, cols);
    let mut tried = 0;
    for how in all() {
        let got = values(&how.apply(&tensor(&x, (2, count / 2, cols))).unwrap());
        let want = reference::apply(&how, &x, cols);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            match how.scales {
                // Times the scale, then times the inverse of the global one, not times their quotient: three
                // roundings in the place of one.
                Scales::Local(..) => assert!((got - want).abs() <= 4e-7 * want.abs(), "{how:?} {i}: {got} want {want}"),
                _ => assert_eq!(got, want, "{how:?} at {i}: {}", x[i]),
            }
        }
        tried += 1;
    }
    assert_eq!(tried, 50);
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
        let got = values(&scale_rows(weight.matmul(&codes).unwrap(), factors.as_deref()).unwrap());
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
    assert!(scale_rows(x.clone(), Some(&[1.0, 2.0])).is_err());
    assert_eq!(values(&scale_rows(x.reshape((2, 2)).unwrap(), Some(&[1.0, 2.0])).unwrap()), [1.0, -2.0, 1.0, 6.0]);
    // What is not a number stays so, and does not become a code.
    let bad = tensor(&[f32::NAN, 1.0], (1, 1, 2));
    assert!(values(&how(Scales::Token).apply(&bad).unwrap())[0].is_nan());
}
