//! The CPU's factors against the definition; those of every device are in cases/cholesky.rs.

use super::*;
use crate::matmul::Isa;
use crate::matmul::Precision;

/// A Gram matrix of `tokens` pseudo-random inputs plus `damp` on the diagonal.
fn gram(n: usize, tokens: usize, damp: f32) -> Vec<f32> {
    let x = crate::test_values(tokens * n, 0.3, 7);
    let mut h: Vec<f32> = crate::gram::reference::gram(&x, n, Precision::F32).iter().map(|&v| v as f32).collect();
    (0..n).for_each(|i| h[i * n + i] += damp);
    h
}

/// In f32 whatever the size.
fn single(h: &[f32], n: usize) -> Result<Vec<f32>, NotPositive> {
    let diagonal: Vec<f32> = h.iter().step_by(n + 1).copied().collect();
    blocked::inverse_factor(&Source { values: h, order: None, diagonal: &diagonal })
}

#[test]
fn single_precision_is_near_double() {
    let n = SMALL + 60;
    // More features than tokens: the damping alone keeps the matrix positive.
    let h = gram(n, n / 2, 0.01);
    let (single, double) = (inverse_factor(&h, n).unwrap(), double(&h, n).unwrap());
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let off = norm(&mut single.iter().zip(&double).map(|(s, d)| s - d)) / norm(&mut double.iter().copied());
    assert!(off > 0.0 && off < 1e-3, "{off}");
}

#[test]
fn what_single_precision_cannot_factor_double_can() {
    let n = SMALL + 8;
    // A 2 × 2 block whose determinant is one unit in the last place: its second pivot is 0 in f32.
    let mut h = vec![0f32; n * n];
    (0..n).for_each(|i| h[i * n + i] = 1.0);
    let (i, j) = (n - 2, n - 1);
    (h[i * n + i], h[i * n + j], h[j * n + i], h[j * n + j]) = (1.0, 1.0, 1.0, 1.0 + f32::EPSILON);
    assert_eq!(single(&h, n), Err(NotPositive { index: i }));
    assert!(inverse_factor(&h, n).is_ok());
}

#[test]
fn agrees_with_the_definition() {
    let n = 40;
    let h = gram(n, 60, 0.1);
    let (fast, plain) = (inverse_factor(&h, n).unwrap(), reference::inverse_factor(&h, n).unwrap());
    for (f, p) in fast.iter().zip(plain) {
        assert!((f64::from(*f) - p).abs() < 1e-6 * p.abs().max(1.0), "{f} want {p}");
    }
}

#[test]
fn a_pivot_that_is_not_positive_is_named() {
    let n = 5;
    let mut h = gram(n, 9, 0.0);
    for k in 0..n {
        h[2 * n + k] = 0.0;
        h[k * n + 2] = 0.0;
    }
    assert_eq!(inverse_factor(&h, n), Err(NotPositive { index: 2 }));
    assert_eq!(reference::inverse_factor(&h, n), Err(NotPositive { index: 2 }));
    assert!(inverse_factor(&vec![f32::NAN; n * n], n).is_err());
}

/// Blocks of 64 rows, whole and cut off, in every version of the tile.
#[test]
fn blocks_of_any_number_give_the_factor() {
    for &isa in Isa::available() {
        for n in [1, 2, 63, 64, 65, 128, 200] {
            let h = gram(n, n + 20, 0.5);
            let (blocked, double) = (isa.used_in(|| single(&h, n)).unwrap(), double(&h, n).unwrap());
            for (i, (b, d)) in blocked.iter().zip(&double).enumerate() {
                assert!(i % n >= i / n || *b == 0.0, "{isa:?}: below the diagonal");
                // Sums of up to n terms of f32, each off by half a unit in the last place.
                assert!((b - d).abs() < 1e-5 * d.abs().max(1.0), "{isa:?}, {n}: {b} want {d}");
            }
        }
    }
}

#[test]
fn the_factor_does_not_depend_on_the_number_of_threads() {
    let n = SMALL + 100;
    let h = gram(n, n, 0.1);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| inverse_factor(&h, n).unwrap())
    };
    let one = run(1);
    assert!([2, 3, 5].into_iter().all(|threads| run(threads) == one));
}
