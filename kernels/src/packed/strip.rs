//! Scales and zero points: a number for each row, or some rows, and group of columns.

use super::numbers::{LANES, Numbers};
use super::wide::Wide;
use crate::matmul::Precision;

/// A number for each group of each row, stored once for `height` rows.
#[derive(Clone, Debug)]
pub(super) struct Strip {
    /// Numbers of a row, those that only fill it up to an even number among them.
    pub stride: usize,
    /// Rows that share their numbers.
    pub height: usize,
    pub store: Store,
}

/// The numbers of a [`Strip`].
#[derive(Clone, Debug)]
pub(super) enum Store {
    /// The same everywhere.
    Constant(f32),
    /// `[rows / height, stride]`.
    Plain(Numbers),
    /// `scale · (code − zero)`, every operation rounded; a code for each row.
    Coded { codes: Numbers, scales: Box<Strip>, zeros: Box<Strip>, round: Precision },
}

/// Numbers of some rows, widened: `[rows, stride]`.
#[derive(Default)]
pub(super) struct Widened {
    pub values: Vec<f32>,
    scales: Vec<f32>,
    zeros: Vec<f32>,
}

impl Strip {
    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        match &self.store {
            Store::Constant(_) => 0,
            Store::Plain(numbers) => numbers.bytes(),
            Store::Coded { codes, scales, zeros, .. } => codes.bytes() + scales.bytes() + zeros.bytes(),
        }
    }

    /// Widens the numbers of rows `first .. first + count`.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    #[inline(always)]
    pub(super) unsafe fn widen<W: Wide>(&self, first: usize, count: usize, into: &mut Widened) {
        let Widened { values, scales: their_scales, zeros: their_zeros } = into;
        let len = (count * self.stride + LANES).next_multiple_of(LANES);
        values.resize(len, 0.0);
        let Store::Coded { codes, scales, zeros, round } = &self.store else {
            // SAFETY: the caller's promise.
            return unsafe { self.plain::<W>(first, count, values) };
        };
        // SAFETY: the caller's promise; all buffers have the same length, of whole lanes.
        unsafe {
            codes.widen::<W>(first * self.stride, &mut values[..len - LANES]);
            for (strip, to) in [(scales, &mut *their_scales), (zeros, &mut *their_zeros)] {
                to.resize(len, 0.0);
                strip.plain::<W>(first, count, to);
            }
            for at in (0..len).step_by(LANES) {
                let zero = W::load(their_zeros.as_ptr().add(at));
                let difference = W::load(values.as_ptr().add(at)).subtract(zero).rounded(*round);
                let scale = W::load(their_scales.as_ptr().add(at));
                scale.multiply(difference).rounded(*round).store(values.as_mut_ptr().add(at));
            }
        }
    }

    /// [`Strip::widen`] of numbers that are not coded. `out` has [`LANES`] more than needed.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    #[inline(always)]
    unsafe fn plain<W: Wide>(&self, first: usize, count: usize, out: &mut [f32]) {
        match &self.store {
            Store::Constant(value) => out.fill(*value),
            Store::Plain(numbers) if self.height == 1 => {
                let len = out.len() - LANES;
                // SAFETY: the caller's promise.
                unsafe { numbers.widen::<W>(first * self.stride, &mut out[..len]) };
            }
            Store::Plain(numbers) => {
                for row in 0..count {
                    // What is beyond the row's end is overwritten with the next row.
                    let out = &mut out[row * self.stride..][..self.stride.next_multiple_of(LANES)];
                    // SAFETY: the caller's promise.
                    unsafe { numbers.widen::<W>((first + row) / self.height * self.stride, out) };
                }
            }
            Store::Coded { .. } => unreachable!("statistics are coded once"),
        }
    }
}
