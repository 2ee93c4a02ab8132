//! The JSON of a [`QuantConfig`]: read with care, written with the full set of keys, sorted.

use serde_json::{Map, Value, json};

use super::{Method, PARING_VERSION, QuantConfig, Scheme, SecondLevel, Strategy, compile, spqr};
use crate::{Error, Result, layouts};

pub(super) const ROOT: &str = "quantization_config";

impl QuantConfig {
    /// Reads a `quantization_config` object.
    ///
    /// Keys it does not know are ignored; what it knows and cannot honour (quantized activations, float codes, stored
    /// activation order, transforms, …) is an error, because weights read without it would be wrong in silence.
    pub fn parse(value: &Value) -> Result<QuantConfig> {
        let root = object(value, ROOT)?;
        let method = match root.get("quant_method").and_then(Value::as_str) {
            Some("compressed-tensors") => Method::CompressedTensors,
            Some("paring") => Method::Paring,
            Some("spqr") => return spqr::parse(root),
            Some(other) => return Err(unsupported(ROOT, format!("the quantization method {other}"))),
            None => return Err(bad(format!("{ROOT}.quant_method"), "missing")),
        };
        match root.get("version").and_then(Value::as_str) {
            Some(PARING_VERSION) => {}
            _ if method == Method::CompressedTensors => {}
            Some(other) => return Err(unsupported(ROOT, format!("the version {other} of the method paring"))),
            None => return Err(bad(format!("{ROOT}.version"), "missing")),
        }
        match root.get("quantization_status").and_then(Value::as_str) {
            Some("compressed") => {}
            None if method == Method::Paring => {}
            Some(other) => {
                return Err(unsupported(ROOT, format!("the status {other} (weights that are not compressed)")));
            }
            None => return Err(bad(format!("{ROOT}.quantization_status"), "missing; expected \"compressed\"")),
        }
        for key in ["kv_cache_scheme", "transform_config", "sparsity_config"] {
            if !is_empty(root.get(key)) {
                return Err(unsupported(ROOT, key.to_string()));
            }
        }
        let key = format!("{ROOT}.config_groups");
        let mut groups = Vec::new();
        for (name, group) in object(root.get("config_groups").unwrap_or(&Value::Null), &key)? {
            groups.push((name.clone(), scheme(group, method, &format!("{key}.{name}"))?));
        }
        let ignore = match root.get("ignore") {
            None | Some(Value::Null) => Vec::new(),
            Some(list) => strings(list, &format!("{ROOT}.ignore"))?,
        };
        let mut config = QuantConfig { method, ..QuantConfig::new(groups, ignore) };
        config.version = root.get("version").and_then(Value::as_str).unwrap_or_default().to_string();
        for target in config.groups.iter().flat_map(|(_, scheme)| &scheme.targets).chain(&config.ignore) {
            if let Some(pattern) = target.strip_prefix("re:") {
                compile(pattern)?;
            }
        }
        Ok(config)
    }

    /// The object to write, with every key that compressed-tensors 0.19.0 writes; in another form with those that it
    /// has.
    pub fn to_json(&self) -> Value {
        if self.method == Method::Spqr {
            return spqr::to_json(self);
        }
        let groups: Map<String, Value> =
            self.groups.iter().map(|(name, scheme)| (name.clone(), scheme.to_json())).collect();
        if self.method == Method::Paring {
            return json!({
                "config_groups": groups,
                "format": self.format,
                "ignore": self.ignore,
                "quant_method": self.method.name(),
                "version": self.version,
            });
        }
        json!({
            "config_groups": groups,
            "format": self.format,
            "global_compression_ratio": null,
            "ignore": self.ignore,
            "kv_cache_scheme": null,
            "quant_method": self.method.name(),
            "quantization_status": "compressed",
            "sparsity_config": {},
            "transform_config": {},
            "version": self.version,
        })
    }
}

