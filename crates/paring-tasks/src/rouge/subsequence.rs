//! Longest common subsequences, by bits.
//!
//! A row of the table of lengths L holds the lengths for all beginnings of the reference and one beginning of the prediction.
//! Neighbours differ by 0 or 1, so that a row is a bit per token of the reference: 0 where the length grows. The next row is
//! (V + (V & M)) | (V & !M), with the bits M of the positions of the next token (H. Hyyrö, "Bit-parallel LCS-length computation
//! revisited", AWOCA 2004, section 3). Words without such positions change only where a carry reaches them, so that a
//! step costs as many words as the token has positions, and for one that is not there nothing.

use std::collections::HashMap;

/// Words of rows that are held while a path is followed, but for long texts.
const HELD: usize = 1 << 20;
/// Rows that are held at least.
const ROWS: usize = 64;

/// A reference that predictions are compared with. It takes some bytes per token.
pub(super) struct Subsequence<'a> {
    reference: &'a [u32],
    /// Of each token, the words that hold its positions, with their bits.
    places: HashMap<u32, Vec<(usize, u64)>>,
    /// Rows that are held while a path is followed.
    rows: usize,
}

impl<'a> Subsequence<'a> {
    pub fn of(reference: &'a [u32]) -> Self {
        let words = reference.len().div_ceil(64).max(1);
        Self::holding(reference, (HELD / words).max(ROWS))
    }

    /// The same that holds this many rows, at least 1.
    pub(super) fn holding(reference: &'a [u32], rows: usize) -> Self {
        let mut places: HashMap<u32, Vec<(usize, u64)>> = HashMap::new();
        for (i, &token) in reference.iter().enumerate() {
            let (word, bit) = (i / 64, 1 << (i % 64));
            let of_token = places.entry(token).or_default();
            match of_token.last_mut() {
                Some((last, bits)) if *last == word => *bits |= bit,
                _ => of_token.push((word, bit)),
            }
        }
        Self { reference, places, rows }
    }

    /// The row before the first token.
    fn first(&self) -> Vec<u64> {
        vec![u64::MAX; self.reference.len().div_ceil(64)]
    }

    /// Makes a row the one after a token.
    fn step(&self, row: &mut [u64], token: u32) {
        let Some(places) = self.places.get(&token) else { return };
        let (mut carry, mut next) = (false, 0);
        for &(word, bits) in places {
            pass_on(&mut carry, &mut row[next..word]);
            let before = row[word];
            let (sum, over) = before.overflowing_add(before & bits);
            let (sum, over_too) = sum.overflowing_add(u64::from(carry));
            row[word] = sum | (before & !bits);
            (carry, next) = (over | over_too, word + 1);
        }
        pass_on(&mut carry, &mut row[next..]);
    }

    /// The length of the longest subsequence that the reference shares with a prediction. Time grows with the product of their
    /// lengths, divided by 64; memory does not.
    pub fn length(&self, prediction: &[u32]) -> usize {
        let mut row = self.first();
        prediction.iter().for_each(|&token| self.step(&mut row, token));
        row.iter().map(|word| word.count_zeros() as usize).sum()
    }

    /// Marks the positions in the reference of one longest subsequence that it shares with a prediction: the one on the way back
    /// through the table where, if both ways are as long, the reference gives way.
    ///
    /// Time grows with the product of the lengths, divided by 64, and memory with the length of the reference: of long
    /// predictions rows are computed anew, at most as often as halving leads to [`ROWS`] of them.
    pub fn mark(&self, prediction: &[u32], marks: &mut [bool]) {
        if prediction.iter().any(|token| self.places.contains_key(token)) {
            self.back(&self.first(), prediction, self.reference.len(), marks);
        }
    }

    /// Follows the path from the first `i` tokens of the reference and all of a piece of the prediction to where the piece
    /// begins, whose row before it is `before`; returns the number of tokens of the reference that are left there.
    fn back(&self, before: &[u64], piece: &[u32], mut i: usize, marks: &mut [bool]) -> usize {
        let mut row = before.to_vec();
        if piece.len() > self.rows && i > 0 {
            let (first, second) = piece.split_at(piece.len() / 2);
            first.iter().for_each(|&token| self.step(&mut row, token));
            let left = self.back(&row, second, i, marks);
            drop(row);
            return self.back(before, first, left, marks);
        }
        let mut rows: Vec<u64> = Vec::with_capacity(piece.len() * row.len());
        for &token in piece {
            self.step(&mut row, token);
            rows.extend(&row);
        }
        let mut j = piece.len();
        while i > 0 && j > 0 {
            // The length here, unless the tokens are equal, is that of the left or of the one above. So it is that of the left
            // alone, and greater than the one above, where it grows with the last token of the reference.
            let grows = rows[(j - 1) * row.len() + (i - 1) / 64] >> ((i - 1) % 64) & 1 == 0;
            if self.reference[i - 1] == piece[j - 1] {
                (i, j) = (i - 1, j - 1);
                marks[i] = true;
            } else if grows {
                j -= 1;
            } else {
                i -= 1;
            }
        }
        i
    }
}

/// Adds a carry to words, each of which keeps the bits that it had.
fn pass_on(carry: &mut bool, words: &mut [u64]) {
    for word in words {
        if !*carry {
            break;
        }
        let (sum, over) = word.overflowing_add(1);
        *word |= sum;
        *carry = over;
    }
}
