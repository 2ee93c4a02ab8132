//! Weights in packed form in host memory.

use std::ops::Range;

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::MOST;
use super::codes::{Code, Codes};
use super::few::{FEW, Inputs, TOGETHER};
use super::field::{E2m3, E4m3, Level, Of, Whole};
use super::floats::{self, Bf16, Bitmask, Dense, F16, F32, Masked};
use super::grid::Grid;
use super::instructions::{self, Instructions};
use super::kind::Arrangement;
use super::many;
use super::numbers::Floats;
use super::outliers::Outliers;
use super::uneven::Uneven;
use crate::matmul::Precision;

/// Bytes of weights below which another thread costs more than it saves.
const TASK: usize = 16 << 10;

/// A weight `[rows, cols]` = `[out, in]` in packed form, in host memory.
pub(super) struct Host {
    pub rows: usize,
    pub cols: usize,
    pub product: Precision,
    pub store: Stored,
    /// The column at each place.
    pub order: Option<Vec<u32>>,
    pub outliers: Option<Outliers>,
}

/// The ways in which weights are stored.
pub(super) enum Stored {
    Dense(Floats),
    Masked(Bitmask),
    Codes(Codes),
    /// Codes of uneven groups, and the group of each column where there is an index.
    Uneven(Codes, Option<Vec<u32>>),
}

/// Calls a function that is generic over [`super::kind::Kind`] with the kind of a packed weight.
macro_rules! with_kind {
    (@ $kind:ident = $value:expr, $call:expr) => {{
        let $kind = &$value;
        $call
    }};
    ($packed:expr, |$kind:ident| $call:expr) => {{
        let &Host { cols, product, ref store, .. } = $packed;
        match store {
            Stored::Dense(Floats::Bf16(values)) => {
                with_kind!(@ $kind = Dense::<Bf16> { cols, values, product }, $call)
            }
            Stored::Dense(Floats::F16(values)) => with_kind!(@ $kind = Dense::<F16> { cols, values, product }, $call),
            Stored::Dense(Floats::F32(values)) => with_kind!(@ $kind = Dense::<F32> { cols, values, product }, $call),
            Stored::Masked(mask) => match &mask.values {
                Floats::Bf16(values) => {
                    with_kind!(@ $kind = Masked::<Bf16> { cols, mask, values, product }, $call)
                }
                Floats::F16(values) => with_kind!(@ $kind = Masked::<F16> { cols, mask, values, product }, $call),
                Floats::F32(values) => with_kind!(@ $kind = Masked::<F32> { cols, mask, values, product }, $call),
            },
            Stored::Uneven(codes, index) => with_kind!(@ $kind = Uneven { codes, index: index.as_deref() }, $call),
            Stored::Codes(codes) => match (codes.code, codes.code.width()) {
                (Code::E4m3, _) => with_kind!(@ $kind = Of::<E4m3>::new(codes), $call),
                (Code::E2m3, _) => with_kind!(@ $kind = Of::<E2m3>::new(codes), $call),
                (_, 2) => with_kind!(@ $kind = Of::<Level<2>>::new(codes), $call),
                (_, 3) => with_kind!(@ $kind = Of::<Level<3>>::new(codes), $call),
                (_, 4) => with_kind!(@ $kind = Of::<Level<4>>::new(codes), $call),
                (_, 5) => with_kind!(@ $kind = Of::<Whole<5>>::new(codes), $call),
                (_, 6) => with_kind!(@ $kind = Of::<Whole<6>>::new(codes), $call),
                (_, 7) => with_kind!(@ $kind = Of::<Whole<7>>::new(codes), $call),
                _ => with_kind!(@ $kind = Of::<Whole<8>>::new(codes), $call),
            },
        }
    }};
}

impl Host {
    /// As [`super::Packed::dense`].
    pub fn dense(rows: usize, cols: usize, values: &[f32], weight: Precision, product: Precision) -> Result<Self> {
        if values.len() != rows * cols || values.is_empty() {
            bail!("{} weights for [{rows}, {cols}]", values.len());
        }
        let zeros = values.iter().filter(|value| **value == 0.0).count();
        let mask = if zeros >= values.len() / 4 { Bitmask::new(values, cols, weight) } else { None };
        match mask {
            Some(mask) => Ok(Self { rows, cols, product, store: Stored::Masked(mask), order: None, outliers: None }),
            None => Self::pieces((rows, cols), [Result::Ok(values)], weight, product),
        }
    }

