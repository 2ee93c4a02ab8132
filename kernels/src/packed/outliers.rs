//! Weights that are stored apart and replace what the codes at their places say: outliers.

use super::numbers::Floats;
use crate::matmul::Precision;

/// Weights by rows.
#[derive(Clone, Debug)]
pub(super) struct Outliers {
    /// The number of the first one of each row, and of all.
    pub first: Vec<u32>,
    /// Their columns.
    pub cols: Columns,
    /// The difference from the weight of the code at the place.
    pub differences: Vec<f32>,
    /// The weights themselves, where code and difference do not give them exactly.
    pub exact: Option<Floats>,
    product: Precision,
}

/// Columns of at most 16 bits, or of more.
#[derive(Clone, Debug)]
pub(super) enum Columns {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

impl Outliers {
    /// Takes places and weights, in ascending order; `coded` has the weights of codes there.
    pub(super) fn new(
        (places, weights): (&[u32], &[f32]),
        coded: &[f32],
        (rows, cols): (usize, usize),
        product: Precision,
    ) -> Self {
        let mut first = vec![0u32; rows + 1];
        for &place in places {
            first[place as usize / cols + 1] += 1;
        }
        for row in 0..rows {
            first[row + 1] += first[row];
        }
        let of_row = places.iter().map(|&place| place % cols as u32);
        let columns = match cols <= 1 << 16 {
            true => Columns::Narrow(of_row.map(|col| col as u16).collect()),
            false => Columns::Wide(of_row.collect()),
        };
        let rounded: Vec<f32> = weights.iter().map(|&weight| product.round(weight)).collect();
        let differences: Vec<f32> = rounded.iter().zip(coded).map(|(weight, coded)| weight - coded).collect();
        let mut both = differences.iter().zip(coded).zip(&rounded);
        let exact = both.any(|((difference, coded), weight)| product.round(difference + coded) != *weight);
        let exact = exact.then(|| Floats::new(&rounded, product));
        Self { first, cols: columns, differences, exact, product }
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        let columns = match &self.cols {
            Columns::Narrow(cols) => size_of_val(&cols[..]),
            Columns::Wide(cols) => size_of_val(&cols[..]),
        };
        columns + 4 * (self.first.len() + self.differences.len()) + self.exact.as_ref().map_or(0, Floats::bytes)
    }

    fn col(&self, at: usize) -> usize {
        match &self.cols {
            Columns::Narrow(cols) => usize::from(cols[at]),
            Columns::Wide(cols) => cols[at] as usize,
        }
    }

    /// Adds a row's part of the products with inputs `[sums, width]`.
    pub(super) fn add_to(&self, row: usize, x: &[f32], width: usize, sums: &mut [f32]) {
        for at in self.first[row] as usize..self.first[row + 1] as usize {
            let (col, difference) = (self.col(at), self.differences[at]);
            for (m, sum) in sums.iter_mut().enumerate() {
                *sum += difference * x[m * width + col];
            }
        }
    }

    /// Puts the weights of a row in place of those of codes.
    pub(super) fn put(&self, row: usize, weights: &mut [f32]) {
        for at in self.first[row] as usize..self.first[row + 1] as usize {
            let weight = &mut weights[self.col(at)];
            *weight = match &self.exact {
                None => self.product.round(*weight + self.differences[at]),
                Some(exact) => exact.at(at),
            };
        }
    }
}
