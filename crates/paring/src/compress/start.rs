//! The start of a run: anew, or after the blocks that an earlier process finished.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::Tensor;
use paring_format::message::Message;
use paring_format::names::CONFIG;
use paring_format::names::{JOURNAL, MANIFEST};
use paring_format::writer::{ClosedFile, Destination, Place};
use paring_format::{Checkpoint, Writer};
use paring_model::decoder::Block;
use paring_model::each_vector;
use paring_model::weight::Dense;

use super::Job;
use super::dense::DensePath;
use super::output::Output;
use super::select::Selection;
use crate::output::journal::{self, BlockRecord, Found, Input, Journal, Line, RunIdentity};
use crate::output::side_files::{beside, names_beside};
use crate::pipeline::activations::Hidden;
use crate::pipeline::walk::{Visitor, walk};
use crate::report::names::RUN_FILES;
use crate::report::progress::Observer;
use crate::report::{BlockReport, Clock, LayerReport, Report, arithmetic};
use crate::{Error, Result};

/// A run about to walk its blocks, with what earlier processes did of it.
pub(super) struct Started {
    pub output: Output,
    /// Outlier thresholds that were found, by number of the choice.
    pub thresholds: BTreeMap<usize, f64>,
    /// Settings of linears that were found.
    pub allotted: Option<Found>,
    /// Each arithmetic that computed, from the beginning to this process.
    pub arithmetic: Vec<String>,
    /// Linears of the blocks that are done.
    pub layers: Vec<LayerReport>,
    /// Those of them that were trained.
    pub blocks: Vec<BlockReport>,
    /// Notes, and how many of them are in the journal.
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

/// The identity of the run, for its journal.
pub(super) fn identity(job: &Job) -> Result<RunIdentity> {
    let plan = serde_json::to_value(&job.plan).map_err(|e| Error::Plan(format!("the plan cannot be noted: {e}")))?;
    let companions = beside(&job.checkpoint, job.companions.clone())?;
    Ok(RunIdentity {
        journal: journal::VERSION,
        program: concat!("paring ", env!("CARGO_PKG_VERSION")).to_string(),
        arithmetic: arithmetic(job.decoder.device())?,
        plan,
        input: Input::of(&job.checkpoint, job.windows.as_ref(), &companions),
        shards: Output::shards(job),
        writes: destination(job)?.writes(),
    })
}

/// The output folder of a run, and how it may be written to.
pub(crate) fn destination(job: &Job) -> Result<Destination> {
    let companions = beside(&job.checkpoint, job.companions.clone())?;
    Ok(Destination {
        companions: names_beside(&companions),
        run: RUN_FILES,
        inputs: job.inputs.clone(),
        overwrite: job.plan.overwrite,
        has_journal: true,
        ..Destination::new(&job.out, Output::shards(job))
    })
}

/// Tells whether a run that is to resume finds one in its folder, finished or not, or beside it.
pub(crate) fn can_resume(job: &Job) -> bool {
    let there = |name: &str| job.out.join(name).is_file();
    job.resume && (Place::is_pending(&job.out) || there(JOURNAL) || there(MANIFEST))
}

/// The report of the same run, where the job may resume it and all is done; an output that was made beside an earlier one takes
/// its place then. Errors when another run is finished there.
pub(super) fn finished(job: &Job, identity: &RunIdentity, observer: &mut dyn Observer) -> Result<Option<Report>> {
    if !job.resume {
        return Ok(None);
    }
    // A finished folder needs no lock, and may be one that cannot be written to.
    let place = if Place::is_pending(&job.out) { Place::begun(&destination(job)?)? } else { None };
    let dir = place.as_ref().map_or(job.out.as_path(), Place::dir);
    let there = |name: &str| dir.join(name).is_file();
    if there(JOURNAL) || !there(CONFIG) {
        return Ok(None);
    }
    let different = |reason: Message| Error::Different { out: job.out.clone(), reason };
    let Some(was) = journal::finished(dir)? else {
        return Err(different("the model in it was not written by sparsify or quantize".into()));
    };
    match journal::difference(&was, identity) {
        Some(reason) => Err(different(reason)),
        None => {
            let published = place.map_or(Ok(Vec::new()), |place| place.publish())?;
            published.iter().for_each(|note| observer.note(note));
            // Of one that was killed between its journal's end and its own.
            Place::tidy(&job.out, RUN_FILES)?;
            Report::read(&job.out).map(Some)
        }
    }
}

/// Prepares the folder. Resumes the run that lies there if the job says so and there is one.
pub(super) fn begin(job: &Job, identity: RunIdentity, clock: &mut Clock) -> Result<Started> {
    let mut destination = destination(job)?;
    if job.resume
        && let Some(place) = Place::begun(&destination)?
    {
        if let Some(read) = journal::read(place.dir())? {
            return resume(job, &identity, read, place, clock);
        }
        // One that was to replace an output, and ended before it had a journal.
        destination.overwrite |= place.is_staged();
    }
    let writer = Writer::create(&destination)?;
    let arithmetic = vec![identity.arithmetic.clone()];
    let journal = Journal::begin(writer.dir(), identity)?;
    let notes = writer.place().notes();
    Ok(Started {
        output: Output::new(job, writer, journal, &[])?,
        thresholds: BTreeMap::new(),
        allotted: None,
        arithmetic,
        layers: Vec::new(),
        blocks: Vec::new(),
        notes,
        noted: 0,
        seconds: 0.0,
        peak_rss_mib: 0.0,
        shards: Vec::new(),
        kept: None,
    })
}

/// Each arithmetic that computed so far, and that of this process, if it is another. Errors where it is, unless the job allows it or nothing
/// is computed yet.
fn used_arithmetic(job: &Job, identity: &RunIdentity, read: &journal::Read) -> Result<Vec<String>> {
    let (mut used, now) = (read.arithmetic.clone(), identity.arithmetic.clone());
    if used.contains(&now) {
        return Ok(used);
    }
    if !read.is_empty() && !job.allow_mixed_arithmetic {
        return Err(Error::Arithmetic { out: job.out.clone(), was: used.join(" and "), now });
    }
    if read.is_empty() {
        used.clear();
    }
    used.push(now);
    Ok(used)
}

fn resume(job: &Job, identity: &RunIdentity, read: journal::Read, place: Place, clock: &mut Clock) -> Result<Started> {
    let different = |reason: Message| Error::Different { out: job.out.clone(), reason };
    if let Some(reason) = journal::difference(&read.identity, identity) {
        return Err(different(reason));
    }
    let (done, blocks) = (read.blocks.len(), job.decoder.blocks());
    if done > blocks {
        return Err(different(format!("its journal has {done} blocks, but the model has {blocks}").into()));
    }
    let arithmetic = used_arithmetic(job, identity, &read)?;
    let shards: Vec<ClosedFile> = read.blocks.iter().map(|block| ClosedFile::from(&block.shard)).collect();
    let kept = |block: &BlockRecord| Some((block.block + 1, ClosedFile::from(block.hidden.as_ref()?)));
    let kept = read.blocks.iter().rev().find_map(kept);
    let kept_name = kept.as_ref().map(|(_, file)| file.name.as_str());
    let writer = Writer::resume(Arc::new(place), identity.shards, &shards, kept_name)?;
    let mut journal = Journal::resume(writer.dir(), &read)?;
    if arithmetic != read.arithmetic {
        journal.add(&Line::Arithmetic { arithmetic: identity.arithmetic.clone() })?;
    }
    let output = Output::new(job, writer, journal, &read.blocks)?;
    let mut notes: Vec<String> = read.blocks.iter().flat_map(|block| block.notes.iter().cloned()).collect();
    let noted = notes.len();
    notes.push(match done < blocks {
        true => format!("resuming at block {} of {blocks}", done + 1),
        false => format!("resuming after all {blocks} blocks"),
    });
    if arithmetic.len() > 1 {
        let mixed = format!("computed with {}, whose sums differ in their last bits", arithmetic.join(", and "));
        // An earlier process may have noted it.
        if !notes.contains(&mixed) {
            notes.push(mixed);
        }
    }
    let last = read.blocks.last();
    clock.restore(last.map_or(&[], |block| &block.stages));
    Ok(Started {
        output,
        thresholds: read.thresholds,
        allotted: read.allotted,
        arithmetic,
        notes,
        noted,
        seconds: last.map_or(0.0, |block| block.seconds),
        peak_rss_mib: last.map_or(0.0, |block| block.peak_rss_mib),
        kept,
        layers: read.blocks.iter().flat_map(|block| block.layers.iter().cloned()).collect(),
        blocks: read.blocks.iter().filter_map(|block| block.trained.clone()).collect(),
        shards,
    })
}

impl Started {
    /// Notes something, unless it was before.
    pub fn note(&mut self, text: String, observer: &mut dyn Observer) {
        if !self.notes.contains(&text) {
            observer.note(&text);
            self.notes.push(text);
        }
    }

