//! Documents of a data set beside their tokens, for people who look at what a model is calibrated on.

use serde::Serialize;

use crate::dataset::{Content, Data};
use crate::error::Error;
use crate::{Result, Tokenizer};

/// A document and its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownDocument {
    /// The number of its line or row, from 1.
    pub document: usize,
    /// The text that its tokens stand for, special tokens included; `None` for stored tokens without a tokenizer.
    pub text: Option<String>,
    /// Its tokens, as calibration and evaluation have them.
    pub ids: Vec<u32>,
}

impl Data {
    /// The first `limit` documents: lines or rows of a file, the whole of a text, rows of stored tokens. Joined texts are
    /// tokenized with what separates them, so a token or two may differ where one ends. Errors as windows do.
    pub fn shown(&self, tokenizer: Option<&Tokenizer>, limit: usize) -> Result<Vec<ShownDocument>> {
        let mut shown = Vec::new();
        match &self.content {
            Content::Rows { ids, len } => {
                for (k, row) in ids.chunks((*len).max(1)).take(limit).enumerate() {
                    let place = format!("row {}", k + 1);
                    let text = tokenizer.map(|tokenizer| tokenizer.decoded(&place, row)).transpose()?;
                    shown.push(ShownDocument { document: k + 1, text, ids: row.to_vec() });
                }
            }
            Content::Text(text) => {
                let (text, ids) = self.tokenizer(tokenizer)?.shown_text(&self.name, text)?;
                shown.push(ShownDocument { document: 1, text: Some(text), ids });
            }
            Content::Documents(documents) => {
                let tokenizer = self.tokenizer(tokenizer)?;
                documents.each(&mut |document, content| {
                    if shown.len() == limit {
                        return Ok(false);
                    }
                    let (text, ids) = tokenizer.shown(documents, document, &content)?;
                    shown.push(ShownDocument { document, text: Some(text), ids });
                    Ok(shown.len() < limit)
                })?;
            }
        }
        if shown.is_empty() {
            Err(Error::data(&self.name, "no documents in it; use a file with text"))
        } else {
            Ok(shown)
        }
    }
}
