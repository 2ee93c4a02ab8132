//! Weights shifted towards what the dense model computes, held to what the shift is to minimise, and to Qronos step by step.

use paring_format::Dtype;
use serde_json::json;

use super::super::published::recipe as published;
use crate::methods::shift::RIDGE;
use crate::methods::{Shift, Stored};
use crate::pipeline::drift::Drift;
use crate::pipeline::stats::Stats;
use crate::plan::{ActOrder, DenseStream, Recipe, Rounding};

const TOKENS: usize = 150;
const COLS: usize = 14;
const ROWS: usize = 6;
const DAMP: f64 = 0.01;

fn values(count: usize, seed: u32) -> Vec<f64> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Tokens of both paths.
struct Paths {
    weight: Vec<f32>,
    /// Inputs, `[TOKENS, COLS]`.
    dense: Vec<f64>,
    ours: Vec<f64>,
    /// The difference of the sums that outputs join, `[TOKENS, ROWS]`.
    sums: Vec<f64>,
}

impl Paths {
    /// Inputs that depend on each other, and on the compressed path have lost a little; `drift` is how much.
    fn new(drift: f64) -> Self {
        let raw = values(TOKENS * COLS, 1);
        let dense: Vec<f64> =
            (0..raw.len()).map(|at| raw[at] + 0.7 * raw[at / COLS * COLS] * (1.0 + (at % COLS) as f64 / 5.0)).collect();
        let lost = values(TOKENS * COLS, 2);
        let ours = dense.iter().zip(&lost).map(|(x, e)| x + drift * (0.3 * e - 0.4 * x)).collect();
        let weight = values(ROWS * COLS, 3).into_iter().map(|w| w as f32).collect();
        let sums = values(TOKENS * ROWS, 4).into_iter().map(|s| drift * s).collect();
        Self { weight, dense, ours, sums }
    }

    /// Σ over tokens of the products of two sets of numbers.
    fn products(a: &[f64], b: &[f64]) -> Vec<f32> {
        let (rows, cols) = (a.len() / TOKENS, b.len() / TOKENS);
        let sum = |i: usize, j: usize| (0..TOKENS).map(|t| a[t * rows + i] * b[t * cols + j]).sum::<f64>() as f32;
        (0..rows * cols).map(|at| sum(at / cols, at % cols)).collect()
    }

    fn gram(&self) -> Vec<f32> {
        Self::products(&self.ours, &self.ours)
    }

    fn drift(&self) -> Drift {
        let lost: Vec<f64> = self.dense.iter().zip(&self.ours).map(|(dense, ours)| dense - ours).collect();
        Drift { inputs: Self::products(&lost, &self.ours), sums: Some(Self::products(&self.sums, &self.ours)) }
    }

    fn shifted(&self, how: DenseStream, first: usize) -> Vec<f32> {
        let drift = self.drift();
        let shift = Shift::new(&self.gram().into(), &drift, how, DAMP, "module").unwrap();
        shift.apply(&self.weight, first, true).weight
    }

    /// The number added to the diagonal.
    fn lambda(&self, damp: f64) -> f64 {
        damp * (0..COLS).map(|j| f64::from(self.gram()[j * COLS + j])).sum::<f64>() / COLS as f64
    }
}

