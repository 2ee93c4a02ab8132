//! `report.json`: written, and read back.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::report::names::REPORT;
use paring_format::writer::write_beside;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Report, VERSION};
use crate::{Error, Result};

/// Largest report that is read, in bytes: a hundred thousand layers.
const MOST: u64 = 64 << 20;

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
        let io = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => {
                bad("no such file; runs of paring leave it in their output folder when they are done".to_string())
            }
            _ => Error::Io { path: path.clone(), source },
        };
        let mut bytes = Vec::new();
        File::open(&path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes)).map_err(io)?;
        if bytes.len() as u64 > MOST {
            return Err(bad(format!("larger than {} MiB; no run leaves such a report", MOST >> 20)));
        }
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
        serde_json::from_value(value).map_err(|e| bad(format!("not a report of version {VERSION}: {e}")))
    }

    /// The file that holds the report of a run: in its output folder, unless `path` is a file.
    pub fn path(path: &Path) -> PathBuf {
        if path.is_dir() { path.join(REPORT) } else { path.to_path_buf() }
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
