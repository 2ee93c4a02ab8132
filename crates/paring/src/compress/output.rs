//! What a run writes, and the check of what it wrote.

use paring_format::message;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use paring_format::compressed::digest;
use paring_format::layouts::{self, Layout};
use paring_format::names::MANIFEST;
use paring_format::writer::{ClosedFile, Lock, NamedTensor, write_beside};
use paring_format::{Checkpoint, Compressed, Dtype, QuantConfig, QuantMethod, Scheme, Values, Writer};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::Job;
use super::schemes::{self, Kind};
use super::select::Selection;
use crate::output::background::BackgroundWriter;
use crate::output::digests::{self, DIGESTS, Made};
use crate::output::journal::{BEGUN, Contents, Done, Journal, Line};
use crate::output::side_files::{beside, name_dtype, unquantized};
use crate::plan::Opt;
use crate::plan::Plan;
use crate::report::{Clock, Report, Sizes, Stage};
use crate::{Error, Result};

/// Floats as a type that may not reach as far. Errors on a number that becomes infinite.
fn cast(values: &[f32], dtype: Dtype, tensor: &str) -> Result<Vec<f32>> {
    let cast: Vec<f32> = values.iter().map(|&v| dtype.round(v)).collect();
    match cast.iter().zip(values).position(|(to, from)| from.is_finite() && !to.is_finite()) {
        None => Ok(cast),
        Some(at) => {
            let problem = format!("{tensor}: {} (element {at}) is no number of {dtype}, which ", values[at]);
            Err(Opt::Format.misfit(message![problem, Opt::Format, " asks for"]))
        }
    }
}

/// A linear as it will lie in its shard.
pub(super) struct Encoded {
    module: String,
    tensors: Vec<NamedTensor>,
    made: Made,
}

