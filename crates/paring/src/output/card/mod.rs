//! The model card of an output: `README.md`, as hubs show it, and the chart in it.

mod body;
mod front;
#[cfg(test)]
mod tests;
mod text;

use std::fs;
use std::path::Path;

use paring_format::names::MANIFEST;
use paring_format::writer::{self, ClosedFile, FILES, write_beside};
use paring_format::{Checkpoint, Scheme};
use serde_json::Value;

use crate::Result;
use crate::output::digests::read_json;
use crate::report::Report;
use crate::report::drawing::error_svg;
use crate::report::names::{CARD, CARD_CHART};

pub(crate) use front::Front;

/// The work that an output comes from.
pub(crate) enum Origin<'a> {
    /// By a run with this report.
    Run(&'a Report),
    /// By another command: what it did, as a participle, and the name of the folder that it read.
    Command(&'a str, &'a str),
}

/// Writes the card of the output in `dir`, complete but for it, and its chart if there is one. What is known of the base model is in
/// `front`. Returns the files.
///
/// # Errors
/// When the output cannot be read, or the files not written.
pub(crate) fn write(dir: &Path, front: &Front, origin: &Origin) -> Result<Vec<ClosedFile>> {
    let checkpoint = Checkpoint::open(dir)?;
    let quant = checkpoint.quant_config()?;
    let schemes: Vec<&Scheme> = quant.iter().flat_map(|quant| &quant.groups).map(|(_, scheme)| scheme).collect();
    let chart = match origin {
        Origin::Run(report) => error_svg(report),
        Origin::Command(..) => None,
    };
    let front = front.clone().with_tags(&schemes, origin);
    let body =
        body::Body { front: &front, origin, schemes: &schemes, config: checkpoint.config(), chart: chart.is_some() };
    let text = format!("{front}\n{body}");
    let mut files = Vec::new();
    for (name, text) in [(CARD, Some(text)), (CARD_CHART, chart)] {
        if let Some(text) = text {
            files.push(write_beside(&dir.join(name), text.len(), |file| file.write_all(text.as_bytes()))?);
        }
    }
    Ok(files)
}

/// Writes the card of a finished output again, now that its report knows more. One that is not as a run wrote it stays.
///
/// # Errors
/// As [`write`].
pub(crate) fn refresh(dir: &Path, report: &Report) -> Result<()> {
    let path = dir.join(MANIFEST);
    let mut manifest = read_json(&path)?;
    let Some(listed) = manifest.get_mut(FILES).and_then(Value::as_array_mut) else { return Ok(()) };
    let is_listed = |entry: &Value, file: &ClosedFile| writer::listed(std::slice::from_ref(file))[0] == *entry;
    let Ok(text) = fs::read(dir.join(CARD)) else { return Ok(()) };
    let there =
        ClosedFile { name: CARD.to_string(), bytes: text.len() as u64, digest: xxhash_rust::xxh3::xxh3_64(&text) };
    if !listed.iter().any(|entry| is_listed(entry, &there)) {
        return Ok(());
    }
    let front = Front::read(&String::from_utf8_lossy(&text)).unwrap_or_default();
    for file in write(dir, &front, &Origin::Run(report))? {
        listed.retain(|entry| entry.get("name").and_then(Value::as_str) != Some(&file.name));
        listed.extend(writer::listed(&[file]).as_array().cloned().unwrap_or_default());
    }
    let text = format!("{manifest:#}\n");
    write_beside(&path, text.len(), |file| file.write_all(text.as_bytes()))?;
    Ok(())
}