    /// As [`super::Packed::pieces`].
    pub fn pieces<V: AsRef<[f32]>, E: From<candle_core::Error>>(
        (rows, cols): (usize, usize),
        pieces: impl IntoIterator<Item = std::result::Result<V, E>>,
        weight: Precision,
        product: Precision,
    ) -> std::result::Result<Self, E> {
        let mut numbers = Floats::with_capacity(rows * cols + floats::AFTER.len(), weight);
        let mut count = 0;
        for piece in pieces {
            let piece = piece?;
            count += piece.as_ref().len();
            numbers.extend(piece.as_ref());
        }
        if count != rows * cols || count == 0 {
            return Err(candle_core::Error::msg(format!("{count} weights for [{rows}, {cols}]")).into());
        }
        numbers.extend(&floats::AFTER);
        Ok(Self { rows, cols, product, store: Stored::Dense(numbers), order: None, outliers: None })
    }

    /// As [`super::Packed::codes`].
    pub fn codes(rows: usize, cols: usize, grid: &Grid<'_>, product: Precision) -> Result<Self> {
        grid.check(rows, cols)?;
        let is_even = grid.is_even(cols);
        let grouped = if is_even && grid.order.is_none() { grid.grouped(cols) } else { None };
        let codes = grid.codes(cols, grouped.as_deref(), product);
        let store = match is_even && (grid.index.is_none() || grouped.is_some()) {
            true => Stored::Codes(codes),
            false => Stored::Uneven(codes, grid.index.map(<[u32]>::to_vec)),
        };
        let order = grid.order.map(<[u32]>::to_vec).or(grouped);
        let mut packed = Self { rows, cols, product, store, order, outliers: None };
        if !grid.outliers.0.is_empty() {
            let mut coded = vec![0f32; grid.outliers.0.len()];
            let mut row_weights = vec![0f32; cols];
            let mut at = usize::MAX;
            for (coded, &place) in coded.iter_mut().zip(grid.outliers.0) {
                if at != place as usize / cols {
                    at = place as usize / cols;
                    packed.decode(Instructions::current(), at, &mut row_weights);
                }
                *coded = row_weights[place as usize % cols];
            }
            packed.outliers = Some(Outliers::new(grid.outliers, &coded, (rows, cols), product));
        }
        Ok(packed)
    }

    /// Bytes of memory that the weight takes.
    pub fn bytes(&self) -> usize {
        let store = match &self.store {
            Stored::Dense(numbers) => numbers.bytes(),
            Stored::Masked(mask) => mask.bytes(),
            Stored::Codes(codes) => codes.bytes(),
            Stored::Uneven(codes, index) => codes.bytes() + index.as_ref().map_or(0, |index| 4 * index.len()),
        };
        store
            + self.order.as_ref().map_or(0, |order| 4 * order.len())
            + self.outliers.as_ref().map_or(0, Outliers::bytes)
    }

    /// The weight as products see it, row-major.
    pub fn to_dense(&self) -> Vec<f32> {
        let mut values = vec![0f32; self.rows * self.cols];
        let on = Instructions::current();
        values.par_chunks_exact_mut(self.cols).enumerate().for_each(|(row, out)| {
            self.decode(on, row, out);
            in_place(self.order.as_deref(), out);
        });
        values
    }

    /// The weights of rows `first ..` by places, outliers among them: `[.., cols]`.
    pub fn decode(&self, on: Instructions, first: usize, out: &mut [f32]) {
        with_kind!(self, |kind| instructions::decode(on, kind, first, self.cols, out));
        if let Some(outliers) = &self.outliers {
            out.chunks_exact_mut(self.cols).enumerate().for_each(|(i, row)| outliers.put(first + i, row));
        }
    }

    /// The arrangement that inputs need.
    pub fn arrangement(&self, on: Instructions) -> Option<Arrangement> {
        with_kind!(self, |kind| on.arrangement(kind))
    }

    /// The products of some rows with inputs: `[rows, inputs]`.
    pub fn few(&self, on: Instructions, rows: Range<usize>, x: &Inputs, out: &mut [f32]) {
        with_kind!(self, |kind| instructions::multiply(on, kind, rows.clone(), x, out));
        if let Some(outliers) = &self.outliers {
            for (row, sums) in rows.zip(out.chunks_exact_mut(x.count)) {
                outliers.add_to(row, &x.values, x.width, sums);
            }
        }
    }

