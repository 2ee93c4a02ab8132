//! The JSON of the method spqr: one kind of matrix, listed by the lengths of its tensors.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::QuantConfig;
use super::json::{ROOT, bad, object, strings, unsupported};
use crate::layouts::spqr_hf::TENSORS;
use crate::{Element, QuantArgs, QuantMethod, Result, Scheme, SecondLevel, Strategy};

/// The suffix that transformers adds to the name of a tensor.
const SUFFIX: &str = ".shape";

impl Scheme {
    /// The only scheme of the method spqr: 3 bits at both levels, in tiles of 16 by 16.
    pub fn spqr(targets: Vec<String>) -> Scheme {
        Scheme {
            targets,
            format: "spqr".to_string(),
            weights: Some(QuantArgs {
                symmetric: false,
                float_zeros: true,
                second: Some(SecondLevel { scale_bits: Some(3), zero_bits: Some(3), rows: 16 }),
                strategy: Strategy::Group(16),
                ..QuantArgs::new(Element::Int(3))
            }),
            ..Scheme::dense()
        }
    }
}

impl QuantConfig {
    /// The configuration of a checkpoint whose linears are in the layout `spqr`. `tensors` are full names and lengths of
    /// what was stored, of which those of other layouts are left out; `ignore` the linears that stay dense.
    pub fn spqr<'a>(tensors: impl IntoIterator<Item = (&'a str, usize)>, ignore: Vec<String>) -> QuantConfig {
        let of_layout = |name: &str| name.rsplit_once('.').is_some_and(|(_, local)| TENSORS.contains(&local));
        let shapes: BTreeMap<String, usize> = (tensors.into_iter().filter(|(name, _)| of_layout(name)))
            .map(|(name, length)| (format!("{name}{SUFFIX}"), length))
            .collect();
        let group = ("group_0".to_string(), Scheme::spqr(targets(&shapes)));
        QuantConfig { shapes, ..QuantConfig::new(vec![group], ignore) }
    }
}

/// The modules that have a length of every tensor; without any lengths, all linears.
fn targets(shapes: &BTreeMap<String, usize>) -> Vec<String> {
    if shapes.is_empty() {
        return vec!["Linear".to_string()];
    }
    let module = |key: &String| key.strip_suffix(SUFFIX)?.strip_suffix(TENSORS[0])?.strip_suffix('.').map(String::from);
    shapes.keys().filter_map(module).collect()
}

pub(super) fn to_json(config: &QuantConfig) -> Value {
    // Some readers compare modules, some parameters.
    let kept: Vec<String> = config.ignore.iter().flat_map(|name| [name.clone(), format!("{name}.weight")]).collect();
    json!({
        "beta1": 16,
        "beta2": 16,
        "bits": 3,
        "modules_to_not_convert": kept,
        "quant_method": QuantMethod::Spqr.name(),
        "shapes": config.shapes,
    })
}

pub(super) fn parse(root: &Map<String, Value>) -> Result<QuantConfig> {
    for (key, only) in [("bits", 3), ("beta1", 16), ("beta2", 16)] {
        if let Some(value) = root.get(key).filter(|value| value.as_u64() != Some(only)) {
            return Err(unsupported(ROOT, format!("{key} {value} of the method spqr, which has {only} only,")));
        }
    }
    let mut ignore: Vec<String> = Vec::new();
    if let Some(list) = root.get("modules_to_not_convert").filter(|value| !value.is_null()) {
        for name in strings(list, &format!("{ROOT}.modules_to_not_convert"))? {
            let module = name.strip_suffix(".weight").unwrap_or(&name).to_string();
            if !ignore.contains(&module) {
                ignore.push(module);
            }
        }
    }
    let mut shapes = BTreeMap::new();
    let key = format!("{ROOT}.shapes");
    if let Some(lengths) = root.get("shapes").filter(|value| !value.is_null()) {
        for (name, length) in object(lengths, &key)? {
            match length.as_u64().and_then(|length| usize::try_from(length).ok()) {
                Some(length) => shapes.insert(name.clone(), length),
                None => return Err(bad(format!("{key}.{name}"), "not a length")),
            };
        }
    }
    let group = ("group_0".to_string(), Scheme::spqr(targets(&shapes)));
    Ok(QuantConfig { shapes, ..QuantConfig::new(vec![group], ignore) })
}
