//! The description of a sparse tensor: what its parts say of it, and whether they agree.

use super::{DTYPES, MASK, OFFSETS, SHAPE, Sparse, VALUES, pack, two_of_four};
use crate::layouts::{LayoutPart, LayoutParts, take, typed};
use crate::{Dtype, Error, Result};

/// The description of a sparse tensor by its parts: all but the mask's bits and the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SparseHeader {
    /// The choice of the weights that are stored.
    pub sparse: Sparse,
    /// The shape of the whole tensor: one or two dimensions, none of them 0.
    pub shape: Vec<usize>,
    /// Its type.
    pub dtype: Dtype,
    /// Stored values.
    pub values: usize,
}

impl SparseHeader {
    /// Reads and compares types and shapes; of the parts, only `shape` needs its bytes.
    pub fn read(sparse: Sparse, parts: &LayoutParts) -> Result<SparseHeader> {
        let values = typed(parts, VALUES, &DTYPES)?;
        let mask = typed(parts, MASK, &[Dtype::U8])?;
        let shape = dimensions(take(parts, SHAPE, &[Dtype::I64])?)?;
        let Some(count) = values.dtype.bytes_of(&shape).map(|bytes| bytes / values.dtype.size()) else {
            return Err(Error::parts(format!("{SHAPE}: {shape:?} is larger than any file")));
        };
        let (cols, above) = shape.split_last().ok_or_else(|| Error::parts(format!("{SHAPE}: no dimensions")))?;
        mask.expect_shape(MASK, &[above, &[cols.div_ceil(8)]].concat())?;
        match (sparse, above) {
            (Sparse::NonZero, _) => {
                typed(parts, OFFSETS, &[Dtype::I64])?.expect_shape(OFFSETS, above)?;
                if values.shape.len() != 1 {
                    return Err(Error::parts(format!("{VALUES}: shape {:?}, expected one dimension", values.shape)));
                }
            }
            (Sparse::TwoOfFour, &[rows]) if cols % 2 == 0 && count % 4 == 0 => {
                values.expect_shape(VALUES, &[rows, cols / 2])?
            }
            (Sparse::TwoOfFour, _) => {
                return Err(Error::parts(format!("{SHAPE}: {shape:?} cannot be cut into fours with two in each")));
            }
        }
        let stored = values.shape.iter().product();
        Ok(SparseHeader { sparse, dtype: values.dtype, values: stored, shape })
    }

    /// Rows and columns; a tensor of one dimension is one row.
    pub fn matrix(&self) -> (usize, usize) {
        match self.shape[..] {
            [rows, cols] => (rows, cols),
            _ => (1, self.shape.iter().product()),
        }
    }

    /// Bytes of a row of the mask.
    pub fn mask_row(&self) -> usize {
        self.matrix().1.div_ceil(8)
    }

    /// Tells whether fours lie inside rows, so that each has half its weights stored.
    pub fn is_even(&self) -> bool {
        self.sparse == Sparse::TwoOfFour && self.matrix().1.is_multiple_of(4)
    }

    /// The rows that these rows of a mask and their values stand for, row-major. `None` when there are fewer values
    /// than bits.
    pub fn expand(&self, mask: &[u8], values: &[u8]) -> Option<Vec<u8>> {
        let cols = self.matrix().1;
        match self.dtype.size() {
            1 => pack::expand::<1>(mask, cols, values),
            2 => pack::expand::<2>(mask, cols, values),
            8 => pack::expand::<8>(mask, cols, values),
            _ => pack::expand::<4>(mask, cols, values),
        }
    }
}

/// Checks the bits of a mask, rows after rows.
pub(crate) struct Scan<'a> {
    header: &'a SparseHeader,
    row: usize,
    found: usize,
}

impl<'a> Scan<'a> {
    /// At the first row.
    pub fn new(header: &'a SparseHeader) -> Scan<'a> {
        Scan { header, row: 0, found: 0 }
    }

    /// The next rows of the mask, and of the offsets if the tensor has them. Errors on bits after the last column, on
    /// an offset that is not the number of bits so far, and on a four with more or less than two bits.
    pub fn rows(&mut self, mask: &[u8], offsets: Option<&[u8]>) -> Result<()> {
        let cols = self.header.matrix().1;
        let mut offsets = offsets.map(|bytes| bytes.as_chunks::<8>().0.iter());
        for bits in mask.chunks_exact(self.header.mask_row()) {
            let row = self.row;
            if !cols.is_multiple_of(8) && bits.last().is_some_and(|last| last >> (cols % 8) != 0) {
                return Err(Error::parts(format!("{MASK}: row {row} has bits set after its {cols} columns")));
            }
            if let Some(offsets) = &mut offsets {
                let got = offsets.next().map(|&bytes| i64::from_le_bytes(bytes));
                if got.and_then(|got| usize::try_from(got).ok()) != Some(self.found) {
                    let (expected, got) = (self.found, got.unwrap_or(-1));
                    return Err(Error::parts(format!("{OFFSETS}: {got} for row {row}, expected {expected}")));
                }
            }
            if self.header.is_even()
                && let Some(four) = two_of_four::uneven(bits, cols)
            {
                let text = format!("{MASK}: row {row}, columns {} to {}: not two of four", 4 * four, 4 * four + 3);
                return Err(Error::parts(text));
            }
            self.found += bits.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
            self.row += 1;
        }
        Ok(())
    }

    /// After the last row. Errors unless there are as many values as bits.
    pub fn finish(self) -> Result<()> {
        if self.found == self.header.values {
            return Ok(());
        }
        let (bits, values) = (self.found, self.header.values);
        Err(Error::parts(format!("{VALUES}: {values} values, expected {bits}, the bits of {MASK}")))
    }
}

/// The dimensions that a part `[n]` or `[n, 1]` lists.
fn dimensions(part: &LayoutPart) -> Result<Vec<usize>> {
    let fail = || Error::parts(format!("{SHAPE}: not the shape of a matrix or a vector"));
    if !matches!(part.shape[..], [1 | 2] | [1 | 2, 1]) {
        return Err(fail());
    }
    let numbers = part.bytes.as_chunks::<8>().0.iter().map(|&bytes| usize::try_from(i64::from_le_bytes(bytes)));
    let shape: Vec<usize> = numbers.collect::<std::result::Result<_, _>>().map_err(|_| fail())?;
    if shape.contains(&0) { Err(fail()) } else { Ok(shape) }
}
