//! Words in whole lines of a cache.

use std::mem::MaybeUninit;
use std::ops::Deref;

/// Words of a line.
pub(crate) const LINE: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u32; LINE]);

/// Words that begin where a line of a cache does: a piece of a line that lies across two is read twice as slowly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    lines: Vec<Line>,
    len: usize,
}

impl Lines {
    /// So many words, which `write` writes, in place of those that are here.
    ///
    /// # Safety
    /// `write` writes every word it is given.
    pub unsafe fn fill(&mut self, len: usize, write: impl FnOnce(&mut [MaybeUninit<u32>])) {
        let lines = len.div_ceil(LINE);
        self.lines.clear();
        self.lines.reserve_exact(lines);
        let spare = &mut self.lines.spare_capacity_mut()[..lines];
        // SAFETY: a line has the layout of its words, and this is all of the lines.
        let words = unsafe { std::slice::from_raw_parts_mut(spare.as_mut_ptr().cast(), lines * LINE) };
        let (words, rest): (&mut [MaybeUninit<u32>], _) = words.split_at_mut(len);
        write(words);
        rest.fill(MaybeUninit::new(0));
        // SAFETY: the caller promises that the words were written, and the rest of the last line was.
        unsafe { self.lines.set_len(lines) };
        self.len = len;
    }
}

impl Deref for Lines {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        // SAFETY: a line has the layout of its words, of which there are `len` or more.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_begin_with_a_line() {
        let mut lines = Lines::default();
        for len in [0, 1, LINE, 3 * LINE + 5, 2] {
            // SAFETY: all words are written.
            unsafe {
                lines.fill(len, |words| words.iter_mut().enumerate().for_each(|(i, word)| _ = word.write(i as u32)));
            }
            assert!(lines.iter().copied().eq(0..len as u32) && lines.as_ptr().addr().is_multiple_of(64), "{len}");
        }
    }
}
