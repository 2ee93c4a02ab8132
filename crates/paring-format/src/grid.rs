//! Grids: the element of a code, and the scales and zero points that tiles of a matrix share.

use std::fmt;

use crate::dtype::{round_bf16, round_f16};
use crate::{Dtype, Error, Result, bits, floats};

/// The type of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// A signed integer of 1 to 8 bits, `-2^(bits-1) ..= 2^(bits-1) - 1`.
    Int(u32),
    /// An 8-bit float: sign, 4 bits of exponent, 3 of mantissa, no infinities (OCP FP8, `float8_e4m3fn`).
    E4m3,
    /// A 6-bit float: sign, 2 bits of exponent, 3 of mantissa, no infinities and no NaN (OCP MX, section 5.3.2).
    E2m3,
    /// A 4-bit float: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives (OCP MX, section 5.3.3).
    E2m1,
}

impl Element {
    /// Width of a code.
    pub fn bits(self) -> u32 {
        match self {
            Element::Int(bits) => bits,
            Element::E4m3 => 8,
            Element::E2m3 => 6,
            Element::E2m1 => 4,
        }
    }

    /// The integer width; `None` for floats.
    pub fn int_bits(self) -> Option<u32> {
        match self {
            Element::Int(bits) => Some(bits),
            Element::E4m3 | Element::E2m3 | Element::E2m1 => None,
        }
    }

    /// The least and the largest number that a code stands for.
    ///
    /// # Panics
    /// If the integer has no bits or more than 8.
    pub fn range(self) -> (f32, f32) {
        match self {
            Element::Int(width) => {
                let (low, high) = bits::range(width);
                (f32::from(low), f32::from(high))
            }
            Element::E4m3 => (-floats::E4M3_MAX, floats::E4M3_MAX),
            Element::E2m3 => (-floats::E2M3_MAX, floats::E2M3_MAX),
            Element::E2m1 => (-floats::E2M1_MAX, floats::E2M1_MAX),
        }
    }

    /// The number that a code stands for before scale and zero point. An `E4m3` code is the float's byte; an `E2m3` code
    /// has its sign in bit 5, an `E2m1` code in bit 3, and higher bits are not looked at.
    #[inline]
    pub fn value(self, code: i8) -> f32 {
        match self {
            Element::Int(_) => f32::from(code),
            Element::E4m3 => floats::from_e4m3(code as u8),
            Element::E2m3 => floats::from_e2m3(code as u8),
            Element::E2m1 => floats::from_e2m1(code as u8),
        }
    }

    /// The code of the number nearest to `value`, ties to even; numbers out of range get the code of the range's end. For
    /// signs of zero and for NaN see [`floats::to_e4m3`], [`floats::to_e2m3`] and [`floats::to_e2m1`]; the integer of NaN is 0.
    ///
    /// # Panics
    /// If the integer has no bits or more than 8.
    #[inline]
    pub fn code(self, value: f32) -> i8 {
        match self {
            Element::Int(_) => {
                let (low, high) = self.range();
                // Where an f32 has no bits for fractions, adding rounds.
                let whole = 1.5 * 2f32.powi(23);
                (value.clamp(low, high) + whole - whole) as i8
            }
            Element::E4m3 => floats::to_e4m3(value) as i8,
            Element::E2m3 => floats::to_e2m3(value) as i8,
            Element::E2m1 => floats::to_e2m1(value) as i8,
        }
    }

    /// [`Element::value`] of each code.
    fn values(self, codes: &[i8], values: &mut [f32]) {
        let each = values.iter_mut().zip(codes);
        // A loop for each element, in which nothing is asked.
        match self {
            Element::Int(_) => each.for_each(|(value, &code)| *value = f32::from(code)),
            Element::E4m3 => each.for_each(|(value, &code)| *value = Element::E4m3.value(code)),
            Element::E2m3 => each.for_each(|(value, &code)| *value = Element::E2m3.value(code)),
            Element::E2m1 => each.for_each(|(value, &code)| *value = Element::E2m1.value(code)),
        }
    }
}

/// Codes of this type, in the plural: `4-bit integers`, `8-bit floats`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.int_bits().is_some() { "integers" } else { "floats" };
        write!(f, "{}-bit {kind}", self.bits())
    }
}

