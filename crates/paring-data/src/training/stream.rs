//! Text → windows, one after the other, all of whose tokens are labels.

use super::Example;
use super::collect::Collector;
use crate::dataset::{Content, Data};
use crate::documents::Document;
use crate::{Result, Tokenizer};

/// Bytes of text that are tokenized at once. Tokenizers take up to 175 bytes for each.
const PIECE: usize = 16 << 20;

/// Reads data sets as one text.
///
/// Documents are joined as for calibration. Text of up to 16 MiB has exactly the tokens that it has there; longer text is tokenized in
/// pieces that end with a line, the first with what the tokenizer puts around every text, the others without.
pub(super) fn read(all: &[Data], tokenizer: Option<&Tokenizer>, collector: &mut Collector<'_>) -> Result<()> {
    Stream::new(PIECE, collector).read(all, tokenizer)
}

/// A text that is read, and its tokens that fill no window yet.
struct Stream<'a, 'c> {
    piece: usize,
    collector: &'a mut Collector<'c>,
    text: String,
    /// Documents of the text so far.
    documents: usize,
    /// Pieces of it that are tokens.
    pieces: usize,
    rest: Vec<u32>,
}

impl<'a, 'c> Stream<'a, 'c> {
    fn new(piece: usize, collector: &'a mut Collector<'c>) -> Self {
        Self { piece, collector, text: String::new(), documents: 0, pieces: 0, rest: Vec::new() }
    }

    fn read(mut self, all: &[Data], tokenizer: Option<&Tokenizer>) -> Result<()> {
        for data in all {
            match &data.content {
                Content::Rows { ids, .. } => self.tokens(ids)?,
                Content::Text(text) => self.push(data, text, tokenizer)?,
                Content::Documents(documents) => documents.each(&mut |number, document| {
                    let Document::Text(text) = document else {
                        let reason = "messages, expected text; train on them as chat, or name a field of texts";
                        return Err(documents.bad(number, reason));
                    };
                    self.push(data, &text, tokenizer)?;
                    Ok(self.collector.wants_more())
                })?,
            }
        }
        if let Some(last) = all.last() {
            self.flush(last, tokenizer)?;
        }
        self.collector.left_out.tail = self.rest.len();
        Ok(())
    }

    /// Adds a document.
    fn push(&mut self, data: &Data, text: &str, tokenizer: Option<&Tokenizer>) -> Result<()> {
        if !self.collector.count() {
            return Ok(());
        }
        if self.documents > 0 {
            self.text.push_str(data.separator());
        }
        self.documents += 1;
        self.text.push_str(text);
        let mut begin = 0;
        while self.text.len() - begin > self.piece {
            let end = begin + cut(&self.text[begin..], self.piece);
            self.encode(begin..end, data, tokenizer)?;
            begin = end;
        }
        self.text.drain(..begin);
        Ok(())
    }

    /// Makes tokens of the text that is left.
    fn flush(&mut self, data: &Data, tokenizer: Option<&Tokenizer>) -> Result<()> {
        // A tokenizer may put a token before no text at all, which is not a token of the data.
        if self.text.is_empty() { Ok(()) } else { self.encode(0..self.text.len(), data, tokenizer) }
    }

    fn encode(&mut self, range: std::ops::Range<usize>, data: &Data, tokenizer: Option<&Tokenizer>) -> Result<()> {
        let is_first = self.pieces == 0;
        let source = |_| data.name.clone();
        let ids = data.tokenizer(tokenizer)?.encode_all(&[&self.text[range]], !is_first, &source)?;
        self.pieces += 1;
        ids.iter().try_for_each(|ids| self.tokens(ids))?;
        self.collector.report();
        Ok(())
    }

    /// Fills windows.
    fn tokens(&mut self, mut ids: &[u32]) -> Result<()> {
        let seqlen = self.collector.settings.seqlen;
        while self.rest.len() + ids.len() >= seqlen {
            let (some, others) = ids.split_at(seqlen - self.rest.len());
            self.rest.extend_from_slice(some);
            ids = others;
            self.collector.add(Example::all(std::mem::take(&mut self.rest)))?;
        }
        self.rest.extend_from_slice(ids);
        Ok(())
    }
}

/// Bytes of a text's first piece, of at most `piece` where a character is not longer: up to the start of a line, or else before a
/// space, where tokenizers cut as well.
fn cut(text: &str, piece: usize) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let end = text.floor_char_boundary(piece).max(first);
    let bytes = text.as_bytes();
    let is_space = |at: usize| bytes.get(at).is_none_or(u8::is_ascii_whitespace);
    let line = (1..end).rev().find(|&at| bytes[at - 1] == b'\n' && !is_space(at));
    line.or_else(|| (1..end).rev().find(|&at| bytes[at] == b' ' && !is_space(at - 1))).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::super::{Progress, Settings};
    use super::*;
    use crate::tokenizer::tokenizer_from;

    #[test]
    fn pieces_end_with_lines_or_words() {
        for (text, piece, first) in [
            ("one\ntwo\nthree", 9, "one\ntwo\n"),
            ("one\n\n two\nthree", 9, "one\n\n two"),
            ("one\n\ntwo three", 9, "one\n\n"),
            ("one two three", 9, "one two"),
            ("onetwothree", 4, "onet"),
            ("ééé", 3, "é"),
            ("ééé", 1, "é"),
        ] {
            assert_eq!(&text[..cut(text, piece)], first, "{text:?}");
        }
    }

    /// In pieces, a text has the tokens of the whole where words are cut at the same places.
    #[test]
    fn pieces_have_the_tokens_of_the_whole() {
        let json = include_bytes!("../../../../tests/golden/chats/tokenizer.json");
        let tokenizer = tokenizer_from(json, std::path::Path::new("tokenizer.json")).unwrap();
        let text = "the lake froze\nnobody skated, é\n\nand then\n".repeat(9);
        let data = [Data::text("text", text.clone())];
        let settings = Settings { seqlen: 7, packing: None, limit: None, eos: None };
        let of = |piece| {
            let mut progress = |_: Progress| true;
            let mut collector = Collector::new("text", &settings, &mut progress);
            Stream::new(piece, &mut collector).read(&data, Some(&tokenizer)).unwrap();
            collector.end(super::super::Form::Text, 0).unwrap()
        };
        let whole = of(usize::MAX);
        assert_eq!(of(50), whole);
        let joined: Vec<u32> = whole.windows.iter().flat_map(|window| window.ids.clone()).collect();
        let want = tokenizer.tokens(&text).unwrap();
        assert_eq!(joined, want[..want.len() / 7 * 7]);
        assert_eq!(whole.left_out.tail, want.len() % 7);
    }
}