impl Scheme {
    fn to_json(&self) -> Value {
        let (strategy, group_size) = match self.strategy {
            Strategy::Tensor => ("tensor", None),
            Strategy::Channel => ("channel", None),
            Strategy::Group(size) => ("group", Some(size)),
        };
        if layouts::layout(&self.format).is_some_and(|layout| layout.method() == Method::Paring) {
            let second = |second: SecondLevel| json!({"rows": second.rows, "scale_bits": second.scale_bits, "zero_bits": second.zero_bits});
            let zero = if self.float_zeros { "float" } else { "integer" };
            let weights = json!({
                "actorder": self.actorder,
                "group_size": group_size,
                "num_bits": self.bits,
                "second_level": self.second.map(second),
                "strategy": strategy,
                "symmetric": self.symmetric,
                "zero_point": (!self.symmetric).then_some(zero),
            });
            return json!({"format": self.format, "targets": self.targets, "weights": weights});
        }
        let weights = json!({
            "actorder": self.actorder,
            "block_structure": null,
            "dynamic": false,
            "group_size": group_size,
            "num_bits": self.bits,
            "observer": null,
            "observer_kwargs": {},
            "scale_dtype": null,
            "strategy": strategy,
            "symmetric": self.symmetric,
            "type": "int",
            "zp_dtype": (!self.symmetric).then_some("torch.int8"),
        });
        json!({
            "format": self.format,
            "input_activations": null,
            "output_activations": null,
            "targets": self.targets,
            "weights": if self.bits == 0 { Value::Null } else { weights },
        })
    }
}

fn scheme(value: &Value, method: Method, key: &str) -> Result<Scheme> {
    let group = object(value, key)?;
    let targets = strings(group.get("targets").unwrap_or(&Value::Null), &format!("{key}.targets"))?;
    for activations in ["input_activations", "output_activations"] {
        if group.get(activations).is_some_and(|value| !value.is_null()) {
            return Err(unsupported(key, format!("{activations} (quantized activations)")));
        }
    }
    let format = match group.get("format") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.as_str()),
        Some(_) => return Err(bad(format!("{key}.format"), "not a string")),
    };
    match format.map(|name| (name, layouts::layout(name).map(|layout| layout.method()))) {
        Some((name, None)) => return Err(unsupported(key, format!("the format {name}"))),
        Some((name, Some(of))) if of != method => {
            return Err(unsupported(key, format!("the format {name} with the method {}", method.name())));
        }
        None if method == Method::Paring => return Err(bad(format!("{key}.format"), "missing")),
        _ => {}
    }
    let weights = match group.get("weights").filter(|value| !value.is_null()) {
        _ if format == Some("dense") => return Ok(Scheme { targets, ..Scheme::dense() }),
        None if format.is_none() => return Ok(Scheme { targets, ..Scheme::dense() }),
        None => return Err(bad(format!("{key}.weights"), "missing")),
        Some(value) if method == Method::Paring => second_level(value, &format!("{key}.weights"))?,
        Some(value) => weights(value, &format!("{key}.weights"))?,
    };
    // Without a format of its own, a group of integer weights and plain activations is read as packed: the rule of
    // compressed-tensors, which never looks at the format on top.
    Ok(Scheme { targets, format: format.unwrap_or("pack-quantized").to_string(), ..weights })
}

