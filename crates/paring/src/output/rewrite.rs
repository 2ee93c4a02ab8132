//! One checkpoint into another, tensor by tensor: what `decompress`, `convert`, `merge` and `finetune` share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use paring_format::layouts::part_names;
use paring_format::names::MANIFEST;
use paring_format::writer::{self, Destination, InputFiles, LARGEST_FILE, NamedTensor, Place, write_beside};
use paring_format::{Checkpoint, Compressed, TensorInfo, Writer};
use rayon::prelude::*;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::output::background::BackgroundWriter;
use crate::output::card::{self, Front};
use crate::output::digests::{self, DIGESTS, Made};
use crate::output::side_files::{beside, names_beside};
use crate::report::Stage;
use crate::report::names::RUN_FILES;
use crate::report::progress::Observer;
use crate::report::progress::Step;
use crate::{Error, Result};

/// The least and the most bytes of tensors that are gathered into one shard, unless a single one is larger.
const SHARD_BYTES: (usize, usize) = (32 << 20, 128 << 20);

/// Shards of a model between these: one is made while one before is written and another synced, so that a few of them
/// keep processor and disk busy.
const SHARDS: usize = 8;

/// A part of a checkpoint on its way.
pub(crate) enum Item {
    /// The matrix at this module path, to be stored in another layout.
    Matrix(String),
    /// A tensor that stays as it is.
    Tensor(String),
    /// A tensor whose numbers change, in the same type and shape.
    Changed(String),
}

/// A matrix as it will be stored, and what it must read back as.
pub(crate) struct Stored {
    pub(crate) tensors: Vec<NamedTensor>,
    pub(crate) made: Made,
}

impl Stored {
    /// A matrix as a plain weight.
    pub(crate) fn dense(module: &str, c: &Compressed) -> Self {
        let &Compressed { rows, cols, dtype, .. } = c;
        let (bytes, digest) = c.to_dense_bytes_and_digest();
        let made = Made { digest, shape: Some((rows, cols)) };
        let tensor = NamedTensor { name: format!("{module}.weight"), dtype, shape: vec![rows, cols], bytes };
        Self { tensors: vec![tensor], made }
    }
}

/// Everything that a checkpoint holds: modules for which `rewrites` says so as matrices, other tensors for which `keeps`
/// says so, the rest not at all. In the order of names, blocks as they are counted.
pub(crate) fn items(checkpoint: &Checkpoint, rewrites: &BTreeSet<String>, keeps: impl Fn(&str) -> bool) -> Vec<Item> {
    let mut seen = BTreeSet::new();
    let mut items = Vec::new();
    for name in checkpoint.names() {
        match name.rsplit_once('.').filter(|(module, local)| rewrites.contains(*module) && part_names().contains(local))
        {
            Some((module, _)) if seen.insert(module) => items.push(Item::Matrix(module.to_string())),
            Some(_) => {}
            None if keeps(name) => items.push(Item::Tensor(name.to_string())),
            None => {}
        }
    }
    items.sort_by_cached_key(|item| {
        let (Item::Matrix(name) | Item::Tensor(name) | Item::Changed(name)) = item;
        let part = |part: &str| part.parse().map_or_else(|_| (u64::MAX, part.to_string()), |n: u64| (n, String::new()));
        name.split('.').map(part).collect::<Vec<_>>()
    });
    items
}

impl Item {
    /// Bytes it will have, roughly: sixteen bits a weight is what most models have.
    fn bytes(&self, checkpoint: &Checkpoint) -> usize {
        match self {
            Item::Tensor(name) | Item::Changed(name) => checkpoint.info(name).map_or(0, TensorInfo::bytes),
            Item::Matrix(module) => {
                // What is wrong with it shows when it is read.
                let shape = checkpoint.linear_shape(module).ok().flatten();
                let part = |part: &&str| checkpoint.info(&format!("{module}.{part}")).map(TensorInfo::bytes);
                // Where nothing tells the shape, the parts do: four bits a weight, more or less.
                let parts = || part_names().iter().filter_map(part).sum::<usize>().saturating_mul(4);
                shape.and_then(|(rows, cols)| rows.checked_mul(cols)?.checked_mul(2)).unwrap_or_else(parts)
            }
        }
    }
}

/// An output that is being written.
pub(crate) struct Rewrite<'a> {
    checkpoint: &'a Checkpoint,
    companions: Vec<(String, Vec<u8>)>,
    writer: BackgroundWriter,
    made: BTreeMap<String, Made>,
    /// Lengths of the one-dimensional tensors of matrices.
    pub(crate) lengths: Vec<(String, usize)>,
    /// After the writer, whose thread may still write.
    place: Unfinished,
}

/// The place of an output that cannot be resumed: nothing of it stays unless it is finished.
struct Unfinished {
    place: Arc<Place>,
    is_finished: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished
            && let Err(error) = self.place.discard()
        {
            tracing::debug!(%error, "an output that was not finished");
        }
    }
}

/// The output folder of a checkpoint that is stored in another way, with so many shards (0 while they are not known), and how
/// it may be written to.
///
/// # Errors
/// A folder that cannot be used, as far as it shows before the work.
pub(crate) fn destination(
    checkpoint: &Checkpoint,
    (out, shards): (&Path, usize),
    companions: &[(String, Vec<u8>)],
    overwrite: bool,
) -> Result<Destination> {
    let destination = Destination {
        companions: names_beside(companions),
        run: RUN_FILES,
        inputs: InputFiles::of(checkpoint),
        overwrite,
        ..Destination::new(out, shards)
    };
    destination.check()?;
    Ok(destination)
}

