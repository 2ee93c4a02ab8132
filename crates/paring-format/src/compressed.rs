//! The matrix that methods make, layouts store and kernels run.

use crate::{Dtype, Element, Grid, Spqr};

/// One compressed weight matrix in host memory, holding only values that the file can hold: every float is already
/// rounded to [`Compressed::dtype`].
#[derive(Clone, Debug, PartialEq)]
pub struct Compressed {
    /// Outputs of the linear.
    pub rows: usize,
    /// Inputs of the linear.
    pub cols: usize,
    /// The float type of the dense weight and of the scales: f32, f16 or bf16.
    pub dtype: Dtype,
    /// The numbers.
    pub values: Values,
}

/// The numbers of a [`Compressed`].
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Row-major `[rows, cols]`; a pruned weight is an exact zero.
    Dense(Vec<f32>),
    /// Codes on a grid.
    Codes {
        /// Row-major `[rows, cols]`: signed integers, or the bits of small floats ([`crate::Element::value`]).
        codes: Vec<i8>,
        /// The meaning of the codes.
        grid: Grid,
    },
    /// Bilevel grids and outliers.
    Spqr(Box<Spqr>),
}

impl Compressed {
    /// The dense weight, row-major `[rows, cols]`: the definition that every kernel and every reader must agree with.
    /// Codes are exact in every float type.
    pub fn to_dense(&self) -> Vec<f32> {
        match &self.values {
            Values::Dense(values) => values.clone(),
            Values::Spqr(spqr) => spqr.to_dense(self.rows, self.cols, self.dtype),
            Values::Codes { codes, grid } => grid.to_dense(codes, self.cols, self.dtype),
        }
    }

    /// [`Compressed::to_dense`] of a matrix that is not needed any more: dense values are moved, not copied.
    pub fn into_dense(self) -> Vec<f32> {
        match self.values {
            Values::Dense(values) => values,
            Values::Codes { .. } | Values::Spqr(_) => self.to_dense(),
        }
    }

    /// 1 where a weight is kept exact, row-major `[rows, cols]`; `None` when no weight can be.
    pub fn outlier_mask(&self) -> Option<Vec<u8>> {
        match &self.values {
            Values::Spqr(spqr) => Some(spqr.outlier_mask(self.rows, self.cols)),
            Values::Dense(_) | Values::Codes { .. } => None,
        }
    }

    /// Shows the dense weight to `see` in order, some rows or all of them at a time: what [`Compressed::to_dense`] gives,
    /// without a buffer for all of it where the numbers are codes.
    pub fn for_rows(&self, mut see: impl FnMut(&[f32])) {
        match &self.values {
            Values::Dense(values) => see(values),
            Values::Spqr(spqr) => see(&spqr.to_dense(self.rows, self.cols, self.dtype)),
            Values::Codes { codes, grid } => grid.for_rows(codes, self.cols, self.dtype, see),
        }
    }

    /// The dense weight as it is stored, little-endian and row-major, in [`Compressed::dtype`].
    pub fn to_dense_bytes(&self) -> Vec<u8> {
        let mut bytes = self.room();
        self.for_rows(|rows| self.dtype.encode_to(rows, &mut bytes));
        bytes
    }

    /// [`Compressed::to_dense_bytes`] and [`Compressed::digest`], each row looked at once.
    pub fn to_dense_bytes_and_digest(&self) -> (Vec<u8>, u64) {
        let mut bytes = self.room();
        let mut hash = Digest::new(self.rows, self.cols);
        self.for_rows(|rows| {
            for piece in rows.chunks(PIECE) {
                self.dtype.encode_to(piece, &mut bytes);
                hash.update(piece);
            }
        });
        (bytes, hash.finish())
    }

    /// An empty buffer for the dense weight as it is stored.
    fn room(&self) -> Vec<u8> {
        Vec::with_capacity(self.rows.saturating_mul(self.cols).saturating_mul(self.dtype.size()))
    }

