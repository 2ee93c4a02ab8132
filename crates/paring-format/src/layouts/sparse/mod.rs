//! `sparse-bitmask` and `sparse-24-bitmask`: a bit for every weight, and the weights whose bit is set. Both left
//! compressed-tensors in 0.15, and nothing but this program reads them any more.
//!
//! They hold dense weights, or the codes of int-quantized and float-quantized ones: those are encoded first, and then
//! the tensor called `weight` becomes sparse.

mod bitmask;
mod header;
mod pack;
mod two_of_four;

use super::{DENSE, Holds, Layout, LayoutPart, LayoutParts, float, int, missing, take, typed};
use crate::{Compressed, Dtype, Element, Error, QuantArgs, Result, Scheme};

pub(crate) use header::{Scan, SparseHeader};

/// Local names of the parts of a sparse tensor: its values, its mask, its shape, and where the values of a row begin.
pub(crate) const VALUES: &str = "compressed";
/// See [`VALUES`].
pub(crate) const MASK: &str = "bitmask";
/// See [`VALUES`].
pub(crate) const SHAPE: &str = "shape";
/// See [`VALUES`]; only [`Sparse::NonZero`] has it.
pub(crate) const OFFSETS: &str = "row_offsets";

/// Types that a sparse tensor can have; f64 is read and never written.
const DTYPES: [Dtype; 6] = [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F64, Dtype::I8, Dtype::F8E4M3];

/// The choice of the weights that are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sparse {
    /// Those that are not zero: `compressed` `[count]`, `bitmask` U8 `[rows, ⌈cols / 8⌉]`, `row_offsets` I64 `[rows]`,
    /// `shape` I64 `[2]`. Of one dimension, rows are one.
    NonZero,
    /// Two of every four: `compressed` `[rows, cols / 2]`, `bitmask` as above, `shape` I64 `[2, 1]`. Fours are counted
    /// over the whole tensor, so that they cross rows whose length is no multiple of four.
    TwoOfFour,
}

impl Sparse {
    /// The parts of a weight of one or two dimensions, byte for byte as compressed-tensors 0.14 stores them: it does not
    /// keep the sign of a zero, and as [`Sparse::TwoOfFour`] loses the smaller ones of more than two weights of four, and
    /// bytes of −128. With `whole` it does not lose those. Errors on types and shapes that it does not have.
    pub fn compress(self, weight: &LayoutPart, whole: bool) -> Result<LayoutParts> {
        weight.check("weight")?;
        let (rows, cols) = match weight.shape[..] {
            [cols] if self == Sparse::NonZero && cols > 0 => (1, cols),
            _ => weight.matrix("weight")?,
        };
        if !DTYPES.contains(&weight.dtype) || weight.dtype == Dtype::F64 {
            return Err(Error::parts(format!("weight: the {} layout has no {}", self.name(), weight.dtype)));
        }
        self.check_shape(rows, cols)?;
        let (mask, values, offsets) = match weight.dtype.size() {
            1 => self.split::<1>(weight, whole, rows, cols),
            2 => self.split::<2>(weight, whole, rows, cols),
            _ => self.split::<4>(weight, whole, rows, cols),
        };
        let numbers = |numbers: &[usize]| numbers.iter().flat_map(|&n| (n as i64).to_le_bytes()).collect::<Vec<u8>>();
        let (dtype, above) = (weight.dtype, &weight.shape[..weight.shape.len() - 1]);
        let (value_shape, shape_shape) = match self {
            Sparse::NonZero => (vec![values.len() / dtype.size()], vec![weight.shape.len()]),
            Sparse::TwoOfFour => (vec![rows, cols / 2], vec![2, 1]),
        };
        let mask_shape = [above, &[cols.div_ceil(8)]].concat();
        let mut parts = LayoutParts::from([
            (VALUES, LayoutPart { dtype, shape: value_shape, bytes: values }),
            (MASK, LayoutPart { dtype: Dtype::U8, shape: mask_shape, bytes: mask }),
            (SHAPE, LayoutPart { dtype: Dtype::I64, shape: shape_shape, bytes: numbers(&weight.shape) }),
        ]);
        if self == Sparse::NonZero {
            parts.insert(OFFSETS, LayoutPart { dtype: Dtype::I64, shape: above.to_vec(), bytes: numbers(&offsets) });
        }
        Ok(parts)
    }

    /// Mask, values, and the values before each row.
    fn split<const N: usize>(
        self,
        weight: &LayoutPart,
        whole: bool,
        rows: usize,
        cols: usize,
    ) -> (Vec<u8>, Vec<u8>, Vec<usize>) {
        let elements = weight.bytes.as_chunks::<N>().0;
        let step = cols.div_ceil(8);
        let mut mask = match self {
            Sparse::TwoOfFour if !cols.is_multiple_of(4) => two_of_four::ragged(elements, whole, rows, cols),
            _ => vec![0; rows * step],
        };
        // Room for eight more, so that eight slots can be written wherever the next value goes.
        let mut values = vec![[0; N]; elements.len() + 8];
        let (mut offsets, mut found) = (Vec::with_capacity(rows), 0);
        for (row, bits) in elements.chunks_exact(cols).zip(mask.chunks_exact_mut(step)) {
            match self {
                Sparse::NonZero => bitmask::mask(row, weight.dtype, bits),
                Sparse::TwoOfFour if cols.is_multiple_of(4) => two_of_four::mask(row, whole, bits),
                Sparse::TwoOfFour => {}
            }
            offsets.push(found);
            found += pack::gather(row, bits, &mut values[found..]);
        }
        values.truncate(found);
        (mask, values.into_flattened(), offsets)
    }