/// The whole shift leaves no slope of |W* x − W x' − (s' − s)|² + λ |W* − W|².
#[test]
fn the_whole_shift_is_nearest_to_the_dense_model() {
    let paths = Paths::new(1.0);
    let shifted = paths.shifted(DenseStream::Share(1.0), 0);
    let lambda = paths.lambda(RIDGE * DAMP);
    let distance = |weight: &[f32]| -> f64 {
        let mut total = 0.0;
        for (t, row) in (0..TOKENS).flat_map(|t| (0..ROWS).map(move |row| (t, row))) {
            let dot = |w: &[f32], x: &[f64]| -> f64 {
                (0..COLS).map(|j| f64::from(w[row * COLS + j]) * x[t * COLS + j]).sum()
            };
            let off = dot(weight, &paths.ours) - dot(&paths.weight, &paths.dense) - paths.sums[t * ROWS + row];
            total += off * off;
        }
        let moved = weight.iter().zip(&paths.weight).map(|(a, b)| f64::from(a - b).powi(2));
        total + lambda * moved.sum::<f64>()
    };
    let (before, after) = (distance(&paths.weight), distance(&shifted));
    assert!(after < 0.8 * before, "{before} became {after}");
    for at in 0..ROWS * COLS {
        let moved = |by: f32| {
            let mut weight = shifted.clone();
            weight[at] += by;
            distance(&weight)
        };
        // Both ways up, by the same curvature.
        let (up, down) = (moved(0.01) - after, moved(-0.01) - after);
        assert!(up > 0.0 && down > 0.0 && (up - down).abs() < 1e-2 * (up + down), "{at}: {up} and {down}");
    }
    // The error that is said to be taken back is what both differ by.
    let drift = paths.drift();
    let shift = Shift::new(&paths.gram().into(), &drift, DenseStream::Share(1.0), DAMP, "module").unwrap();
    let removed = shift.apply(&paths.weight, 0, false).removed;
    assert!((removed / (before - after) - 1.0).abs() < 1e-4, "{removed}, and not {}", before - after);
}

#[test]
fn a_share_goes_a_part_of_the_way_and_without_drift_nothing_moves() {
    let paths = Paths::new(1.0);
    let (whole, half) = (paths.shifted(DenseStream::Share(1.0), 0), paths.shifted(DenseStream::Share(0.5), 0));
    for ((w, whole), half) in paths.weight.iter().zip(&whole).zip(&half) {
        assert!((0.5 * (whole - w) - (half - w)).abs() < 1e-5, "{w}: {half} on the way to {whole}");
    }
    let still = Paths::new(0.0);
    for how in [DenseStream::Share(1.0), DenseStream::Qronos] {
        assert_eq!(still.shifted(how, 3), still.weight);
    }
}

#[test]
fn rows_that_f32_cannot_hold_stay() {
    let mut paths = Paths::new(1.0);
    paths.weight[..COLS].iter_mut().for_each(|w| *w *= 3e38);
    let drift = paths.drift();
    let shift = Shift::new(&paths.gram().into(), &drift, DenseStream::Share(1.0), DAMP, "module").unwrap();
    let made = shift.apply(&paths.weight, 0, false);
    assert_eq!(made.weight[..COLS], paths.weight[..COLS]);
    assert!(made.weight[COLS..] != paths.weight[COLS..] && made.removed.is_finite());
}

#[test]
fn zeros_of_a_pruned_matrix_stay() {
    let mut paths = Paths::new(1.0);
    paths.weight.iter_mut().step_by(3).for_each(|w| *w = 0.0);
    let kept = paths.shifted(DenseStream::Share(1.0), 0);
    assert!(kept.iter().zip(&paths.weight).all(|(made, w)| *w != 0.0 || *made == 0.0));
    let drift = paths.drift();
    let shift = Shift::new(&paths.gram().into(), &drift, DenseStream::Share(1.0), DAMP, "module").unwrap();
    let target = shift.apply(&paths.weight, 0, false).weight;
    let (h, lambda) = (paths.gram(), paths.lambda(RIDGE * DAMP));
    let error = |made: &[f32]| -> f64 {
        let row = |row: usize| -> f64 {
            let d = |j: usize| f64::from(made[row * COLS + j] - target[row * COLS + j]);
            let product =
                |i: usize, j: usize| d(i) * d(j) * (f64::from(h[i * COLS + j]) + if i == j { lambda } else { 0.0 });
            (0..COLS * COLS).map(|at| product(at / COLS, at % COLS)).sum()
        };
        (0..ROWS).map(row).sum()
    };
    let cut: Vec<f32> = target.iter().zip(&paths.weight).map(|(t, w)| if *w == 0.0 { 0.0 } else { *t }).collect();
    assert!(error(&kept) < error(&cut) && error(&kept) < error(&paths.weight));
}

/// The inverse of a symmetric positive definite matrix, by elimination.
fn inverse(a: &[f64], n: usize) -> Vec<f64> {
    let (mut a, mut made) = (a.to_vec(), vec![0.0; n * n]);
    (0..n).for_each(|i| made[i * n + i] = 1.0);
    for k in 0..n {
        let pivot = a[k * n + k];
        for j in 0..n {
            a[k * n + j] /= pivot;
            made[k * n + j] /= pivot;
        }
        for i in (0..n).filter(|&i| i != k) {
            let by = a[i * n + k];
            for j in 0..n {
                a[i * n + j] -= by * a[k * n + j];
                made[i * n + j] -= by * made[k * n + j];
            }
        }
    }
    made
}

