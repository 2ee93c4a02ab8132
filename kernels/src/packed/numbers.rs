//! Small arrays of numbers in the types that files store them in, widened sixteen at a time.

use half::f16;

use super::wide::Wide;
use crate::matmul::Precision;
use crate::minifloat::e4m3_number;

/// Numbers that are widened together. Stored arrays end in as many more, so that the last ones need no loop of their own.
pub(super) const LANES: usize = 16;

/// An array of floats.
#[derive(Clone, Debug)]
pub(super) enum Floats {
    /// The upper halves of f32.
    Bf16(Vec<u16>),
    /// IEEE half precision.
    F16(Vec<u16>),
    F32(Vec<f32>),
}

/// An array of numbers.
#[derive(Clone, Debug)]
pub(super) enum Numbers {
    Floats(Floats),
    /// Bytes of `e4m3`, divided by a global scale.
    E4m3(Vec<u8>, f32),
    /// Powers of two: exponents + 127.
    Exponents(Vec<u8>),
    /// Integers of 4 bits above an offset, the lower half of a byte first.
    Nibbles(Vec<u8>, i32),
    /// Integers of 8 bits above an offset.
    Bytes(Vec<u8>, i32),
}

/// 2^(byte − 127).
#[inline(always)]
pub(super) fn power(byte: u8) -> f32 {
    // The smallest one is subnormal.
    if byte == 0 { f32::from_bits(1 << 22) } else { f32::from_bits(u32::from(byte) << 23) }
}

impl Floats {
    /// Floats that `precision` holds, in its type.
    pub(super) fn new(values: &[f32], precision: Precision) -> Self {
        let mut floats = Self::with_capacity(values.len() + LANES, precision);
        floats.extend(values);
        floats.extend(&[0.0; LANES]);
        floats
    }

    /// An array of this precision's floats, empty, with memory for `count` of them.
    pub(super) fn with_capacity(count: usize, precision: Precision) -> Self {
        match precision {
            Precision::F32 => Floats::F32(Vec::with_capacity(count)),
            Precision::Bf16 => Floats::Bf16(Vec::with_capacity(count)),
            Precision::F16 => Floats::F16(Vec::with_capacity(count)),
        }
    }

    /// Appends floats of its type.
    pub(super) fn extend(&mut self, more: &[f32]) {
        match self {
            Floats::F32(values) => values.extend_from_slice(more),
            Floats::Bf16(values) => values.extend(more.iter().map(|v| (v.to_bits() >> 16) as u16)),
            Floats::F16(values) => values.extend(more.iter().map(|&v| f16::from_f32(v).to_bits())),
        }
    }

    /// The precision whose type they have.
    #[cfg(feature = "cuda")]
    pub(super) fn precision(&self) -> Precision {
        match self {
            Floats::Bf16(_) => Precision::Bf16,
            Floats::F16(_) => Precision::F16,
            Floats::F32(_) => Precision::F32,
        }
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Floats::Bf16(values) | Floats::F16(values) => size_of_val(&values[..]),
            Floats::F32(values) => size_of_val(&values[..]),
        }
    }

    /// One number.
    pub(super) fn at(&self, at: usize) -> f32 {
        match self {
            Floats::Bf16(values) => f32::from_bits(u32::from(values[at]) << 16),
            Floats::F16(values) => f16::from_bits(values[at]).to_f32(),
            Floats::F32(values) => values[at],
        }
    }
}

impl Numbers {
    /// Integers that span no more than 8 bits, in 4 bits where those suffice. A row of an even number of them begins at a whole byte.
    pub(super) fn integers(values: &[i32]) -> Self {
        let low = values.iter().copied().min().unwrap_or(0);
        let bytes: Vec<u8> = values.iter().map(|v| (v - low) as u8).collect();
        if bytes.iter().any(|&byte| byte > 15) {
            return Numbers::Bytes(padded(bytes.into_iter()), low);
        }
        let pair = |pair: &[u8]| pair[0] | pair.get(1).map_or(0, |high| high << 4);
        Numbers::Nibbles(padded(bytes.chunks(2).map(pair)), low)
    }

