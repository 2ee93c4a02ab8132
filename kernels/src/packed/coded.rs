//! Statistics for products in pairs: those that are codes themselves come 32 at a time, with the numbers that decode them kept for
//! all rows that share them.

use super::numbers::{LANES, Numbers};
use super::strip::{Plain, Strip, Widened};
use super::wide::Pairs;
use crate::matmul::Precision;

/// Numbers that are decoded at once.
const BOTH: usize = 2 * LANES;

/// The place among 32 narrowed numbers of group `group`: see [`Widened::decode`].
const fn place(group: usize) -> u16 {
    (group % 4 * 8 + group / 4) as u16
}

/// The places from which two times sixteen groups come, which take turns; with `swapped` the second and the third of four change
/// places.
const fn places(swapped: bool) -> [u16; BOTH] {
    let mut all = [0; BOTH];
    let mut i = 0;
    while i < BOTH {
        let group = i % 2 * LANES + i / 2;
        let group = if swapped { group / 4 * 4 + group % 2 * 2 + group % 4 / 2 } else { group };
        all[i] = place(group);
        i += 1;
    }
    all
}

impl Strip {
    /// [`Strip::widen`], with the second and the third number of every four in each other's place if they are `swapped`: there
    /// are whole fours then.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    #[inline(always)]
    pub(super) unsafe fn widen_pairs<W: Pairs>(
        &self,
        first: usize,
        count: usize,
        groups: usize,
        swapped: bool,
        into: &mut Widened,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Strip::Constant(value) => into.constant(groups, *value),
                Strip::Coded {
                    codes: Plain { numbers: Numbers::Nibbles(bytes, low), stride, .. },
                    scales,
                    zeros,
                    round,
                } if *round == Precision::Bf16 => {
                    into.begin(count, groups);
                    let places = if swapped { const { places(true) } } else { const { places(false) } };
                    for i in 0..count {
                        into.share::<W>((first + i) / scales.height, scales, zeros);
                        into.decode::<W>(&bytes[(first + i) * stride / 2..], *low, &places, i * into.pitch);
                    }
                }
                _ if !swapped => self.widen::<W>(first, count, groups, into),
                _ => {
                    let mut plain = Widened::default();
                    self.widen::<W>(first, count, groups, &mut plain);
                    into.begin(count, groups);
                    let rows = into.values.chunks_exact_mut(into.pitch);
                    for (row, plain) in rows.zip(plain.values.chunks(plain.pitch)) {
                        for (four, plain) in row.chunks_exact_mut(4).zip(plain[..groups].chunks_exact(4)) {
                            four.copy_from_slice(&[plain[0], plain[2], plain[1], plain[3]]);
                        }
                    }
                }
            }
        }
    }
}

impl Widened {
    /// Begins `count` rows of whole 32.
    fn begin(&mut self, count: usize, groups: usize) {
        self.pitch = groups.next_multiple_of(BOTH);
        self.values.resize(count * self.pitch, 0.0);
    }

    /// Widens the scales and zeros of the rows of a tile, in the orders in which [`Widened::decode`] takes them, unless they are there.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    #[inline(always)]
    unsafe fn share<W: Pairs>(&mut self, tile: usize, scales: &Plain, zeros: &Plain) {
        if self.tile == Some(tile) {
            return;
        }
        self.tile = Some(tile);
        // SAFETY: the caller's promise; the buffers have whole 32 numbers.
        unsafe {
            for (plain, into, times) in [(zeros, &mut self.zeros, 1), (scales, &mut self.scales, 2)] {
                into.resize(self.pitch, 0.0);
                plain.numbers.widen::<W>(tile * plain.stride, &mut into[..plain.stride.next_multiple_of(LANES)]);
                for both in into.chunks_exact_mut(BOTH) {
                    let at = both.as_mut_ptr();
                    for _ in 0..times {
                        let (even, odd) = W::load(at).unzipped(W::load(at.add(LANES)));
                        even.store(at);
                        odd.store(at.add(LANES));
                    }
                }
            }
        }
    }

    /// Decodes a row of codes of four bits, the lower half of a byte first, to `values` from `first` on.
    ///
    /// # Safety
    /// Needs the instructions of `W`, and [`Widened::share`] of the row's tile; there are 16 bytes after those of the row.
    #[inline(always)]
    unsafe fn decode<W: Pairs>(&mut self, bytes: &[u8], low: i32, places: &[u16; BOTH], first: usize) {
        let mut numbers = [0f32; LANES];
        for (code, number) in numbers.iter_mut().enumerate() {
            *number = (low + code as i32) as f32;
        }
        let out = &mut self.values[first..][..self.pitch];
        assert!(bytes.len() >= self.pitch / 2 && self.zeros.len() >= self.pitch && self.scales.len() >= self.pitch);
        // SAFETY: the caller's promise, and the assertion.
        unsafe {
            let (numbers, places) = (W::load(numbers.as_ptr()), W::load_words(places.as_ptr()));
            for at in (0..out.len()).step_by(BOTH) {
                let codes = W::bytes(bytes.as_ptr().add(at / 2));
                let (zeros, scales) = (self.zeros.as_ptr().add(at), self.scales.as_ptr().add(at));
                let even = W::pick(numbers, codes).subtract(W::load(zeros));
                let odd = W::pick(numbers, W::shifted(codes, 4)).subtract(W::load(zeros.add(LANES)));
                let differences = W::narrowed(even, odd);
                let even = W::parity(0, differences).multiply(W::load(scales));
                let odd = W::parity(1, differences).multiply(W::load(scales.add(LANES)));
                let made = W::pick_words(W::narrowed(even, odd), places);
                W::parity(0, made).store(out.as_mut_ptr().add(at));
                W::parity(1, made).store(out.as_mut_ptr().add(at + LANES));
            }
        }
    }
}
