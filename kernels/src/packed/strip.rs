//! Scales and zero points: a number for each row, or some rows, and group of columns.

use super::numbers::{LANES, Numbers};
use super::wide::Wide;
use crate::matmul::Precision;

/// A number for each group of each row.
#[derive(Clone, Debug)]
pub(super) enum Strip {
    /// The same everywhere.
    Constant(f32),
    Plain(Plain),
    /// `scale · (code − zero)`, every operation rounded; a code for each row.
    Coded {
        codes: Plain,
        scales: Plain,
        zeros: Plain,
        round: Precision,
    },
}

/// Numbers as they are, `[rows / height, stride]`.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    /// Numbers of a row, those that only fill it up to an even number among them.
    pub stride: usize,
    /// Rows that share their numbers.
    pub height: usize,
    pub numbers: Numbers,
}

/// Numbers of some rows, widened: `[rows, pitch]`.
#[derive(Default)]
pub(super) struct Widened {
    pub values: Vec<f32>,
    /// Numbers from a row to the next: none where all rows have the same.
    pub pitch: usize,
    pub scales: Vec<f32>,
    pub zeros: Vec<f32>,
    /// The rows whose scales and zeros these are, divided by their height, for [`Strip::widen_pairs`].
    pub tile: Option<usize>,
}

impl Strip {
    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Strip::Constant(_) => 0,
            Strip::Plain(plain) => plain.numbers.bytes(),
            Strip::Coded { codes, scales, zeros, .. } => {
                [codes, scales, zeros].map(|plain| plain.numbers.bytes()).iter().sum()
            }
        }
    }

    /// Widens the numbers of rows `first .. first + count`, which have so many groups.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    #[inline(always)]
    pub(super) unsafe fn widen<W: Wide>(&self, first: usize, count: usize, groups: usize, into: &mut Widened) {
        // SAFETY: the caller's promise; all buffers have the same length, of whole lanes.
        unsafe {
            match self {
                Strip::Constant(value) => into.constant(groups, *value),
                Strip::Plain(plain) => {
                    into.pitch = plain.stride;
                    plain.widen::<W>(first, count, &mut into.values);
                }
                Strip::Coded { codes, scales, zeros, round } => {
                    into.pitch = codes.stride;
                    codes.widen::<W>(first, count, &mut into.values);
                    scales.widen::<W>(first, count, &mut into.scales);
                    zeros.widen::<W>(first, count, &mut into.zeros);
                    for at in (0..into.values.len()).step_by(LANES) {
                        let zero = W::load(into.zeros.as_ptr().add(at));
                        let difference = W::load(into.values.as_ptr().add(at)).subtract(zero).rounded(*round);
                        let scale = W::load(into.scales.as_ptr().add(at));
                        scale.multiply(difference).rounded(*round).store(into.values.as_mut_ptr().add(at));
                    }
                }
            }
        }
    }
}

impl Widened {
    /// The same number for all groups of all rows.
    pub(super) fn constant(&mut self, groups: usize, value: f32) {
        (self.pitch, self.tile) = (0, None);
        let len = groups.next_multiple_of(4);
        // They are there already but for the first rows.
        if self.values.len() != len || self.values[0].to_bits() != value.to_bits() {
            self.values.clear();
            self.values.resize(len, value);
        }
    }
}

impl Plain {
    /// Widens the numbers of some rows, and up to [`LANES`] more.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    #[inline(always)]
    unsafe fn widen<W: Wide>(&self, first: usize, count: usize, out: &mut Vec<f32>) {
        let len = (count * self.stride).next_multiple_of(LANES);
        out.resize(len + LANES, 0.0);
        if self.height == 1 {
            // SAFETY: the caller's promise.
            return unsafe { self.numbers.widen::<W>(first * self.stride, &mut out[..len]) };
        }
        for row in 0..count {
            // What is beyond the row's end is overwritten with the next row.
            let out = &mut out[row * self.stride..][..self.stride.next_multiple_of(LANES)];
            // SAFETY: the caller's promise.
            unsafe { self.numbers.widen::<W>((first + row) / self.height * self.stride, out) };
        }
    }
}
