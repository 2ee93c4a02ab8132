//! An adapter in the weights of its base: W' = W + s · B A (Hu et al. 2021, section 4.1), rounded once to what the base stores.

#[cfg(test)]
mod tests;
mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use paring_format::writer::NamedTensor;
use paring_format::{Adapter, Checkpoint, Compressed, Pair, QuantConfig, Values, layouts};
use paring_model::adapter::pair_of;
use paring_model::{Arithmetic, families};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

pub use weights::Loss;

use crate::output::digests::Made;
use crate::output::modules::{compressed_modules, is_of_activations};
use crate::output::rewrite::{Rewrite, Stored, as_they_are, destination, items};
use crate::output::side_files::{left_behind, unquantized};
use crate::output::tied;
use crate::report::Stage;
use crate::report::progress::{Observer, Step};
use crate::{Error, Precision, Result};
use weights::{Sums, is_pruned, merged};

/// The fate of zeros in the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Masks {
    /// They stay zero, exactly: M ∘ (W + s · B A).
    Keep,
    /// They are weights like others, and become what the adapter makes of them.
    Drop,
}

/// Choices of a merge.
#[derive(Clone, Debug)]
pub struct Merging {
    /// The adapter.
    pub adapter: Arc<Adapter>,
    /// The fate of zeros; `None`: they stay in matrices that were pruned.
    pub masks: Option<Masks>,
    /// Compute all numbers, and write nothing.
    pub dry_run: bool,
}

/// Results of a merge.
#[derive(Clone, Debug, Serialize)]
pub struct Merged {
    /// The output folder; `None` where nothing was written.
    pub out: Option<String>,
    /// The adapter's folder.
    pub adapter: String,
    /// Matrices with the adapter in them.
    pub merged: usize,
    /// Those of them whose zeros stay.
    pub masked: usize,
    /// Those of them that were rounded to grids.
    pub rounded: usize,
    /// The loss, over all of them.
    pub loss: Loss,
    /// Bytes of the tensors of the base.
    pub bytes_in: u64,
    /// Bytes of the tensors of the output; `None` where nothing was written.
    pub bytes_out: Option<u64>,
    /// Notes for the output's users, a sentence each.
    pub notes: Vec<String>,
}

/// Writes the base with the adapter in its weights: plain ones in their type, which for a bf16 base are PEFT's bit for bit; codes
/// on the grids that they have, and in their layout. All other tensors and files are copied, but that sparse weights are written
/// whole. The output is reopened and compared with what was made, and the digests stay beside it for
/// [`crate::commands::verify`]. `observer` gets an event per shard.
///
/// In memory are the adapter, two shards of 128 MiB, and a matrix or two for each thread.
///
/// # Errors
/// When the adapter does not belong to the base, a matrix cannot be read, a weight overflows, or `out` cannot be written.
pub fn merge(
    checkpoint: &Arc<Checkpoint>,
    how: &Merging,
    out: &Path,
    companions: Vec<(String, Vec<u8>)>,
    overwrite: bool,
    observer: &mut dyn Observer,
) -> Result<Merged> {
    if how.adapter.config.masked && how.masks == Some(Masks::Drop) {
        let place = how.adapter.place.display();
        return Err(Error::Plan(format!("{place}: was trained to count only where weights are not 0; keep the masks")));
    }
    destination(checkpoint, (out, 0), &companions, overwrite)?;
    let quant = checkpoint.quant_config()?;
    let work = Work::new(checkpoint, how)?;
    // Matrices that stay are known by their modules too, as others in codes are.
    let modules: BTreeSet<String> = work.modules.keys().cloned().chain(compressed_modules(checkpoint)).collect();
    let bytes_out = match how.dry_run {
        true => {
            observer.step(&Step::new(Stage::Check));
            work.modules.par_iter().try_for_each(|(module, pair)| work.stored(module, pair).map(drop))?;
            None
        }
        false => {
            let all = items(checkpoint, &modules, |_| true);
            let rewrite = Rewrite::new(checkpoint, out, &all, companions, overwrite, observer, |module| {
                match work.modules.get(module) {
                    Some(pair) => work.stored(module, pair),
                    None => unchanged(checkpoint, module),
                }
            })?;
            let config = work.config(quant.as_ref())?;
            let done =
                ("merged", json!({"adapter": how.adapter.describe(), "masks": how.masks, "loss": work.loss().loss()}));
            Some(rewrite.finish(&config, done, observer)?)
        }
    };
    let sums = work.loss();
    let found = work.done();
    let count = |is: fn(&Kind) -> bool| found.values().filter(|(kind, _)| is(kind)).count();
    Ok(Merged {
        out: bytes_out.map(|_| out.display().to_string()),
        adapter: how.adapter.place.display().to_string(),
        merged: found.len(),
        masked: count(|kind| kind.keeps),
        rounded: count(|kind| kind.is_rounded),
        loss: sums.loss(),
        bytes_in: checkpoint.total_bytes(),
        bytes_out,
        notes: work.notes(&sums.loss(), count(|kind| kind.keeps))?,
    })
}

/// A matrix that no adapter changes.
fn unchanged(checkpoint: &Checkpoint, module: &str) -> Result<Stored> {
    let c = checkpoint.read_module(module)?;
    let made = Made { digest: c.digest(), shape: Some((c.rows, c.cols)) };
    Ok(Stored { tensors: as_they_are(checkpoint, module)?, made })
}

/// The treatment of a matrix.
#[derive(Clone, Copy)]
struct Kind {
    keeps: bool,
    is_rounded: bool,
}