    /// The same matrix with no sign on any zero that is stored, and `dense`, the values that it should have, with none on
    /// these; `None` when there is no such zero. Some layouts do not store the sign, and no result depends on it.
    pub fn without_zero_signs(&self, dense: &[f32]) -> Option<(Compressed, Vec<f32>)> {
        let signed: Vec<usize> = match &self.values {
            Values::Dense(values) => {
                let is_signed = |value: f32| value == 0.0 && value.is_sign_negative();
                (0..values.len()).filter(|&at| is_signed(values[at])).collect()
            }
            Values::Codes { codes, grid } => {
                let is_signed = |code: i8| match grid.element {
                    Element::E4m3 => code == i8::MIN,
                    Element::E2m3 => code & 63 == 32,
                    Element::E2m1 => code & 15 == 8,
                    Element::Int(_) => false,
                };
                (0..codes.len()).filter(|&at| is_signed(codes[at])).collect()
            }
            Values::Spqr(_) => Vec::new(),
        };
        if signed.is_empty() {
            return None;
        }
        let (mut changed, mut dense) = (self.clone(), dense.to_vec());
        for at in signed {
            match &mut changed.values {
                Values::Dense(values) => values[at] = 0.0,
                Values::Codes { codes, .. } => codes[at] = 0,
                Values::Spqr(_) => {}
            }
            *dense.get_mut(at)? = 0.0;
        }
        Some((changed, dense))
    }

    /// A digest of shape and dense values (xxh3, 64 bits), to compare what was made with what was read back.
    pub fn digest(&self) -> u64 {
        let mut hash = Digest::new(self.rows, self.cols);
        self.for_rows(|rows| hash.update(rows));
        hash.finish()
    }
}

/// Values that are looked at together: they stay in the cache from one look to the next.
pub(crate) const PIECE: usize = 8192;

/// The digest of a matrix of these dense values, row-major `[rows, cols]`: see [`Compressed::digest`].
pub fn digest(rows: usize, cols: usize, dense: &[f32]) -> u64 {
    let mut hash = Digest::new(rows, cols);
    hash.update(dense);
    hash.finish()
}

/// A digest on its way.
pub(crate) struct Digest {
    hash: xxhash_rust::xxh3::Xxh3,
    bytes: [[u8; 4]; 2048],
}

impl Digest {
    pub(crate) fn new(rows: usize, cols: usize) -> Digest {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&(rows as u64).to_le_bytes());
        hash.update(&(cols as u64).to_le_bytes());
        Digest { hash, bytes: [[0; 4]; 2048] }
    }

    pub(crate) fn update(&mut self, dense: &[f32]) {
        for chunk in dense.chunks(self.bytes.len()) {
            self.bytes.iter_mut().zip(chunk).for_each(|(bytes, value)| *bytes = value.to_le_bytes());
            self.hash.update(self.bytes[..chunk.len()].as_flattened());
        }
    }

    pub(crate) fn finish(&self) -> u64 {
        self.hash.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Rng, SpqrKind};

    #[test]
    fn rows_bytes_and_digest_are_those_of_the_dense_weight() {
        let mut rng = Rng(4);
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            let codes = rng.codes(7, 3000, dtype, 4, 30, false);
            for c in [codes, rng.dense(5, 9, dtype), rng.spqr(16, 32, dtype, &SpqrKind::published())] {
                let dense = c.to_dense();
                let mut seen = Vec::new();
                c.for_rows(|rows| seen.extend_from_slice(rows));
                assert_eq!(seen, dense);
                assert_eq!(c.clone().into_dense(), dense);
                assert_eq!(c.to_dense_bytes(), dtype.encode(&dense));
                assert_eq!(c.digest(), digest(c.rows, c.cols, &dense));
                assert_eq!(c.to_dense_bytes_and_digest(), (c.to_dense_bytes(), c.digest()));
            }
        }
    }

    #[test]
    fn digests_do_not_change() {
        // They stand in files: xxh3 of rows and columns in 8 bytes each, and of the values as f32.
        let mut bytes = [2u64, 3].map(u64::to_le_bytes).concat();
        let values = [0.5f32, -0.0, 1.0, 2.0, -3.25, 0.0];
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        assert_eq!(digest(2, 3, &values), xxhash_rust::xxh3::xxh3_64(&bytes));
    }
}
