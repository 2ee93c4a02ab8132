//! The memory of a weight on a GPU: all of its parts in one piece, so that it is copied, waited for and freed as one.

use std::borrow::Cow;

use crate::cuda::staging::Plain;

/// Bytes at whose multiples parts begin: more than the widest load needs.
const ALIGNMENT: usize = 256;

/// Parts by the places where they begin, in ascending order.
#[derive(Default)]
pub(super) struct Parts<'a> {
    parts: Vec<(usize, Cow<'a, [u8]>)>,
    len: usize,
}

impl<'a> Parts<'a> {
    /// Appends numbers; returns their place.
    pub fn add<T: Plain>(&mut self, numbers: &'a [T]) -> i64 {
        self.append(Cow::Borrowed(bytes_of(numbers)))
    }

    /// Appends a copy of numbers; returns its place.
    pub fn add_copy<T: Plain>(&mut self, numbers: &[T]) -> i64 {
        self.append(Cow::Owned(bytes_of(numbers).to_vec()))
    }

    fn append(&mut self, bytes: Cow<'a, [u8]>) -> i64 {
        let at = self.len.next_multiple_of(ALIGNMENT);
        self.len = at + bytes.len();
        self.parts.push((at, bytes));
        at as i64
    }

    /// Bytes of all parts, and of what is between them.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Writes the bytes from `first` on; zeros where there is no part.
    pub fn write(&self, first: usize, out: &mut [u8]) {
        let (end, mut done) = (first + out.len(), first);
        for (at, bytes) in &self.parts {
            let (from, to) = (first.max(*at), end.min(at + bytes.len()));
            if from < to {
                out[done - first..from - first].fill(0);
                out[from - first..to - first].copy_from_slice(&bytes[from - at..to - at]);
                done = to;
            }
        }
        out[done - first..].fill(0);
    }
}

fn bytes_of<T: Plain>(numbers: &[T]) -> &[u8] {
    // SAFETY: the numbers are so many bytes, of which none is filler.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_in_any_pieces() {
        let (a, b) = ([1u16, 2, 3], [0.5f32; 100]);
        let mut parts = Parts::default();
        assert_eq!((parts.add(&a), parts.add_copy(&[7u8]), parts.add(&b)), (0, 256, 512));
        assert_eq!(parts.len(), 512 + 400);
        let mut whole = vec![1u8; parts.len()];
        parts.write(0, &mut whole);
        assert_eq!(
            (&whole[..7], whole[256], &whole[512..516]),
            (&[1, 0, 2, 0, 3, 0, 0][..], 7, &0.5f32.to_le_bytes()[..])
        );
        assert!(whole[6..256].iter().chain(&whole[257..512]).all(|&byte| byte == 0));
        for each in [1, 5, 64, 300, 511] {
            let mut made = vec![1u8; parts.len()];
            made.chunks_mut(each).enumerate().for_each(|(i, out)| parts.write(i * each, out));
            assert!(made == whole, "pieces of {each}");
        }
    }
}
