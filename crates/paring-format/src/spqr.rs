//! The numbers of an SpQR matrix (arXiv 2306.03078): small groups, statistics that are coded again, weights kept exact.

use crate::Dtype;

/// Codes on grids with fractional zeros, `weight = scale · (code − zero)`, and outliers that replace some of them.
///
/// Everything is in the order in which the columns were visited: position `k` is column `order[k]`, and a group is
/// `group_size` positions. `[rows, groups]` has ⌈cols / group_size⌉ groups; the last may be short.
#[derive(Clone, Debug, PartialEq)]
pub struct Spqr {
    /// Width of a code, 2 to 8.
    pub bits: u32,
    /// Positions that share a scale and a zero; `cols` when a whole row does.
    pub group_size: usize,
    /// The column at each position; `None` for file order.
    pub order: Option<Vec<u32>>,
    /// Row-major `[rows, cols]`, `0 ..= 2^bits - 1`.
    pub codes: Vec<u8>,
    /// Scales, `[rows, groups]`.
    pub scales: Statistic,
    /// Zeros, `[rows, groups]`: the code, whole or not, that stands for the value 0.
    pub zeros: Statistic,
    /// The weights kept exact.
    pub outliers: Outliers,
}

/// The scales or the zeros of a matrix, `[rows, groups]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Statistic {
    /// Row-major floats of the matrix's type.
    Plain(Vec<f32>),
    /// The same number everywhere: the zero of symmetric grids, 2^(bits − 1).
    Constant(f32),
    /// Row-major integers `0 ..= 2^bits - 1`, as wide as the codes of the weights: zeros that were rounded.
    Integers(Vec<u8>),
    /// Coded again, `statistic = scale · (code − zero)`, with one scale and zero per group and `rows` consecutive rows.
    Coded {
        /// Width of a code, 1 to 8.
        bits: u32,
        /// Rows that share a scale and a zero, the last ones possibly fewer.
        rows: usize,
        /// Row-major `[rows of the matrix, groups]`.
        codes: Vec<u8>,
        /// Row-major `[⌈rows of the matrix / rows⌉, groups]`, of the matrix's type.
        scales: Vec<f32>,
        /// Like the scales; not whole numbers.
        zeros: Vec<f32>,
    },
}

/// Weights kept exact, in compressed sparse rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outliers {
    /// `row · cols + position`, ascending.
    pub at: Vec<u32>,
    /// Their values, of the matrix's type: they replace what the code says.
    pub values: Vec<f32>,
}

impl Spqr {
    /// Groups in a row of `cols` columns.
    pub fn groups(&self, cols: usize) -> usize {
        cols.div_ceil(self.group_size.max(1))
    }

    /// The weight at each position, row-major `[rows, cols]`; every operation is rounded to `dtype`.
    fn by_position(&self, rows: usize, cols: usize, dtype: Dtype) -> Vec<f32> {
        let groups = self.groups(cols);
        let (scales, zeros) = (self.scales.values(rows, groups, dtype), self.zeros.values(rows, groups, dtype));
        let mut dense = Vec::with_capacity(self.codes.len());
        for (row, codes) in self.codes.chunks_exact(cols.max(1)).enumerate() {
            for (group, codes) in codes.chunks(self.group_size.max(1)).enumerate() {
                let (scale, zero) = (scales[row * groups + group], zeros[row * groups + group]);
                dense.extend(codes.iter().map(|&code| dtype.round(scale * dtype.round(f32::from(code) - zero))));
            }
        }
        for (&at, &value) in self.outliers.at.iter().zip(&self.outliers.values) {
            dense[at as usize] = value;
        }
        dense
    }

    /// The dense weight in file order, row-major `[rows, cols]`. Every operation is rounded to `dtype`: the statistics
    /// `scale · (code − zero)` first, the weights from them next; outliers are what they are.
    pub fn to_dense(&self, rows: usize, cols: usize, dtype: Dtype) -> Vec<f32> {
        let by_position = self.by_position(rows, cols, dtype);
        let Some(order) = &self.order else { return by_position };
        let mut dense = vec![0f32; by_position.len()];
        for (to, from) in dense.chunks_exact_mut(cols).zip(by_position.chunks_exact(cols)) {
            order.iter().zip(from).for_each(|(&column, &value)| to[column as usize] = value);
        }
        dense
    }

    /// 1 where a weight is kept exact, in file order, row-major `[rows, cols]`.
    pub fn outlier_mask(&self, rows: usize, cols: usize) -> Vec<u8> {
        let mut mask = vec![0u8; rows * cols];
        for &at in &self.outliers.at {
            let (row, position) = (at as usize / cols, at as usize % cols);
            let column = self.order.as_ref().map_or(position, |order| order[position] as usize);
            mask[row * cols + column] = 1;
        }
        mask
    }
}

impl Statistic {
    /// The numbers themselves, row-major `[rows, groups]`; every operation is rounded to `dtype`.
    pub fn values(&self, rows: usize, groups: usize, dtype: Dtype) -> Vec<f32> {
        match self {
            Statistic::Plain(values) => values.clone(),
            Statistic::Constant(value) => vec![*value; rows * groups],
            Statistic::Integers(values) => values.iter().map(|&v| f32::from(v)).collect(),
            Statistic::Coded { rows: height, codes, scales, zeros, .. } => {
                let decode = |(i, &code): (usize, &u8)| {
                    let at = i / groups / height * groups + i % groups;
                    dtype.round(scales[at] * dtype.round(f32::from(code) - zeros[at]))
                };
                codes.iter().enumerate().map(decode).collect()
            }
        }
    }
}
