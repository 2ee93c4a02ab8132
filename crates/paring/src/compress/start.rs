//! Where a run begins: anew, or behind the blocks that are done.

use std::collections::BTreeMap;
use std::sync::Arc;

use paring_format::names::CONFIG;
use paring_format::names::{JOURNAL, LOCK};
use paring_format::writer::{ClosedFile, Lock};
use paring_format::{Checkpoint, Writer};
use paring_model::decoder::Block;
use paring_model::weight::Dense;

use super::Job;
use super::output::Output;
use super::select::Selection;
use crate::output::journal::{self, Done, Head, Input, Journal};
use crate::output::side_files::beside;
use crate::pipeline::activations::Hidden;
use crate::pipeline::walk::{Visitor, walk};
use crate::report::names::RUN_FILES;
use crate::report::progress::Observer;
use crate::report::{Clock, LayerReport, Report};
use crate::{Error, Result};

/// A run that begins, and what is done of it.
pub(super) struct Begin {
    pub output: Output,
    /// Outlier thresholds that were found, by number of the choice.
    pub thresholds: BTreeMap<usize, f64>,
    /// Linears of the blocks that are done.
    pub layers: Vec<LayerReport>,
    /// What was noted, and how much of it is in the journal.
    pub notes: Vec<String>,
    pub noted: usize,
    /// Seconds that other processes took, and the most memory of one.
    pub seconds: f64,
    pub peak_rss_mib: f64,
    /// Shards of the blocks that are done.
    shards: Vec<ClosedFile>,
    /// The latest activations that were kept, and the block that they enter.
    kept: Option<(usize, ClosedFile)>,
}

/// What the run is, before it begins.
pub(super) fn head(job: &Job) -> Result<Head> {
    let plan = serde_json::to_value(&job.plan).map_err(|e| Error::Plan(format!("the plan cannot be noted: {e}")))?;
    let companions = beside(&job.checkpoint, job.companions.clone())?;
    Ok(Head {
        journal: journal::VERSION,
        program: concat!("paring ", env!("CARGO_PKG_VERSION")).to_string(),
        plan,
        input: Input::of(&job.checkpoint, job.windows.as_ref(), &companions)?,
        shards: Output::shards(job),
    })
}

/// The report of the same run, where the job is to go on and all is done. Errors when another run is.
pub(super) fn finished(job: &Job, head: &Head) -> Result<Option<Report>> {
    let there = |name: &str| job.out.join(name).is_file();
    if !job.resume || there(JOURNAL) || !there(CONFIG) {
        return Ok(None);
    }
    let different = |reason: String| Error::Different { out: job.out.clone(), reason };
    let Some(was) = journal::finished(&job.out)? else {
        return Err(different("a model is there that no run of sparsify or quantize left".into()));
    };
    match journal::difference(&was, head) {
        Some(reason) => Err(different(reason)),
        None => {
            // Left by one that was killed between its journal's end and its own.
            if there(LOCK) {
                drop(Lock::take(&job.out)?);
            }
            Report::read(&job.out).map(Some)
        }
    }
}

/// Prepares the folder. Goes on with what lies there if the job says so and there is something.
pub(super) fn begin(job: &Job, head: Head, clock: &mut Clock) -> Result<Begin> {
    if job.resume && job.out.is_dir() {
        let lock = Lock::take(&job.out)?;
        if let Some(read) = journal::read(&job.out)? {
            return go_on(job, &head, read, lock, clock);
        }
    }
    let writer = Writer::create(&job.out, head.shards, RUN_FILES, job.plan.overwrite)?;
    let journal = Journal::begin(&job.out, head)?;
    let mut notes = Vec::new();
    if let Some(reason) = writer.lock().unsupported() {
        notes.push(format!("nothing keeps a second run out of {}: {reason}", job.out.display()));
    }
    Ok(Begin {
        output: Output::new(job, writer, journal, &[])?,
        thresholds: BTreeMap::new(),
        layers: Vec::new(),
        notes,
        noted: 0,
        seconds: 0.0,
        peak_rss_mib: 0.0,
        shards: Vec::new(),
        kept: None,
    })
}

