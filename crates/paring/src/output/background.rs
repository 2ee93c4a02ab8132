//! A writer on another thread: a run does not wait for the disk.

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use paring_format::Writer;
use paring_format::writer::{ClosedFile, NamedTensor, PendingFile};
use paring_kernels::threads;

use crate::output::journal::{Journal, Line};
use crate::{Error, Result};

/// One task of the thread.
enum Task {
    /// A shard's number and its tensors.
    Shard(usize, Vec<NamedTensor>),
    /// A line for the journal, now that the shard before, if there is one, is closed.
    Note(Note),
    /// No block is left that activations would be kept for.
    ForgetActivations,
}

type Note = Box<dyn FnOnce(Option<ClosedFile>) -> Option<Line> + Send>;

/// The writer and the journal, once all is written.
pub(crate) struct Ended {
    pub writer: Writer,
    pub journal: Option<Journal>,
    /// Activations that had to make room for a shard.
    pub gave_way: bool,
}

/// A file on its way to the disk.
enum Syncing {
    Beside(JoinHandle<(PendingFile, io::Result<()>)>),
    Done(PendingFile, io::Result<()>),
}

impl Syncing {
    /// Has the disk take a file, if possible on a thread of its own.
    fn begin(file: PendingFile) -> Self {
        let sync = |file: PendingFile| {
            let synced = file.sync();
            (file, synced)
        };
        match threads::spawn(file, sync) {
            Ok(thread) => Syncing::Beside(thread),
            Err(file) => {
                let (file, synced) = sync(file);
                Syncing::Done(file, synced)
            }
        }
    }

    /// Waits until the disk has it.
    fn end(self) -> (PendingFile, io::Result<()>) {
        match self {
            Syncing::Done(file, synced) => (file, synced),
            Syncing::Beside(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
        }
    }
}

/// Writer and journal as they carry out the tasks.
struct Scribe {
    ended: Ended,
    /// The shard before this one, which the disk takes meanwhile.
    before: Option<Syncing>,
}

impl Scribe {
    /// Carries out tasks as they come, to the last.
    fn run(mut self, coming: Receiver<Task>) -> Result<Ended> {
        coming.into_iter().try_for_each(|task| self.carry_out(task))?;
        self.finish()
    }

    fn carry_out(&mut self, task: Task) -> Result<()> {
        match task {
            Task::Shard(i, _) if self.ended.writer.is_merged(i) => {}
            Task::Shard(i, mut tensors) => {
                let begun = match self.ended.writer.begin(i, &mut tensors) {
                    Err(paring_format::Error::NoSpace { .. }) if self.give_way()? => {
                        self.ended.writer.begin(i, &mut tensors)
                    }
                    begun => begun,
                };
                self.close()?;
                self.before = Some(Syncing::begin(begun?));
            }
            Task::Note(line) => {
                let closed = self.close()?;
                if let Some(line) = line(closed) {
                    self.note(&line)?;
                }
            }
            Task::ForgetActivations => {
                self.ended.journal.as_mut().map(Journal::forget_activations).transpose()?;
            }
        }
        Ok(())
    }

    /// Adds a line to the journal, if there is one.
    fn note(&mut self, line: &Line) -> Result<()> {
        let add = |scribe: &mut Self| scribe.ended.journal.as_mut().map_or(Ok(()), |journal| journal.add(line));
        match add(self) {
            Err(Error::Format(paring_format::Error::NoSpace { .. })) if self.give_way()? => add(self),
            added => added,
        }
    }

    /// Removes the activations that are kept, if there are any: they save time, and shards are what the run is for.
    fn give_way(&mut self) -> Result<bool> {
        let gave_way = self.ended.journal.as_mut().map_or(Ok(false), Journal::forget_activations)?;
        self.ended.gave_way |= gave_way;
        Ok(gave_way)
    }

    /// Waits for the disk to have a shard, and gives it its name.
    fn close(&mut self) -> Result<Option<ClosedFile>> {
        let Some(syncing) = self.before.take() else { return Ok(None) };
        let (begun, synced) = syncing.end();
        Ok(Some(self.ended.writer.close(begun, synced)?))
    }