    /// Keeps for the report what was noted before the run, unless it is there.
    pub fn keep(&mut self, notes: Vec<String>) {
        for note in notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// Blocks that are done.
    pub fn blocks(&self) -> usize {
        self.shards.len()
    }

    /// The activations that enter the first block that is not done, and those of the dense model where it runs beside; `None` where
    /// none are needed. Those that were kept, or else those of the windows, pass through the blocks that are done with the weights
    /// of their shards: what a run sees and what it writes is the same.
    pub fn hidden(
        &mut self,
        job: &Job,
        selection: &Selection,
        observer: &mut dyn Observer,
        clock: &mut Clock,
    ) -> Result<Option<(Hidden, Option<DensePath>)>> {
        let decoder = job.decoder.as_ref();
        let Some(windows) = job.windows.as_ref().filter(|_| self.blocks() < decoder.blocks()) else { return Ok(None) };
        let dir = self.output.dir().to_path_buf();
        let storage = job.storage(windows, &dir)?;
        let (mut found, count) = (None, 1 + usize::from(job.plan.runs_dense()));
        if let Some((at, file)) = self.kept.take() {
            match Hidden::restore(decoder, windows, storage.clone(), (&dir, &file), count) {
                Ok(streams) => found = Some((streams, at)),
                Err(error) => {
                    self.note(format!("saved activations cannot be used, computing them again: {error}"), observer)
                }
            }
        }
        let embed = |_| Hidden::embed(decoder, windows, storage.clone());
        let (streams, at) = match found {
            Some(found) => found,
            None => ((0..count).map(embed).collect::<Result<Vec<Hidden>>>()?, 0),
        };
        let mut streams = streams.into_iter();
        let (Some(mut hidden), mut dense) = (streams.next(), streams.next()) else { return Ok(None) };
        if at < self.blocks() {
            let files: Vec<String> = self.shards.iter().map(|shard| shard.name.clone()).collect();
            let config = self.output.config(job, selection)?;
            let made = Checkpoint::open_unfinished(&dir, &files, config)?;
            let trained = self.blocks.iter().map(|report| report.block).collect();
            let mut shards = ClosedShards { job, selection, made, trained };
            walk(decoder, at..self.blocks(), Some(&mut hidden), &mut shards, true, clock)?;
            if let Some(dense) = &mut dense {
                walk(decoder, at..self.blocks(), Some(dense), &mut (), true, clock)?;
            }
        }
        Ok(Some((hidden, dense.map(|hidden| DensePath::new(hidden, &job.plan)))))
    }
}

/// Puts the weights of closed shards into blocks as the walk reads them.
struct ClosedShards<'a> {
    job: &'a Job,
    selection: &'a Selection,
    made: Checkpoint,
    /// The numbers of blocks that were trained.
    trained: BTreeSet<usize>,
}

impl ClosedShards<'_> {
    /// Puts the norms and biases of a block that was trained into it: those of linears that are not compressed were not.
    fn put_vectors(&self, i: usize, block: &mut dyn Block) -> Result<()> {
        each_vector(block, &self.job.decoder.block_info(i), |vector| {
            match vector.linear.is_none_or(|linear| self.selection.contains(linear)) {
                true => self.put_vector(vector.name, vector.tensor),
                false => Ok(()),
            }
        })
    }

