//! The side that asks: starts a worker, sends it documents, watches over it, and says what ended it.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use paring_format::names::COMPANIONS;
use serde_json::Value;

use super::frame::{self, ask, tell};
use super::serve::{ids, serve};
use super::watch::Watch;
use super::{ARGUMENT, Allowance, Isolation, STACK};
use crate::chat::Moment;
use crate::encoder::{About, Failure};
use crate::unpack::MAX_LINE;
use crate::{Error, Result};

/// A document to be made tokens of.
#[derive(Clone, Copy)]
pub(crate) enum Question<'a> {
    Text(&'a str),
    /// A text without the tokens that are put around every text.
    Bare(&'a str),
    Chat(&'a [Value]),
    /// Messages that are to be answered.
    Prompt(&'a [Value]),
    /// Tokens that text is to be made of.
    Ids(&'a [u32]),
    /// The same, without special tokens.
    Plain(&'a [u32]),
}

/// The tokens of a document.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub ids: Vec<u32>,
    /// The text that they stand for, where it was asked for.
    pub text: String,
}

/// A tokenizer that is open where it can fail alone.
pub(crate) struct Worker {
    input: Option<BufWriter<Box<dyn Write + Send>>>,
    output: BufReader<Box<dyn Read + Send>>,
    process: Option<Process>,
    watch: Watch,
    patience: Duration,
    /// Bytes of the tokenizer's files.
    files: u64,
    /// The allowance of the last request, and of memory the one that it got.
    allowed: Allowance,
    granted: Option<u64>,
    /// The file that is worked with, for messages: a template or a tokenizer.
    at: String,
    tokenizer: String,
    pub about: About,
    /// True if a template was used that may ask for the time.
    pub is_timed: bool,
}

/// A process, and what it complains of.
struct Process {
    child: Arc<Mutex<Child>>,
    stderr: Option<std::process::ChildStderr>,
}

/// Documents of one message at most, and the bytes after which one is sent.
pub(crate) const BATCH: usize = 64;
pub(crate) const BATCH_BYTES: usize = 64 << 10;

impl Worker {
    /// Starts a worker and has it open the tokenizer in `dir`, whose main file is `file`; templates write `moment`. Errors when
    /// it cannot start, the tokenizer cannot be read, and when that takes more than it may.
    pub fn open(dir: &Path, file: &Path, moment: Moment, isolation: &Isolation) -> Result<Self> {
        let there = COMPANIONS.iter().filter_map(|name| dir.join(name).metadata().ok());
        let files = there.map(|meta| meta.len().min(128 << 20)).sum();
        let tokenizer = file.display().to_string();
        let mut worker = Self::start(isolation, files, tokenizer.clone()).map_err(|error| {
            let text = format!(
                "no process can be started to tokenize in: {error}; check the limits on processes and files (ulimit)"
            );
            Error::Tokenizer(format!("{tokenizer}: {text}"))
        })?;
        let path = [&moment.seconds().to_le_bytes()[..], &path_bytes(dir)].concat();
        let ask = |input: &mut dyn Write| -> io::Result<()> { frame::write(&mut &mut *input, ask::OPEN, &path) };
        let told = worker.request(Allowance::to_open(files, worker.patience), &ask).and_then(|()| worker.hear(1 << 30));
        match told {
            Ok((tell::ABOUT, about)) => {
                worker.about = serde_json::from_slice(&about).map_err(|e| Error::Tokenizer(e.to_string()))?;
                worker.watch.rest();
                Ok(worker)
            }
            Ok((_, line)) => Err(Error::Tokenizer(String::from_utf8_lossy(&line).into_owned())),
            Err(error) => {
                let reason = worker.ended(&error);
                Err(Error::Tokenizer(format!(
                    "{tokenizer}: it cannot be opened: {reason}; use another tokenizer.json, or token ids"
                )))
            }
        }
    }

    fn start(isolation: &Isolation, files: u64, tokenizer: String) -> io::Result<Self> {
        let (patience, input, output, process, watch);
        match isolation {
            Isolation::Process { program, patience: given } => {
                let mut child = process_of(program).spawn()?;
                let missing = || io::Error::other("it has no pipes");
                let stdin = child.stdin.take().ok_or_else(missing)?;
                let stdout = child.stdout.take().ok_or_else(missing)?;
                let stderr = child.stderr.take();
                let child = Arc::new(Mutex::new(child));
                process = Some(Process { child: child.clone(), stderr });
                (input, output) = (Box::new(stdin) as Box<dyn Write + Send>, Box::new(stdout) as Box<dyn Read + Send>);
                patience = *given;
                // Ended already, it is late all the same.
                watch = Watch::start(Box::new(move || _ = lock(&child).kill()));
            }
            Isolation::Thread => {
                let ((mut asked, stdin), (stdout, mut answers)) = (io::pipe()?, io::pipe()?);
                let late = answers.try_clone()?;
                thread::Builder::new().stack_size(STACK).spawn(move || {
                    // Ends when nobody asks or listens any more.
                    let _ = serve(&mut BufReader::new(&mut asked), &mut BufWriter::new(&mut answers), false);
                })?;
                process = None;
                (input, output) = (Box::new(stdin) as Box<dyn Write + Send>, Box::new(stdout) as Box<dyn Read + Send>);
                patience = super::PATIENCE;
                watch = Watch::start(Box::new(move || _ = frame::write(&mut &late, tell::LATE, b"")));
            }
        }
        let watch = watch.inspect_err(|_| process.iter().for_each(Process::end))?;
        Ok(Self {
            input: Some(BufWriter::with_capacity(BATCH_BYTES, input)),
            output: BufReader::with_capacity(BATCH_BYTES, output),
            process,
            watch,
            patience,
            files,
            allowed: Allowance::to_open(files, patience),
            granted: None,
            at: tokenizer.clone(),
            tokenizer,
            about: About::default(),
            is_timed: false,
        })
    }

    /// Sends a request, which `ask` writes, and what it may take.
    fn request(&mut self, allowed: Allowance, ask: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        self.allowed = allowed;
        self.watch.begin(allowed.time);
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        frame::write(input, ask::MEMORY, &allowed.memory.to_le_bytes())?;
        ask(input)?;
        input.flush()
    }

    /// The next message, of at most so many bytes.
    fn hear(&mut self, most: u64) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let mut content = Vec::new();
            match frame::read(&mut self.output, &mut content, most)? {
                Some(tell::LIMIT) => self.granted = content.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
                Some(tell::LATE) | None => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(kind) => return Ok((kind, content)),
            }
        }
    }

    /// The tokens of documents, [`BATCH`] at most, in their order up to the first that has none, and why it has none. The
    /// worker is of no more use after [`Failure::Files`].
    pub fn encode(&mut self, documents: &[Question<'_>], show: bool) -> (Vec<Answer>, Option<Failure>) {
        let mut answers = Vec::new();
        let failure = self.try_encode(documents, show, &mut answers);
        self.watch.rest();
        match failure {
            Ok(failure) => (answers, failure),
            Err(error) => {
                let at = std::mem::take(&mut self.at);
                let what = if at == self.tokenizer { "the tokenizer of" } else { "the chat template of" };
                let reason = self.ended(&error);
                self.input = None;
                (
                    answers,
                    Some(Failure::Document(format!("{what} {at}: {reason}; use shorter documents, or token ids"))),
                )
            }
        }
    }

    /// True after something ended the worker.
    pub fn is_over(&self) -> bool {
        self.input.is_none()
    }

    fn try_encode(
        &mut self,
        documents: &[Question<'_>],
        show: bool,
        answers: &mut Vec<Answer>,
    ) -> io::Result<Option<Failure>> {
        let made: Vec<Vec<u8>> = documents.iter().map(made).collect::<io::Result<_>>()?;
        let contents = documents.iter().zip(&made).map(|(document, made)| match document {
            Question::Text(text) => (ask::TEXT, text.as_bytes()),
            Question::Bare(text) => (ask::BARE, text.as_bytes()),
            Question::Chat(_) => (ask::CHAT, &made[..]),
            Question::Prompt(_) => (ask::PROMPT, &made[..]),
            Question::Ids(_) => (ask::IDS, &made[..]),
            Question::Plain(_) => (ask::PLAIN, &made[..]),
        });
        let contents: Vec<(u8, &[u8])> = contents.collect();
        let bytes: u64 = contents.iter().map(|(_, content)| content.len() as u64).sum();
        let kind = if show { ask::SHOW } else { ask::ENCODE };
        let ask = |mut input: &mut dyn Write| -> io::Result<()> {
            frame::write_head(&mut input, kind, bytes + 9 * contents.len() as u64)?;
            contents.iter().try_for_each(|(form, content)| frame::write(&mut input, *form, content))
        };
        self.request(Allowance::to_encode(self.files, bytes, self.patience), &ask)?;
        // More tokens than a template may write bytes, and than the text has, no document makes.
        let most = (bytes.saturating_mul(4)).saturating_add(MAX_LINE as u64).saturating_mul(4);
        while answers.len() < documents.len() {
            let mut answer = Answer::default();
            loop {
                let (kind, content) = self.hear(if show { u64::MAX } else { most })?;
                match kind {
                    tell::TEMPLATE | tell::TIMED_TEMPLATE => {
                        self.is_timed |= kind == tell::TIMED_TEMPLATE;
                        self.at = String::from_utf8_lossy(&content).into_owned();
                    }
                    tell::TOKENIZER => self.at.clone_from(&self.tokenizer),
                    tell::TEXT => answer.text = String::from_utf8_lossy(&content).into_owned(),
                    tell::IDS => {
                        answer.ids = ids(&content);
                        break;
                    }
                    kind => {
                        // What it says of later documents is not heard.
                        self.input = None;
                        let text = String::from_utf8_lossy(&content).into_owned();
                        let failure = if kind == tell::DOCUMENT { Failure::Document } else { Failure::Files };
                        return Ok(Some(failure(text)));
                    }
                }
            }
            answers.push(answer);
        }
        Ok(None)
    }

    /// The reason why the worker came to an end, which `error` shows.
    fn ended(&mut self, error: &io::Error) -> String {
        let late = self.watch.is_late();
        let (mut text, mut status) = (String::new(), None);
        if let Some(process) = &mut self.process {
            self.input = None;
            if ![io::ErrorKind::UnexpectedEof, io::ErrorKind::BrokenPipe].contains(&error.kind()) {
                process.end();
            }
            let mut bytes = Vec::new();
            let heard = process.stderr.take().map(|stderr| stderr.take(1 << 16).read_to_end(&mut bytes));
            text = String::from_utf8_lossy(&bytes).into_owned();
            status = heard.and_then(|_| lock(&process.child).wait().ok());
        }
        if late {
            format!("it takes more than {} s", self.allowed.time.as_secs())
        } else if error.kind() == io::ErrorKind::FileTooLarge {
            "it makes more tokens than any text has".to_string()
        } else if ["out of memory", "memory allocation of"].iter().any(|words| text.contains(words)) {
            let memory = self.granted.unwrap_or(self.allowed.memory);
            format!("it needs more than {:.1} GiB of memory", memory as f64 / (1u64 << 30) as f64)
        } else if text.contains("overflowed its stack") {
            format!("it overflows its stack of {} MiB", STACK >> 20)
        } else {
            let said = text.lines().find(|line| !line.trim().is_empty()).map(str::to_owned);
            let status = status.map(|status| format!("its process ended with {status}"));
            said.or(status).unwrap_or_else(|| error.to_string())
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.input = None;
        self.process.iter().for_each(Process::end);
    }
}

impl Process {
    /// Ends it, if it is not over, and takes note of its end.
    fn end(&self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The program that works, with nothing of this one but its pipes and what it needs to start.
fn process_of(program: &PathBuf) -> Command {
    let mut command = Command::new(program);
    command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Each arena of the C library takes 64 MiB of addresses, which are bounded.
    command.env("MALLOC_ARENA_MAX", "1").env_remove("RUST_BACKTRACE");
    // Ctrl-C is for the program to hear; the worker ends with it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A document as bytes, where it is not text.
fn made(document: &Question<'_>) -> io::Result<Vec<u8>> {
    match document {
        Question::Text(_) | Question::Bare(_) => Ok(Vec::new()),
        Question::Chat(messages) | Question::Prompt(messages) => Ok(serde_json::to_vec(messages)?),
        Question::Ids(ids) | Question::Plain(ids) => Ok(ids.iter().flat_map(|id| id.to_le_bytes()).collect()),
    }
}

fn path_bytes(path: &Path) -> Vec<u8> {
    #[cfg(unix)]
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    #[cfg(not(unix))]
    let text = path.to_string_lossy();
    #[cfg(not(unix))]
    let bytes = text.as_bytes();
    bytes.to_vec()
}
