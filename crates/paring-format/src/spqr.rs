//! The numbers of an SpQR matrix (arXiv 2306.03078): small groups, statistics that are coded again, weights kept exact.

#[cfg(test)]
mod tests;

use crate::{Dtype, Error, Result, bits};

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
    /// The column at each position; `None` for file order, which an order that is given never is.
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
    /// The value of [`Spqr::order`] for this order of visit: nothing when it is the order of the file.
    pub fn order_of(order: Vec<u32>) -> Option<Vec<u32>> {
        let moved = order.iter().enumerate().any(|(position, &column)| position != column as usize);
        moved.then_some(order)
    }

    /// Groups in a row of `cols` columns.
    pub fn groups(&self, cols: usize) -> usize {
        cols.div_ceil(self.group_size.max(1))
    }

    /// The weights that the codes alone stand for, at each position, row-major `[rows, cols]`.
    pub(crate) fn base(&self, rows: usize, cols: usize, dtype: Dtype) -> Vec<f32> {
        let groups = self.groups(cols);
        let (scales, zeros) = (self.scales.values(rows, groups, dtype), self.zeros.values(rows, groups, dtype));
        let mut dense = Vec::with_capacity(self.codes.len());
        // Every value that a code of the group can have: mostly fewer than the group has weights.
        let mut levels = [0f32; 256];
        let count = 1 << self.bits.min(8);
        for (row, codes) in self.codes.chunks_exact(cols.max(1)).enumerate() {
            for (group, codes) in codes.chunks(self.group_size.max(1)).enumerate() {
                let (scale, zero) = (scales[row * groups + group], zeros[row * groups + group]);
                let value = |code: u8| dtype.round(scale * dtype.round(f32::from(code) - zero));
                if count > codes.len() {
                    dense.extend(codes.iter().map(|&code| value(code)));
                    continue;
                }
                (0..=255u8).zip(&mut levels[..count]).for_each(|(code, level)| *level = value(code));
                dense.extend(codes.iter().map(|&code| levels[usize::from(code)]));
            }
        }
        dense
    }

    /// The weight at each position, row-major `[rows, cols]`.
    fn by_position(&self, rows: usize, cols: usize, dtype: Dtype) -> Vec<f32> {
        let mut dense = self.base(rows, cols, dtype);
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

    /// Bits per weight, by counting: each code, statistic, outlier, gap and entry of the order times its width, with
    /// the gaps of outliers as [`bits::gaps`] codes them. A layout adds a few headers and what fills up a last byte.
    pub fn formula_bits(&self, rows: usize, cols: usize, dtype: Dtype) -> f64 {
        let groups = self.groups(cols);
        let float = dtype.size() as f64 * 8.0;
        let statistic = |statistic: &Statistic| match statistic {
            Statistic::Plain(_) => (rows * groups) as f64 * float,
            Statistic::Constant(_) => 0.0,
            Statistic::Integers(_) => (rows * groups) as f64 * f64::from(self.bits),
            Statistic::Coded { bits, rows: height, .. } => {
                let tiles = rows.div_ceil((*height).max(1)) * groups;
                (rows * groups) as f64 * f64::from(*bits) + tiles as f64 * 2.0 * float
            }
        };
        let at = &self.outliers.at;
        let bits = (rows * cols) as f64 * f64::from(self.bits)
            + statistic(&self.scales)
            + statistic(&self.zeros)
            + at.len() as f64 * float
            + bits::gaps::bits(at, bits::gaps::best_width(at)) as f64
            + self.order.as_ref().map_or(0.0, |_| cols as f64 * f64::from(order_bits(cols)));
        bits / ((rows * cols) as f64).max(1.0)
    }

    /// Errors unless these are the numbers of a `[rows, cols]` matrix of this type: as many as there must be, in range,
    /// and floats that the type holds.
    pub fn check(&self, rows: usize, cols: usize, dtype: Dtype) -> Result<()> {
        let fail = |text: String| Err(Error::parts(text));
        let Some(count) = rows.checked_mul(cols).filter(|&count| count > 0 && dtype.is_weight()) else {
            return fail(format!("{dtype} [{rows}, {cols}] is not the type and shape of a weight"));
        };
        if !(2..=8).contains(&self.bits) {
            return fail(format!("codes of {} bits; they have 2 to 8", self.bits));
        }
        if !(1..=cols).contains(&self.group_size) {
            return fail(format!("groups of {} columns in rows of {cols}", self.group_size));
        }
        check_codes("the codes", &self.codes, count, self.bits)?;
        if let Some(order) = &self.order {
            check_order(order, cols).map_err(|reason| Error::parts(format!("the column order {reason}")))?;
        }
        let Outliers { at, values } = &self.outliers;
        let ascending = at.windows(2).all(|pair| pair[0] < pair[1]);
        if at.len() != values.len() || !ascending || at.last().is_some_and(|&last| last as usize >= count) {
            return fail(format!("{} outliers at {} positions that do not ascend to {count}", values.len(), at.len()));
        }
        check_floats("the outliers", values, dtype)?;
        if !matches!(self.scales, Statistic::Plain(_) | Statistic::Coded { .. }) {
            return fail("the scales are neither floats nor coded".to_string());
        }
        let groups = self.groups(cols);
        for (name, statistic) in [("the scales", &self.scales), ("the zeros", &self.zeros)] {
            match statistic {
                Statistic::Plain(values) if values.len() == rows * groups => check_floats(name, values, dtype)?,
                Statistic::Plain(values) => {
                    return fail(format!("{name} are {}, expected {}", values.len(), rows * groups));
                }
                Statistic::Constant(value) if *value == (1u32 << (self.bits - 1)) as f32 => {}
                Statistic::Constant(value) => {
                    return fail(format!("{name} are {value} everywhere, which no symmetric grid has"));
                }
                Statistic::Integers(values) => check_codes(name, values, rows * groups, self.bits)?,
                Statistic::Coded { bits, rows: height, codes, scales, zeros } => {
                    if !(1..=8).contains(bits) || *height == 0 {
                        return fail(format!("{name} are coded with {bits} bits for {height} rows"));
                    }
                    check_codes(name, codes, rows * groups, *bits)?;
                    let tiles = rows.div_ceil(*height) * groups;
                    if scales.len() != tiles || zeros.len() != tiles {
                        let got = (scales.len(), zeros.len());
                        return fail(format!("{name} have {} and {} statistics, expected {tiles}", got.0, got.1));
                    }
                    check_floats(name, scales, dtype)?;
                    check_floats(name, zeros, dtype)?;
                }
            }
        }
        Ok(())
    }
}

