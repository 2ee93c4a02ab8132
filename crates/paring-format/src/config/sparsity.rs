//! The `sparsity_config` that compressed-tensors wrote until 0.14, beside `config_groups` or without any.

use serde_json::{Value, json};

use super::json::{ROOT, bad, is_empty, object, strings, unsupported};
use super::{LEGACY_VERSION, PADDED_VERSION, VERSION};
use crate::layouts::sparse::Sparse;
use crate::{Layout, QuantMethod, Result, Scheme, layouts};

/// The statement of a checkpoint about its sparse weights. Readers go by the tensors: releases that no longer stored any still
/// wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparsity {
    /// `sparse-bitmask`, `sparse-24-bitmask`, or `dense`.
    pub format: String,
    /// Modules whose weight is stored so, in the notation of a group's targets; `None`: every tensor called weight.
    pub targets: Option<Vec<String>>,
    /// Modules left alone although targeted.
    pub ignore: Option<Vec<String>>,
    /// Share of zeros in the whole model, 0 where nobody counted. Says nothing about the tensors.
    pub global: f64,
    /// `unstructured`, `2:4` or `0:0`.
    pub structure: String,
}

impl Sparsity {
    /// Reads the object; `None` when there is none, or it is empty, as current releases write it.
    pub(super) fn parse(value: Option<&Value>) -> Result<Option<Sparsity>> {
        let Some(value) = value.filter(|value| !is_empty(Some(value))) else { return Ok(None) };
        let key = format!("{ROOT}.sparsity_config");
        let at = |name: &str| format!("{key}.{name}");
        let map = object(value, &key)?;
        let get = |name: &str| map.get(name).filter(|value| !value.is_null());
        let list = |name: &str| get(name).map(|value| strings(value, &at(name))).transpose();
        let format = match get("format").map(|value| value.as_str().unwrap_or("")) {
            Some(name) if name == "dense" || sparse(name).is_some() => name.to_string(),
            Some(name) if !name.is_empty() => return Err(unsupported(&key, format!("the format {name}"))),
            _ => return Err(bad(at("format"), "missing, or not the name of a format")),
        };
        let global = match get("global_sparsity").map(Value::as_f64) {
            None => 0.0,
            Some(Some(share)) => share,
            Some(None) => return Err(bad(at("global_sparsity"), "not a number")),
        };
        let structure = match get("sparsity_structure").map(|value| value.as_str().map(str::to_ascii_lowercase)) {
            None => "unstructured".to_string(),
            Some(Some(name)) if ["unstructured", "2:4", "0:0"].contains(&name.as_str()) => name,
            Some(_) => return Err(bad(at("sparsity_structure"), "expected \"unstructured\", \"2:4\" or \"0:0\"")),
        };
        Ok(Some(Sparsity { format, targets: list("targets")?, ignore: list("ignore")?, global, structure }))
    }

    /// The object with all keys of release 0.14.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "format": self.format,
            "global_sparsity": self.global,
            "ignore": self.ignore,
            "registry_requires_subclass": false,
            "sparsity_structure": self.structure,
            "targets": self.targets,
        })
    }

    /// Takes the sparse layouts out of groups, which never name them: a group of dense weights goes, one of codes keeps
    /// the layout of its codes.
    pub(super) fn split(groups: &mut Vec<(String, Scheme)>, ignore: &mut Vec<String>) -> Option<Sparsity> {
        let format = groups.iter().find_map(|(_, scheme)| sparse(&scheme.format))?;
        let mut targets = Vec::new();
        groups.retain_mut(|(_, scheme)| {
            let Some(sparse) = sparse(&scheme.format) else { return true };
            targets.extend(scheme.targets.iter().cloned());
            // Codes that are never stored sparse stay where they are, for the layout to refuse.
            if let Ok(inner) = sparse.inner(scheme.weights.as_ref()) {
                scheme.format = inner.name().to_string();
            }
            scheme.weights.is_some()
        });
        let structure = if format == Sparse::TwoOfFour { "2:4" } else { "unstructured" };
        let sparsity = Sparsity {
            format: format.name().to_string(),
            targets: Some(targets),
            ignore: Some(ignore.clone()),
            global: 0.0,
            structure: structure.to_string(),
        };
        if groups.is_empty() {
            ignore.clear();
        }
        Some(sparsity)
    }
}

/// The release whose form a configuration has. The last one that knew the legacy layouts packed codes in another way than
/// current ones, so that its number must not stand where codes are packed.
pub(super) fn version(sparsity: Option<&Sparsity>, groups: &[(String, Scheme)]) -> &'static str {
    let has = |asked: fn(&dyn Layout) -> bool| {
        groups.iter().filter_map(|(_, scheme)| layouts::layout(&scheme.format)).any(asked)
    };
    let legacy = sparsity.is_some() || has(|layout| layout.instead().is_some());
    let padded = groups.iter().any(|(_, scheme)| scheme.padded);
    match (legacy, padded) {
        (true, true) => LEGACY_VERSION,
        (true, false) if !has(|layout| layout.was_padded()) => LEGACY_VERSION,
        (false, true) => PADDED_VERSION,
        _ => VERSION,
    }
}

/// The layout of groups that name none, where that is the one on top: as releases had it that wrote a `sparsity_config`,
/// and for the one that nobody infers.
pub(super) fn on_top(
    summary: Option<&Value>,
    method: QuantMethod,
    sparsity: Option<&Sparsity>,
) -> Option<&'static str> {
    let layout = layouts::layout(summary?.as_str()?)?;
    let name = layout.name();
    // Sparse layouts stand in the sparsity_config; the other legacy ones nowhere else.
    let alone = layout.instead().is_some() && sparse(name).is_none();
    let counts = alone || (sparsity.is_some() && name != layouts::DENSE.name());
    (counts && method == QuantMethod::CompressedTensors && layout.method() == method).then_some(name)
}

/// The sparse layout of this name.
pub(super) fn sparse(name: &str) -> Option<Sparse> {
    [Sparse::NonZero, Sparse::TwoOfFour].into_iter().find(|sparse| sparse.name() == name)
}
