//! TensorBoard's event files: records as in a TFRecord file, each an `Event` message.

use std::path::{Path, PathBuf};

use paring_format::writer::{InputFiles, NamedFile};

use super::protobuf::Message;
use super::{Exported, name, started};
use crate::{Error, Result};

/// The first event of every file.
const VERSION: &str = "brain.Event:2";
/// Bytes of its record: length, checksum, time, version, checksum.
const FIRST: usize = 8 + 4 + (1 + 8) + (2 + VERSION.len()) + 4;
/// `DT_STRING` of TensorFlow.
const STRING: u64 = 7;

/// Writes the report as `FOLDER/NAME/events.out.tfevents.…`, where NAME is that of the run's output folder, in place of
/// what an earlier call wrote. Returns the path.
///
/// Numbers by block, or by step of a training, are scalars of that step; those of the run are scalars under `run/`; plan and notes are texts.
/// The time of all of them is that at which the run began: a report knows no other.
///
/// `inputs` are files that it must not replace; with `overwrite` others are, also where this did not write them.
///
/// Errors when a folder or the file cannot be made, or the report does not say when the run began.
pub fn write(report: &impl Exported, folder: &Path, (inputs, overwrite): (&InputFiles, bool)) -> Result<PathBuf> {
    let began = started(report)?.unix_timestamp();
    let dir = folder.join(name(report));
    std::fs::create_dir_all(&dir).map_err(|source| Error::Io { path: dir.clone(), source })?;
    let path = dir.join(format!("events.out.tfevents.{:010}.paring", began));
    let events = events(report, began as f64);
    // The time of the run is in the first event.
    let is_own = |head: &[u8]| head.starts_with(&events[..FIRST.min(events.len())]);
    let file = NamedFile { path: &path, inputs, is_own: &is_own, overwrite };
    file.write(events.len(), |file| file.write_all(&events))?;
    Ok(path)
}

/// Encodes the events of a report.
pub(super) fn events(report: &impl Exported, time: f64) -> Vec<u8> {
    let mut out = Vec::new();
    // step 0 is what a message without one has.
    let event = || Message::default().double(1, time);
    record(&mut out, &event().text(3, VERSION).into_bytes());
    let mut summary = |step: usize, values: Vec<Message>| {
        let values = values.into_iter().fold(Message::default(), |all, value| all.message(1, value));
        record(&mut out, &event().integer(2, step as u64).message(5, values).into_bytes());
    };
    let lines = |lines: Vec<String>| lines.join("  \n");
    let plan = report.choices().into_iter().map(|(key, value)| format!("{key}: `{value}`")).collect();
    let mut texts = vec![text("plan", &lines(plan))];
    if !report.about().notes.is_empty() {
        texts.push(text("notes", &lines(report.about().notes.to_vec())));
    }
    summary(0, texts);
    summary(0, report.of_run().iter().map(|(name, value)| scalar(&format!("run/{name}"), *value)).collect());
    for (step, numbers) in report.by_step() {
        summary(step, numbers.iter().map(|(name, value)| scalar(name, *value)).collect());
    }
    out
}

/// A `Summary.Value` with a number.
fn scalar(tag: &str, value: f64) -> Message {
    Message::default().text(1, tag).float(2, value as f32)
}

/// A `Summary.Value` with a text, which is shown as Markdown: a tensor of one string, with the metadata that says so.
fn text(tag: &str, value: &str) -> Message {
    let shape = Message::default().message(2, Message::default().integer(1, 1));
    let tensor = Message::default().integer(1, STRING).message(2, shape).text(8, value);
    let plugin = Message::default().text(1, "text");
    Message::default()
        .text(1, format!("{tag}/text_summary"))
        .message(8, tensor)
        .message(9, Message::default().message(1, plugin))
}

/// A record: its length, the checksum of that, the bytes, and their checksum.
fn record(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = (bytes.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(bytes);
    out.extend(masked(crc32c(bytes)).to_le_bytes());
}

/// Masks a checksum as TFRecord files do, so that one of bytes that hold checksums is no constant.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32 with Castagnoli's polynomial. A bit at a time: the files are small.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), bit))
}
