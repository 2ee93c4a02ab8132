//! What codes mean: the element, and the scales and zero points that tiles of a matrix share.

use std::sync::LazyLock;

use crate::{Dtype, Error, Result};

/// The type of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// A signed integer of 1 to 8 bits, `-2^(bits-1) ..= 2^(bits-1) - 1`.
    Int(u32),
    /// An 8-bit float: sign, 4 bits of exponent, 3 of mantissa, no infinities (OCP FP8, `float8_e4m3fn`).
    E4m3,
    /// A 4-bit float: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives (OCP MX, section 5.3.3).
    E2m1,
}

/// Values of the eight magnitudes of [`Element::E2m1`].
const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// The value of each code of a float element, by the code's byte.
static E4M3_VALUES: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|code| e4m3(code as u8)));

fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let magnitude = match (exponent, code & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

impl Element {
    /// Width of a code.
    pub fn bits(self) -> u32 {
        match self {
            Element::Int(bits) => bits,
            Element::E4m3 => 8,
            Element::E2m1 => 4,
        }
    }

    /// The integer width; `None` for floats.
    pub fn int_bits(self) -> Option<u32> {
        match self {
            Element::Int(bits) => Some(bits),
            Element::E4m3 | Element::E2m1 => None,
        }
    }

    /// The number that a code stands for before scale and zero point. An `E4m3` code is the float's byte, an `E2m1` code
    /// has its sign in bit 3; higher bits are not looked at.
    #[inline]
    pub fn value(self, code: i8) -> f32 {
        match self {
            Element::Int(_) => f32::from(code),
            Element::E4m3 => E4M3_VALUES[usize::from(code as u8)],
            Element::E2m1 => {
                let magnitude = E2M1[usize::from(code as u8 & 7)];
                if code & 8 == 0 { magnitude } else { -magnitude }
            }
        }
    }
}

/// How scales are stored.
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
    /// Numbers of the matrix's type, whole or not: only layouts that do not pack zero points can hold them.
    Floats(Vec<f32>),
}

/// A quantization grid: `weight = (code - zero) * scale`, one scale and zero point per tile.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// What a code is.
    pub element: Element,
    /// Rows and columns that share a scale: `[1, group]`, `[1, cols]` for a whole row, `[rows, cols]` for the matrix.
    /// The last tiles of a row or column may be cut off.
    pub tile: [usize; 2],
    /// Row-major `[⌈rows / tile[0]⌉, ⌈cols / tile[1]⌉]`, as [`Grid::scale_type`] stores them.
    pub scales: Vec<f32>,
    /// How scales are stored.
    pub scale_type: ScaleType,
    /// What scales are divided by, for [`ScaleType::E4m3`] and no other.
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
        let across = self.groups(cols);
        let mut dense = Vec::with_capacity(codes.len());
        let step = if self.group_index.is_some() { 1 } else { self.tile[1].max(1) };
        for (row, codes) in codes.chunks_exact(cols.max(1)).enumerate() {
            let first = row / self.tile[0].max(1) * across;
            // Columns of one tile that lie side by side share their scale and zero point.
            for (run, codes) in codes.chunks(step).enumerate() {
                let at = first + self.group_of(run * step);
                let scale = self.global.map_or(self.scales[at], |global| self.scales[at] / global);
                let zero = match &self.zeros {
                    None => 0.0,
                    Some(Zeros::Codes(zeros)) => f32::from(zeros[at]),
                    Some(Zeros::Floats(zeros)) => zeros[at],
                };
                let value = |&code: &i8| dtype.round(dtype.round(self.element.value(code) - zero) * scale);
                dense.extend(codes.iter().map(value));
            }
        }
        dense
    }

    /// Errors unless this is a grid of a `[rows, cols]` matrix of this type and the codes are its codes: as many as there
    /// must be, and floats that are stored as they are.
    pub(crate) fn check(&self, codes: &[i8], rows: usize, cols: usize, dtype: Dtype) -> Result<()> {
        let fail = |text: String| Err(Error::parts(text));
        let Some(count) = rows.checked_mul(cols).filter(|&count| count > 0 && dtype.is_weight()) else {
            return fail(format!("{dtype} [{rows}, {cols}] is no weight"));
        };
        let [height, width] = self.tile;
        if !(1..=rows).contains(&height) || !(1..=cols).contains(&width) || !(1..=8).contains(&self.element.bits()) {
            return fail(format!("{:?} in tiles of [{height}, {width}] do not fit [{rows}, {cols}]", self.element));
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
            return fail("a global scale belongs to scales of 8-bit floats, and to no other".to_string());
        }
        match &self.group_index {
            Some(index) if index.len() != cols || index.iter().any(|&group| group as usize >= self.groups(cols)) => {
                fail(format!("{} group numbers for {cols} columns in {} groups", index.len(), self.groups(cols)))
            }
            _ => Ok(()),
        }
    }
}