impl<'a> Rewrite<'a> {
    /// Writes all items into the folder `out`: matrices and changed tensors as `store` makes them, on all threads, everything else byte for
    /// byte. Files of the model's folder such as its tokenizer will come along, and `companions` (name and content) for
    /// a model that has no folder. `observer` hears of each shard. In memory are at most two shards and a matrix for each thread.
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        out: &Path,
        items: &[Item],
        companions: Vec<(String, Vec<u8>)>,
        overwrite: bool,
        observer: &mut dyn Observer,
        store: impl Fn(&str) -> Result<Stored> + Sync,
    ) -> Result<Self> {
        let companions = beside(checkpoint, companions)?;
        let mut shards: Vec<&[Item]> = Vec::new();
        let (mut first, mut filled) = (0, 0usize);
        let sizes: Vec<usize> = items.iter().map(|item| item.bytes(checkpoint)).collect();
        let total = sizes.iter().fold(0usize, |sum, &bytes| sum.saturating_add(bytes));
        let shard_bytes = (total / SHARDS).clamp(SHARD_BYTES.0, SHARD_BYTES.1);
        for (i, bytes) in sizes.into_iter().enumerate() {
            if filled > 0 && filled.saturating_add(bytes) > shard_bytes {
                shards.push(&items[first..i]);
                (first, filled) = (i, 0);
            }
            filled = filled.saturating_add(bytes);
        }
        shards.push(&items[first..]);
        let writer = Writer::create(&destination(checkpoint, (out, shards.len()), &companions, overwrite)?)?;
        let place = Unfinished { place: writer.place(), is_finished: false };
        place.place.notes().iter().for_each(|note| observer.note(note));
        let (writer, made, lengths) = (BackgroundWriter::new(writer, None), BTreeMap::new(), Vec::new());
        let mut rewrite = Self { checkpoint, companions, writer, made, lengths, place };
        let count = shards.len();
        for (i, items) in shards.into_iter().enumerate() {
            observer.step(&Step::new(Stage::Write).count(i, count));
            let stored = items.par_iter().map(|item| match item {
                Item::Matrix(name) | Item::Changed(name) => Ok((name, store(name)?)),
                Item::Tensor(name) => Ok((name, copy(checkpoint, name)?)),
            });
            let stored: Vec<(&String, Stored)> = stored.collect::<Result<_>>()?;
            let mut tensors = Vec::new();
            for (name, stored) in stored {
                if stored.made.shape.is_some() {
                    let vectors = stored.tensors.iter().filter(|tensor| tensor.shape.len() == 1);
                    rewrite.lengths.extend(vectors.map(|tensor| (tensor.name.clone(), tensor.shape[0])));
                }
                rewrite.made.insert(name.clone(), stored.made);
                tensors.extend(stored.tensors);
            }
            rewrite.writer.shard(i, tensors)?;
        }
        Ok(rewrite)
    }

    /// Writes companions, index and config; then reopens the output, compares it with what was made, and leaves a report that
    /// says what was done. The output takes the place of an earlier one. Returns the bytes of all tensors.
    pub(crate) fn finish(mut self, config: &Value, done: (&str, Value), observer: &mut dyn Observer) -> Result<u64> {
        let program = concat!("paring ", env!("CARGO_PKG_VERSION"));
        let from = self.checkpoint.describe();
        let digests = digests::to_json(&self.made);
        let mut writer = self.writer.finish()?.writer;
        let mut progress = |done, count| observer.step(&Step::new(Stage::Write).count(done, count));
        writer.merge(&[], LARGEST_FILE, &mut progress)?;
        let summary = writer.finish(config, &self.companions)?;
        observer.step(&Step::new(Stage::Check));
        let place = &self.place.place;
        digests::reopen(place.dir(), &self.made)?;
        let (front, note) = Front::of_base(self.checkpoint, &from);
        note.iter().for_each(|note| observer.note(note));
        let card = card::write(place.dir(), &front, &card::Origin::Command(done.0, &from))?;
        let files = writer::listed(&[&summary.files[..], &card].concat());
        let report = json!({
            "version": 1, "program": program, "from": from, done.0: done.1, writer::FILES: files, DIGESTS: digests
        });
        let text = format!("{report:#}\n");
        write_beside(&place.dir().join(MANIFEST), text.len(), |file| file.write_all(text.as_bytes()))?;
        self.place.is_finished = true;
        place.publish()?.iter().for_each(|note| observer.note(note));
        Ok(summary.tensor_bytes)
    }
}

/// The tensors of a matrix that keeps its layout.
pub(crate) fn as_they_are(checkpoint: &Checkpoint, module: &str) -> Result<Vec<NamedTensor>> {
    let stored = part_names().iter().filter_map(|part| {
        let name = format!("{module}.{part}");
        let info = checkpoint.info(&name)?;
        Some((name, info.dtype, info.shape.clone()))
    });
    stored.map(|(name, dtype, shape)| Ok(NamedTensor { bytes: checkpoint.read(&name)?, name, dtype, shape })).collect()
}

/// A tensor as it is.
fn copy(checkpoint: &Checkpoint, name: &str) -> Result<Stored> {
    let bytes = checkpoint.read(name)?;
    let made = Made { digest: xxh3_64(&bytes), shape: None };
    let info = checkpoint
        .info(name)
        .ok_or_else(|| Error::Plan(format!("{name} is no longer in the checkpoint; run the command again")))?;
    let tensor = NamedTensor { name: name.to_string(), dtype: info.dtype, shape: info.shape.clone(), bytes };
    Ok(Stored { tensors: vec![tensor], made })
}
