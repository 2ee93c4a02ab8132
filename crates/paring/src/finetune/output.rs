//! The trained model as a checkpoint like the one that it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use paring_format::NamedTensor;
use paring_model::Decoder;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::parameters::{Role, Unit};
use super::trainer::Trainer;
use crate::output::digests::Made;
use crate::output::modules::compressed_module;
use crate::output::rewrite::{Item, Rewrite, Stored, items};
use crate::report::progress::Observer;
use crate::{Error, Result};

/// Errors where weights are not stored as plain floats: what trains is written as it was read.
///
/// # Errors
/// Only that.
pub fn require_plain(student: &dyn Decoder) -> Result<()> {
    let checkpoint = student.checkpoint();
    match checkpoint.names().find_map(|name| compressed_module(checkpoint, name)) {
        None => Ok(()),
        Some(module) => Err(Error::Plan(format!(
            "{module} is stored compressed, and all of a model is trained as plain floats only; train an adapter beside it, or \
             decompress the model first"
        ))),
    }
}

/// The parts of the trained tensors in the store: unit, number of the parameter in it, and where its values begin.
struct Place {
    unit: usize,
    parameter: usize,
    start: usize,
}

/// Writes the trained model into the folder `out`: what was trained in the types that it had, everything else byte for byte. Returns
/// the bytes of all tensors, and the zeros of the matrices of blocks.
pub(super) fn write(
    trainer: &Trainer<'_>,
    student: &dyn Decoder,
    (out, companions, overwrite): (&Path, Vec<(String, Vec<u8>)>, bool),
    done: Value,
    observer: &mut dyn Observer,
) -> Result<u64> {
    let checkpoint = student.checkpoint();
    let places = places(trainer);
    let mut all = items(checkpoint, &BTreeSet::new(), |_| true);
    for item in &mut all {
        if let Item::Tensor(name) = item {
            // A tensor under two names is stored under one of them.
            if places.contains_key(name.as_str()) {
                *item = Item::Changed(std::mem::take(name));
            }
        }
    }
    let rewrite = Rewrite::new(checkpoint, out, &all, companions, overwrite, observer, |name| {
        let places = places.get(name).ok_or_else(|| Error::Plan(format!("{name} was not trained")))?;
        let (mut values, mut dtype) = (Vec::new(), None);
        for place in places {
            let parameter = &trainer.units[place.unit].parameters[place.parameter];
            let own = trainer.store.part(place.unit, place.start, parameter.count)?;
            values.extend(parameter.rounded(&own));
            dtype = Some(parameter.dtype);
        }
        let info =
            checkpoint.info(name).ok_or_else(|| Error::Plan(format!("{name} is no longer in the checkpoint")))?;
        let dtype = dtype.unwrap_or(info.dtype);
        let bytes = dtype.encode(&values);
        let made = Made { digest: xxh3_64(&bytes), shape: None };
        Ok(Stored {
            tensors: vec![NamedTensor { name: name.to_string(), dtype, shape: info.shape.clone(), bytes }],
            made,
        })
    })?;
    rewrite.finish(checkpoint.config(), ("finetuned", done), observer)
}

/// The trained tensors by name.
fn places<'a>(trainer: &'a Trainer<'_>) -> BTreeMap<&'a str, Vec<Place>> {
    let mut places: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
    for (unit, of_unit) in trainer.units.iter().enumerate() {
        let mut start = 0;
        for (parameter, of) in of_unit.parameters.iter().enumerate() {
            if !matches!(of.role, Role::Pair { .. }) {
                places.entry(of.name.as_str()).or_default().push(Place { unit, parameter, start });
            }
            start += of.count;
        }
    }
    places
}

/// Entries of the trained matrices of blocks that are 0 as a file holds them.
pub(super) fn zeros(trainer: &Trainer<'_>) -> Result<usize> {
    let of = |(number, unit): (usize, &Unit)| Ok(unit.zeros(&trainer.store.values(number)?));
    trainer.units.iter().enumerate().map(of).sum()
}