    /// Rows of the weight that a task works on.
    fn task_rows(&self) -> usize {
        let row = (self.bytes() / self.rows).max(1);
        // Each thread has some tasks, of rows that are multiplied together.
        let most = self.rows.div_ceil(2 * rayon::current_num_threads());
        (TASK / row).max(most).next_multiple_of(TOGETHER)
    }
}

/// The products of `x [tokens, cols]` with several weights of as many columns, each `[tokens, rows]`.
pub(super) fn multiply_each(weights: &[&Host], x: &[f32], tokens: usize) -> Vec<Vec<f32>> {
    match tokens {
        0..=MOST => few_each(weights, x, tokens),
        _ => weights.iter().map(|weight| many::multiply(weight, x, tokens)).collect(),
    }
}

/// Puts the weights of a row, which come by places, where their columns are.
pub(super) fn in_place(order: Option<&[u32]>, row: &mut [f32]) {
    if let Some(order) = order {
        let by_place = row.to_vec();
        order.iter().zip(by_place).for_each(|(&col, weight)| row[col as usize] = weight);
    }
}

/// The products of at most [`MOST`] rows, each `[tokens, rows]`.
fn few_each(weights: &[&Host], x: &[f32], tokens: usize) -> Vec<Vec<f32>> {
    let Some(cols) = weights.first().map(|weight| weight.cols).filter(|_| tokens > 0) else {
        return weights.iter().map(|_| Vec::new()).collect();
    };
    let on = Instructions::current();
    // The inputs of each weight, [`FEW`] at a time; weights that see them alike share them.
    let mut inputs: Vec<Vec<Inputs>> = Vec::with_capacity(weights.len());
    let mut input_of = Vec::with_capacity(weights.len());
    for (i, weight) in weights.iter().enumerate() {
        let arrangement = weight.arrangement(on);
        let same = |other: &&Host| {
            other.order == weight.order && other.product == weight.product && other.arrangement(on) == arrangement
        };
        if let Some(at) = weights[..i].iter().position(same) {
            input_of.push(input_of[at]);
            continue;
        }
        input_of.push(inputs.len());
        let part = |x: &[f32]| {
            let inputs = Inputs::new(x, cols, weight.order.as_deref(), |x| weight.product.round(x));
            inputs.arranged(arrangement)
        };
        inputs.push(x.chunks(FEW * cols).map(part).collect());
    }
    let counts: Vec<usize> = inputs[0].iter().map(|part| part.count).collect();
    let buffers = |weight: &&Host| counts.iter().map(|count| vec![0f32; weight.rows * count]).collect();
    let mut sums: Vec<Vec<Vec<f32>>> = weights.iter().map(buffers).collect();
    let mut tasks = Vec::new();
    for ((weight, sums), &input) in weights.iter().zip(&mut sums).zip(&input_of) {
        let each = weight.task_rows();
        let mut rest: Vec<&mut [f32]> = sums.iter_mut().map(|part| &mut part[..]).collect();
        for first in (0..weight.rows).step_by(each) {
            let rows = first..weight.rows.min(first + each);
            let mut outs = Vec::with_capacity(counts.len());
            for (rest, count) in rest.iter_mut().zip(&counts) {
                outs.push(rest.split_off_mut(..rows.len() * count).unwrap_or_default());
            }
            tasks.push((*weight, rows, &inputs[input], outs));
        }
    }
    let run = |(weight, rows, inputs, outs): (&Host, Range<usize>, &Vec<Inputs>, Vec<&mut [f32]>)| {
        outs.into_iter().zip(inputs).for_each(|(out, x)| weight.few(on, rows.clone(), x, out));
    };
    match tasks.len() {
        1 => tasks.into_iter().for_each(run),
        _ => tasks.into_par_iter().with_max_len(1).for_each(run),
    }
    sums.into_iter().map(|parts| turned(parts, &counts, tokens)).collect()
}

/// `[rows, count]` in parts of so many inputs → `[tokens, rows]`.
fn turned(mut parts: Vec<Vec<f32>>, counts: &[usize], tokens: usize) -> Vec<f32> {
    if counts == [1] {
        return parts.pop().unwrap_or_default();
    }
    let columns = parts.iter().zip(counts).flat_map(|(part, &count)| (0..count).map(move |m| (part, m, count)));
    columns.take(tokens).flat_map(|(part, m, count)| part.iter().skip(m).step_by(count).copied()).collect()
}
