//! The JSON of a [`QuantConfig`]: read with care, written as compressed-tensors writes it, keys sorted.

use serde_json::{Map, Value, json};

use super::{PARING_VERSION, Preset, QuantConfig, Sparsity, Targets, moe, sparsity, spqr};
use crate::{Dynamic, Error, QuantArgs, QuantMethod, Result, Scheme, layouts};

pub(super) const ROOT: &str = "quantization_config";

impl QuantConfig {
    /// Reads a `quantization_config` object, going by what it says of itself: a status other than `compressed` means that
    /// weights are dense, and rounded by the scales beside them. [`crate::Checkpoint::quant_config`] goes by the tensors.
    ///
    /// Keys it does not know are ignored on top and refused inside groups, as the library does; what it knows and cannot
    /// honour (transforms, other number types, …) is an error, because weights read without it would be wrong in silence.
    pub fn parse(value: &Value) -> Result<QuantConfig> {
        Stated::parse(value)?.settle(&[])
    }

    /// The object to write, with the keys that compressed-tensors [`super::VERSION`] writes; in another form with those that
    /// it has.
    pub fn to_json(&self) -> Value {
        if self.method == QuantMethod::Spqr {
            return spqr::to_json(self);
        }
        let groups: Map<String, Value> =
            self.groups.iter().map(|(name, scheme)| (name.clone(), scheme.to_json())).collect();
        if self.method == QuantMethod::Paring {
            return json!({
                "config_groups": groups,
                "format": self.format,
                "ignore": self.ignore,
                "quant_method": self.method.name(),
                "version": self.version,
            });
        }
        let sparsity = self.sparsity.as_ref().map_or_else(|| json!({}), Sparsity::to_json);
        if self.sparsity.is_some() && groups.is_empty() && self.kv_cache.is_none() {
            return json!({
                "quant_method": self.method.name(),
                "sparsity_config": sparsity,
                "version": self.version,
            });
        }
        // Nothing else has dense weights and says what they are rounded to.
        let frozen =
            self.groups.iter().any(|(_, scheme)| scheme.format == layouts::DENSE.name() && scheme.weights.is_some());
        json!({
            "config_groups": groups,
            "format": self.format,
            "global_compression_ratio": null,
            "ignore": self.ignore,
            "kv_cache_scheme": self.kv_cache.as_ref().map(QuantArgs::to_json),
            "moe_sparsity_config": null,
            "quant_method": self.method.name(),
            "quantization_status": if frozen { "frozen" } else { "compressed" },
            "sparsity_config": sparsity,
            "transform_config": {},
            "version": self.version,
        })
    }
}

/// The form in which the weights of a group are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// As codes, in tensors of this local name.
    Codes(&'static str),
    /// As floats, beside the scales to round them by.
    Floats,
}

/// A configuration as it is written, before the stored tensors decide what its groups hold: `quantization_status` is a
/// label that many files carry wrongly.
pub(crate) struct Stated {
    /// All of it, with the layout of each group that its codes would have.
    config: QuantConfig,
    /// Of each group: true if it says that its weights are dense.
    dense: Vec<bool>,
    /// Of each group: true if it names a layout of codes.
    named: Vec<bool>,
    /// True if the status is that of compressed weights, which are never rounded as the model runs.
    compressed: bool,
}

