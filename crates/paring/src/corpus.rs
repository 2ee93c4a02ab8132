//! Text and token files → windows of tokens.

mod random;

use std::fs;
use std::path::Path;

use paring_format::{Checkpoint, Dtype};
use tokenizers::Tokenizer;

use crate::{Error, Result};

/// A data set.
pub struct Data {
    /// What to call it in messages: a path or a built-in name.
    pub name: String,
    /// What it holds.
    pub content: Content,
}

/// What a data set holds.
pub enum Content {
    /// Text, tokenized as one string.
    Text(String),
    /// Rows of token ids of equal length.
    Rows {
        /// All rows joined.
        ids: Vec<u32>,
        /// Tokens in a row.
        len: usize,
    },
}

/// Windows of tokens, all of the same length, joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Tokens in a window.
    pub seqlen: usize,
    /// The seed of their starts, when these were drawn.
    pub seed: Option<u64>,
}

impl Windows {
    /// Number of windows.
    pub fn count(&self) -> usize {
        self.ids.len() / self.seqlen
    }

    /// An error when a token, which came from the data set `source`, is none of a model's vocabulary.
    pub fn check_vocabulary(&self, source: &str, vocab: usize) -> Result<()> {
        match self.ids.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => {
                let reason =
                    format!("token {id} is outside the model's vocabulary of {vocab}; was it made for another?");
                Err(Error::data(source, reason))
            }
            None => Ok(()),
        }
    }
}

/// How calibration windows are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Windows wanted; `None`: 128, or as many as there are.
    pub nsamples: Option<usize>,
    /// Tokens in a window; `None`: 2048, or as many as model and data allow.
    pub seqlen: Option<usize>,
    /// Starts drawn at random as the published codes draw them from a joined text; `None`: one window after the other
    /// from the start of the data, unless more are wanted than it has, which are drawn with seed 0.
    pub seed: Option<u64>,
    /// `max_position_embeddings` of the model.
    pub positions: usize,
}

impl Data {
    /// Opens a file: `.txt` (one text), `.jsonl` (field `text_field` of each line, joined by an empty line), or
    /// `.safetensors` (a tensor `input_ids` of integers, `[n, t]`).
    pub fn open(path: &Path, text_field: &str) -> Result<Self> {
        let name = path.display().to_string();
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let text = || -> Result<String> {
            let bytes = fs::read(path).map_err(io)?;
            String::from_utf8(bytes).map_err(|e| Error::data(&name, format!("not UTF-8: {}", e.utf8_error())))
        };
        let content = match path.extension().and_then(|e| e.to_str()) {
            Some("txt") => Content::Text(text()?),
            Some("jsonl") => Content::Text(join_lines(&name, &text()?, text_field)?),
            Some("safetensors") => read_rows(path)?,
            _ => {
                fs::metadata(path).map_err(io)?;
                return Err(Error::data(name, "unknown kind of data; expected .txt, .jsonl or .safetensors"));
            }
        };
        Ok(Self { name, content })
    }

    fn tokens(&self, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
        match &self.content {
            Content::Rows { ids, .. } => Ok(ids.clone()),
            Content::Text(text) => {
                let Some(tokenizer) = tokenizer else {
                    return Err(Error::data(
                        &self.name,
                        "text needs a tokenizer.json in the model's folder; or give a safetensors file of token ids",
                    ));
                };
                let encoding = tokenizer.encode_fast(text.as_str(), true);
                let encoding = encoding.map_err(|e| Error::data(&self.name, format!("the tokenizer failed: {e}")))?;
                Ok(encoding.get_ids().to_vec())
            }
        }
    }

    /// Windows to calibrate on. A token file gives one window per row (its first `seqlen` tokens).
    pub fn calibration(&self, tokenizer: Option<&Tokenizer>, how: &Sampling) -> Result<Windows> {
        let wanted = how.nsamples.unwrap_or(128);
        if let Content::Rows { ids, len } = &self.content {
            let seqlen = how.seqlen.unwrap_or(2048).min(how.positions).min(*len);
            let rows = if *len == 0 { 0 } else { ids.len() / len };
            if let Some(wanted) = how.nsamples.filter(|&n| n > rows) {
                return Err(Error::data(&self.name, format!("{rows} rows of tokens; --nsamples asks for {wanted}")));
            }
            if rows == 0 || seqlen < 2 {
                return Err(Error::data(&self.name, format!("{rows} rows of {len} tokens; nothing to calibrate on")));
            }
            let picked = ids.chunks_exact(*len).take(wanted).flat_map(|row| &row[..seqlen]);
            return Ok(Windows { ids: picked.copied().collect(), seqlen, seed: None });
        }
        let tokens = self.tokens(tokenizer)?;
        let seqlen = self.seqlen(how.seqlen, how.positions, tokens.len())?;
        let there = tokens.len() / seqlen;
        if there == 0 {
            return Err(Error::data(
                &self.name,
                format!(
                    "{} tokens make {there} windows of {seqlen}; {wanted} are asked for: use more data, or a smaller \
                    --nsamples or --seqlen",
                    tokens.len()
                ),
            ));
        }
        // More windows than fit side by side overlap, as those of the published codes do.
        let crowded = how.nsamples.is_some_and(|wanted| wanted > there);
        let seed = how.seed.or(crowded.then_some(0));
        let ids = match seed {
            None => tokens[..wanted.min(there) * seqlen].to_vec(),
            Some(seed) => {
                let mut random = random::Random::new(seed);
                let last = (tokens.len() - seqlen).saturating_sub(1);
                (0..how.nsamples.unwrap_or(wanted.min(there)))
                    .flat_map(|_| {
                        let start = random.up_to(last as u32) as usize;
                        tokens[start..start + seqlen].to_vec()
                    })
                    .collect()
            }
        };
        Ok(Windows { ids, seqlen, seed })
    }

