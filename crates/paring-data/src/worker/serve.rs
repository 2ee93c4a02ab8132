//! The side that answers: requests → tokens, until there are no more.

use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::Value;

use super::frame::{self, ask, tell};
use super::limits;
use crate::chat::Moment;
use crate::encoder::{Encoder, Failure};
use crate::error::Error;

/// Answers the requests in `input`. Limits on memory are those of the whole process, and left alone unless it is the
/// worker's own: `confined`.
pub(super) fn serve(input: &mut impl Read, output: &mut impl Write, confined: bool) -> io::Result<()> {
    let mut limit = confined.then(limits::Memory::new);
    let mut encoder = None;
    let mut content = Vec::new();
    while let Some(kind) = frame::read(input, &mut content, u64::MAX)? {
        match kind {
            ask::MEMORY => {
                let wanted = content.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                if let Some(less) = limit.as_mut().and_then(|limit| limit.allow(wanted)) {
                    frame::write(output, tell::LIMIT, &less.to_le_bytes())?;
                }
            }
            ask::OPEN => match open(&content) {
                Ok(opened) => {
                    frame::write(output, tell::ABOUT, &serde_json::to_vec(opened.about())?)?;
                    encoder = Some(opened);
                }
                Err(error) => frame::write(output, tell::FILES, error.to_string().as_bytes())?,
            },
            _ => {
                let mut rest = &content[..];
                while let (Some((form, document, next)), Some(encoder)) = (frame::split(rest), &encoder) {
                    answer(encoder, form, document, kind == ask::SHOW, output)?;
                    rest = next;
                }
            }
        }
        output.flush()?;
    }
    Ok(())
}

/// The tokenizer that a message asks for.
fn open(content: &[u8]) -> Result<Encoder, Error> {
    let (moment, folder) = content.split_first_chunk().unwrap_or((&[0; 8], content));
    let moment = Moment::from_seconds(i64::from_le_bytes(*moment)).unwrap_or_else(Moment::now);
    Encoder::open(&path(folder), moment)
}

/// The path in a message.
fn path(bytes: &[u8]) -> std::path::PathBuf {
    #[cfg(unix)]
    let text: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(bytes);
    #[cfg(not(unix))]
    let text = String::from_utf8_lossy(bytes).into_owned();
    Path::new(&text).to_path_buf()
}

/// Writes the tokens of a document, or why it has none.
fn answer(encoder: &Encoder, form: u8, document: &[u8], show: bool, output: &mut impl Write) -> io::Result<()> {
    let made = match form {
        ask::CHAT | ask::PROMPT => chat(encoder, document, form == ask::PROMPT, output)?,
        ask::IDS | ask::PLAIN => {
            begin_tokenizer(output)?;
            encoder.decoded(&ids(document), form == ask::PLAIN).map(|text| (text, Vec::new()))
        }
        _ => {
            begin_tokenizer(output)?;
            let text = std::str::from_utf8(document).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            if form == ask::BARE {
                encoder.ids(text, false).map(|ids| (String::new(), ids))
            } else if show {
                encoder.shown(text)
            } else {
                encoder.text(text).map(|ids| (String::new(), ids))
            }
        }
    };
    match made {
        Ok((text, ids)) => {
            if show {
                frame::write(output, tell::TEXT, text.as_bytes())?;
            }
            frame::write_head(output, tell::IDS, ids.len() as u64 * 4)?;
            for part in ids.chunks(1 << 14) {
                let bytes: Vec<u8> = part.iter().flat_map(|id| id.to_le_bytes()).collect();
                output.write_all(&bytes)?;
            }
            Ok(())
        }
        Err(Failure::Document(reason)) => frame::write(output, tell::DOCUMENT, reason.as_bytes()),
        Err(Failure::Files(line)) => frame::write(output, tell::FILES, line.as_bytes()),
    }
}

/// Token ids in a message.
pub(super) fn ids(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).filter_map(|id| id.first_chunk()).map(|id| u32::from_le_bytes(*id)).collect()
}

/// Says, before it runs, that the tokenizer is next.
fn begin_tokenizer(output: &mut impl Write) -> io::Result<()> {
    frame::write(output, tell::TOKENIZER, b"")?;
    output.flush()
}

/// The text and the tokens of a conversation.
fn chat(
    encoder: &Encoder,
    document: &[u8],
    prompt: bool,
    output: &mut impl Write,
) -> io::Result<Result<(String, Vec<u32>), Failure>> {
    let template = match encoder.template() {
        Ok(template) => template,
        Err(failure) => return Ok(Err(failure)),
    };
    let messages: Vec<Value> = serde_json::from_slice(document)?;
    let kind = if template.has_time { tell::TIMED_TEMPLATE } else { tell::TEMPLATE };
    frame::write(output, kind, template.file().as_bytes())?;
    output.flush()?;
    let text = match encoder.render(template, &messages, prompt) {
        Ok(text) => text,
        Err(failure) => return Ok(Err(failure)),
    };
    begin_tokenizer(output)?;
    // A template writes all special tokens itself.
    Ok(encoder.ids(&text, false).map(|ids| (text, ids)))
}
