//! The output of a run as it is written, and its check at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use paring_format::names::MANIFEST;
use paring_format::writer::{self, ClosedFile, Groups, LARGEST_FILE, NamedTensor, Place, write_beside};
use paring_format::{Checkpoint, QuantConfig, QuantMethod, WriteSummary, Writer};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::Job;
use super::encode::{Encoded, Encoder, cast};
use super::schemes;
use super::select::Selection;
use crate::output::background::{BackgroundWriter, Ended};
use crate::output::card::{self, Front};
use crate::output::digests::{self, DIGESTS, Made};
use crate::output::journal::{BlockRecord, Contents, Journal, Line, RUN_KEY};
use crate::output::side_files::{beside, name_dtype, unquantized};
use crate::output::tied;
use crate::plan::Plan;
use crate::report::progress::{Observer, Step};
use crate::report::{Clock, Report, Sizes, Stage};
use crate::{Error, Result};

/// The checkpoint being written: the tensors of the open shard, and what was promised so far.
pub(super) struct Output {
    place: Arc<Place>,
    writer: BackgroundWriter,
    encoder: Arc<Encoder>,
    shard: Vec<NamedTensor>,
    /// The contents of the open shard, and of the closed ones.
    open: Contents,
    contents: Contents,
    closed: usize,
}

impl Output {
    /// Continues after the shards of those blocks.
    pub(super) fn new(job: &Job, writer: Writer, journal: Journal, blocks: &[BlockRecord]) -> Result<Self> {
        let mut contents = Contents::default();
        blocks.iter().for_each(|block| contents.merge(block.contents.clone()));
        Ok(Self {
            place: writer.place(),
            writer: BackgroundWriter::new(writer, Some(journal)),
            encoder: Arc::new(Encoder::new(&job.plan)?),
            shard: Vec::new(),
            open: Contents::default(),
            contents,
            closed: blocks.len(),
        })
    }

    /// Files that the weights will lie in: a shard per block, one per matrix outside the blocks, one for the rest.
    pub(super) fn shards(job: &Job) -> usize {
        job.decoder.blocks() + outer_shards(job).len()
    }

    /// The folder that is written into.
    pub(super) fn dir(&self) -> &Path {
        self.place.dir()
    }

    /// The folder in which it is made, if that lies beside an output that it is to replace.
    pub(super) fn staged(&self) -> Option<PathBuf> {
        self.place.is_staged().then(|| self.dir().to_path_buf())
    }

    /// The encoder of its linears.
    pub(super) fn encoder(&self) -> &Arc<Encoder> {
        &self.encoder
    }

    /// From here on encodes linears as this plan has them.
    pub(super) fn encode_as(&mut self, plan: &Plan) -> Result<()> {
        self.encoder = Arc::new(Encoder::new(plan)?);
        Ok(())
    }

    /// Adds a compressed linear to the open shard.
    pub(super) fn put(&mut self, encoded: Encoded) {
        if self.encoder.lists_lengths() {
            let vectors = encoded.tensors.iter().filter(|t| t.shape.len() == 1);
            self.open.lengths.extend(vectors.map(|t| (t.name.clone(), t.shape[0])));
        }
        self.shard.extend(encoded.tensors);
        self.open.made.insert(encoded.module, encoded.made);
    }

    /// Adds tensors that belong to no matrix.
    pub(super) fn add(&mut self, tensors: Vec<NamedTensor>) {
        for tensor in tensors {
            self.open.made.insert(tensor.name.clone(), Made { digest: xxh3_64(&tensor.bytes), shape: None });
            self.shard.push(tensor);
        }
    }

    /// Adds a linear that is not compressed.
    pub(super) fn put_kept(&mut self, encoded: Encoded) {
        self.open.kept.push(encoded.module.clone());
        self.put(encoded);
    }

    /// Adds a tensor of the input, byte for byte unless the layout asks for a float type that it does not have.
    pub(super) fn copy(&mut self, from: &Checkpoint, name: &str) -> Result<()> {
        let mut bytes = from.read(name)?;
        let info = from
            .info(name)
            .ok_or_else(|| Error::Plan(format!("{name} is no longer in the checkpoint; run the command again")))?;
        let dtype = self.encoder.written(info.dtype);
        if dtype != info.dtype {
            bytes = dtype.encode(&cast(info.dtype.decode_f32(&bytes), dtype, name)?);
        }
        self.open.made.insert(name.to_string(), Made { digest: xxh3_64(&bytes), shape: None });
        self.shard.push(NamedTensor { name: name.to_string(), dtype, shape: info.shape.clone(), bytes });
        Ok(())
    }

    /// Hands the open shard over to be written. Returns what it holds.
    pub(super) fn close_shard(&mut self) -> Result<Contents> {
        self.writer.shard(self.closed, std::mem::take(&mut self.shard))?;
        self.closed += 1;
        let contents = std::mem::take(&mut self.open);
        self.contents.merge(contents.clone());
        Ok(contents)
    }

    /// Adds a line to the journal: [`BackgroundWriter::note`].
    pub(super) fn note(
        &mut self,
        line: impl FnOnce(Option<ClosedFile>) -> Option<Line> + Send + 'static,
    ) -> Result<()> {
        self.writer.note(line)
    }

