//! Gradients of scales and zero points of weights w = s (q − z), whose codes q stay: ds = Σ dw (q − z) and dz = −s Σ dw over the
//! weights that share them.

use rayon::prelude::*;

/// The weights of a matrix `[rows, cols]` that share a scale: tiles, `index` naming the one of each column where it is not the column
/// divided by the tile's width.
#[derive(Clone, Copy, Debug)]
pub struct Tiles<'a> {
    /// Columns of the matrix.
    pub cols: usize,
    /// Rows of a tile.
    pub height: usize,
    /// Columns of a tile.
    pub width: usize,
    /// For each column the tile across.
    pub index: Option<&'a [u32]>,
}

impl Tiles<'_> {
    /// Tiles across.
    pub fn across(&self) -> usize {
        self.cols.div_ceil(self.width.max(1))
    }

    fn tile_of(&self, col: usize) -> usize {
        self.index.map_or(col / self.width, |index| index[col] as usize)
    }

    /// Σ dw · units over each tile, `[⌈rows / height⌉, across]`: with the distances q − z as units the gradients of scales. Both are
    /// row-major `[rows, cols]`. Sums of a tile run over its rows, and over the columns of each, in f64.
    ///
    /// # Panics
    /// If there are not as many units as gradients, a tile has no rows or columns, or a column's tile is beyond the last.
    pub fn sums(&self, dw: &[f32], units: &[f32]) -> Vec<f32> {
        assert!(dw.len() == units.len() && self.height > 0 && self.width > 0);
        self.each(dw, |sums, at, dw| sums.zip_add(dw, &units[at..][..dw.len()]))
    }

    /// Σ dw over each tile: with −s as a factor the gradients of zero points.
    ///
    /// # Panics
    /// If a tile has no rows or columns, or a column's tile is beyond the last.
    pub fn plain_sums(&self, dw: &[f32]) -> Vec<f32> {
        assert!(self.height > 0 && self.width > 0);
        self.each(dw, |sums, _, dw| sums.add(dw))
    }

    fn each(&self, dw: &[f32], add: impl Fn(&mut RowSums<'_, '_>, usize, &[f32]) + Sync) -> Vec<f32> {
        if self.cols == 0 {
            return Vec::new();
        }
        let band = self.height * self.cols;
        let bands = dw.par_chunks(band).enumerate();
        let of_band = |(i, dw): (usize, &[f32])| {
            let mut sums = vec![0f64; self.across()];
            for (row, dw) in dw.chunks_exact(self.cols).enumerate() {
                add(&mut RowSums { tiles: self, sums: &mut sums }, i * band + row * self.cols, dw);
            }
            sums.into_iter().map(|sum| sum as f32).collect::<Vec<_>>()
        };
        bands.flat_map_iter(of_band).collect()
    }
}

/// The sums of a row of tiles.
struct RowSums<'a, 't> {
    tiles: &'a Tiles<'t>,
    sums: &'a mut [f64],
}

impl RowSums<'_, '_> {
    fn zip_add(&mut self, dw: &[f32], units: &[f32]) {
        for (col, (&dw, &unit)) in dw.iter().zip(units).enumerate() {
            self.sums[self.tiles.tile_of(col)] += f64::from(dw) * f64::from(unit);
        }
    }

    fn add(&mut self, dw: &[f32]) {
        for (col, &dw) in dw.iter().enumerate() {
            self.sums[self.tiles.tile_of(col)] += f64::from(dw);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::numeric::{check, dot, narrow, values};

    #[test]
    fn sums_over_tiles_are_the_gradients_of_scales_and_zero_points() {
        let (rows, cols) = (5usize, 7);
        let index = [2u32, 0, 1, 1, 0, 2, 2];
        for (height, width, index) in [(1, 3, None), (1, 7, None), (5, 7, None), (2, 2, None), (1, 3, Some(&index[..]))]
        {
            let tiles = Tiles { cols, height, width, index };
            let count = rows.div_ceil(height) * tiles.across();
            let (dw, codes) = (values(rows * cols, 1.0, 1), values(rows * cols, 3.0, 2));
            let (scales, zeros) = (values(count, 1.0, 3), values(count, 1.0, 4));
            let at = |i: usize| i / cols / height * tiles.across() + tiles.tile_of(i % cols);
            let weights = |scales: &[f64], zeros: &[f64]| -> Vec<f64> {
                (0..rows * cols).map(|i| scales[at(i)] * (codes[i] - zeros[at(i)])).collect()
            };
            let units: Vec<f64> = (0..rows * cols).map(|i| codes[i] - zeros[at(i)]).collect();
            let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
            let d_scales = wide(tiles.sums(&narrow(&dw), &narrow(&units)));
            check("scales", &scales, &d_scales, |scales| dot(&dw, &weights(scales, &zeros)));
            let sums = wide(tiles.plain_sums(&narrow(&dw)));
            let d_zeros: Vec<f64> = sums.iter().zip(&scales).map(|(sum, scale)| -scale * sum).collect();
            check("zero points", &zeros, &d_zeros, |zeros| dot(&dw, &weights(&scales, zeros)));
        }
    }
}
