//! Texts that share their beginnings: each shared piece goes through a model once.
//!
//! The choices of a document have one context, and documents may have examples in common. A [`Forest`] holds such texts as
//! pieces: a piece is some tokens after those of its parent. Pieces go through a block in batches, and in a batch level by
//! level, so that a parent's keys and values are there before its children need them.

mod pass;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub(crate) use pass::Rows;

/// Tokens of a batch: enough for products at full speed. A piece has no more.
pub(crate) const BATCH_TOKENS: usize = 2048;
/// Tokens in all sequences of a batch with those before its pieces: each piece has keys and values of its own for them.
const BATCH_POSITIONS: usize = 8 * BATCH_TOKENS;
/// Tokens that different contexts need to have in common to become children of one piece: below, another level of small
/// products costs more than it saves.
const LEAST_SHARED: usize = 32;

/// A text of which some tokens are predicted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    /// The tokens that the model sees, one or more.
    pub tokens: Vec<u32>,
    /// The position of the token after which the first prediction counts.
    pub first: usize,
}

impl Text {
    /// The tokens up to the one after which the first prediction counts: those that other texts may share.
    fn context(&self) -> &[u32] {
        &self.tokens[..(self.first + 1).min(self.tokens.len())]
    }
}

/// Tokens after those of a parent.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The piece before it.
    pub parent: Option<usize>,
    /// The position of its first token in the text.
    pub start: usize,
    /// Its tokens, one or more.
    pub tokens: Vec<u32>,
    /// The last batch with a child of it; `None` where it has none.
    pub last_use: Option<usize>,
    /// Its batch, and its first row there.
    pub place: (usize, usize),
}

impl Piece {
    /// Positions of its tokens.
    pub fn span(&self) -> Range<usize> {
        self.start..self.start + self.tokens.len()
    }

    /// Its rows in its batch.
    fn rows(&self) -> Range<usize> {
        self.place.1..self.place.1 + self.tokens.len()
    }
}

/// Pieces that go through a block together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    /// Pieces whose parents are in earlier batches; then the children of those; and so on. Rows of activations are in this order.
    pub levels: Vec<Vec<usize>>,
    /// Tokens in it.
    pub tokens: usize,
}

/// Pieces of texts, in batches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forest {
    /// The number of its first text among all that pass.
    pub first: usize,
    /// All pieces; parents come first.
    pub pieces: Vec<Piece>,
    /// The batches, in the order in which they pass.
    pub batches: Vec<Batch>,
    /// The last piece of each text.
    leaves: Vec<usize>,
    /// Tokens in all pieces.
    tokens: usize,
}

impl Forest {
    /// The forests of all texts, one after the other, each as [`Forest::grow`] has it.
    pub fn all(texts: &[Text], most: usize) -> Vec<Self> {
        let (mut forests, mut first) = (Vec::new(), 0);
        while let Some(rest) = texts.get(first..).filter(|rest| !rest.is_empty()) {
            let forest = Self { first, ..Self::grow(rest, most) };
            first += forest.texts();
            forests.push(forest);
        }
        forests
    }

    /// The forest of as many of the `texts`, from the first, as have `most` tokens in their pieces, and at least of the first
    /// context's. Texts of one context have to follow each other to share it.
    pub fn grow(texts: &[Text], most: usize) -> Self {
        let mut forest = Self::default();
        let mut rest = texts;
        while !rest.is_empty() && (forest.leaves.is_empty() || forest.tokens < most) {
            let (root, family) = family(rest);
            let before = forest.leaves.len();
            let parent = forest.chain(None, &[], &rest[0].tokens[..root]);
            let mut members = &rest[..family];
            while !members.is_empty() && (forest.leaves.is_empty() || forest.tokens < most) {
                let count = siblings(members);
                let context = members[0].context();
                let trunk = forest.chain(parent, &context[..root], &context[root..]);
                for text in &members[..count] {
                    let (before, after) = text.tokens.split_at(context.len());
                    let leaf = forest.chain(trunk, before, after);
                    forest.leaves.extend(leaf);
                }
                members = &members[count..];
            }
            rest = &rest[forest.leaves.len() - before..];
            if !members.is_empty() {
                break;
            }
        }
        forest.arrange();
        forest
    }

