//! The definition: one tile, one grid and one weight after the other.

use super::super::{Element, GridFormat, Scales};
use super::trials::{FEW, LEAST, NEAR, STEPS, float_scale};
use super::{REFITS, least_scale};

/// Scale and zero point for a tile of rows, each as long as `h`, the importance of the columns.
pub(in crate::sweep) fn fit(format: &GridFormat, x: &[f32], h: &[f32]) -> (f32, f32) {
    let most = h.iter().copied().fold(0f32, f32::max);
    let is_known = (f32::MIN_POSITIVE..f32::INFINITY).contains(&most);
    let h: Vec<f32> = h.iter().map(|h| if is_known { h / most } else { 1.0 }).collect();
    let grids = tried(format, x);
    let (mut best, mut least) = (grids[0], f32::INFINITY);
    let offer = |grid: (f32, f32), best: &mut (f32, f32), least: &mut f32| {
        let error = error(format, x, &h, grid);
        if error < *least {
            (*best, *least) = (grid, error);
        }
    };
    grids.into_iter().for_each(|grid| offer(grid, &mut best, &mut least));
    if matches!(format.element, Element::Int(_)) {
        for _ in 0..REFITS {
            let scale = refitted(format, x, &h, best);
            offer((scale, best.1), &mut best, &mut least);
        }
    }
    best
}

/// All grids, in order.
fn tried(format: &GridFormat, x: &[f32]) -> Vec<(f32, f32)> {
    let (mut lo, mut hi) = x.iter().fold((0f32, 0f32), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    let Element::Int(_) = format.element else {
        let count = match format.scales {
            Scales::Float => STEPS,
            Scales::E4m3 { .. } => 16,
            Scales::Exponent => 3,
        };
        return (0..count).map(|at| (float_scale(format, hi.max(-lo), at), 0.0)).collect();
    };
    if format.symmetric {
        hi = hi.max(-lo);
        lo = -hi;
    }
    if lo == 0.0 && hi == 0.0 {
        (lo, hi) = (-1.0, 1.0);
    }
    let max_code = format.max_code();
    let whole = (hi - lo) / max_code;
    let near = (-lo / whole).round_ties_even();
    let beside = |k: usize| [near - k as f32, near + k as f32];
    let zeros: Vec<f32> = match (format.symmetric, max_code as usize) {
        (true, _) => vec![(max_code + 1.0) / 2.0],
        (false, largest) if largest < FEW => (0..=largest).map(|zero| zero as f32).collect(),
        (false, _) => std::iter::once(near).chain((1..=NEAR).flat_map(beside)).collect(),
    };
    let widest = max_code / (max_code - 1.0);
    let narrower = (0..STEPS - 1).map(|i| widest - (widest - LEAST) * i as f32 / (STEPS - 2) as f32);
    let scales = std::iter::once(1.0).chain(narrower).map(|part| stored(format, part * whole));
    scales.flat_map(|scale| zeros.iter().map(move |zero| (scale, zero.clamp(0.0, max_code)))).collect()
}

fn stored(format: &GridFormat, scale: f32) -> f32 {
    let scale = format.stored.round(scale);
    if scale == 0.0 { least_scale(format.stored) } else { scale }
}

/// The number that a code stands for, before it is multiplied by the scale.
fn number(format: &GridFormat, x: f32, (scale, zero): (f32, f32)) -> f32 {
    let at = x * (1.0 / format.applied(scale));
    match format.element {
        Element::Int(_) => at.round_ties_even().clamp(-zero, format.max_code() - zero),
        _ => format.encode(at, 1.0, 0.0),
    }
}

/// Σ h (q − x)²: of each row, and of all rows.
fn error(format: &GridFormat, x: &[f32], h: &[f32], grid: (f32, f32)) -> f32 {
    let of_row = |row: &[f32]| {
        let off = |x: f32| format.applied(grid.0) * number(format, x, grid) - x;
        row.iter().zip(h).fold(0f32, |sum, (&x, h)| sum + h * (off(x) * off(x)))
    };
    x.chunks(h.len()).map(|row| f64::from(of_row(row))).sum::<f64>() as f32
}

/// The scale that fits the codes of a grid best.
fn refitted(format: &GridFormat, x: &[f32], h: &[f32], grid: (f32, f32)) -> f32 {
    let (mut products, mut squares) = (0f64, 0f64);
    for row in x.chunks(h.len()) {
        let codes = row.iter().map(|&x| number(format, x, grid));
        let (mut product, mut square) = (0f32, 0f32);
        for ((&x, h), code) in row.iter().zip(h).zip(codes) {
            product += h * (x * code);
            square += h * (code * code);
        }
        (products, squares) = (products + f64::from(product), squares + f64::from(square));
    }
    let scale = products as f32 / squares as f32;
    stored(format, if scale > 0.0 && scale < f32::INFINITY { scale } else { grid.0 })
}
