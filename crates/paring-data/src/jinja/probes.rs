//! Tests: `value is name(…)`.

use super::ast::{Binary, Comparison};
use super::fault::{Made, Meter, fault};
use super::given::{Given, required};
use super::run::operators::{binary, compare, contains};
use super::value::{Value, equal};

/// True when a number is a multiple of another.
fn divides(value: &Value, by: &Value, meter: &Meter) -> Made<bool> {
    equal(&binary(Binary::Modulo, value, by, meter)?, &Value::Int(0), meter)
}

/// True when a value passes a test.
pub(super) fn call(value: &Value, name: &str, given: &Given, meter: &Meter) -> Made<bool> {
    let comparison = match name {
        "==" | "eq" | "equalto" => Some(Comparison::Equal),
        "!=" | "ne" => Some(Comparison::NotEqual),
        "<" | "lt" | "lessthan" => Some(Comparison::Less),
        "<=" | "le" => Some(Comparison::LessOrEqual),
        ">" | "gt" | "greaterthan" => Some(Comparison::Greater),
        ">=" | "ge" => Some(Comparison::GreaterOrEqual),
        "in" => Some(Comparison::In),
        _ => None,
    };
    if let Some(comparison) = comparison {
        let [other] = given.bind(name, [""])?;
        let other = required(other, name)?;
        return if name == "in" { contains(&other, value, meter) } else { compare(comparison, value, &other, meter) };
    }
    match name {
        "divisibleby" => {
            let [by] = given.bind(name, ["num"])?;
            return divides(value, &required(by, name)?, meter);
        }
        "sameas" => {
            let [other] = given.bind(name, ["other"])?;
            let other = required(other, name)?;
            let is_single = matches!(value, Value::None | Value::Bool(_));
            if !is_single && !matches!(other, Value::None | Value::Bool(_)) {
                return fault("sameas is known for true, false and none only");
            }
            return Ok(value.kind() == other.kind() && equal(value, &other, meter)?);
        }
        _ => given.none(name)?,
    }
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => matches!(value, Value::None),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "boolean" => matches!(value, Value::Bool(_)),
        "string" => matches!(value, Value::Text(_)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.number().is_some(),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => matches!(
            value,
            Value::Text(_) | Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Range(_) | Value::Undefined(_)
        ),
        "iterable" => !matches!(
            value,
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Namespace(_) | Value::Function(_)
        ),
        "callable" => matches!(value, Value::Function(_) | Value::Loop(_) | Value::Undefined(_)),
        "escaped" => false,
        "even" => divides(value, &Value::Int(2), meter)?,
        "odd" => equal(&binary(Binary::Modulo, value, &Value::Int(2), meter)?, &Value::Int(1), meter)?,
        "lower" | "upper" => {
            let text = value.text(meter)?;
            let (lower, upper) = (text.contains(char::is_lowercase), text.contains(char::is_uppercase));
            if name == "lower" { lower && !upper } else { upper && !lower }
        }
        "filter" | "test" => return fault(format!("the test {name} is not known here")),
        _ => return fault(format!("No test named '{name}'")),
    })
}