    /// The config of what is closed.
    pub(super) fn config(&self, job: &Job, selection: &Selection) -> Result<Value> {
        let mut config = job.checkpoint.config().clone();
        if let Some(object) = config.as_object_mut() {
            unquantized(object);
            if let Some(dtype) = self.encoder.float_type() {
                name_dtype(object, dtype);
            }
            if tied::head_differs(&job.checkpoint, &job.decoder.outer())? {
                tied::untie(object);
            }
            let outer = job.decoder.outer_linears();
            let Contents { kept, lengths, .. } = &self.contents;
            if let Some(made) = schemes::config(&job.plan, selection, self.encoder.kinds(), outer, kept.clone())? {
                let lengths = lengths.iter().map(|(name, length)| (name.as_str(), *length));
                let quant = match made.method {
                    QuantMethod::Spqr => QuantConfig::spqr(lengths, made.ignore),
                    _ => made,
                };
                object.insert("quantization_config".into(), quant.to_json());
            }
        }
        Ok(config)
    }

    /// Writes what lies outside the blocks, merges the shards, and adds the companions, the index and the config.
    pub(super) fn finish(
        mut self,
        job: &Job,
        selection: &Selection,
        observer: &mut dyn Observer,
        clock: &mut Clock,
    ) -> Result<Written> {
        let start = Instant::now();
        self.writer.forget_activations()?;
        for names in outer_shards(job) {
            for name in names {
                self.copy(&job.checkpoint, &name)?;
            }
            self.close_shard()?;
        }
        let companions = beside(&job.checkpoint, job.companions.clone())?;
        let config = self.config(job, selection)?;
        let Ended { mut writer, journal, gave_way } = self.writer.finish()?;
        let mut progress = |done, count| observer.step(&Step::new(Stage::Write).count(done, count));
        writer.merge(&model_order(job), LARGEST_FILE, &mut progress)?;
        let summary = writer.finish(&config, &companions)?;
        clock.add(Stage::Write, start, 0.0);
        let WriteSummary { files, tensor_bytes, merged, .. } = summary;
        Ok(Written { place: self.place, files, merged, tensor_bytes, made: self.contents.made, journal, gave_way })
    }
}

/// Names of the tensors outside the blocks by shard: a matrix has one of its own, so that no two large ones are in
/// memory together, and the vectors share one.
pub(crate) fn outer_shards(job: &Job) -> Vec<Vec<String>> {
    let names = job.decoder.outer_names();
    let is_matrix = |name: &String| job.checkpoint.info(name).is_some_and(|info| info.shape.len() > 1);
    let (matrices, vectors): (Vec<String>, Vec<String>) = names.into_iter().partition(is_matrix);
    let mut shards: Vec<Vec<String>> = matrices.into_iter().map(|name| vec![name]).collect();
    if !vectors.is_empty() {
        shards.push(vectors);
    }
    shards
}

/// The numbers of all shards in the order of the model: embeddings, blocks, and what follows these.
fn model_order(job: &Job) -> Vec<usize> {
    let (blocks, outer) = (job.decoder.blocks(), outer_shards(job));
    let embeddings = job.decoder.outer().embeddings;
    let is_first = |shard: &usize| outer[shard - blocks].iter().any(|name| embeddings.contains(name));
    let (first, last): (Vec<usize>, Vec<usize>) = (blocks..blocks + outer.len()).partition(is_first);
    first.into_iter().chain(0..blocks).chain(last).collect()
}

/// A finished output.
pub(super) struct Written {
    /// Kept from other runs until all of it is there.
    place: Arc<Place>,
    files: Vec<ClosedFile>,
    merged: Groups,
    made: BTreeMap<String, Made>,
    pub(super) tensor_bytes: u64,
    journal: Option<Journal>,
    /// Activations had to make room for a shard.
    pub(super) gave_way: bool,
}

impl Written {
    /// Opens the output and compares what it decodes to with what was made.
    pub(super) fn check(&self, clock: &mut Clock) -> Result<()> {
        let start = Instant::now();
        let checked = digests::reopen(self.place.dir(), &self.made);
        clock.add(Stage::Check, start, 0.0);
        checked
    }

    /// Bytes of the output by kind.
    pub(super) fn sizes(&self, job: &Job) -> Result<Sizes> {
        Ok(Sizes::of_model(&Checkpoint::open(self.place.dir())?, job.decoder.as_ref()))
    }

    /// Puts the card beside the checkpoint, then plan, list of files and digests, and the report.
    pub(super) fn write_report(&self, plan: &Plan, front: &Front, report: &Report) -> Result<()> {
        let (digests, identity) =
            (digests::to_json(&self.made), self.journal.as_ref().map(|journal| &journal.identity));
        let program = &report.environment.program;
        let card = card::write(self.place.dir(), front, &card::Origin::Run(report))?;
        let files = writer::listed(&[&self.files[..], &card].concat());
        let value = json!({
            "version": 1, "program": program, "plan": plan, RUN_KEY: identity, writer::MERGES: self.merged, writer::FILES: files,
            DIGESTS: digests
        });
        let text = format!("{value:#}\n");
        write_beside(&self.place.dir().join(MANIFEST), text.len(), |file| file.write_all(text.as_bytes()))?;
        report.write(self.place.dir())
    }

    /// All of it is there: ends the journal, and takes the place of an earlier output. Returns notes on that.
    pub(super) fn close(self) -> Result<Vec<String>> {
        self.journal.map_or(Ok(()), Journal::finish)?;
        Ok(self.place.publish()?)
    }
}