    /// The weight back from its parts. Errors on parts that are missing or do not fit each other.
    pub fn restore(self, parts: &LayoutParts) -> Result<LayoutPart> {
        let header = SparseHeader::read(self, parts)?;
        let (values, mask) = (take(parts, VALUES, &DTYPES)?, take(parts, MASK, &[Dtype::U8])?);
        let offsets = match self {
            Sparse::NonZero => Some(&take(parts, OFFSETS, &[Dtype::I64])?.bytes[..]),
            Sparse::TwoOfFour => None,
        };
        let mut scan = Scan::new(&header);
        scan.rows(&mask.bytes, offsets)?;
        scan.finish()?;
        let bytes = header.expand(&mask.bytes, &values.bytes);
        let bytes = bytes.ok_or_else(|| Error::parts(format!("{VALUES}: fewer than the bits of {MASK}")))?;
        Ok(LayoutPart { dtype: header.dtype, shape: header.shape, bytes })
    }

    /// Errors unless the parts, which are those of this weight, give it back: names the first weight that is lost.
    fn check(self, weight: &LayoutPart, parts: &LayoutParts) -> Result<()> {
        let back = self.restore(parts)?;
        let size = weight.dtype.size();
        let differs = |(a, b): (&[u8], &[u8])| a != b;
        let pairs = || weight.bytes.chunks_exact(size).zip(back.bytes.chunks_exact(size));
        let Some(at) = (weight.bytes != back.bytes).then(|| pairs().position(differs)).flatten() else { return Ok(()) };
        let cols = weight.shape.last().copied().unwrap_or(1);
        let zero = bitmask::is_zero(&weight.bytes[at * size..(at + 1) * size], weight.dtype);
        let reason = match zero {
            true => "a zero with a sign, which the format does not keep",
            false => "more than two weights of four that are not zero",
        };
        Err(Error::parts(format!("row {}, column {}: {reason}", at / cols, at % cols)))
    }

    /// The layout whose `weight` becomes sparse.
    pub(crate) fn inner(self, args: Option<&QuantArgs>) -> Result<&'static dyn Layout> {
        match args.map(|args| args.element) {
            None => Ok(DENSE),
            Some(Element::Int(_)) => Ok(&int::INT),
            Some(Element::E4m3) => Ok(&float::FLOAT),
            Some(Element::E2m3 | Element::E2m1) => {
                Err(Error::parts(format!("the {} layout holds no packed codes", self.name())))
            }
        }
    }
}

impl Layout for Sparse {
    fn name(&self) -> &'static str {
        match self {
            Sparse::NonZero => "sparse-bitmask",
            Sparse::TwoOfFour => "sparse-24-bitmask",
        }
    }

    /// With `weight`, which a checkpoint shows in the place of the sparse ones.
    fn part_names(&self) -> &'static [&'static str] {
        match self {
            Sparse::NonZero => {
                &["weight", VALUES, MASK, SHAPE, OFFSETS, "weight_scale", "weight_zero_point", "weight_g_idx"]
            }
            Sparse::TwoOfFour => &["weight", VALUES, MASK, SHAPE, "weight_scale", "weight_zero_point", "weight_g_idx"],
        }
    }

    fn holds(&self) -> Holds {
        Holds { dense: true, codes: true, spqr: false, zero_points: true }
    }

    fn check_args(&self, args: &QuantArgs) -> Result<()> {
        self.inner(Some(args))?.check_args(args)
    }

    fn encode(&self, scheme: &Scheme, c: &Compressed) -> Result<LayoutParts> {
        let mut parts = self.inner(scheme.weights.as_ref())?.encode(scheme, c)?;
        let weight = parts.remove("weight").ok_or_else(|| missing(&parts, "weight"))?;
        let sparse = self.compress(&weight, true)?;
        self.check(&weight, &sparse)?;
        parts.extend(sparse);
        Ok(parts)
    }

    fn decode(&self, scheme: &Scheme, mut parts: LayoutParts) -> Result<Compressed> {
        let weight = self.restore(&parts)?;
        parts.retain(|name, _| ![VALUES, MASK, SHAPE, OFFSETS].contains(name));
        parts.insert("weight", weight);
        self.inner(scheme.weights.as_ref())?.decode(scheme, parts)
    }

    fn shape(&self, parts: &LayoutParts) -> Result<Option<(usize, usize)>> {
        // A checkpoint shows the whole weight in the place of its parts.
        match (parts.get("weight"), self) {
            (Some(weight), _) => weight.matrix("weight").map(Some),
            (None, Sparse::NonZero) => Ok(None),
            (None, Sparse::TwoOfFour) => {
                let (rows, half) = typed(parts, VALUES, &DTYPES)?.matrix(VALUES)?;
                Ok(half.checked_mul(2).map(|cols| (rows, cols)))
            }
        }
    }

    fn check_shape(&self, rows: usize, cols: usize) -> Result<()> {
        let fits = cols.is_multiple_of(2) && rows.checked_mul(cols).is_some_and(|count| count.is_multiple_of(4));
        if *self == Sparse::TwoOfFour && !fits {
            return Err(Error::parts(format!("[{rows}, {cols}] cannot be cut into fours with two in each")));
        }
        Ok(())
    }

    fn code_bits(&self, _element: Element) -> u32 {
        8
    }

    fn needs_two_of_four(&self) -> bool {
        *self == Sparse::TwoOfFour
    }

    fn keeps_zero_signs(&self) -> bool {
        false
    }

    fn instead(&self) -> Option<&'static str> {
        Some("dense, int-quantized or pack-quantized")
    }
}