    /// Number of texts.
    pub fn texts(&self) -> usize {
        self.leaves.len()
    }

    /// Tokens in all pieces.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The piece that holds the token of text `text` at `position`, and its number there.
    pub fn find(&self, text: usize, position: usize) -> Option<(usize, usize)> {
        let mut at = Some(*self.leaves.get(text)?);
        while let Some(number) = at {
            let piece = &self.pieces[number];
            if piece.start <= position {
                return piece.span().contains(&position).then(|| (number, position - piece.start));
            }
            at = piece.parent;
        }
        None
    }

    /// The first of its texts that has a row of a batch, and the row's position in it.
    pub fn text_of(&self, batch: usize, row: usize) -> Option<(usize, usize)> {
        let holds = |piece: &Piece| piece.place.0 == batch && piece.rows().contains(&row);
        let number = self.pieces.iter().position(holds)?;
        let position = self.pieces[number].start + row - self.pieces[number].place.1;
        let text =
            (0..self.texts()).find(|&text| self.find(text, position).is_some_and(|(piece, _)| piece == number))?;
        Some((text, position))
    }

    /// Adds pieces with `tokens` after those of `parent`, which are `before`; the last piece.
    fn chain(&mut self, mut parent: Option<usize>, before: &[u32], tokens: &[u32]) -> Option<usize> {
        let mut start = before.len();
        for tokens in tokens.chunks(BATCH_TOKENS) {
            self.tokens += tokens.len();
            self.pieces.push(Piece { parent, start, tokens: tokens.to_vec(), last_use: None, place: (0, 0) });
            parent = Some(self.pieces.len() - 1);
            start += tokens.len();
        }
        parent
    }

    /// Puts the pieces into batches.
    fn arrange(&mut self) {
        let mut levels = vec![0; self.pieces.len()];
        let (mut tokens, mut positions) = (0, 0);
        for number in 0..self.pieces.len() {
            let Piece { parent, start, .. } = self.pieces[number];
            let own = self.pieces[number].tokens.len();
            let is_full = tokens + own > BATCH_TOKENS || positions + start + own > BATCH_POSITIONS;
            if self.batches.is_empty() || tokens > 0 && is_full {
                self.batches.push(Batch::default());
                (tokens, positions) = (0, 0);
            }
            (tokens, positions) = (tokens + own, positions + start + own);
            let at = self.batches.len() - 1;
            if let Some(parent) = parent {
                self.pieces[parent].last_use = Some(at);
                if self.pieces[parent].place.0 == at {
                    levels[number] = levels[parent] + 1;
                }
            }
            self.pieces[number].place.0 = at;
            let batch = &mut self.batches[at];
            batch.levels.resize(batch.levels.len().max(levels[number] + 1), Vec::new());
            batch.levels[levels[number]].push(number);
            batch.tokens = tokens;
        }
        for batch in &self.batches {
            let mut row = 0;
            for &number in batch.levels.iter().flatten() {
                self.pieces[number].place.1 = row;
                row += self.pieces[number].tokens.len();
            }
        }
    }
}

/// Number of texts, from the first, that have its context.
fn siblings(texts: &[Text]) -> usize {
    texts.iter().take_while(|text| text.context() == texts[0].context()).count()
}

/// Tokens that the contexts of some texts, from the first, have in common, and the number of these texts. Without enough of them
/// the texts are those of one context.
fn family(texts: &[Text]) -> (usize, usize) {
    let first = texts[0].context();
    let mut count = siblings(texts);
    let Some(next) = texts.get(count) else { return (0, count) };
    let most = common(first, next.context());
    let mut root = most;
    while let Some(next) = texts.get(count) {
        let shared = common(first, next.context()).min(root);
        // One that shares much less begins a family of its own.
        if shared < LEAST_SHARED || 4 * shared < 3 * most {
            break;
        }
        root = shared;
        count += siblings(&texts[count..]);
    }
    if root < LEAST_SHARED || count == siblings(texts) { (0, siblings(texts)) } else { (root, count) }
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