/// The type in which scales are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleType {
    /// In the float type of the matrix.
    #[default]
    Float,
    /// As `E4m3`, to be divided by a global scale in f32 (NVFP4).
    E4m3,
    /// As a power of two, its exponent + 127 in a byte (OCP MX, E8M0).
    Exponent,
}

/// The zero points of a grid, one per scale.
#[derive(Clone, Debug, PartialEq)]
pub enum Zeros {
    /// Codes.
    Codes(Vec<i8>),
    /// Numbers, whole or not, that are rounded to the matrix's type where they are used: only layouts that do not pack
    /// zero points can hold them.
    Floats(Vec<f32>),
}

/// A quantization grid: `weight = (code - zero) * scale`, one scale and zero point per tile.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// The type of a code.
    pub element: Element,
    /// Rows and columns that share a scale: `[1, group]`, `[1, cols]` for a whole row, `[rows, cols]` for the matrix.
    /// The last tiles of a row or column may be cut off.
    pub tile: [usize; 2],
    /// Row-major `[⌈rows / tile[0]⌉, ⌈cols / tile[1]⌉]`, as [`Grid::scale_type`] stores them.
    pub scales: Vec<f32>,
    /// The type in which scales are stored.
    pub scale_type: ScaleType,
    /// The divisor of all scales, for [`ScaleType::E4m3`] and no other.
    pub global: Option<f32>,
    /// Like the scales; `None` for a symmetric grid (zero point 0).
    pub zeros: Option<Zeros>,
    /// The group of each column, when it is not `column / group` (activation order "group").
    pub group_index: Option<Vec<u32>>,
}

impl Grid {
    /// A grid of integers with a scale of the matrix's type for each row and `group_size` columns.
    pub fn int(bits: u32, group_size: usize, scales: Vec<f32>, zeros: Option<Vec<i8>>) -> Grid {
        Grid {
            element: Element::Int(bits),
            tile: [1, group_size],
            scales,
            scale_type: ScaleType::Float,
            global: None,
            zeros: zeros.map(Zeros::Codes),
            group_index: None,
        }
    }

    /// Tiles down and across a matrix of this shape, when there are that many.
    pub fn tiles(&self, rows: usize, cols: usize) -> [usize; 2] {
        [rows.div_ceil(self.tile[0].max(1)), cols.div_ceil(self.tile[1].max(1))]
    }

    /// Tiles in a row of `cols` columns; the last one may be short.
    pub fn groups(&self, cols: usize) -> usize {
        self.tiles(1, cols)[1]
    }

    /// The group of column `col`.
    pub fn group_of(&self, col: usize) -> usize {
        match &self.group_index {
            Some(index) => index[col] as usize,
            None => col / self.tile[1],
        }
    }

    /// The dense weight of row-major codes `[rows, cols]`, every operation rounded to `dtype`; with a global scale,
    /// `scale / global` and the product are f32, and only the result is rounded.
    pub(crate) fn to_dense(&self, codes: &[i8], cols: usize, dtype: Dtype) -> Vec<f32> {
        let mut dense = Vec::with_capacity(codes.len());
        self.for_rows(codes, cols, dtype, |row| dense.extend_from_slice(row));
        dense
    }

    /// Shows `see` the rows of [`Grid::to_dense`], one at a time.
    pub(crate) fn for_rows(&self, codes: &[i8], cols: usize, dtype: Dtype, see: impl FnMut(&[f32])) {
        match dtype {
            Dtype::Bf16 => self.rows(codes, cols, round_bf16, see),
            Dtype::F16 => self.rows(codes, cols, round_f16, see),
            _ => self.rows(codes, cols, |x| x, see),
        }
    }

