//! Helpers of the tests of this crate.

use crate::{Compressed, Dtype, Grid, Values};

/// A small generator (splitmix64): tests need numbers that look random and never change.
pub struct Rng(pub u64);

impl Rng {
    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A code of `bits` bits.
    pub fn code(&mut self, bits: u32) -> i8 {
        let (low, high) = crate::bits::range(bits);
        (i32::from(low) + self.below((i32::from(high) - i32::from(low)) as usize + 1) as i32) as i8
    }

    /// A float in -1..1 that `dtype` holds.
    pub fn float(&mut self, dtype: Dtype) -> f32 {
        dtype.round((self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
    }

    /// A dense matrix, half of it zeros.
    pub fn dense(&mut self, rows: usize, cols: usize, dtype: Dtype) -> Compressed {
        let values = (0..rows * cols).map(|_| if self.next() & 1 == 0 { 0.0 } else { self.float(dtype) }).collect();
        Compressed { rows, cols, dtype, values: Values::Dense(values) }
    }

    /// A quantized matrix; `cols` must be a multiple of `group_size`.
    pub fn codes(
        &mut self,
        rows: usize,
        cols: usize,
        dtype: Dtype,
        bits: u32,
        group_size: usize,
        symmetric: bool,
    ) -> Compressed {
        let scales = rows * (cols / group_size);
        let grid = Grid {
            bits,
            group_size,
            scales: (0..scales).map(|_| self.float(dtype)).collect(),
            zeros: (!symmetric).then(|| (0..scales).map(|_| self.code(bits)).collect()),
            group_index: None,
        };
        let codes = (0..rows * cols).map(|_| self.code(bits)).collect();
        Compressed { rows, cols, dtype, values: Values::Codes { codes, grid } }
    }
}