impl Encoded {
    /// `dense` is what `c` must read back as.
    fn new(module: &str, c: &Compressed, dense: &[f32], layout: &dyn Layout, scheme: &Scheme) -> Result<Self> {
        let parts = layout.encode(scheme, c).map_err(|e| e.in_module(module, ""))?;
        let tensors = NamedTensor::of_module(module, parts);
        let made = Made { digest: digest(c.rows, c.cols, dense), shape: Some((c.rows, c.cols)) };
        Ok(Self { module: module.to_string(), tensors, made })
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> usize {
        self.tensors.iter().map(|t| t.bytes.len()).sum()
    }
}

/// The checkpoint being written: the tensors of the open shard, and what was promised so far.
pub(super) struct Output {
    writer: BackgroundWriter,
    /// How the linears of each choice are stored, by its number.
    kinds: Vec<Option<Kind>>,
    shard: Vec<NamedTensor>,
    /// What the open shard holds, and the closed ones.
    open: Contents,
    contents: Contents,
    closed: usize,
    /// The type that all floats are written in, where the layout asks for one.
    cast: Option<Dtype>,
    /// Whether the config lists the lengths of one-dimensional tensors.
    lists_lengths: bool,
}

impl Output {
    /// Goes on behind the shards of those blocks.
    pub(super) fn new(job: &Job, writer: Writer, journal: Journal, blocks: &[Done]) -> Result<Self> {
        let kinds = schemes::kinds(&job.plan)?;
        let mut contents = Contents::default();
        blocks.iter().for_each(|done| contents.merge(done.contents.clone()));
        Ok(Self {
            writer: BackgroundWriter::new(writer, Some(journal)),
            cast: kinds.iter().flatten().find_map(|kind| kind.layout.float_type()),
            lists_lengths: kinds.iter().flatten().any(|kind| kind.layout.method() == QuantMethod::Spqr),
            kinds,
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

    /// The layouts of the compressed linears.
    pub(super) fn layouts(&self) -> impl Iterator<Item = &'static dyn Layout> {
        self.kinds.iter().flatten().map(|kind| kind.layout)
    }

    /// How the linears of a choice are stored.
    pub(super) fn kind(&self, number: usize) -> Result<&Kind> {
        let kind = self.kinds.get(number).and_then(|kind| kind.as_ref());
        kind.ok_or_else(|| Error::Plan(format!("the plan has no choice {number}")))
    }

    /// The bytes of a compressed linear of that choice, for [`Output::put`].
    ///
    /// What is read back at the end must be `dense`, the weight as the sweep left it.
    pub(super) fn encode(&self, number: usize, module: &str, c: &Compressed, dense: &[f32]) -> Result<Encoded> {
        let Kind { layout, scheme } = self.kind(number)?;
        let stored = if layout.name() == layouts::DENSE.name() { densified(c) } else { None };
        let unsigned = if layout.keeps_zero_signs() { None } else { c.without_zero_signs(dense) };
        let (c, dense) = unsigned.as_ref().map_or((c, dense), |(c, dense)| (c, &dense[..]));
        let scheme = scheme.clone().unwrap_or_else(Scheme::dense);
        Encoded::new(module, stored.as_ref().unwrap_or(c), dense, *layout, &scheme)
    }

    /// Adds a compressed linear to the open shard.
    pub(super) fn put(&mut self, encoded: Encoded) {
        if self.lists_lengths {
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
    pub(super) fn keep(&mut self, module: &str, mut c: Compressed) -> Result<()> {
        let mut dense = c.to_dense();
        if let Some(dtype) = self.cast.filter(|&dtype| dtype != c.dtype) {
            dense = cast(&dense, dtype, module)?;
            c = Compressed { dtype, values: Values::Dense(dense.clone()), ..c };
        }
        let encoded = Encoded::new(module, &densified(&c).unwrap_or(c), &dense, layouts::DENSE, &Scheme::dense())?;
        self.put(encoded);
        self.open.kept.push(module.to_string());
        Ok(())
    }

    /// Adds a tensor of the input, byte for byte unless the layout asks for a float type that it does not have.
    pub(super) fn copy(&mut self, from: &Checkpoint, name: &str) -> Result<()> {
        let mut bytes = from.read(name)?;
        let info = from.info(name).ok_or_else(|| Error::Plan(format!("{name} is gone from the checkpoint")))?;
        let mut dtype = info.dtype;
        if let Some(to) = self.cast.filter(|&to| to != dtype && dtype.is_weight()) {
            bytes = to.encode(&cast(&dtype.decode_f32(&bytes), to, name)?);
            dtype = to;
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
            if let Some(dtype) = self.cast {
                name_dtype(object, dtype);
            }
            let outer = job.decoder.outer_linears();
            let Contents { kept, lengths, .. } = &self.contents;
            if let Some(made) = schemes::config(&job.plan, selection, &self.kinds, outer, kept.clone())? {
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

    /// Writes what lies outside the blocks, the companions, the index and the config.
    pub(super) fn finish(mut self, job: &Job, selection: &Selection, clock: &mut Clock) -> Result<Written> {
        let start = Instant::now();
        for names in outer_shards(job) {
            for name in names {
                self.copy(&job.checkpoint, &name)?;
            }
            self.close_shard()?;
        }
        let companions = beside(&job.checkpoint, job.companions.clone())?;
        let config = self.config(job, selection)?;
        let (writer, journal) = self.writer.finish()?;
        let lock = writer.lock();
        let summary = writer.finish(&config, &companions)?;
        clock.add(Stage::Write, start, 0.0);
        let (dir, made) = (job.out.clone(), self.contents.made);
        Ok(Written { dir, tensor_bytes: summary.tensor_bytes, made, journal, _lock: lock })
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

/// The plain form of a matrix that holds codes.
fn densified(c: &Compressed) -> Option<Compressed> {
    match c.values {
        Values::Dense(_) => None,
        Values::Codes { .. } | Values::Spqr(_) => Some(Compressed { values: Values::Dense(c.to_dense()), ..c.clone() }),
    }
}

/// A finished output.
pub(super) struct Written {
    dir: PathBuf,
    made: BTreeMap<String, Made>,
    pub(super) tensor_bytes: u64,
    journal: Option<Journal>,
    /// Until all of it is there.
    _lock: Arc<Lock>,
}

impl Written {
    /// Opens the output and compares what it decodes to with what was made.
    pub(super) fn check(&self, clock: &mut Clock) -> Result<()> {
        let start = Instant::now();
        let checked = digests::reopen(&self.dir, &self.made);
        clock.add(Stage::Check, start, 0.0);
        checked
    }

    /// What takes how much of the output.
    pub(super) fn sizes(&self, job: &Job) -> Result<Sizes> {
        Ok(Sizes::of(&Checkpoint::open(&self.dir)?, job.decoder.as_ref()))
    }

    /// Puts plan and digests beside the checkpoint, and the report.
    pub(super) fn write_report(&self, plan: &Plan, report: &Report) -> Result<()> {
        let (digests, begun) = (digests::to_json(&self.made), self.journal.as_ref().map(|journal| &journal.head));
        let program = &report.environment.program;
        let value = json!({"version": 1, "program": program, "plan": plan, BEGUN: begun, DIGESTS: digests});
        let text = format!("{value:#}\n");
        write_beside(&self.dir.join(MANIFEST), text.len(), |file| file.write_all(text.as_bytes()))?;
        report.write(&self.dir)
    }

    /// Nothing is left to do.
    pub(super) fn close(self) -> Result<()> {
        self.journal.map_or(Ok(()), Journal::finish)
    }
}
