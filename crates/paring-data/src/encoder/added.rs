//! Tokens that the files beside a vocabulary name, as transformers 5 reads and adds them.
//!
//! `added_tokens_decoder` of `tokenizer_config.json` has all of them in newer folders. Without it `special_tokens_map.json`
//! overrides what the config names, and `added_tokens.json` has the tokens that were added. Special tokens by name
//! (`bos_token`, …, and any other `…_token`) and the lists of extra ones are added last.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer as Inner};

use crate::guard::guarded;
use crate::special::{self, CONFIG, Key, MAP, NAMES, is_list_of_extra};
use crate::{Error, Result};

const ADDED: &str = "added_tokens.json";

/// A token that the vocabulary lacks, and the file that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Added {
    pub id: u32,
    pub content: String,
    pub file: String,
}

/// A token and the file that names it.
#[derive(Clone)]
struct Told {
    token: AddedToken,
    file: &'static str,
}

/// The tokens that the files beside a vocabulary name.
#[derive(Default)]
pub(super) struct Tokens {
    /// By the ids that the files give them.
    numbered: BTreeMap<u32, Told>,
    /// True if `numbered` is of the config, which then has the tokens of `tokenizer.json` too.
    complete: bool,
    /// Special ones by their names.
    named: Vec<(String, Told)>,
    /// Special ones without a name.
    extra: Vec<Told>,
}

/// A token as JSON: its text, or an object. Text is a special token.
fn token(value: &Value, special: Option<bool>) -> Option<AddedToken> {
    let object = match value {
        Value::String(text) => return Some(AddedToken::from(text.as_str(), special.unwrap_or(true))),
        Value::Object(object) => object,
        _ => return None,
    };
    let flag = |key: &str| object.get(key).and_then(Value::as_bool);
    let special = special.or(flag("special")).unwrap_or(false);
    let token = AddedToken::from(object.get("content")?.as_str()?, special);
    let normalized = flag("normalized").unwrap_or(token.normalized);
    let [single, left, right] = ["single_word", "lstrip", "rstrip"].map(|key| flag(key).unwrap_or(false));
    Some(token.normalized(normalized).single_word(single).lstrip(left).rstrip(right))
}

impl Tokens {
    /// Reads the files in `dir` beside the `tokenizer_config.json` that is `config`. Errors when one is not what it has
    /// to be.
    pub fn read(dir: &Path, config: &Value) -> Result<Self> {
        let mut tokens = Self::default();
        for key in special::keys(dir, config)? {
            tokens.name(dir, &key)?;
        }
        match special::added_tokens(config) {
            Some(decoder) => {
                tokens.complete = true;
                tokens.number(dir, decoder)?;
            }
            None => tokens.number_legacy(dir)?,
        }
        // Names mean the tokens with all their properties.
        for (_, told) in &mut tokens.named {
            if let Some(same) = tokens.numbered.values().find(|other| other.token.content == told.token.content) {
                told.token = same.token.clone();
            }
        }
        Ok(tokens)
    }

    /// Takes what a key of a config or a map says of special tokens.
    fn name(&mut self, dir: &Path, Key { name: key, value, file }: &Key) -> Result<()> {
        let file = *file;
        let bad =
            |expected: &str| Error::data(dir.join(file).display().to_string(), format!("{key}: expected {expected}"));
        let special = (file == MAP).then_some(true);
        if is_list_of_extra(key) {
            match value {
                Value::Null => {}
                // Each list takes the place of one with fewer rights, unless that is empty.
                Value::Array(list) => {
                    let all = list.iter().map(|value| token(value, special));
                    let all: Option<Vec<_>> = all.map(|token| Some(Told { token: token?, file })).collect();
                    let all = all.ok_or_else(|| bad("a list of tokens"))?;
                    if key == "extra_special_tokens" && file == CONFIG {
                        self.extra = if all.is_empty() { std::mem::take(&mut self.extra) } else { all };
                    } else if key == "extra_special_tokens" {
                        self.extra.extend(all);
                    } else if self.extra.is_empty() {
                        self.extra = all;
                    }
                }
                Value::Object(object) => {
                    for (name, value) in object {
                        let token = token(value, special).ok_or_else(|| bad("a list of tokens, or tokens by name"))?;
                        self.named.push((name.clone(), Told { token, file }));
                    }
                }
                _ => return Err(bad("a list of tokens")),
            }
        } else if NAMES.contains(&key.as_str()) && !value.is_null() {
            let token = token(value, special).ok_or_else(|| bad("a token's text, or an object with its content"))?;
            self.named.push((key.to_owned(), Told { token, file }));
        } else if key.ends_with("_token")
            && let Some(token) = token(value, special)
        {
            self.named.push((key.to_owned(), Told { token, file }));
        }
        Ok(())
    }

