//! Events for other programs: a JSON object a line, written as they happen (docs/log-json.md).

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use paring::report::moment;
use paring::{Error, Result};
use serde_json::{Map, Value, json};

use crate::show::paint::{self, Label};
use crate::show::terminal;
use crate::stderr;

/// Of the events and their fields; a new one when what is there changes, not when something is added.
const VERSION: u32 = 1;
/// The first event of a process.
const STARTED: &str = "started";
/// The name that means stderr.
const STDERR: &str = "-";
/// Bytes of a first event, at most.
const FIRST_LINE: u64 = 1 << 20;

/// A file of events, or nothing.
pub struct Log {
    to: Mutex<To>,
    path: PathBuf,
    start: Instant,
    /// The result of the command, for the last event.
    result: Mutex<Option<Value>>,
}

enum To {
    Nowhere,
    File(File),
    Stderr,
}

impl Log {
    /// No log.
    pub fn nowhere() -> Self {
        Self { to: Mutex::new(To::Nowhere), path: PathBuf::new(), start: Instant::now(), result: Mutex::default() }
    }

    /// Begins to append to the file, if there is one, and says with what `arguments` the program was called.
    ///
    /// Errors when it cannot be written, and when it is a file that holds something else.
    pub fn open(path: Option<&Path>, arguments: &[String]) -> Result<Self> {
        let to = match path {
            None => To::Nowhere,
            Some(path) if path == Path::new(STDERR) => To::Stderr,
            Some(path) => To::File(append(path)?),
        };
        let path = path.unwrap_or(Path::new("")).to_path_buf();
        let log = Self { to: Mutex::new(to), path, ..Self::nowhere() };
        let started = json!({
            "version": VERSION,
            "program": concat!("paring ", env!("CARGO_PKG_VERSION")),
            "pid": std::process::id(),
            "arguments": arguments,
        });
        match log.is_on_stderr() {
            true => log.event(STARTED, started),
            false => log.write(STARTED, started).map_err(|source| Error::Io { path: log.path.clone(), source })?,
        }
        Ok(log)
    }

    /// True if events take the place of progress for people.
    pub fn is_on_stderr(&self) -> bool {
        matches!(*self.to(), To::Stderr)
    }

    /// Writes an event, with the object `fields`. A file that can no longer be written is noted once: hours of work are
    /// worth more than their log.
    pub fn event(&self, event: &str, fields: Value) {
        if let Err(error) = self.write(event, fields) {
            *self.to() = To::Nowhere;
            let note = format!("{}: {error}; no more events are written", self.path.display());
            stderr::line(paint::labelled(Label::Note, &note));
        }
    }

    /// Keeps what the command came to. Layers have events of their own.
    pub fn result(&self, value: &Value) {
        let mut value = value.clone();
        if let Some(object) = value.as_object_mut() {
            object.shift_remove("layers");
        }
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    /// Writes the last event: the command ended well, or with this error and exit code.
    pub fn ended(&self, error: Option<(&str, u8)>) {
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        match error {
            None => self.event("finished", json!({"exit_code": 0, "result": result})),
            Some((text, code)) => self.event("failed", json!({"exit_code": code, "error": text})),
        }
    }

    fn to(&self) -> MutexGuard<'_, To> {
        self.to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, event: &str, fields: Value) -> io::Result<()> {
        let mut to = self.to();
        if matches!(*to, To::Nowhere) {
            return Ok(());
        }
        let millis = self.start.elapsed().as_millis() as f64;
        let mut object = Map::new();
        object.insert("time".into(), moment::now_to_the_millisecond().into());
        object.insert("seconds".into(), (millis / 1e3).into());
        object.insert("event".into(), event.into());
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        // One call: readers that follow the file see whole lines.
        let line = format!("{}\n", terminal::json(&Value::Object(object).to_string()));
        match &mut *to {
            To::Nowhere => Ok(()),
            To::File(file) => file.write_all(line.as_bytes()),
            To::Stderr => io::stderr().write_all(line.as_bytes()),
        }
    }
}

/// Opens a file to append events to. The line that a killed process left unfinished is ended.
fn append(path: &Path) -> Result<File> {
    let failed = |source| Error::Io { path: path.to_path_buf(), source };
    let exists = path.metadata().is_ok_and(|data| data.is_file() && data.len() > 0);
    let mut whole = true;
    if exists {
        let mut file = File::open(path).map_err(failed)?;
        let mut first = Vec::new();
        BufReader::new(&file).take(FIRST_LINE).read_until(b'\n', &mut first).map_err(failed)?;
        let first: Option<Value> = serde_json::from_slice(&first).ok();
        if first.is_none_or(|first| first["event"] != STARTED || !first["program"].is_string()) {
            return Err(Error::Misuse(format!(
                "--log-json {}: holds something other than events, which would be appended to it; name another file",
                path.display()
            )));
        }
        let mut last = [0];
        file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(failed)?;
        whole = last == [b'\n'];
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
    if !whole {
        file.write_all(b"\n").map_err(failed)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