/// The arguments of a scheme's weights; targets and format are the caller's.
fn weights(value: &Value, key: &str) -> Result<Scheme> {
    let args = object(value, key)?;
    let at = |name: &str| format!("{key}.{name}");
    let get = |name: &str| args.get(name).filter(|value| !value.is_null());
    let flag = |name: &str, default: bool| match get(name) {
        None => Ok(default),
        Some(value) => value.as_bool().ok_or_else(|| bad(at(name), "not a bool")),
    };

    match get("type") {
        None => {}
        Some(Value::String(kind)) if kind == "int" => {}
        Some(other) => return Err(unsupported(key, format!("the type {other}"))),
    }
    let bits = match get("num_bits").map_or(Some(8), Value::as_u64) {
        Some(bits @ 1..=8) => bits as u32,
        Some(bits) => return Err(unsupported(key, format!("num_bits {bits} (outside 1 to 8)"))),
        None => return Err(bad(at("num_bits"), "not a number")),
    };
    let symmetric = flag("symmetric", true)?;
    if get("dynamic").is_some_and(|value| *value != Value::Bool(false)) {
        return Err(unsupported(key, "dynamic quantization of weights".to_string()));
    }
    let actorder = match get("actorder") {
        None | Some(Value::Bool(false)) => None,
        Some(Value::String(order)) if order == "static" || order == "weight" => Some(order.clone()),
        Some(other) => {
            return Err(unsupported(key, format!("actorder {other} (groups in activation order)")));
        }
    };
    for name in ["block_structure", "scale_dtype"] {
        if let Some(value) = get(name) {
            return Err(unsupported(key, format!("{name} {value}")));
        }
    }
    if let Some(value) = get("zp_dtype")
        && !symmetric
        && value != "torch.int8"
    {
        return Err(unsupported(key, format!("zp_dtype {value}")));
    }
    let size = match get("group_size").map(|value| (value, value.as_i64())) {
        None => None,
        Some((_, Some(size @ (-1 | 1..)))) => Some(size),
        Some((value, _)) => return Err(bad(at("group_size"), format!("{value} is no group size"))),
    };
    let strategy = match (get("strategy").map(|value| value.as_str().unwrap_or("")), size) {
        (Some("tensor"), None | Some(-1)) | (None, None) => Strategy::Tensor,
        (Some("channel"), None | Some(-1)) | (None, Some(-1)) => Strategy::Channel,
        (Some("group") | None, Some(size @ 1..)) => {
            Strategy::Group(usize::try_from(size).map_err(|_| bad(at("group_size"), "too large"))?)
        }
        (Some("group"), _) => return Err(bad(at("group_size"), "missing for the strategy group")),
        (Some("tensor" | "channel"), _) => return Err(bad(at("group_size"), "given, but the strategy has no groups")),
        (Some(other), _) => return Err(unsupported(key, format!("the strategy {other}"))),
        (None, Some(_)) => return Err(bad(at("strategy"), "missing")),
    };
    Ok(Scheme { bits, symmetric, strategy, actorder, ..Scheme::dense() })
}

/// The arguments of weights in this program's own form: those of other weights, the kind of the zeros, and how scales
/// and zeros are coded again.
fn second_level(value: &Value, key: &str) -> Result<Scheme> {
    let first = weights(value, key)?;
    let get = |name: &str| value.get(name).filter(|value| !value.is_null());
    let float_zeros = match get("zero_point").map(|value| value.as_str().unwrap_or("")) {
        None if first.symmetric => false,
        Some("integer") if !first.symmetric => false,
        Some("float") if !first.symmetric => true,
        None => return Err(bad(format!("{key}.zero_point"), "missing; expected \"integer\" or \"float\"")),
        Some(_) => return Err(bad(format!("{key}.zero_point"), "neither \"integer\" nor \"float\", or symmetric")),
    };
    let Some(second) = get("second_level") else { return Ok(Scheme { float_zeros, ..first }) };
    let key = format!("{key}.second_level");
    let args = object(second, &key)?;
    let bits = |name: &str| match args.get(name).filter(|value| !value.is_null()).map(|value| value.as_u64()) {
        None => Ok(None),
        Some(Some(bits @ 1..=8)) => Ok(Some(bits as u32)),
        Some(_) => Err(bad(format!("{key}.{name}"), "not a number of 1 to 8")),
    };
    let (scale_bits, zero_bits) = (bits("scale_bits")?, bits("zero_bits")?);
    if scale_bits.is_none() && zero_bits.is_none() {
        return Err(bad(key, "codes neither scales nor zeros"));
    }
    if zero_bits.is_some() && !float_zeros {
        return Err(bad(format!("{key}.zero_bits"), "given, but zeros are not fractional"));
    }
    match args.get("rows").and_then(Value::as_u64).and_then(|rows| usize::try_from(rows).ok()) {
        Some(rows @ 1..) => {
            Ok(Scheme { float_zeros, second: Some(SecondLevel { scale_bits, zero_bits, rows }), ..first })
        }
        _ => Err(bad(format!("{key}.rows"), "not a number of rows")),
    }
}

/// Null, an empty object, or an empty list count as absent.
fn is_empty(value: Option<&Value>) -> bool {
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