    /// Takes `added_tokens_decoder`.
    fn number(&mut self, dir: &Path, decoder: &Value) -> Result<()> {
        let bad = |what: String| Error::data(dir.join(CONFIG).display().to_string(), what);
        let object = decoder
            .as_object()
            .ok_or_else(|| bad("added_tokens_decoder: expected an object with tokens by their ids".into()))?;
        for (id, value) in object {
            let id: u32 =
                id.parse().map_err(|_| bad(format!("added_tokens_decoder: {id:?}, expected a token's id")))?;
            let token =
                value.is_object().then(|| token(value, None)).flatten().ok_or_else(|| {
                    bad(format!("added_tokens_decoder: token {id}: expected an object with its content"))
                })?;
            self.numbered.insert(id, Told { token, file: CONFIG });
        }
        Ok(())
    }

    /// Takes `added_tokens.json`.
    fn number_legacy(&mut self, dir: &Path) -> Result<()> {
        let special: HashSet<&str> = self
            .named
            .iter()
            .map(|(_, told)| told)
            .chain(&self.extra)
            .map(|told| told.token.content.as_str())
            .collect();
        for (content, id) in special::object(dir, ADDED)? {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
                Error::data(dir.join(ADDED).display().to_string(), format!("{content:?}: {id}, expected a token's id"))
            })?;
            let is_special = special.contains(content.as_str());
            self.numbered.insert(id, Told { token: AddedToken::from(content, is_special), file: ADDED });
        }
        Ok(())
    }

    /// The text of the special token of this name.
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.named.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, told)| told.token.content.as_str())
    }

    /// A special token for a tokenizer class that has it where no file names another.
    pub fn assume(&mut self, name: &str, content: &str) {
        self.named.push((name.to_owned(), Told { token: AddedToken::from(content, true), file: CONFIG }));
    }

    /// Adds what the vocabulary lacks. Returns the tokens that it did not know, and a note where a token has another id
    /// than the files give it: transformers numbers them in their order.
    pub fn add_to(mut self, inner: &mut Inner) -> std::result::Result<(Vec<Added>, Vec<String>), String> {
        self.named.sort_by_key(|(name, _)| NAMES.iter().position(|known| known == name).unwrap_or(NAMES.len()));
        let known = inner.get_added_tokens_decoder();
        let mut numbered = self.numbered;
        if !self.complete {
            numbered.retain(|id, _| !known.contains_key(id));
        }
        let mut add: Vec<Told> = Vec::new();
        let same = |told: &Told| known.values().any(|token| *token == told.token);
        add.extend(numbered.values().filter(|told| !same(told)).cloned());
        let mut contents: HashSet<String> = known.values().map(|token| token.content.clone()).collect();
        contents.extend(add.iter().map(|told| told.token.content.clone()));
        for told in self.named.iter().map(|(_, told)| told).chain(&self.extra) {
            if contents.insert(told.token.content.clone()) {
                add.push(told.clone());
            }
        }
        let names: HashSet<&str> = self.named.iter().map(|(_, told)| told.token.content.as_str()).collect();
        for told in &mut add {
            told.token.special |= names.contains(told.token.content.as_str());
        }
        let lacking: Vec<&Told> = add.iter().filter(|told| inner.token_to_id(&told.token.content).is_none()).collect();
        let lacking: Vec<(String, &str)> = lacking.iter().map(|told| (told.token.content.clone(), told.file)).collect();
        let tokens: Vec<AddedToken> = add.iter().map(|told| told.token.clone()).collect();
        guarded(|| inner.add_tokens(tokens))?.map_err(|e| e.to_string())?;
        let added = lacking.into_iter().filter_map(|(content, file)| {
            let id = inner.token_to_id(&content)?;
            Some(Added { id, content, file: file.to_owned() })
        });
        let added: Vec<Added> = added.collect();
        let notes = numbered.iter().filter_map(|(&id, Told { token, file })| {
            let got = inner.token_to_id(&token.content).filter(|&got| got != id)?;
            Some(format!("{file} gives {:?} the id {id}; here, as in transformers, it is token {got}", token.content))
        });
        let notes = notes.collect();
        Ok((added, notes))
    }
}