    fn rows(&self, codes: &[i8], cols: usize, round: impl Fn(f32) -> f32 + Copy, mut see: impl FnMut(&[f32])) {
        let cols = cols.max(1);
        let mut dense = vec![0f32; cols];
        // Every float type has all codes, and the differences of integer codes.
        let exact = match &self.zeros {
            None => true,
            Some(Zeros::Codes(_)) => self.element.int_bits().is_some(),
            Some(Zeros::Floats(_)) => false,
        };
        // Scales and zero points of each column, where runs of columns that share theirs are short or of any order.
        let step = self.step();
        let by_column = step < 8;
        let (mut scales, mut zeros) = (vec![0f32; cols], vec![0f32; cols]);
        for (row, codes) in codes.chunks_exact(cols).enumerate() {
            self.element.values(codes, &mut dense);
            if by_column {
                for (col, (scale, zero)) in scales.iter_mut().zip(&mut zeros).enumerate() {
                    let (found, zero_point) = self.scale_and_zero(row, col, cols, round);
                    (*scale, *zero) = (found, zero_point.unwrap_or(0.0));
                }
                for ((x, &scale), &zero) in dense.iter_mut().zip(&scales).zip(&zeros) {
                    *x = round(round(*x - zero) * scale);
                }
                see(&dense);
                continue;
            }
            for (run, dense) in dense.chunks_mut(step).enumerate() {
                match self.scale_and_zero(row, run * step, cols, round) {
                    (scale, None) => dense.iter_mut().for_each(|x| *x = round(*x * scale)),
                    (scale, Some(zero)) if exact => dense.iter_mut().for_each(|x| *x = round((*x - zero) * scale)),
                    (scale, Some(zero)) => dense.iter_mut().for_each(|x| *x = round(round(*x - zero) * scale)),
                }
            }
            see(&dense);
        }
    }

    /// Row-major codes `[rows, cols]` of dense weights, as compressed-tensors quantizes: `weight / scale + zero`, every
    /// operation rounded to `dtype`, then the nearest code of the element's range, ties to even; with a global scale,
    /// `scale / global` is f32. `dtype` is the type of weights and scales, or f32 where they differ.
    ///
    /// Errors when the grid does not fit such a matrix, and when a scale is 0.
    pub fn quantize(&self, dense: &[f32], cols: usize, dtype: Dtype) -> Result<Vec<i8>> {
        let rows = dense.len().checked_div(cols).unwrap_or(0);
        let mut codes = vec![0; dense.len()];
        self.check(&codes, rows, cols, dtype)?;
        if let Some(at) = self.scales.iter().position(|&scale| scale == 0.0) {
            return Err(Error::parts(format!("weight_scale: 0 (element {at}); weights cannot be divided by it")));
        }
        let step = self.step();
        for (row, (codes, dense)) in codes.chunks_exact_mut(cols).zip(dense.chunks_exact(cols)).enumerate() {
            for (run, (codes, dense)) in codes.chunks_mut(step).zip(dense.chunks(step)).enumerate() {
                let (scale, zero) = self.scale_and_zero(row, run * step, cols, |x| dtype.round(x));
                for (code, &weight) in codes.iter_mut().zip(dense) {
                    let steps = dtype.round(weight / scale);
                    *code = self.element.code(zero.map_or(steps, |zero| dtype.round(steps + zero)));
                }
            }
        }
        Ok(codes)
    }

    /// Columns of a row that lie side by side and share their scale and zero point for certain.
    fn step(&self) -> usize {
        if self.group_index.is_some() { 1 } else { self.tile[1].max(1) }
    }

    /// The distance of two codes that are 1 apart, at this place of a matrix of `cols` columns, before it is rounded to a type.
    ///
    /// # Panics
    /// If there is no such place.
    pub fn scale_at(&self, row: usize, col: usize, cols: usize) -> f32 {
        self.scale_and_zero(row, col, cols, |x| x).0
    }

    /// The scale of the codes at this place of a matrix of `cols` columns, and their zero point if there is one.
    fn scale_and_zero(&self, row: usize, col: usize, cols: usize, round: impl Fn(f32) -> f32) -> (f32, Option<f32>) {
        let at = row / self.tile[0].max(1) * self.groups(cols) + self.group_of(col);
        let scale = self.global.map_or(self.scales[at], |global| self.scales[at] / global);
        let zero = match &self.zeros {
            None => None,
            Some(Zeros::Codes(zeros)) => Some(f32::from(zeros[at])),
            Some(Zeros::Floats(zeros)) => Some(round(zeros[at])),
        };
        (scale, zero)
    }

