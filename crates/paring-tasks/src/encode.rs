//! Pairs of texts → tokens, by the rules of the harness or of its older copy in SpQR.

use paring_data::Tokenizer;
use paring_data::python::is_space;
use paring_data::tokenizer::Ends;

use crate::error::{Error, Result, option};
use crate::options::{Options, Protocol};
use crate::request::Request;

/// A context and its continuation, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub context: String,
    pub continuation: String,
}

/// The way in which a tokenizer makes requests of texts.
pub(crate) struct Encoding<'a> {
    tokenizer: &'a Tokenizer,
    protocol: Protocol,
    add_bos: Option<bool>,
    ends: Ends,
    /// The token before everything else, and its text.
    prefix: Option<u32>,
    prefix_text: Option<String>,
    longest: usize,
}

/// A text that becomes tokens.
struct Text {
    text: String,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As the tokenizer has it.
    Usual,
    /// Without special tokens around it.
    Bare,
    /// With BOS before it.
    Begun,
}

/// A pair on its way: the numbers of its texts.
enum Parts {
    /// Of the context, and of both together.
    Whole { context: usize, whole: usize },
    /// Of each.
    Apart { context: Option<usize>, continuation: usize },
}

impl<'a> Encoding<'a> {
    /// Opens the tokenizer, which errors when that is not possible, and when BOS is asked for that it does not have.
    pub fn new(tokenizer: &'a Tokenizer, options: &Options, longest: usize) -> Result<Self> {
        let ends = tokenizer.ends()?;
        if options.add_bos == Some(true) && ends.bos.is_none() {
            let reason =
                "the tokenizer's files name no BOS token (bos_token in tokenizer_config.json), which was asked for";
            return Err(Error::documents(reason));
        }
        let first = if options.protocol == Protocol::Spqr { ends.eos.or(ends.bos) } else { ends.bos.or(ends.eos) };
        let prefix = options.prefix.or(first);
        let prefix_text = match prefix {
            Some(prefix) if options.protocol == Protocol::Harness => Some(tokenizer.decode(&[prefix], false)?),
            _ => None,
        };
        let (protocol, add_bos) = (options.protocol, options.add_bos);
        Ok(Self { tokenizer, protocol, add_bos, ends, prefix, prefix_text, longest })
    }

    /// The form of a text that may have special tokens around it.
    fn form(&self, text: &str) -> Form {
        let begins = self.prefix_text.as_ref().is_some_and(|prefix| text.starts_with(prefix.as_str()));
        match self.add_bos {
            _ if begins || self.protocol == Protocol::Spqr => Form::Bare,
            Some(false) => Form::Bare,
            Some(true) => Form::Begun,
            None => Form::Usual,
        }
    }

    /// The token that stands for an empty context.
    fn prefix(&self) -> Result<u32> {
        let reason = "the tokenizer's files name neither a BOS nor an EOS token, one of which stands for an empty context; name it with ";
        self.prefix.ok_or_else(|| {
            Error::documents(paring_format::message![reason, paring_format::message::Setting::new(option::PREFIX)])
        })
    }

