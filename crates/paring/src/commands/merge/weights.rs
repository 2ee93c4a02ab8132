//! One weight with an adapter in it, as its file can hold it, and what was lost of the change.

use paring_format::{Compressed, Dtype, Pair, Spqr, Values};
use paring_kernels::low_rank::change_row;
use serde::Serialize;

use crate::{Error, Result};

/// Zeros that make a plain matrix a pruned one: others have hardly any.
const PRUNED: f64 = 0.1;
/// The same of codes of 4 bits and more, of which a fifth mean zero in a matrix that is not pruned. Of fewer bits rounding alone makes as many.
const PRUNED_CODES: f64 = 0.4;

/// Numbers of one or more merged matrices.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    weights: u64,
    /// Weights that the adapter changes and no mask keeps at zero, and those of them that are what they were.
    moved: u64,
    vanished: u64,
    zeros: [u64; 2],
    /// Squares: of the weights before, of the change, of the part of it that masks remove, of the error of the rest, of the
    /// weights with the change, and of the distance from these.
    base: f64,
    change: f64,
    removed: f64,
    error: f64,
    target: f64,
    distance: f64,
}

/// The loss of merging, in numbers.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Loss {
    /// Size of the change, as a share of the size of the weights (Frobenius norms).
    pub change: f64,
    /// Error of what is stored of the change, as a share of it: what rounding took. Weights that a mask keeps at zero do not count.
    pub rounding: f64,
    /// Share of the change that masks remove.
    pub masked: f64,
    /// Distance of the merged weights from base and adapter, as a share of these.
    pub distance: f64,
    /// Share of the weights that the adapter changes, and whose stored value is what it was: by less than half a unit.
    pub vanished: f64,
    /// Share of zeros before.
    pub zeros_before: f64,
    /// Share of zeros in the merged weights.
    pub zeros_after: f64,
}

impl Sums {
    /// Adds those of another matrix.
    pub fn add(&mut self, other: &Sums) {
        self.weights += other.weights;
        self.moved += other.moved;
        self.vanished += other.vanished;
        (0..2).for_each(|i| self.zeros[i] += other.zeros[i]);
        self.base += other.base;
        self.change += other.change;
        self.removed += other.removed;
        self.error += other.error;
        self.target += other.target;
        self.distance += other.distance;
    }

    /// Shares; 0 where there is nothing to take one of.
    pub fn loss(&self) -> Loss {
        let root = |part: f64, of: f64| if of > 0.0 { (part / of).sqrt() } else { 0.0 };
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        Loss {
            change: root(self.change, self.base),
            rounding: root(self.error, self.change),
            masked: root(self.removed, self.change),
            distance: root(self.distance, self.target),
            vanished: share(self.vanished, self.moved),
            zeros_before: share(self.zeros[0], self.weights),
            zeros_after: share(self.zeros[1], self.weights),
        }
    }

    /// Counts a row: weights before and after, and the change between them.
    fn row(&mut self, before: &[f32], after: &[f32], change: &[f32], keeps: bool) {
        for ((&before, &after), &change) in before.iter().zip(after).zip(change) {
            let is_masked = keeps && before == 0.0;
            self.weights += 1;
            self.zeros[0] += u64::from(before == 0.0);
            self.zeros[1] += u64::from(after == 0.0);
            let (base, change) = (f64::from(before), f64::from(change));
            let target = base + change;
            let distance = f64::from(after) - target;
            self.base += base * base;
            self.change += change * change;
            self.target += target * target;
            self.distance += distance * distance;
            if is_masked {
                self.removed += change * change;
            } else {
                self.error += distance * distance;
                let is_moved = change != 0.0;
                self.moved += u64::from(is_moved);
                self.vanished += u64::from(is_moved && before == after);
            }
        }
    }
}

/// True for a matrix that was pruned: its zeros are more than chance makes, or at least two of each four or four of each eight.
pub(super) fn is_pruned(c: &Compressed, dense: &[f32]) -> bool {
    let share = dense.iter().filter(|&&value| value == 0.0).count() as f64 / dense.len().max(1) as f64;
    let bits = match &c.values {
        Values::Dense(_) => return share >= PRUNED,
        Values::Codes { grid, .. } => grid.element.bits(),
        Values::Spqr(spqr) => spqr.bits,
    };
    let halves = |of: usize| {
        let half = |group: &[f32]| 2 * group.iter().filter(|&&value| value == 0.0).count() >= of;
        c.cols.is_multiple_of(of) && dense.chunks_exact(of).all(half)
    };
    (bits > 3 && share >= PRUNED_CODES) || halves(4) || halves(8)
}