/// A merge under way.
struct Work<'a> {
    checkpoint: &'a Checkpoint,
    how: &'a Merging,
    /// The adapted modules of the base.
    modules: BTreeMap<String, &'a Pair>,
    /// Remarks on the adapter.
    remarks: Vec<String>,
    done: Mutex<BTreeMap<String, (Kind, Sums)>>,
}

impl<'a> Work<'a> {
    fn new(checkpoint: &'a Arc<Checkpoint>, how: &'a Merging) -> Result<Self> {
        // Opening the model checks that the adapter belongs to it.
        let arithmetic = Arithmetic::weights_only(Precision::F32).adapted(Some(Arc::clone(&how.adapter)));
        let decoder = families::open(Arc::clone(checkpoint), arithmetic)?;
        let linears = (0..decoder.blocks()).flat_map(|i| decoder.linears(i)).map(|linear| linear.name);
        let named = linears.chain(decoder.outer().projections).filter_map(|module| {
            let (_, pair) = pair_of(&how.adapter, &module)?;
            Some((module, pair))
        });
        let modules = named.collect();
        Ok(Self { checkpoint, how, modules, remarks: decoder.notes(), done: Mutex::default() })
    }

    /// The merged matrix of a module.
    fn matrix(&self, module: &str, pair: &Pair) -> Result<Compressed> {
        if self.checkpoint.is_rounded_float(module)? {
            return Err(Error::Plan(format!(
                "{module}: its weight was never compressed, and scales beside it say how to round it (status frozen); merge \
                into `paring decompress` of the model"
            )));
        }
        let c = self.checkpoint.read_linear(module, pair.rows, pair.cols)?;
        let keeps = match self.how.masks {
            Some(masks) => masks == Masks::Keep,
            None if self.how.adapter.config.masked => true,
            None => match &c.values {
                Values::Dense(values) => is_pruned(&c, values),
                _ => is_pruned(&c, &c.to_dense()),
            },
        };
        let kind = Kind { keeps, is_rounded: !matches!(c.values, Values::Dense(_)) };
        let (c, sums) = merged(module, c, pair, keeps)?;
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(module.to_string(), (kind, sums));
        Ok(c)
    }

    /// The merged matrix of a module in the layout that it has.
    fn stored(&self, module: &str, pair: &Pair) -> Result<Stored> {
        let c = self.matrix(module, pair)?;
        if matches!(c.values, Values::Dense(_)) {
            return Ok(Stored::dense(module, &c));
        }
        let format = self.checkpoint.linear_format(module)?;
        let layout = layouts::layout(format.layout).zip(format.scheme.as_ref());
        let (layout, scheme) = layout.ok_or_else(|| Error::Plan(format!("{module}: no group covers its codes")))?;
        let parts = layout.encode(scheme, &c).map_err(|error| error.in_module(module, "memory"))?;
        Ok(Stored {
            tensors: NamedTensor::of_module(module, parts),
            made: Made { digest: c.digest(), shape: Some((c.rows, c.cols)) },
        })
    }

    fn done(&self) -> BTreeMap<String, (Kind, Sums)> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The numbers of all matrices so far, summed in the order of names.
    fn loss(&self) -> Sums {
        let mut all = Sums::default();
        self.done().values().for_each(|(_, sums)| all.add(sums));
        all
    }

    /// True if weights are stored sparse, which the output does not have.
    fn is_sparse(&self) -> bool {
        self.checkpoint.names().any(|name| self.checkpoint.info(name).is_some_and(|info| info.sparse().is_some()))
    }

    /// The config of the output: that of the base, but that its weights are stored whole and that a head which it claims to be the
    /// embedding, and is not, is one of its own.
    fn config(&self, quant: Option<&QuantConfig>) -> Result<Value> {
        let mut config = self.checkpoint.config().clone();
        let Some(object) = config.as_object_mut() else { return Ok(config) };
        if self.is_sparse() {
            unquantized(object);
            if let Some(quant) = quant.filter(|quant| !quant.groups.is_empty() || quant.kv_cache.is_some()) {
                let quant = QuantConfig { sparsity: None, ..quant.clone() };
                object.insert("quantization_config".into(), quant.to_json());
            }
        }
        if tied::loses_head(self.checkpoint)? {
            tied::untie(object);
        }
        Ok(config)
    }

    /// Notes on the output, of whose matrices `masked` keep their zeros.
    fn notes(&self, loss: &Loss, masked: usize) -> Result<Vec<String>> {
        let mut notes = self.remarks.clone();
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let has_lost_zeros = loss.zeros_before - loss.zeros_after > 1e-3;
        if masked == 0 && has_lost_zeros {
            notes.push(format!(
                "zeros were not kept: {} of the merged weights were zero, {} are now",
                percent(loss.zeros_before),
                percent(loss.zeros_after)
            ));
        }
        if masked > 0 && loss.masked > 0.0 {
            notes.push(format!(
                "{} of the adapter's change would fill zeros of the base, and is left out: base and adapter apart compute something \
                else, unless it was trained under these zeros",
                percent(loss.masked)
            ));
        }
        if self.is_sparse() {
            notes.push("weights that were stored sparse are written whole".to_string());
        }
        if self.checkpoint.names().any(|name| is_of_activations(self.checkpoint, name)) {
            notes.push("scales of activations are those of the base, and were found without the adapter".to_string());
        }
        if tied::loses_head(self.checkpoint)? {
            notes.push(tied::NOTE.to_string());
        }
        Ok(left_behind(self.checkpoint)?.into_iter().chain(notes).collect())
    }
}