    /// The requests of the pairs of some documents. `place` names the pair of a number in messages.
    ///
    /// Errors where a continuation has no token, or more than the model takes, and where a context has none.
    pub fn requests(&self, pairs: &[Pair], place: &dyn Fn(usize) -> String) -> Result<Vec<Request>> {
        let (mut texts, mut of, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for (number, pair) in pairs.iter().enumerate() {
            let before = texts.len();
            parts.push(self.parts(pair, &mut texts));
            of.resize(of.len() + texts.len() - before, number);
        }
        let ids = self.encode(&texts, &|text| place(of[text]))?;
        let mut requests = Vec::with_capacity(pairs.len());
        for (number, part) in parts.into_iter().enumerate() {
            let request = match part {
                Parts::Whole { context, whole } => {
                    let (context, whole) = (&ids[context], &ids[whole]);
                    // By count alone, as the harness has it: the tokenizer may have merged across the seam.
                    let continuation = whole.get(context.len()..).unwrap_or_default().to_vec();
                    Request { context: context.clone(), continuation }
                }
                Parts::Apart { context: Some(context), continuation } => {
                    Request { context: ids[context].clone(), continuation: ids[continuation].clone() }
                }
                Parts::Apart { context: None, continuation } => {
                    let (prefix, mut continuation) = (self.prefix()?, ids[continuation].clone());
                    // It serves as the context then, and is not scored.
                    if self.protocol == Protocol::Harness && continuation.first() == Some(&prefix) {
                        continuation.remove(0);
                    }
                    Request { context: vec![prefix], continuation }
                }
            };
            self.check(&request).map_err(|reason| Error::documents(format!("{}: {reason}", place(number))))?;
            requests.push(request);
        }
        Ok(requests)
    }

    /// Adds the texts that a pair needs.
    fn parts(&self, pair: &Pair, texts: &mut Vec<Text>) -> Parts {
        let mut add = |text: String, form: Form| {
            // Choices share their context.
            let same = texts.iter().rev().take(16).position(|known| known.form == form && known.text == text);
            if let Some(same) = same {
                return texts.len() - 1 - same;
            }
            texts.push(Text { text, form });
            texts.len() - 1
        };
        let Pair { context, continuation } = pair;
        if context.is_empty() || self.protocol == Protocol::Spqr {
            let context = (!context.is_empty()).then(|| add(context.clone(), Form::Bare));
            return Parts::Apart { context, continuation: add(continuation.clone(), Form::Bare) };
        }
        let context = context.trim_end_matches(is_space);
        let whole = format!("{}{continuation}", pair.context);
        let whole_form = self.form(&whole);
        Parts::Whole { context: add(context.to_owned(), self.form(context)), whole: add(whole, whole_form) }
    }

    /// The reason why a request cannot be scored.
    fn check(&self, request: &Request) -> Result<(), String> {
        let (context, continuation) = (request.context.len(), request.continuation.len());
        if continuation == 0 {
            return Err(
                "its text makes no token of its own after the context; change the text, or leave the document out"
                    .into(),
            );
        }
        if context == 0 {
            return Err("the context makes no token; change the text, or have BOS added".into());
        }
        if continuation > self.longest {
            let longest = self.longest;
            return Err(format!(
                "a continuation of {continuation} tokens, and the model takes {longest}; leave the document out"
            ));
        }
        Ok(())
    }

    /// The tokens of texts.
    fn encode(&self, texts: &[Text], place: &dyn Fn(usize) -> String) -> Result<Vec<Vec<u32>>> {
        let mut ids = vec![Vec::new(); texts.len()];
        for bare in [false, true] {
            let wanted: Vec<usize> = (0..texts.len()).filter(|&k| (texts[k].form != Form::Usual) == bare).collect();
            let some: Vec<&str> = wanted.iter().map(|&k| texts[k].text.as_str()).collect();
            let encoded = self.tokenizer.encode_all(&some, bare, &|k| place(wanted[k]))?;
            for (k, mut encoded) in wanted.into_iter().zip(encoded) {
                if let (Form::Begun, Some(bos)) = (texts[k].form, self.ends.bos) {
                    encoded.insert(0, bos);
                    encoded.extend(self.ends.eos.filter(|_| self.ends.adds_eos));
                }
                ids[k] = encoded;
            }
        }
        Ok(ids)
    }

    /// The windows in which texts are scored, of each: every token is predicted once, the first from the prefix alone, each from
    /// as many before it as its window has. Errors where there is no prefix.
    pub fn windows(&self, texts: &[&str], place: &dyn Fn(usize) -> String) -> Result<Vec<Vec<Request>>> {
        let texts: Vec<Text> =
            texts.iter().map(|text| Text { text: (*text).to_owned(), form: self.form(text) }).collect();
        let prefix = self.prefix()?;
        Ok(self.encode(&texts, place)?.iter().map(|ids| windows(ids, prefix, self.longest)).collect())
    }
}

/// Windows of at most `longest` tokens. Each after the first begins with the token before those that it predicts; a short one at
/// the end is filled up with older ones.
fn windows(ids: &[u32], prefix: u32, longest: usize) -> Vec<Request> {
    let mut made = Vec::new();
    let mut at = 0;
    while at < ids.len() {
        let count = longest.max(1).min(ids.len() - at);
        let context = match at {
            0 => vec![prefix],
            _ => ids[at.saturating_sub((longest + 1).saturating_sub(count).max(1))..at].to_vec(),
        };
        made.push(Request { context, continuation: ids[at..at + count].to_vec() });
        at += count;
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_overlap_by_one_token() {
        let ids: Vec<u32> = (1..=10).collect();
        let pairs = |longest: usize| -> Vec<(Vec<u32>, Vec<u32>)> {
            windows(&ids, 0, longest).into_iter().map(|r| (r.context, r.continuation)).collect()
        };
        assert_eq!(pairs(16), [(vec![0], ids.clone())]);
        assert_eq!(pairs(4), [(vec![0], vec![1, 2, 3, 4]), (vec![4], vec![5, 6, 7, 8]), (vec![6, 7, 8], vec![9, 10])]);
        assert_eq!(pairs(5), [(vec![0], (1..=5).collect()), (vec![5], (6..=10).collect())]);
        assert!(windows(&[], 0, 4).is_empty());
    }
}