fn go_on(job: &Job, head: &Head, read: journal::Read, lock: Lock, clock: &mut Clock) -> Result<Begin> {
    let different = |reason: String| Error::Different { out: job.out.clone(), reason };
    if let Some(reason) = journal::difference(&read.head, head) {
        return Err(different(reason));
    }
    let (done, blocks) = (read.blocks.len(), job.decoder.blocks());
    if done > blocks {
        return Err(different(format!("its journal has {done} blocks, and the model {blocks}")));
    }
    let shards: Vec<ClosedFile> = read.blocks.iter().map(|done| ClosedFile::from(&done.shard)).collect();
    let kept = |done: &Done| Some((done.block + 1, ClosedFile::from(done.hidden.as_ref()?)));
    let kept = read.blocks.iter().rev().find_map(kept);
    let kept_name = kept.as_ref().map(|(_, file)| file.name.as_str());
    let writer = Writer::resume(&job.out, head.shards, &shards, RUN_FILES, kept_name, Arc::new(lock))?;
    let journal = Journal::resume(&job.out, &read)?;
    let output = Output::new(job, writer, journal, &read.blocks)?;
    let mut notes: Vec<String> = read.blocks.iter().flat_map(|done| done.notes.iter().cloned()).collect();
    let noted = notes.len();
    notes.push(format!("resumed behind block {done} of {blocks}"));
    let device = |head: &Head| head.plan.get("device").and_then(|name| name.as_str()).unwrap_or("").to_string();
    let (was, is) = (device(&read.head), device(head));
    if was != is {
        notes.push(format!("begun on {was}, and resumed on {is}: sums in another order, so not the same bits"));
    }
    let last = read.blocks.last();
    clock.restore(last.map_or(&[], |done| &done.stages));
    Ok(Begin {
        output,
        thresholds: read.thresholds,
        notes,
        noted,
        seconds: last.map_or(0.0, |done| done.seconds),
        peak_rss_mib: last.map_or(0.0, |done| done.peak_rss_mib),
        kept,
        layers: read.blocks.iter().flat_map(|done| done.layers.iter().cloned()).collect(),
        shards,
    })
}

impl Begin {
    /// Notes something, unless it was before.
    pub fn note(&mut self, text: String, observer: &mut dyn Observer) {
        if !self.notes.contains(&text) {
            observer.note(&text);
            self.notes.push(text);
        }
    }

    /// Blocks that are done.
    pub fn blocks(&self) -> usize {
        self.shards.len()
    }

    /// The activations that enter the first block that is not done; `None` where nobody needs them. Those that were kept, and
    /// else those of the windows, are passed through the blocks that are done, as they lie in their shards: what a run sees
    /// and what it writes is the same.
    pub fn hidden(
        &mut self,
        job: &Job,
        selection: &Selection,
        observer: &mut dyn Observer,
        clock: &mut Clock,
    ) -> Result<Option<Hidden>> {
        let decoder = job.decoder.as_ref();
        let Some(windows) = job.windows.as_ref().filter(|_| self.blocks() < decoder.blocks()) else { return Ok(None) };
        let storage = job.storage(windows)?;
        let mut found = None;
        if let Some((at, file)) = self.kept.take() {
            match Hidden::restore(decoder, windows, storage.clone(), &job.out, &file) {
                Ok(hidden) => found = Some((hidden, at)),
                Err(error) => self.note(format!("computing activations again: {error}"), observer),
            }
        }
        let (mut hidden, at) = match found {
            Some(found) => found,
            None => (Hidden::embed(decoder, windows, storage)?, 0),
        };
        if at < self.blocks() {
            let files: Vec<String> = self.shards.iter().map(|shard| shard.name.clone()).collect();
            let config = self.output.config(job, selection)?;
            let made = Checkpoint::open_unfinished(&job.out, &files, config)?;
            let mut made = Made { job, selection, made };
            walk(decoder, at..self.blocks(), Some(&mut hidden), &mut made, true, clock)?;
        }
        Ok(Some(hidden))
    }
}

/// Puts the weights of closed shards into blocks.
struct Made<'a> {
    job: &'a Job,
    selection: &'a Selection,
    made: Checkpoint,
}

impl Visitor for Made<'_> {
    fn block(&mut self, _: usize, entering: Option<(&mut dyn Block, &Hidden)>, _: &mut Clock) -> Result<()> {
        let Some((block, _)) = entering else { return Ok(()) };
        let device = self.job.decoder.device();
        for fan in block.fans() {
            for linear in fan.linears.iter_mut().filter(|linear| self.selection.contains(&linear.name)) {
                let (rows, cols) = (linear.rows, linear.cols);
                let dense = self.made.read_linear(&linear.name, rows, cols)?.into_dense();
                linear.weight = Arc::new(Dense::on(device, rows, cols, dense, self.job.plan.precision)?);
            }
        }
        Ok(())
    }
}