    /// Windows to measure perplexity on: the whole data joined and cut, the tail dropped, `limit` windows at most.
    pub fn evaluation(
        &self,
        tokenizer: Option<&Tokenizer>,
        seqlen: Option<usize>,
        positions: usize,
        limit: Option<usize>,
    ) -> Result<Windows> {
        let mut ids = self.tokens(tokenizer)?;
        let seqlen = self.seqlen(seqlen, positions, ids.len())?;
        let windows = (ids.len() / seqlen).min(limit.unwrap_or(usize::MAX));
        if windows == 0 {
            let text = format!("{} tokens do not fill one window of {seqlen}; use more data or --seqlen", ids.len());
            return Err(Error::data(&self.name, text));
        }
        ids.truncate(windows * seqlen);
        Ok(Windows { ids, seqlen, seed: None })
    }

    fn seqlen(&self, asked: Option<usize>, positions: usize, tokens: usize) -> Result<usize> {
        if tokens == 0 {
            return Err(Error::data(&self.name, "no tokens in it"));
        }
        Ok(asked.unwrap_or(2048).min(positions))
    }
}

/// The tokenizer beside a model; `None` when there is no `tokenizer.json`.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>> {
    let Some(dir) = checkpoint.dir() else { return Ok(None) };
    let path = dir.join("tokenizer.json");
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    tokenizer_from(&bytes, &path).map(Some)
}

/// A tokenizer from the text of a `tokenizer.json`; truncation and padding that it may ask for are switched off.
pub fn tokenizer_from(json: &[u8], path: &Path) -> Result<Tokenizer> {
    let bad = |e: tokenizers::Error| Error::data(path.display().to_string(), format!("not a tokenizer: {e}"));
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(bad)?;
    tokenizer.with_truncation(None).map_err(bad)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

fn join_lines(name: &str, text: &str, field: &str) -> Result<String> {
    let mut joined = String::with_capacity(text.len());
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |what: String| Error::data(name, format!("line {}: {what}", i + 1));
        let value: serde_json::Value = serde_json::from_str(line).map_err(|e| bad(format!("not JSON: {e}")))?;
        let text = value.get(field).and_then(|v| v.as_str());
        let text = text.ok_or_else(|| bad(format!("no text in a field {field:?}; name another with --text-field")))?;
        if !joined.is_empty() {
            joined.push_str("\n\n");
        }
        joined.push_str(text);
    }
    Ok(joined)
}

fn read_rows(path: &Path) -> Result<Content> {
    const TENSOR: &str = "input_ids";
    let name = path.display().to_string();
    let file = Checkpoint::open_file(path)?;
    let Some(info) = file.info(TENSOR) else {
        return Err(Error::data(name, "no tensor input_ids; a token file holds one of integers, [n, t]"));
    };
    let (shape, dtype) = (info.shape.clone(), info.dtype);
    let [_, len] = shape[..] else {
        return Err(Error::data(name, format!("{TENSOR} has shape {shape:?}, expected [n, t]")));
    };
    let bytes = file.read(TENSOR)?;
    let wide: Vec<i64> = match dtype {
        Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        Dtype::I32 => bytes.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect(),
        Dtype::U32 => bytes.as_chunks().0.iter().map(|b| i64::from(u32::from_le_bytes(*b))).collect(),
        Dtype::I16 => bytes.as_chunks().0.iter().map(|b| i64::from(i16::from_le_bytes(*b))).collect(),
        Dtype::U8 => bytes.iter().map(|b| i64::from(*b)).collect(),
        _ => {
            return Err(Error::data(name, format!("{TENSOR} has type {}, expected integers", dtype.name())));
        }
    };
    let ids = wide.iter().enumerate().map(|(i, &v)| {
        u32::try_from(v).map_err(|_| Error::data(&name, format!("{TENSOR}: {v} at element {i} is no token id")))
    });
    Ok(Content::Rows { ids: ids.collect::<Result<_>>()?, len })
}
