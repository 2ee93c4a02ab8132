//! The JSON of [`QuantArgs`]: compressed-tensors' QuantizationArgs, and this program's own form.

use serde_json::{Map, Value, json};

use super::json::{bad, object, unsupported};
use crate::{Dynamic, Element, QuantArgs, Result, ScaleType, SecondLevel, Strategy};

/// Every key that some release of compressed-tensors writes; any may be missing.
const KEYS: [&str; 12] = [
    "actorder",
    "block_structure",
    "dynamic",
    "group_size",
    "num_bits",
    "observer",
    "observer_kwargs",
    "scale_dtype",
    "strategy",
    "symmetric",
    "type",
    "zp_dtype",
];

impl QuantArgs {
    /// The object that compressed-tensors [`super::VERSION`] writes, which leaves out what is not set. Earlier releases read it too.
    pub fn to_json(&self) -> Value {
        let (group_size, block) = self.sizes();
        let scale = match self.scale_type {
            ScaleType::Float => None,
            ScaleType::E4m3 => Some("torch.float8_e4m3fn"),
            ScaleType::Exponent => Some("torch.uint8"),
        };
        let mut args = json!({
            "dynamic": match self.dynamic {
                Dynamic::No => json!(false),
                Dynamic::Yes => json!(true),
                Dynamic::Local => json!("local"),
            },
            "group_size": group_size,
            "num_bits": self.element.bits(),
            "strategy": self.strategy_name(),
            "symmetric": self.symmetric,
            "type": if self.element.int_bits().is_some() { "int" } else { "float" },
        });
        let zero = (!self.symmetric && self.float_zeros).then_some("torch.float32");
        let set = [
            ("actorder", self.actorder.as_ref().map(|order| json!(order))),
            ("block_structure", block.map(|block| json!(block))),
            ("scale_dtype", scale.map(|scale| json!(scale))),
            ("zp_dtype", zero.map(|zero| json!(zero))),
        ];
        for (key, value) in set {
            if let Some(value) = value {
                args[key] = value;
            }
        }
        args
    }

    /// The same in this program's own form.
    pub(super) fn to_own_json(&self) -> Value {
        let second = |second: SecondLevel| json!({"rows": second.rows, "scale_bits": second.scale_bits, "zero_bits": second.zero_bits});
        let zero = if self.float_zeros { "float" } else { "integer" };
        json!({
            "actorder": self.actorder,
            "group_size": self.sizes().0,
            "num_bits": self.element.bits(),
            "second_level": self.second.map(second),
            "strategy": self.strategy_name(),
            "symmetric": self.symmetric,
            "zero_point": (!self.symmetric).then_some(zero),
        })
    }