/// Bits of an entry of the order of `cols` columns.
pub(crate) fn order_bits(cols: usize) -> u32 {
    (usize::BITS - cols.saturating_sub(1).leading_zeros()).max(1)
}

/// Errors, with what is wrong as text, unless each of `cols` columns is listed once, and in another order than the
/// file's.
pub(crate) fn check_order(order: &[u32], cols: usize) -> Result<(), String> {
    if order.len() != cols {
        return Err(format!("lists {} columns of {cols}", order.len()));
    }
    let mut seen = vec![false; cols];
    for &column in order {
        match seen.get_mut(column as usize) {
            Some(seen) if !*seen => *seen = true,
            Some(_) => return Err(format!("lists column {column} twice")),
            None => return Err(format!("lists column {column} of {cols}")),
        }
    }
    if order.iter().enumerate().all(|(position, &column)| position == column as usize) {
        return Err("is that of the file, which is not stored".to_string());
    }
    Ok(())
}

fn check_codes(name: &str, codes: &[u8], count: usize, bits: u32) -> Result<()> {
    if codes.len() != count {
        return Err(Error::parts(format!("{name} are {}, expected {count}", codes.len())));
    }
    match codes.iter().position(|&code| u32::from(code) >> bits != 0) {
        None => Ok(()),
        Some(at) => Err(Error::parts(format!("{name}: {} (element {at}) has more than {bits} bits", codes[at]))),
    }
}

fn check_floats(name: &str, values: &[f32], dtype: Dtype) -> Result<()> {
    match values.iter().position(|&value| !dtype.holds(value)) {
        None => Ok(()),
        Some(at) => Err(Error::parts(format!("{name}: {} (element {at}) is not a number of {dtype}", values[at]))),
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
