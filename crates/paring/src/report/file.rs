//! `report.json`: written, and read back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::report::names::REPORT;
use paring_format::files;
use paring_format::writer::write_beside;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Report, VERSION};
use crate::{Error, Result};

/// Largest report that is read, in bytes: a hundred thousand layers.
const MOST: u64 = 64 << 20;
/// Blocks of the deepest model that can be opened; a report of more is of no run, and its page has a place for each.
const BLOCKS: usize = 10_000;
/// Kinds of linears, and stages: a run has a dozen.
const NAMES: usize = 256;
/// Values of a plan, letters of their names, and how deep they lie.
const VALUES: usize = 100_000;
const LETTERS: usize = 256;
const DEPTH: usize = 16;

impl Report {
    /// Writes the report into a folder as `report.json`, in place of an earlier one. Errors when it cannot be written; an
    /// earlier one is intact then.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|e| Error::Plan(format!("cannot write the report: {e}")))?;
        write_beside(&dir.join(REPORT), text.len() + 1, |file| writeln!(file, "{text}"))?;
        Ok(())
    }

    /// Reads the report of a run: `path` is its output folder, or the file itself. Errors when there is none, or one that
    /// is damaged, of another version, or of more than 64 MiB.
    pub fn read(path: &Path) -> Result<Self> {
        let path = Report::path(path);
        let bad = |reason: String| Error::content(path.display().to_string(), reason);
        let bytes = files::read(&path, MOST).map_err(|error| match error {
            paring_format::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                bad("not found; give the output folder of a finished run".to_string())
            }
            paring_format::Error::LargeFile { .. } => {
                bad(format!("larger than {} MiB; no run leaves such a report", MOST >> 20))
            }
            other => other.into(),
        })?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| bad(format!("not valid JSON: {e}")))?;
        match value.get("version") {
            Some(version) if version.as_u64() == Some(u64::from(VERSION)) => {}
            Some(version) => {
                return Err(bad(format!(
                    "a report of version {}, expected {VERSION}; read it with the paring that wrote it",
                    shortened(version)
                )));
            }
            None => return Err(bad(format!("has no version, expected {VERSION}: no report of a run"))),
        }
        let report: Self =
            serde_json::from_value(value).map_err(|e| bad(format!("not a report of version {VERSION}: {e}")))?;
        report.check().map_err(bad)?;
        Ok(report)
    }

    /// Errors on what no run has and would make what is drawn and compared of it endless.
    fn check(&self) -> std::result::Result<(), String> {
        if let Some(layer) = self.layers.iter().find(|layer| layer.block > BLOCKS) {
            return Err(format!("a layer in block {}, expected at most {BLOCKS}", layer.block));
        }
        let kinds = self.layers.iter().map(|layer| &layer.kind).collect::<BTreeSet<_>>().len();
        for (count, what) in [(kinds, "kinds of linears"), (self.stages.len(), "stages")] {
            if count > NAMES {
                return Err(format!("{count} {what}, expected at most {NAMES}"));
            }
        }
        let mut left = VALUES;
        match bounded(&self.plan, DEPTH, &mut left) {
            true => Ok(()),
            false => Err(format!(
                "a plan of more than {VALUES} values, or whose names are longer than {LETTERS} letters or lie deeper than {DEPTH}"
            )),
        }
    }

    /// The file that holds the report of a run: in its output folder, unless `path` is a file.
    pub fn path(path: &Path) -> PathBuf {
        if path.is_dir() { path.join(REPORT) } else { path.to_path_buf() }
    }
}

/// Tells whether a value has no more than `left` values in it, which are taken off, and lies no deeper than `depth`.
fn bounded(value: &Value, depth: usize, left: &mut usize) -> bool {
    let Some(rest) = left.checked_sub(1) else { return false };
    *left = rest;
    match value {
        Value::Object(object) => {
            depth > 0 && object.iter().all(|(key, value)| key.len() <= LETTERS && bounded(value, depth - 1, left))
        }
        // Lists of plain values, such as the order of columns, are one.
        Value::Array(list) => {
            let mut nested = list.iter().filter(|value| value.is_object() || value.is_array());
            depth > 0 && nested.all(|value| bounded(value, depth - 1, left))
        }
        _ => true,
    }
}

/// The start of a value that may be anything, in one line.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 20 { text.chars().take(20).chain(['…']).collect() } else { text }
}

/// Reads a number; JSON holds non-finite ones as null.
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}