/// The matrix with the change of a pair, rounded once to what it stores: floats to its type, codes to the nearest on its grid as it
/// is, outliers to its type. Where it `keeps` zeros they are what they were. Returns the numbers of the change, too.
///
/// # Errors
/// When a weight overflows its type; on a pair of another shape.
pub(super) fn merged(module: &str, c: Compressed, pair: &Pair, keeps: bool) -> Result<(Compressed, Sums)> {
    if (c.rows, c.cols) != (pair.rows, pair.cols) {
        let (rows, cols) = (pair.rows, pair.cols);
        return Err(Error::Plan(format!("{module} is [{}, {}], and its adapter [{rows}, {cols}]", c.rows, c.cols)));
    }
    let (mut c, mut sums, mut change) = (c, Sums::default(), vec![0f32; pair.cols]);
    let Compressed { cols, dtype, .. } = c;
    let rows = pair.b.chunks_exact(pair.rank);
    let overflow = |row: usize| {
        Error::Plan(format!("{module}: row {row} overflows {dtype} with the adapter; keep the adapter apart"))
    };
    if let Values::Dense(values) = &mut c.values {
        let mut before = vec![0f32; cols];
        for (row, (values, b)) in values.chunks_exact_mut(cols).zip(rows).enumerate() {
            change_row(&pair.a, b, pair.scale, &mut change);
            before.copy_from_slice(values);
            add_to(values, &change, dtype, keeps);
            if values.iter().any(|value| !value.is_finite()) {
                return Err(overflow(row));
            }
            sums.row(&before, values, &change, keeps);
        }
        return Ok((c, sums));
    }
    let before = c.to_dense();
    // Those of SpQR are coded themselves.
    let scales = match &c.values {
        Values::Spqr(spqr) => spqr.scales.values(c.rows, spqr.groups(cols), dtype),
        _ => Vec::new(),
    };
    for (row, b) in rows.clone().enumerate() {
        change_row(&pair.a, b, pair.scale, &mut change);
        let kept = |col: usize| keeps && before[row * cols + col] == 0.0;
        match &mut c.values {
            Values::Dense(_) => {}
            Values::Codes { codes, grid } => {
                for (col, code) in codes[row * cols..][..cols].iter_mut().enumerate() {
                    let scale = grid.scale_at(row, col, cols);
                    // A scale of 0 has one value.
                    if scale != 0.0 && change[col] != 0.0 && !kept(col) {
                        *code = grid.element.code(grid.element.value(*code) + change[col] / scale);
                    }
                }
            }
            Values::Spqr(spqr) => {
                let groups = spqr.groups(cols);
                let by_position = |position: usize| {
                    let col = spqr.order.as_ref().map_or(position, |order| order[position] as usize);
                    if kept(col) { 0.0 } else { change[col] }
                };
                let moves: Vec<f32> = (0..cols).map(by_position).collect();
                round_spqr(spqr, row, &scales[row * groups..][..groups], (&moves, dtype));
            }
        }
    }
    let after = c.to_dense();
    for (row, b) in rows.enumerate() {
        change_row(&pair.a, b, pair.scale, &mut change);
        let part = |dense: &[f32]| dense[row * cols..][..cols].to_vec();
        let (before, after) = (part(&before), part(&after));
        if after.iter().any(|value| !value.is_finite()) {
            return Err(overflow(row));
        }
        sums.row(&before, &after, &change, keeps);
    }
    Ok((c, sums))
}

/// Adds a row of the change, rounded once.
fn add_to(values: &mut [f32], change: &[f32], dtype: Dtype, keeps: bool) {
    for (value, &change) in values.iter_mut().zip(change) {
        if !(keeps && *value == 0.0) {
            *value = dtype.round(*value + change);
        }
    }
}

/// Moves the codes and outliers of a row by the change at each position, `[cols]`, given the scales of the row's groups.
fn round_spqr(spqr: &mut Spqr, row: usize, scales: &[f32], (change, dtype): (&[f32], Dtype)) {
    let cols = change.len();
    let high = ((1u32 << spqr.bits) - 1) as f32;
    for (position, (code, &change)) in spqr.codes[row * cols..][..cols].iter_mut().zip(change).enumerate() {
        let scale = scales[position / spqr.group_size];
        if scale != 0.0 && change != 0.0 {
            *code = (f32::from(*code) + change / scale).clamp(0.0, high).round_ties_even() as u8;
        }
    }
    let first = spqr.outliers.at.partition_point(|&at| (at as usize) < row * cols);
    for (&at, value) in spqr.outliers.at.iter().zip(&mut spqr.outliers.values).skip(first) {
        let Some(&change) = change.get(at as usize - row * cols) else { break };
        *value = dtype.round(*value + change);
    }
}