    fn strategy_name(&self) -> &'static str {
        match self.strategy {
            Strategy::Tensor => "tensor",
            Strategy::Channel => "channel",
            Strategy::Group(_) => "group",
            Strategy::TensorGroup(_) => "tensor_group",
            Strategy::Block(..) => "block",
            Strategy::Token => "token",
            Strategy::Head => "attn_head",
        }
    }

    fn sizes(&self) -> (Option<usize>, Option<[usize; 2]>) {
        match self.strategy {
            Strategy::Group(size) | Strategy::TensorGroup(size) => (Some(size), None),
            Strategy::Block(rows, cols) => (None, Some([rows, cols])),
            _ => (None, None),
        }
    }

    /// Reads QuantizationArgs at `key` of the config. Errors on what it does not know, as the library does: numbers read
    /// without it would be wrong in silence.
    pub fn parse(value: &Value, key: &str) -> Result<QuantArgs> {
        let args = object(value, key)?;
        if let Some(unknown) = args.keys().find(|name| !KEYS.contains(&name.as_str())) {
            return Err(unsupported(key, format!("the key {unknown}")));
        }
        QuantArgs::parse_known(args, key)
    }

    fn parse_known(args: &Map<String, Value>, key: &str) -> Result<QuantArgs> {
        let at = |name: &str| format!("{key}.{name}");
        let get = |name: &str| args.get(name).filter(|value| !value.is_null());
        let bits = get("num_bits").map_or(Some(8), Value::as_u64).ok_or_else(|| bad(at("num_bits"), "not a number"))?;
        let element = match (get("type").map_or(Some("int"), Value::as_str), bits) {
            (Some("int"), 1..=8) => Element::Int(bits as u32),
            (Some("int"), _) => return Err(unsupported(key, format!("num_bits {bits} (outside 1 to 8)"))),
            (Some("float"), 8) => Element::E4m3,
            (Some("float"), 6) => Element::E2m3,
            (Some("float"), 4) => Element::E2m1,
            (Some("float"), _) => {
                return Err(unsupported(key, format!("floats of {bits} bits (4, 6 and 8 are known)")));
            }
            (Some(other), _) => return Err(unsupported(key, format!("the type {other}"))),
            (None, _) => return Err(bad(at("type"), "not a string")),
        };
        let symmetric = match get("symmetric") {
            None => true,
            Some(value) => value.as_bool().ok_or_else(|| bad(at("symmetric"), "not a bool"))?,
        };
        if !symmetric && element.int_bits().is_none() {
            return Err(unsupported(key, "floats with zero points".to_string()));
        }
        let dynamic = match get("dynamic") {
            None | Some(Value::Bool(false)) => Dynamic::No,
            Some(Value::Bool(true)) => Dynamic::Yes,
            Some(Value::String(local)) if local == "local" => Dynamic::Local,
            Some(other) => return Err(bad(at("dynamic"), format!("{other}; expected false, true, \"local\""))),
        };
        let actorder = match get("actorder") {
            None | Some(Value::Bool(false)) => None,
            Some(Value::String(order)) if order == "static" || order == "weight" => Some(order.clone()),
            Some(Value::Bool(true)) => Some("group".to_string()),
            Some(Value::String(order)) if order == "group" || order == "dynamic" => Some("group".to_string()),
            Some(other) => return Err(unsupported(key, format!("actorder {other}"))),
        };
        let strategy = strategy(&get, &at, key)?;
        let scale_type = match get("scale_dtype").map(|value| (value, value.as_str())) {
            None => usual_scales(element, strategy),
            Some((_, Some("torch.float32" | "torch.float16" | "torch.bfloat16"))) => ScaleType::Float,
            Some((_, Some("torch.float8_e4m3fn"))) => ScaleType::E4m3,
            Some((_, Some("torch.uint8"))) => ScaleType::Exponent,
            Some((value, _)) => return Err(unsupported(key, format!("scale_dtype {value}"))),
        };
        let float_zeros = match get("zp_dtype").filter(|_| !symmetric).map(|value| (value, value.as_str())) {
            None | Some((_, Some("torch.int8"))) => false,
            Some((_, Some("torch.float32" | "torch.float16" | "torch.bfloat16"))) => true,
            Some((value, _)) => return Err(unsupported(key, format!("zp_dtype {value}"))),
        };
        if (strategy_has_global(strategy)) != (scale_type == ScaleType::E4m3) {
            return Err(unsupported(key, "a strategy and a scale_dtype that do not go together".to_string()));
        }
        Ok(QuantArgs { element, symmetric, strategy, scale_type, dynamic, actorder, float_zeros, second: None })
    }

    /// Reads this program's own form: the kind of the zeros, and how scales and zeros are coded again.
    pub(super) fn parse_own(value: &Value, key: &str) -> Result<QuantArgs> {
        let first = QuantArgs::parse_known(object(value, key)?, key)?;
        let get = |name: &str| value.get(name).filter(|value| !value.is_null());
        let float_zeros = match get("zero_point").map(|value| value.as_str().unwrap_or("")) {
            None if first.symmetric => false,
            Some("integer") if !first.symmetric => false,
            Some("float") if !first.symmetric => true,
            None => return Err(bad(format!("{key}.zero_point"), "missing; expected \"integer\" or \"float\"")),
            Some(_) => return Err(bad(format!("{key}.zero_point"), "neither \"integer\" nor \"float\", or symmetric")),
        };
        let Some(second) = get("second_level") else { return Ok(QuantArgs { float_zeros, ..first }) };
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
                Ok(QuantArgs { float_zeros, second: Some(SecondLevel { scale_bits, zero_bits, rows }), ..first })
            }
            _ => Err(bad(format!("{key}.rows"), "not a number of rows")),
        }
    }
}

