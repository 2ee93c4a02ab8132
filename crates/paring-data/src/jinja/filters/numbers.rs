//! Filters that make numbers.

use super::at_path;
use crate::jinja::ast::Binary;
use crate::jinja::fault::{Made, fault};
use crate::jinja::given::{Given, text, whole};
use crate::jinja::run::{Run, operators};
use crate::jinja::text::is_space;
use crate::jinja::value::Value;

pub(super) fn call(run: &Run<'_>, value: &Value, name: &str, given: &Given) -> Made<Value> {
    let meter = run.meter;
    match name {
        "abs" => {
            given.none(name)?;
            match (value.whole(), value) {
                (Some(number), _) => Ok(Value::Int(number.saturating_abs())),
                (None, Value::Float(number)) => Ok(Value::Float(number.abs())),
                _ => fault(format!("bad operand type for abs(): '{}'", value.kind())),
            }
        }
        "int" => {
            let [default, base] = given.bind(name, ["default", "base"])?;
            let base = whole(base, name)?.unwrap_or(10);
            Ok(to_whole(value, base)?.unwrap_or_else(|| default.unwrap_or(Value::Int(0))))
        }
        "float" => {
            let [default] = given.bind(name, ["default"])?;
            Ok(to_float(value)?.map_or_else(|| default.unwrap_or(Value::Float(0.0)), Value::Float))
        }
        "round" => {
            let [precision, method] = given.bind(name, ["precision", "method"])?;
            let method = text(method, name)?;
            rounded(value, whole(precision, name)?.unwrap_or(0), method.as_deref().unwrap_or("common"))
        }
        _ => {
            let [path, start] = given.bind(name, ["attribute", "start"])?;
            let mut sum = start.unwrap_or(Value::Int(0));
            for item in value.items(meter)? {
                let item = match &path {
                    None | Some(Value::None) => item,
                    Some(path) => at_path(&item, path, None, meter)?,
                };
                sum = operators::binary(Binary::Add, &sum, &item, meter)?;
            }
            Ok(sum)
        }
    }
}

/// Python's `int` of a value, by way of a float if need be; `None` where it has none.
fn to_whole(value: &Value, base: i128) -> Made<Option<Value>> {
    let of_float = |number: f64| {
        let is_whole = number.is_finite() && number.abs() < 1e38;
        is_whole.then(|| Value::Int(number.trunc() as i128))
    };
    match value {
        Value::Undefined(reason) => fault(&**reason),
        Value::Float(number) => Ok(of_float(*number)),
        Value::Text(text) => {
            let text = text.trim_matches(is_space);
            let (sign, digits) = match text.strip_prefix('-') {
                Some(digits) => ("-", digits),
                None => ("", text.strip_prefix('+').unwrap_or(text)),
            };
            let prefixed = |prefix: &str| digits.strip_prefix(prefix).or(digits.strip_prefix(&prefix.to_uppercase()));
            let digits = match base {
                16 => prefixed("0x").unwrap_or(digits),
                8 => prefixed("0o").unwrap_or(digits),
                2 => prefixed("0b").unwrap_or(digits),
                _ => digits,
            };
            let Some(radix) = u32::try_from(base).ok().filter(|base| (2..=36).contains(base)) else {
                return fault(format!("int: base={base}, expected 2 to 36"));
            };
            let is_plain =
                digits.starts_with(|c: char| c.is_digit(radix)) && !digits.ends_with('_') && !digits.contains("__");
            let number = i128::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), radix);
            match number {
                Ok(number) if is_plain => Ok(Some(Value::Int(number))),
                _ => Ok(to_float(value)?.and_then(of_float)),
            }
        }
        other => Ok(other.whole().map(Value::Int)),
    }
}

/// Python's `float` of a value; `None` where it has none.
fn to_float(value: &Value) -> Made<Option<f64>> {
    match value {
        Value::Undefined(reason) => fault(&**reason),
        Value::Text(text) => {
            let text = text.trim_matches(is_space);
            let digits = |c: char| c.is_ascii_digit();
            let is_plain = !text.contains("__") && !text.ends_with('_') && !text.starts_with('_');
            let text = if is_plain && text.contains(digits) { text.replace('_', "") } else { text.to_owned() };
            Ok(text.parse().ok())
        }
        other => Ok(other.number()),
    }
}

fn rounded(value: &Value, precision: i128, method: &str) -> Made<Value> {
    let Some(number) = value.number() else {
        return fault(format!("type {} doesn't define round", value.kind()));
    };
    let Ok(digits) = i32::try_from(precision.clamp(-400, 400)) else { return fault("round: a precision") };
    let power = 10f64.powi(digits);
    match (method, value.whole()) {
        ("common", Some(whole)) if digits >= 0 => Ok(Value::Int(whole)),
        ("common", _) if digits >= 0 && number.is_finite() => {
            // The nearest decimal of that many digits, ties to even, as Python finds it.
            let text = format!("{number:.*}", usize::try_from(digits).unwrap_or(0));
            Ok(Value::Float(text.parse().unwrap_or(number)))
        }
        ("common", Some(_)) => fault("round of an integer to tens is not known here"),
        ("common", None) => Ok(Value::Float((number / 10f64.powi(-digits)).round_ties_even() * 10f64.powi(-digits))),
        ("ceil", _) => Ok(Value::Float((number * power).ceil() / power)),
        ("floor", _) => Ok(Value::Float((number * power).floor() / power)),
        _ => fault("method must be common, ceil or floor"),
    }
}