/// Qronos on one row, as its section 3 writes it: G = Σ x' xᵀ, columns by `order`, numbers rounded by `round(column, value)`.
fn qronos(
    w: &[f64],
    g: &[f64],
    h: &[f64],
    lambda: f64,
    order: &[usize],
    round: impl Fn(usize, f64) -> f64,
) -> Vec<f64> {
    let (mut v, mut q) = (w.to_vec(), vec![0.0; COLS]);
    for (k, &column) in order.iter().enumerate() {
        let rest = &order[k + 1..];
        if k == 0 {
            let towards: f64 = (0..COLS).map(|i| w[i] * g[i * COLS + column]).sum();
            let others: f64 = rest.iter().map(|&j| v[j] * h[j * COLS + column]).sum();
            q[column] = round(column, (towards - others) / h[column * COLS + column]);
        } else {
            q[column] = round(column, v[column]);
        }
        let damped = |i: usize, j: usize| h[i * COLS + j] + if i == j { lambda } else { 0.0 };
        let n = rest.len();
        let a: Vec<f64> = (0..n * n).map(|at| damped(rest[at / n], rest[at % n])).collect();
        let a = inverse(&a, n);
        let pull: Vec<f64> = match k {
            0 => rest
                .iter()
                .map(|&j| {
                    let towards: f64 =
                        (0..COLS).map(|i| w[i] * (g[i * COLS + j] + if i == j { lambda } else { 0.0 })).sum();
                    towards - q[column] * h[column * COLS + j]
                })
                .collect(),
            _ => rest.iter().map(|&j| (v[column] - q[column]) * h[column * COLS + j]).collect(),
        };
        for (at, &j) in rest.iter().enumerate() {
            let solved: f64 = (0..n).map(|i| pull[i] * a[i * n + at]).sum();
            v[j] = if k == 0 { solved } else { v[j] + solved };
        }
    }
    q
}

#[test]
fn gptq_on_shifted_weights_is_qronos() {
    let paths = Paths::new(1.0);
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let (h, g) = (wide(&paths.gram()), wide(&Paths::products(&paths.dense, &paths.ours)));
    let mut differ = false;
    for act_order in [ActOrder::None, ActOrder::Static] {
        let rounding = Some(Rounding { act_order, static_groups: true, ..Rounding::int(3, None) });
        let recipe = Recipe { rounding, percdamp: DAMP, ..published(&json!({"algo": "gptq", "bits": 3})).unwrap() };
        let prepared = recipe.prepare(Some(&Stats::Gram(paths.gram().into())), None, "module").unwrap();
        let first = prepared.first_column();
        let made = |how| {
            let weight = paths.shifted(how, first);
            recipe.compress(&weight, COLS, &prepared, Stored::plain(Dtype::F32), "module").unwrap()
        };
        let (ours, plain) = (made(DenseStream::Qronos), made(DenseStream::Share(1.0)));
        differ |= ours.codes() != plain.codes();
        let mut order: Vec<usize> = (0..COLS).collect();
        if act_order == ActOrder::Static {
            order.sort_by(|&a, &b| h[b * COLS + b].total_cmp(&h[a * COLS + a]));
        }
        assert_eq!(order[0], first);
        for row in 0..ROWS {
            let (scale, zero) = (f64::from(ours.scales[row]), f64::from(ours.zeros[row]));
            let round = |_: usize, v: f64| scale * ((v / scale + zero).round().clamp(0.0, 7.0) - zero);
            let w = wide(&paths.weight[row * COLS..][..COLS]);
            let want = qronos(&w, &g, &h, paths.lambda(DAMP), &order, round);
            for (j, (want, got)) in want.iter().zip(&ours.dense()[row * COLS..]).enumerate() {
                assert!(
                    (want - f64::from(*got)).abs() < 1e-5,
                    "{act_order:?}, row {row}, column {j}: {got}, not {want}"
                );
            }
        }
    }
    assert!(differ, "the first column changes nothing");
}
