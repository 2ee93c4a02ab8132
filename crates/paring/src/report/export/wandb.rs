//! An offline run of Weights & Biases, which `wandb sync` uploads: a log of records, each a `Record` message.
//!
//! The log is LevelDB's: blocks of 32 KiB, a record cut where a block ends, a checksum each; before it seven bytes that
//! name the program.

use std::path::{Path, PathBuf};

use flate2::Crc;
use paring_format::writer::{InputFiles, NamedFile};
use serde_json::Value;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;
use xxhash_rust::xxh3::xxh3_64;

use super::protobuf::Message;
use super::{About, Exported, PROGRAM, name, started};
use crate::report::moment::shown;
use crate::{Error, Result};

/// Header of a log: a name, a magic number and version 0.
pub(super) const HEADER: [u8; 7] = *b":W&B\xe1\xbe\x00";
/// Bytes of a block.
const BLOCK: usize = 32_768;
/// Bytes before the data of a piece: checksum, length, kind.
const PIECE: usize = 7;
/// The time in the name of a run's folder, as W&B has it: `20260131_235959`.
const FOLDER_TIME: StaticFormatDescription = format_description!("[year][month][day]_[hour][minute][second]");
/// Letters of a run's identifier.
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Position of a piece in its record.
#[derive(Clone, Copy)]
enum PieceKind {
    Full = 1,
    First = 2,
    Middle = 3,
    Last = 4,
}

/// Writes the report as `FOLDER/offline-run-TIME-ID/run-ID.wandb`, in place of what an earlier call wrote, and returns
/// the folder of the run. Folders that W&B makes by itself are called `wandb`.
///
/// The configuration is the plan, the summary the numbers of the run, and each block, or step of a training, a step of its history. The identifier
/// is made of the report, so that a second upload is of the same run.
///
/// `inputs` are files that it must not replace; with `overwrite` others are, also where this did not write them.
///
/// Errors when a folder or the file cannot be made, or the report does not say when the run began.
pub fn write(report: &impl Exported, folder: &Path, (inputs, overwrite): (&InputFiles, bool)) -> Result<PathBuf> {
    let began = started(report)?;
    let id = identifier(report)?;
    let dir = folder.join(format!("offline-run-{}-{id}", shown(began, FOLDER_TIME)));
    // Programs of W&B expect a folder of files, even if there is none.
    let files = dir.join("files");
    std::fs::create_dir_all(&files).map_err(|source| Error::Io { path: files, source })?;
    let path = dir.join(format!("run-{id}.wandb"));
    let log = log(&records(report, &id, began.unix_timestamp().unsigned_abs()));
    // The name is made of the whole report: only the same report gives it.
    let file = NamedFile { path: &path, inputs, is_own: &|head| head.starts_with(&HEADER), overwrite };
    file.write(log.len(), |file| file.write_all(&log))?;
    Ok(dir)
}

/// Derives an identifier of eight letters and digits from the report.
fn identifier(report: &impl Exported) -> Result<String> {
    let text = serde_json::to_vec(report).map_err(|e| Error::Plan(format!("cannot write the report: {e}")))?;
    let mut digest = xxh3_64(&text);
    let mut letter = || {
        let letter = LETTERS[(digest % 36) as usize];
        digest /= 36;
        char::from(letter)
    };
    Ok((0..8).map(|_| letter()).collect())
}

/// The messages of a run that began at `start`, in seconds since 1970.
pub(super) fn records(report: &impl Exported, id: &str, start: u64) -> Vec<Vec<u8>> {
    let program = Message::default().text(1, PROGRAM);
    let config = report.choices().into_iter().fold(Message::default(), |config, (key, value)| {
        config.message(1, Message::default().text(1, key).text(16, value.to_string()))
    });
    let time = Message::default().integer(1, start);
    let About { job, method, seconds, .. } = report.about();
    let run = Message::default()
        .text(1, id)
        .text(3, "paring")
        .message(4, config)
        .text(7, job)
        .text(8, name(report))
        .text(10, method)
        .message(17, time);
    let mut fields = vec![(21, Message::default().message(1, program)), (17, run)];
    for (block, numbers) in report.by_step() {
        let base = [("_step", Value::from(block)), ("_timestamp", start.into()), ("_runtime", 0.into())];
        let base = base.map(|(key, value)| (key.to_string(), value));
        let numbers = numbers.into_iter().map(|(key, value)| (key, Value::from(value)));
        let history = base.into_iter().chain(numbers).fold(Message::default(), |history, (key, value)| {
            history.message(1, Message::default().text(2, key).text(16, value.to_string()))
        });
        fields.push((2, history.message(2, Message::default().integer(1, block as u64))));
    }
    let summary = report.of_run().into_iter().fold(Message::default(), |summary, (key, value)| {
        summary.message(1, Message::default().text(1, key).text(16, Value::from(value).to_string()))
    });
    fields.push((3, summary));
    fields.push((18, Message::default().integer(1, 0).integer(2, seconds.max(0.0) as u64)));
    let numbered = (1..).zip(fields);
    numbered
        .map(|(number, (field, value))| Message::default().integer(1, number).message(field, value).into_bytes())
        .collect()
}

/// Encodes the records as a log.
pub(super) fn log(records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    for record in records {
        let mut rest = &record[..];
        let mut first = true;
        loop {
            let budget = BLOCK - out.len() % BLOCK;
            if budget < PIECE {
                out.resize(out.len() + budget, 0);
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(budget - PIECE));
            let kind = match (first, later.is_empty()) {
                (true, true) => PieceKind::Full,
                (true, false) => PieceKind::First,
                (false, false) => PieceKind::Middle,
                (false, true) => PieceKind::Last,
            };
            piece(&mut out, kind, now);
            (rest, first) = (later, false);
            if rest.is_empty() {
                break;
            }
        }
    }
    out
}

fn piece(out: &mut Vec<u8>, kind: PieceKind, data: &[u8]) {
    let mut crc = Crc::new();
    crc.update(&[kind as u8]);
    crc.update(data);
    out.extend(crc.sum().to_le_bytes());
    // A block is shorter than 64 KiB.
    out.extend((data.len() as u16).to_le_bytes());
    out.push(kind as u8);
    out.extend(data);
}