impl Stated {
    /// Reads the object. Errors as [`QuantConfig::parse`], but for layouts that do not hold what their group says.
    pub(crate) fn parse(value: &Value) -> Result<Stated> {
        let root = object(value, ROOT)?;
        let method = match root.get("quant_method").and_then(Value::as_str) {
            Some("compressed-tensors") => QuantMethod::CompressedTensors,
            Some("paring") => QuantMethod::Paring,
            Some("spqr") => {
                return Ok(Stated {
                    config: spqr::parse(root)?,
                    dense: Vec::new(),
                    named: Vec::new(),
                    compressed: true,
                });
            }
            Some(other) => return Err(unsupported(ROOT, format!("the quantization method {other}"))),
            None => return Err(bad(format!("{ROOT}.quant_method"), "missing")),
        };
        match root.get("version").and_then(Value::as_str) {
            Some(PARING_VERSION) => {}
            _ if method == QuantMethod::CompressedTensors => {}
            Some(other) => return Err(unsupported(ROOT, format!("the version {other} of the method paring"))),
            None => return Err(bad(format!("{ROOT}.version"), "missing")),
        }
        let sparsity = Sparsity::parse(root.get("sparsity_config"))?;
        // Sparse weights alone: neither groups nor a status.
        let no_groups = sparsity.is_some() && is_empty(root.get("config_groups"));
        let status = root.get("quantization_status").and_then(Value::as_str);
        let compressed = status == Some("compressed") || method == QuantMethod::Paring || no_groups;
        if !is_empty(root.get("transform_config")) {
            return Err(unsupported(ROOT, "transform_config".to_string()));
        }
        moe::check(root.get("moe_sparsity_config"))?;
        let version = root.get("version").and_then(Value::as_str).unwrap_or_default().to_string();
        let key = format!("{ROOT}.config_groups");
        let (mut groups, mut dense, mut named) = (Vec::new(), Vec::new(), Vec::new());
        let none = Map::new();
        let listed = if no_groups { &none } else { object(root.get("config_groups").unwrap_or(&Value::Null), &key)? };
        let on_top = sparsity::on_top(root.get("format"), method, sparsity.as_ref());
        for (name, group) in listed {
            let (scheme, format) = scheme(name, group, method, compressed, on_top, &format!("{key}.{name}"))?;
            groups.push((name.clone(), scheme));
            named.push(format.is_some_and(|name| name != layouts::DENSE.name()));
            dense.push(format.map_or(!compressed, |name| name == layouts::DENSE.name()));
        }
        let ignore = match root.get("ignore") {
            None | Some(Value::Null) => Vec::new(),
            Some(list) => strings(list, &format!("{ROOT}.ignore"))?,
        };
        // Without groups nothing is targeted that could be ignored; sparse weights have a list of their own.
        let ignore = if groups.is_empty() && sparsity.is_some() { Vec::new() } else { ignore };
        let kv_cache = args(root, "kv_cache_scheme", ROOT)?;
        let config = QuantConfig { method, version, kv_cache, sparsity, ..QuantConfig::new(groups, ignore) };
        Targets::new(&config)?;
        Ok(Stated { config, dense, named, compressed })
    }

    /// Its groups and targets.
    pub(crate) fn config(&self) -> &QuantConfig {
        &self.config
    }

    /// The configuration of groups that were `found` so, by their numbers; of others it is taken at its word. Errors when
    /// the layout of a group holds nothing that is quantized as its weights are.
    pub(crate) fn settle(self, found: &[Option<Found>]) -> Result<QuantConfig> {
        let Stated { config, dense, named, compressed } = self;
        if config.method == QuantMethod::Spqr {
            return Ok(config);
        }
        let QuantConfig { method, mut groups, ignore, version, kv_cache, sparsity, .. } = config;
        for (number, (name, scheme)) in groups.iter_mut().enumerate() {
            let says_dense = dense.get(number) == Some(&true);
            let found = found.get(number).copied().flatten();
            let is_dense = found.map_or(says_dense, |found| found == Found::Floats);
            if let Some(Found::Codes(local)) = found.filter(|_| named.get(number) == Some(&false)) {
                scheme.format = layouts::holding(local, &scheme.format).to_string();
            }
            if is_dense {
                scheme.format = layouts::DENSE.name().to_string();
                // Of weights that are said to be dense after compression, nothing is rounded.
                scheme.weights = scheme.weights.take().filter(|_| !(compressed && says_dense));
            }
            scheme.padded =
                layouts::layout(&scheme.format).is_some_and(|layout| layout.was_padded()) && is_padded(&version);
            check_held(&scheme.format, scheme.weights.as_ref(), &format!("{ROOT}.config_groups.{name}"))?;
        }
        Ok(QuantConfig { method, version, kv_cache, sparsity, ..QuantConfig::new(groups, ignore) })
    }
}

impl Scheme {
    fn to_json(&self) -> Value {
        if layouts::layout(&self.format).is_some_and(|layout| layout.method() == QuantMethod::Paring) {
            let weights = self.weights.as_ref().map(QuantArgs::to_own_json);
            return json!({"format": self.format, "targets": self.targets, "weights": weights});
        }
        json!({
            "format": self.format,
            "input_activations": self.input.as_ref().map(QuantArgs::to_json),
            "output_activations": self.output.as_ref().map(QuantArgs::to_json),
            "targets": self.targets,
            "weights": self.weights.as_ref().map(QuantArgs::to_json),
        })
    }
}

/// The QuantizationArgs under this name, if there are any.
fn args(of: &Map<String, Value>, name: &str, key: &str) -> Result<Option<QuantArgs>> {
    match of.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => QuantArgs::parse(value, &format!("{key}.{name}")).map(Some),
    }
}

/// Tells whether a release of compressed-tensors padded words: those before 0.18 did.
fn is_padded(version: &str) -> bool {
    let mut numbers = version.split('.').map(|n| n.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(Some(0)), Some(Some(..18))))
}