    /// The number of a byte, where bytes are small floats.
    pub(super) fn of_byte(&self, byte: u8) -> Option<f32> {
        match self {
            Numbers::E4m3(_, global) => Some(e4m3_number(byte) / global),
            Numbers::Exponents(_) => Some(power(byte)),
            _ => None,
        }
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Numbers::Floats(floats) => floats.bytes(),
            Numbers::E4m3(values, _)
            | Numbers::Exponents(values)
            | Numbers::Nibbles(values, _)
            | Numbers::Bytes(values, _) => values.len(),
        }
    }

    /// The numbers from `first` on, which is even for [`Numbers::Nibbles`]. `out` has whole [`LANES`]; what is beyond the
    /// end means nothing.
    ///
    /// # Panics
    /// If `first` and `out` reach beyond the end by more than `LANES`.
    ///
    /// # Safety
    /// Needs the instructions of `W`.
    #[inline(always)]
    pub(super) unsafe fn widen<W: Wide>(&self, first: usize, out: &mut [f32]) {
        // SAFETY: the caller's promise; `from` checks that there are as many numbers.
        unsafe {
            match self {
                Numbers::Floats(Floats::Bf16(values)) => {
                    let at = from(values, first, out.len());
                    for i in (0..out.len()).step_by(LANES) {
                        W::bf16(at.add(i)).store(out.as_mut_ptr().add(i));
                    }
                }
                Numbers::Floats(Floats::F16(values)) => {
                    let at = from(values, first, out.len());
                    for i in (0..out.len()).step_by(LANES) {
                        W::f16(at.add(i)).store(out.as_mut_ptr().add(i));
                    }
                }
                Numbers::Floats(Floats::F32(values)) => {
                    let at = from(values, first, out.len());
                    for i in (0..out.len()).step_by(LANES) {
                        W::load(at.add(i)).store(out.as_mut_ptr().add(i));
                    }
                }
                Numbers::E4m3(values, global) => {
                    let at = from(values, first, out.len());
                    let global = W::splat(*global);
                    for i in (0..out.len()).step_by(LANES) {
                        W::e4m3(W::bytes(at.add(i))).divide(global).store(out.as_mut_ptr().add(i));
                    }
                }
                Numbers::Exponents(values) => {
                    let at = from(values, first, out.len());
                    for i in (0..out.len()).step_by(LANES) {
                        W::power(W::bytes(at.add(i))).store(out.as_mut_ptr().add(i));
                    }
                }
                Numbers::Bytes(values, low) => {
                    let (at, low) = (from(values, first, out.len()), W::splat(*low as f32));
                    for i in (0..out.len()).step_by(LANES) {
                        W::whole(8, W::bytes(at.add(i))).add(low).store(out.as_mut_ptr().add(i));
                    }
                }
                Numbers::Nibbles(values, low) => {
                    let (at, low) = (from(values, first / 2, out.len() / 2), W::splat(*low as f32));
                    for i in (0..out.len()).step_by(LANES) {
                        W::whole(4, W::nibbles(at.add(i / 2))).add(low).store(out.as_mut_ptr().add(i));
                    }
                }
            }
        }
    }
}

/// A place from which there are `len` values.
///
/// # Panics
/// If there are not so many.
#[inline(always)]
fn from<T>(values: &[T], first: usize, len: usize) -> *const T {
    values[first..first + len].as_ptr()
}

/// The values and some more.
pub(super) fn padded<T: Copy + Default>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.chain(std::iter::repeat_n(T::default(), LANES)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::wide::Loops;
    use super::*;

    #[test]
    fn numbers_are_widened_from_any_place() {
        let floats = [0.5, -2.0, 1.5, 0.0, 3.0, -0.25, 8.0, 7.0, 6.0];
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            let numbers = Numbers::Floats(Floats::new(&floats, precision));
            let mut out = [0f32; LANES];
            // SAFETY: loops need no instructions.
            unsafe { numbers.widen::<Loops>(3, &mut out) };
            assert_eq!(out[..6], floats[3..]);
            assert_eq!(Floats::new(&floats, precision).at(5), -0.25);
        }
        for (values, bytes) in [(vec![-3, 5, 12, 0, 7, -1, 9], 4 + LANES), (vec![-128, 127, 0, 3, 4], 5 + LANES)] {
            let numbers = Numbers::integers(&values);
            let mut out = [0f32; LANES];
            // SAFETY: loops need no instructions.
            unsafe { numbers.widen::<Loops>(2, &mut out) };
            let want: Vec<f32> = values[2..].iter().map(|&v| v as f32).collect();
            assert_eq!((&out[..want.len()], numbers.bytes()), (&want[..], bytes));
        }
        assert_eq!((power(0), power(127), power(255)), (2f32.powi(-127), 1.0, f32::INFINITY));
    }
}