    fn finish(mut self) -> Result<Ended> {
        self.close()?;
        Ok(self.ended)
    }
}

/// The thread that carries out the tasks, or the caller's.
enum Executor {
    Thread(SyncSender<Task>, JoinHandle<Result<Ended>>),
    /// The system has no thread for them.
    Inline(Box<Scribe>),
    /// Its end was seen.
    Ended,
}

/// A [`Writer`] that writes one shard while the next is made and the one before is synced. One that comes too early
/// waits, so that no more than two are in memory.
pub(crate) struct BackgroundWriter(Executor);

impl BackgroundWriter {
    /// With a journal for what [`BackgroundWriter::note`] is given.
    pub(crate) fn new(writer: Writer, journal: Option<Journal>) -> Self {
        let scribe = Scribe { ended: Ended { writer, journal, gave_way: false }, before: None };
        // A note waits there while its shard is written, and the shard after it for the note: never two shards.
        let (tasks, coming) = sync_channel::<Task>(1);
        Self(match threads::spawn((scribe, coming), |(scribe, coming)| scribe.run(coming)) {
            Ok(thread) => Executor::Thread(tasks, thread),
            Err((scribe, _)) => Executor::Inline(Box::new(scribe)),
        })
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

    /// Removes the activations that the journal names: all blocks are done. Errors as [`BackgroundWriter::shard`].
    pub(crate) fn forget_activations(&mut self) -> Result<()> {
        self.hand_over(Task::ForgetActivations)
    }

    fn hand_over(&mut self, task: Task) -> Result<()> {
        let sent = match &mut self.0 {
            Executor::Thread(tasks, _) => tasks.send(task).is_ok(),
            Executor::Inline(scribe) => {
                let carried_out = scribe.carry_out(task);
                if carried_out.is_err() {
                    self.0 = Executor::Ended;
                }
                return carried_out;
            }
            Executor::Ended => false,
        };
        if sent { Ok(()) } else { self.end().map(drop) }
    }

    /// Waits for all shards.
    pub(crate) fn finish(mut self) -> Result<Ended> {
        self.end()
    }

    fn end(&mut self) -> Result<Ended> {
        match std::mem::replace(&mut self.0, Executor::Ended) {
            Executor::Thread(tasks, thread) => {
                drop(tasks);
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            }
            Executor::Inline(scribe) => scribe.finish(),
            Executor::Ended => Err(Error::Plan("nothing is written any more".into())),
        }
    }
}

impl Drop for BackgroundWriter {
    /// Writes what a run that failed had handed over.
    fn drop(&mut self) {
        let ended = match std::mem::replace(&mut self.0, Executor::Ended) {
            Executor::Thread(tasks, thread) => {
                drop(tasks);
                thread.join().ok()
            }
            Executor::Inline(scribe) => Some(scribe.finish()),
            Executor::Ended => None,
        };
        if let Some(Err(error)) = ended {
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

    /// A writer of a run that keeps a journal.
    fn writer(dir: &std::path::Path, shards: usize) -> Writer {
        Writer::create(&Destination { has_journal: true, ..Destination::new(dir, shards) }).unwrap()
    }

    fn tensor(name: &str) -> Vec<NamedTensor> {
        vec![NamedTensor { name: name.into(), dtype: Dtype::U8, shape: vec![2], bytes: vec![1, 2] }]
    }

    #[test]
    fn what_was_handed_over_is_written_even_when_nobody_finishes() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = BackgroundWriter::new(writer(dir.path(), 3), None);
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
        let writer = writer(dir.path(), 1);
        let journal = Journal::begin(dir.path(), crate::output::journal::tests::identity()).unwrap();
        let mut writer = BackgroundWriter::new(writer, Some(journal));
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
    fn without_a_thread_it_writes_in_place() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        // A thread that is the whole pool must not wait for another one.
        let ended = pool.install(|| {
            let mut writer = BackgroundWriter::new(writer(dir.path(), 2), None);
            assert!(matches!(writer.0, Executor::Inline(_)));
            writer.shard(0, tensor("a"))?;
            writer.shard(1, tensor("b"))?;
            writer.finish()
        });
        assert!(!ended.unwrap().gave_way);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_error_comes_with_the_next_shard_or_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = BackgroundWriter::new(writer(dir.path(), 2), None);
        writer.shard(0, tensor("a")).unwrap();
        writer.shard(0, tensor("b")).unwrap();
        // One may wait before anyone looks at it.
        let refused = (0..2).find_map(|_| writer.shard(1, tensor("c")).err());
        let error = refused.unwrap().to_string();
        assert!(error.contains("written twice"), "{error}");
        assert!(writer.finish().is_err());
    }
}
