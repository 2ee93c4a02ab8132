//! Messages between a worker and the side that asks: a byte for the kind, the length, the content.

use std::io::{self, Read, Write};

/// Kinds of messages to a worker.
pub(super) mod ask {
    /// Open the tokenizer in the folder of this path, which follows the moment that templates may write, in seconds.
    pub const OPEN: u8 = b'o';
    /// Tokens of documents, which follow each other as [`TEXT`], [`BARE`], [`CHAT`], [`PROMPT`], [`IDS`] and [`PLAIN`].
    pub const ENCODE: u8 = b'e';
    /// The same, with the text that the tokens stand for.
    pub const SHOW: u8 = b's';
    /// A document: text.
    pub const TEXT: u8 = b't';
    /// A document: text, without the tokens that are put around every text.
    pub const BARE: u8 = b'b';
    /// A document: a list of messages as JSON.
    pub const CHAT: u8 = b'c';
    /// A document: the same, to be answered.
    pub const PROMPT: u8 = b'p';
    /// A document: tokens, whose text is asked for.
    pub const IDS: u8 = b'i';
    /// A document: the same, without special tokens.
    pub const PLAIN: u8 = b'j';
    /// The allowance of memory for the next message.
    pub const MEMORY: u8 = b'm';
}

/// Kinds of messages from a worker.
pub(super) mod tell {
    /// It is open: what is known of it, as JSON.
    pub const ABOUT: u8 = b'a';
    /// The next is the template of this path, for the next document.
    pub const TEMPLATE: u8 = b'T';
    /// The same, of a template that may ask for the time.
    pub const TIMED_TEMPLATE: u8 = b'Z';
    /// The next is the tokenizer.
    pub const TOKENIZER: u8 = b'K';
    /// The text that a document's tokens stand for.
    pub const TEXT: u8 = b't';
    /// A document's tokens, which end what is said of it.
    pub const IDS: u8 = b'i';
    /// The reason why a document has no tokens.
    pub const DOCUMENT: u8 = b'd';
    /// A line about one of the model's files, which cannot be used.
    pub const FILES: u8 = b'f';
    /// The worker may use only so many bytes, because of a limit on its program.
    pub const LIMIT: u8 = b'l';
    /// It took too long. Not of the worker, but of the watch over a thread.
    pub const LATE: u8 = b'x';
}

/// Writes a message.
pub(super) fn write(out: &mut impl Write, kind: u8, content: &[u8]) -> io::Result<()> {
    write_head(out, kind, content.len() as u64)?;
    out.write_all(content)
}

/// Writes the beginning of a message, whose content of `len` bytes follows.
pub(super) fn write_head(out: &mut impl Write, kind: u8, len: u64) -> io::Result<()> {
    let mut head = [kind; 9];
    head[1..].copy_from_slice(&len.to_le_bytes());
    out.write_all(&head)
}

/// Reads the next message into `content`; `None` at the end. Errors when it has more than `most` bytes.
pub(super) fn read(input: &mut impl Read, content: &mut Vec<u8>, most: u64) -> io::Result<Option<u8>> {
    let mut head = [0; 9];
    if input.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut head[1..])?;
    let len = length(&head);
    if len > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    content.clear();
    // No memory before the bytes are there.
    if input.take(len).read_to_end(content)? as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(head[0]))
}

/// The length in the beginning of a message.
fn length(head: &[u8; 9]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[1..]);
    u64::from_le_bytes(bytes)
}

/// The first message in `content`, and what is after it; `None` at the end, or where it is cut off.
pub(super) fn split(content: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let head: &[u8; 9] = content.first_chunk()?;
    let len = usize::try_from(length(head)).ok()?;
    let (one, rest) = content[9..].split_at_checked(len)?;
    Some((head[0], one, rest))
}