/// The scheme of a group, with the layout that its codes would have, and the layout that it names.
fn scheme<'a>(
    name: &str,
    value: &'a Value,
    method: QuantMethod,
    compressed: bool,
    on_top: Option<&'a str>,
    key: &str,
) -> Result<(Scheme, Option<&'a str>)> {
    if let (Some(preset), Value::Array(_), QuantMethod::CompressedTensors) = (Preset::find(name), value, method) {
        return Ok((preset.scheme(strings(value, key)?), None));
    }
    let group = object(value, key)?;
    let known = ["format", "input_activations", "output_activations", "targets", "weights"];
    if let Some(unknown) = group.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(unsupported(key, format!("the key {unknown}")));
    }
    let targets = strings(group.get("targets").unwrap_or(&Value::Null), &format!("{key}.targets"))?;
    let (input, output) = (args(group, "input_activations", key)?, args(group, "output_activations", key)?);
    let format = format_of(group, method, on_top, key)?;
    let dense = layouts::DENSE.name();
    let weights = match group.get("weights").filter(|value| !value.is_null()) {
        None if format.is_some_and(|name| name != dense) => return Err(bad(format!("{key}.weights"), "missing")),
        None => None,
        Some(value) if method == QuantMethod::Paring => Some(QuantArgs::parse_own(value, &format!("{key}.weights"))?),
        // Weights that are dense need no arguments: whether these make sense matters only if there are codes.
        Some(value) if format == Some(dense) && compressed => QuantArgs::parse(value, &format!("{key}.weights")).ok(),
        Some(value) => Some(QuantArgs::parse(value, &format!("{key}.weights"))?),
    };
    if let Some(dynamic) = weights.as_ref().filter(|weights| weights.dynamic != Dynamic::No) {
        return Err(unsupported(key, format!("weights with dynamic scales ({dynamic})")));
    }
    let layout = match (format, &weights) {
        (Some(name), _) if name != dense => name,
        (_, None) => dense,
        (_, weights) => layouts::inferred(weights.as_ref(), input.as_ref()).name(),
    };
    Ok((Scheme { targets, format: layout.to_string(), weights, input, output, padded: false }, format))
}

/// The format that a group names, or the one `on_top`. Errors when it is none of the method's.
fn format_of<'a>(
    group: &'a Map<String, Value>,
    method: QuantMethod,
    on_top: Option<&'a str>,
    key: &str,
) -> Result<Option<&'a str>> {
    let format = match group.get("format") {
        None | Some(Value::Null) => on_top,
        Some(Value::String(name)) if sparsity::sparse(name).is_some() => {
            return Err(unsupported(key, format!("the format {name} in a group, outside sparsity_config")));
        }
        Some(Value::String(name)) => Some(name.as_str()),
        Some(_) => return Err(bad(format!("{key}.format"), "not a string")),
    };
    match format.map(|name| (name, layouts::layout(name).map(|layout| layout.method()))) {
        Some((name, None)) => Err(unsupported(key, format!("the format {name}"))),
        Some((name, Some(of))) if of != method => {
            Err(unsupported(key, format!("the format {name} with the method {}", method.name())))
        }
        None if method == QuantMethod::Paring => Err(bad(format!("{key}.format"), "missing")),
        _ => Ok(format),
    }
}

/// Errors when the layout of a group holds nothing that is quantized as its weights are.
fn check_held(format: &str, weights: Option<&QuantArgs>, key: &str) -> Result<()> {
    let Some((layout, weights)) = layouts::layout(format).zip(weights) else { return Ok(()) };
    layout.check_args(weights).map_err(|error| match error {
        Error::BadParts { reason, .. } => bad(key.to_string(), reason),
        other => other,
    })
}

/// Null, an empty object, or an empty list count as absent.
pub(super) fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

pub(super) fn object<'a>(value: &'a Value, key: &str) -> Result<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| bad(key.to_string(), if value.is_null() { "missing" } else { "not an object" }))
}

pub(super) fn strings(value: &Value, key: &str) -> Result<Vec<String>> {
    let list = value.as_array().ok_or_else(|| bad(key.to_string(), "not a list of strings"))?;
    let text = |item: &Value| item.as_str().map(str::to_string);
    list.iter().map(text).collect::<Option<_>>().ok_or_else(|| bad(key.to_string(), "not a list of strings"))
}

pub(super) fn bad(key: String, reason: impl Into<String>) -> Error {
    Error::BadConfig { key, reason: reason.into() }
}

pub(super) fn unsupported(key: &str, format: String) -> Error {
    Error::UnsupportedFormat { module: format!("config.json: {key}"), format }
}
