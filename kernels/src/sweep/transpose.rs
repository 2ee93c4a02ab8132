//! Rows in memory, and the same numbers with a row in each lane.

use super::strips::{LANES, Lane};
use crate::simd::{SIDE, multiversion, transpose};

const _: () = assert!(LANES.is_multiple_of(SIDE));

multiversion! {
    /// Row r of up to [`LANES`] rows of `stride` elements goes to lane r of `columns`: as many elements as there are columns. Other
    /// lanes stay as they are.
    pub(crate) fn to_lanes(rows: &[f32], stride: usize, columns: &mut [Lane]) {
        let width = columns.len();
        let count = if width == 0 { 0 } else { (rows.len() + stride - width) / stride };
        for top in (0..count).step_by(SIDE) {
            for left in (0..width).step_by(SIDE) {
                let (height, width) = (SIDE.min(count - top), SIDE.min(width - left));
                let mut square = [[0f32; SIDE]; SIDE];
                if (height, width) == (SIDE, SIDE) {
                    // Lengths that the compiler knows.
                    for (r, row) in square.iter_mut().enumerate() {
                        row.copy_from_slice(&rows[(top + r) * stride + left..][..SIDE]);
                    }
                    transpose(&mut square);
                    for (column, from) in columns[left..].iter_mut().zip(&square) {
                        column[top..top + SIDE].copy_from_slice(from);
                    }
                    continue;
                }
                for (r, row) in square.iter_mut().enumerate().take(height) {
                    row[..width].copy_from_slice(&rows[(top + r) * stride + left..][..width]);
                }
                transpose(&mut square);
                for (column, from) in columns[left..].iter_mut().zip(&square[..width]) {
                    column[top..top + height].copy_from_slice(&from[..height]);
                }
            }
        }
    }
}

multiversion! {
    /// The way back: lane r of `columns` goes to row r of `rows`, which has room for so many elements of some rows.
    pub(crate) fn to_rows(columns: &[Lane], rows: &mut [f32], stride: usize) {
        let width = columns.len();
        let count = if width == 0 { 0 } else { (rows.len() + stride - width) / stride };
        for top in (0..count).step_by(SIDE) {
            for left in (0..width).step_by(SIDE) {
                let (height, width) = (SIDE.min(count - top), SIDE.min(width - left));
                let mut square = [[0f32; SIDE]; SIDE];
                for (to, column) in square.iter_mut().zip(&columns[left..left + width]) {
                    to.copy_from_slice(&column[top..top + SIDE]);
                }
                transpose(&mut square);
                if (height, width) == (SIDE, SIDE) {
                    for (r, from) in square.iter().enumerate() {
                        rows[(top + r) * stride + left..][..SIDE].copy_from_slice(from);
                    }
                    continue;
                }
                for (r, from) in square.iter().enumerate().take(height) {
                    rows[(top + r) * stride + left..][..width].copy_from_slice(&from[..width]);
                }
            }
        }
    }
}

multiversion! {
    /// Bytes as numbers.
    pub(crate) fn numbers(to: &mut [f32], from: &[u8]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from(*from);
        }
    }
}

multiversion! {
    /// Whole numbers from 0 to 255 as bytes.
    pub(crate) fn bytes(to: &mut [u8], from: &[f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            // Beside 2^23 the last bits of the mantissa are whole numbers.
            *to = (*from + 8_388_608.0).to_bits() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_lanes_and_rows_again() {
        for (rows, width, stride) in [(48, 128, 130), (1, 1, 1), (17, 33, 40), (48, 15, 15), (32, 16, 64)] {
            let values = crate::test_values(rows * stride, 1.0, 4);
            // The last row may end where the columns do.
            let from = &values[..(rows - 1) * stride + width];
            let mut columns = vec![[9.0; LANES]; width];
            to_lanes(from, stride, &mut columns);
            for (j, column) in columns.iter().enumerate() {
                for (r, v) in column.iter().enumerate() {
                    assert_eq!(*v, if r < rows { values[r * stride + j] } else { 9.0 });
                }
            }
            let mut back = vec![7.0; from.len()];
            to_rows(&columns, &mut back, stride);
            for (at, v) in back.iter().enumerate() {
                assert_eq!(*v, if at % stride < width { values[at] } else { 7.0 });
            }
        }
    }
}