/// The type of scales where the config says none: floats of 4 and 6 bits have theirs in bytes, and releases of compressed-tensors
/// that knew no other did not say so.
fn usual_scales(element: Element, strategy: Strategy) -> ScaleType {
    match (element, strategy) {
        (Element::E2m1, Strategy::TensorGroup(_)) => ScaleType::E4m3,
        (Element::E2m1 | Element::E2m3, Strategy::Group(_)) => ScaleType::Exponent,
        _ => ScaleType::Float,
    }
}

fn strategy_has_global(strategy: Strategy) -> bool {
    matches!(strategy, Strategy::TensorGroup(_))
}

/// The strategy that `strategy`, `group_size` and `block_structure` come to.
fn strategy<'a>(get: &dyn Fn(&str) -> Option<&'a Value>, at: &dyn Fn(&str) -> String, key: &str) -> Result<Strategy> {
    let size = match get("group_size").map(|value| (value, value.as_i64())) {
        None | Some((_, Some(-1))) => None,
        Some((value, Some(size @ 1..))) => {
            Some(usize::try_from(size).map_err(|_| bad(at("group_size"), format!("{value} is too large")))?)
        }
        Some((value, _)) => {
            return Err(bad(
                at("group_size"),
                format!("{value} is not a group size; expected a number above 0, or -1 for whole rows"),
            ));
        }
    };
    let name = match get("strategy") {
        Some(value) => Some(value.as_str().ok_or_else(|| bad(at("strategy"), "not a string"))?),
        None => None,
    };
    let block = get("block_structure").map(|value| block(value, &at("block_structure"))).transpose()?;
    if block.is_some() != (name == Some("block")) {
        return Err(bad(at("block_structure"), "belongs to the strategy block, which needs one"));
    }
    Ok(match (name, size, block) {
        (Some("block"), _, Some((rows, cols))) => Strategy::Block(rows, cols),
        (None, None, _) if get("group_size").is_some() => Strategy::Channel,
        (Some("tensor") | None, None, _) => Strategy::Tensor,
        (Some("channel"), None, _) => Strategy::Channel,
        (Some("token"), None, _) => Strategy::Token,
        (Some("attn_head"), None, _) => Strategy::Head,
        (Some("group") | None, Some(size), _) => Strategy::Group(size),
        (Some("tensor_group"), Some(size), _) => Strategy::TensorGroup(size),
        (Some("group" | "tensor_group"), None, _) => {
            return Err(bad(at("group_size"), "missing for a strategy of groups"));
        }
        (Some("tensor" | "channel" | "token" | "attn_head"), Some(_), _) => {
            return Err(bad(at("group_size"), "given, but the strategy has no groups"));
        }
        (Some(other), _, _) => return Err(unsupported(key, format!("the strategy {other}"))),
    })
}

/// `[128, 128]` or `"128x128"`.
fn block(value: &Value, key: &str) -> Result<(usize, usize)> {
    let numbers: Option<Vec<usize>> = match value {
        Value::Array(list) => list.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok())).collect(),
        Value::String(text) => text.split('x').map(|n| n.trim().parse().ok()).collect(),
        _ => None,
    };
    match numbers.as_deref() {
        Some(&[rows, cols]) if rows > 0 && cols > 0 => Ok((rows, cols)),
        _ => Err(bad(key.to_string(), format!("{value}; expected numbers of rows and columns such as [128, 128]"))),
    }
}