    fn put_vector(&self, name: &str, tensor: &mut Tensor) -> Result<()> {
        let stored = self.made.info(name).filter(|info| info.shape == tensor.dims());
        let stored = stored.ok_or_else(|| Error::Plan(format!("{name}: not in the shard of its block")))?;
        let values = stored.dtype.decode_f32(&self.made.read(name)?);
        *tensor = Tensor::from_vec(values, tensor.shape().clone(), tensor.device())?;
        Ok(())
    }
}

impl Visitor for ClosedShards<'_> {
    fn block(&mut self, i: usize, entering: Option<(&mut dyn Block, &Hidden)>, _: &mut Clock) -> Result<()> {
        let Some((block, _)) = entering else { return Ok(()) };
        let device = self.job.decoder.device();
        for fan in block.fans() {
            for linear in fan.linears.iter_mut().filter(|linear| self.selection.contains(&linear.name)) {
                let (rows, cols) = (linear.rows, linear.cols);
                let dense = self.made.read_linear(&linear.name, rows, cols)?.into_dense();
                linear.weight = Arc::new(Dense::on(device, rows, cols, dense, self.job.plan.precision)?);
            }
        }
        if self.trained.contains(&i) {
            self.put_vectors(i, block)?;
        }
        Ok(())
    }
}
