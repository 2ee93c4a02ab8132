//! A writer on another thread: a run does not wait for the disk.

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use paring_format::Writer;
use paring_format::writer::{ClosedFile, NamedTensor, PendingFile};

use crate::output::journal::{Journal, Line};
use crate::{Error, Result};

/// One task of the thread.
enum Task {
    /// A shard's number and its tensors.
    Shard(usize, Vec<NamedTensor>),
    /// A line for the journal, now that the shard before, if there is one, is closed.
    Note(Note),
}

/// The writer and the journal, once all is written.
type Ended = (Writer, Option<Journal>);

type Note = Box<dyn FnOnce(Option<ClosedFile>) -> Option<Line> + Send>;

/// A file on its way to the disk.
type Syncing = JoinHandle<(PendingFile, io::Result<()>)>;

/// Waits for the disk to have a shard, and gives it its name.
fn close(writer: &mut Writer, syncing: Option<Syncing>) -> Result<Option<ClosedFile>> {
    match syncing.map(JoinHandle::join) {
        None => Ok(None),
        Some(Ok((begun, synced))) => Ok(Some(writer.close(begun, synced)?)),
        Some(Err(panic)) => resume_unwind(panic),
    }
}

/// A [`Writer`] that writes one shard while the next is made and the one before is synced. One that comes too early
/// waits, so that no more than two are in memory.
pub(crate) struct BackgroundWriter {
    tasks: Option<SyncSender<Task>>,
    /// `None` once its end was seen.
    thread: Option<JoinHandle<Result<Ended>>>,
}

impl BackgroundWriter {
    /// With a journal for what [`BackgroundWriter::note`] is given.
    pub(crate) fn new(mut writer: Writer, mut journal: Option<Journal>) -> Self {
        // A note waits there while its shard is written, and the shard after it for the note: never two shards.
        let (tasks, coming) = sync_channel::<Task>(1);
        let thread = thread::spawn(move || {
            // The shard before this one, which the disk takes meanwhile.
            let mut before: Option<Syncing> = None;
            for task in coming {
                match task {
                    Task::Shard(i, tensors) => {
                        let begun = writer.begin(i, tensors);
                        close(&mut writer, before.take())?;
                        let begun = begun?;
                        before = Some(thread::spawn(move || {
                            let synced = begun.sync();
                            (begun, synced)
                        }));
                    }
                    Task::Note(line) => {
                        let closed = close(&mut writer, before.take())?;
                        if let (Some(line), Some(journal)) = (line(closed), &mut journal) {
                            journal.add(&line)?;
                        }
                    }
                }
            }
            close(&mut writer, before)?;
            Ok((writer, journal))
        });
        Self { tasks: Some(tasks), thread: Some(thread) }
    }

    /// Writes a shard, soon. Errors when an earlier one could not be written.
    pub(crate) fn shard(&mut self, i: usize, tensors: Vec<NamedTensor>) -> Result<()> {
        self.hand_over(Task::Shard(i, tensors))
    }

    /// Adds a line to the journal when the last shard that was handed over since the last line, if one was, is closed. Errors
    /// as [`BackgroundWriter::shard`].
    pub(crate) fn note(
        &mut self,
        line: impl FnOnce(Option<ClosedFile>) -> Option<Line> + Send + 'static,
    ) -> Result<()> {
        self.hand_over(Task::Note(Box::new(line)))
    }

    fn hand_over(&mut self, task: Task) -> Result<()> {
        let sent = self.tasks.as_ref().is_some_and(|tasks| tasks.send(task).is_ok());
        if sent { Ok(()) } else { self.end().map(drop) }
    }

    /// Waits for all shards.
    pub(crate) fn finish(mut self) -> Result<Ended> {
        self.end()
    }

    fn end(&mut self) -> Result<Ended> {
        self.tasks = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(panic)) => resume_unwind(panic),
            None => Err(Error::Plan("nothing is written any more".into())),
        }
    }
}

impl Drop for BackgroundWriter {
    /// Writes what a run that failed had handed over.
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(Err(error)) = self.thread.take().and_then(|thread| thread.join().ok()) {
            tracing::debug!(%error, "a shard of a run that failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paring_format::Dtype;
    use paring_format::writer::Destination;
    use paring_format::writer::disk::recording;

    fn tensor(name: &str) -> Vec<NamedTensor> {
        vec![NamedTensor { name: name.into(), dtype: Dtype::U8, shape: vec![2], bytes: vec![1, 2] }]
    }

    #[test]
    fn what_was_handed_over_is_written_even_when_nobody_finishes() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = BackgroundWriter::new(Writer::create(&Destination::new(dir.path(), 3)).unwrap(), None);
        writer.shard(0, tensor("a")).unwrap();
        writer.shard(1, tensor("b")).unwrap();
        drop(writer);
        let shards = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(shards, 2);
    }

    /// The order that a resumed run relies on: a shard is on the disk under its name before the journal says so.
    #[test]
    fn a_shard_is_on_the_disk_before_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let destination = Destination { has_journal: true, ..Destination::new(dir.path(), 1) };
        let journal = Journal::begin(dir.path(), crate::output::journal::tests::identity()).unwrap();
        let mut writer = BackgroundWriter::new(Writer::create(&destination).unwrap(), Some(journal));
        let before = recording::steps(dir.path()).len();
        writer.shard(0, tensor("a")).unwrap();
        writer.note(|closed| closed.map(|_| Line::Threshold { choice: 0, bits: 0 })).unwrap();
        drop(writer.finish().unwrap());
        let name = "model.safetensors";
        let shard = [
            format!("write {name}~"),
            format!("sync {name}~"),
            format!("rename {name}~ to {name}"),
            "sync folder ".to_string(),
        ];
        let line = ["sync data of journal.jsonl".to_string()];
        assert_eq!(recording::steps(dir.path())[before..], [&shard[..], &line].concat());
    }

    #[test]
    fn an_error_comes_with_the_next_shard_or_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = BackgroundWriter::new(Writer::create(&Destination::new(dir.path(), 2)).unwrap(), None);
        writer.shard(0, tensor("a")).unwrap();
        writer.shard(0, tensor("b")).unwrap();
        // One may wait before anyone looks at it.
        let refused = (0..2).find_map(|_| writer.shard(1, tensor("c")).err());
        let error = refused.unwrap().to_string();
        assert!(error.contains("written twice"), "{error}");
        assert!(writer.finish().is_err());
    }
}