    /// Errors unless this is a grid of a `[rows, cols]` matrix of this type and the codes are its codes: as many as there
    /// must be, and floats that are stored as they are.
    pub(crate) fn check(&self, codes: &[i8], rows: usize, cols: usize, dtype: Dtype) -> Result<()> {
        let fail = |text: String| Err(Error::parts(text));
        let Some(count) = rows.checked_mul(cols).filter(|&count| count > 0 && dtype.is_weight()) else {
            return fail(format!("{dtype} [{rows}, {cols}] is not the type and shape of a weight"));
        };
        let [height, width] = self.tile;
        if !(1..=rows).contains(&height) || !(1..=cols).contains(&width) || !(1..=8).contains(&self.element.bits()) {
            return fail(format!(
                "{} with a scale for each {height} by {width} weights do not fit [{rows}, {cols}]",
                self.element
            ));
        }
        let tiles = self.tiles(rows, cols).iter().product::<usize>();
        let zeros = match &self.zeros {
            None => tiles,
            Some(Zeros::Codes(zeros)) => zeros.len(),
            Some(Zeros::Floats(zeros)) => zeros.len(),
        };
        if codes.len() != count || self.scales.len() != tiles || zeros != tiles {
            return fail(format!(
                "{} codes, {} scales and {zeros} zero points, expected {count} and {tiles}",
                codes.len(),
                self.scales.len()
            ));
        }
        if self.global.is_some() != (self.scale_type == ScaleType::E4m3) {
            return fail("only scales of 8-bit floats have a global scale, and they need one".to_string());
        }
        match &self.group_index {
            Some(index) if index.len() != cols || index.iter().any(|&group| group as usize >= self.groups(cols)) => {
                fail(format!("{} group numbers for {cols} columns in {} groups", index.len(), self.groups(cols)))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    mod checks;

    use super::*;
    use crate::testing::Rng;

    /// The definition at the top of [`Grid`], weight by weight.
    fn plain(grid: &Grid, codes: &[i8], cols: usize, dtype: Dtype) -> Vec<u32> {
        let weight = |(i, &code): (usize, &i8)| {
            let at = i / cols / grid.tile[0] * grid.groups(cols) + grid.group_of(i % cols);
            let zero = match &grid.zeros {
                None => 0.0,
                Some(Zeros::Codes(zeros)) => f32::from(zeros[at]),
                Some(Zeros::Floats(zeros)) => dtype.round(zeros[at]),
            };
            let scale = grid.global.map_or(grid.scales[at], |global| grid.scales[at] / global);
            dtype.round(dtype.round(grid.element.value(code) - zero) * scale).to_bits()
        };
        codes.iter().enumerate().map(weight).collect()
    }

    #[test]
    fn dense_weights_are_those_of_the_definition() {
        let mut rng = Rng(11);
        let (rows, cols) = (5, 48);
        let tiles = [[1, 1], [1, 3], [1, 16], [1, 48], [5, 48], [2, 32], [5, 5]];
        for (tile, element, dtype) in tiles.into_iter().flat_map(|tile| {
            let elements = [Element::Int(2), Element::Int(8), Element::E4m3, Element::E2m3, Element::E2m1];
            let dtypes = [Dtype::F32, Dtype::F16, Dtype::Bf16];
            elements.into_iter().flat_map(move |element| dtypes.map(|dtype| (tile, element, dtype)))
        }) {
            for kind in 0..5 {
                let mut grid = Grid { element, tile, ..Grid::int(8, 1, Vec::new(), None) };
                let count = grid.tiles(rows, cols).iter().product();
                grid.scales = (0..count).map(|_| rng.float(dtype)).collect();
                match kind {
                    1 => grid.zeros = Some(Zeros::Codes((0..count).map(|_| rng.code(8)).collect())),
                    2 => grid.zeros = Some(Zeros::Floats((0..count).map(|_| rng.float(Dtype::F32)).collect())),
                    3 => grid.global = Some(3.5),
                    4 => {
                        let groups = grid.groups(cols);
                        grid.group_index = Some((0..cols).map(|_| rng.below(groups) as u32).collect());
                    }
                    _ => {}
                }
                // Codes wider than the element, as bytes can hold them.
                let codes: Vec<i8> =
                    (0..rows * cols).map(|_| rng.code(8)).filter(|&code| code & 0x7f != 0x7f).collect();
                let codes: Vec<i8> = codes.iter().copied().cycle().take(rows * cols).collect();
                let dense: Vec<u32> = grid.to_dense(&codes, cols, dtype).iter().map(|x| x.to_bits()).collect();
                assert_eq!(dense, plain(&grid, &codes, cols, dtype), "{grid:?} {dtype}");
            }
        }
    }
}
