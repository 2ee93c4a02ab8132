//! Operators between two values.

use std::rc::Rc;

use crate::jinja::ast::{Binary, Comparison};
use crate::jinja::fault::{Made, Meter, fault};
use crate::jinja::methods::printf;
use crate::jinja::text::Text;
use crate::jinja::value::{Value, View, equal, less};

/// `a + b` and the like.
pub(in crate::jinja) fn binary(operator: Binary, a: &Value, b: &Value, meter: &Meter) -> Made<Value> {
    if let (Value::Text(text), Binary::Modulo) = (a, operator) {
        return printf(text, b, meter).map(Value::Text);
    }
    if let Value::Undefined(reason) = a {
        return fault(&**reason);
    }
    if let Value::Undefined(reason) = b {
        return fault(&**reason);
    }
    match (operator, a, b) {
        (Binary::Add, Value::Text(a), Value::Text(b)) => {
            let mut out = Text::new(meter);
            out.push(a)?;
            out.push(b)?;
            Ok(Value::Text(out.shared()))
        }
        (Binary::Add, Value::List(a), Value::List(b)) => {
            meter.items(a.items.len() + b.items.len())?;
            Value::list([&a.items[..], &b.items].concat(), meter)
        }
        (Binary::Add, Value::Tuple(a), Value::Tuple(b)) => {
            meter.items(a.items.len() + b.items.len())?;
            Value::tuple([&a.items[..], &b.items].concat(), meter)
        }
        (Binary::Multiply, Value::Text(_) | Value::List(_) | Value::Tuple(_), times) if times.whole().is_some() => {
            repeated(a, times.whole().unwrap_or(0), meter)
        }
        (Binary::Multiply, times, Value::Text(_) | Value::List(_) | Value::Tuple(_)) if times.whole().is_some() => {
            repeated(b, times.whole().unwrap_or(0), meter)
        }
        _ => match (a.whole(), b.whole(), a.number(), b.number()) {
            (Some(a), Some(b), ..) => whole(operator, a, b),
            (.., Some(a), Some(b)) => float(operator, a, b).map(Value::Float),
            _ => {
                let (sign, a, b) = (operator.sign(), a.kind(), b.kind());
                fault(format!("unsupported operand type(s) for {sign}: '{a}' and '{b}'"))
            }
        },
    }
}

fn repeated(of: &Value, times: i128, meter: &Meter) -> Made<Value> {
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    if let Value::Text(text) = of {
        let mut out = Text::new(meter);
        out.repeat(text, times)?;
        return Ok(Value::Text(out.shared()));
    }
    let (Value::List(list) | Value::Tuple(list)) = of else { return fault("only text and lists can be repeated") };
    // An empty list is not repeated without an end.
    let times = if list.items.is_empty() { 0 } else { times };
    meter.items(list.items.len().saturating_mul(times))?;
    let items = std::iter::repeat_n(&list.items, times).flatten().cloned().collect();
    if matches!(of, Value::List(_)) { Value::list(items, meter) } else { Value::tuple(items, meter) }
}

fn whole(operator: Binary, a: i128, b: i128) -> Made<Value> {
    let too_large = || fault(format!("{a} {} {b} is too large", operator.sign()));
    let by_zero = || fault("division by zero");
    let made = match operator {
        Binary::Add => a.checked_add(b),
        Binary::Subtract => a.checked_sub(b),
        Binary::Multiply => a.checked_mul(b),
        Binary::Divide | Binary::FloorDivide | Binary::Modulo if b == 0 => return by_zero(),
        Binary::Divide => return Ok(Value::Float(a as f64 / b as f64)),
        Binary::FloorDivide => {
            a.checked_div_euclid(b).map(|_| a.div_euclid(b) - i128::from(b < 0 && a.rem_euclid(b) != 0))
        }
        Binary::Modulo => a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }),
        Binary::Power if b < 0 => return float(operator, a as f64, b as f64).map(Value::Float),
        Binary::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    };
    made.map_or_else(too_large, |made| Ok(Value::Int(made)))
}

fn float(operator: Binary, a: f64, b: f64) -> Made<f64> {
    if b == 0.0 && matches!(operator, Binary::Divide | Binary::FloorDivide | Binary::Modulo) {
        return fault("division by zero");
    }
    let modulo = || {
        let rest = a % b;
        match rest {
            0.0 => 0f64.copysign(b),
            _ if (rest < 0.0) != (b < 0.0) => rest + b,
            _ => rest,
        }
    };
    Ok(match operator {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
        Binary::FloorDivide => (a / b).floor(),
        Binary::Modulo => modulo(),
        Binary::Power if a == 0.0 && b < 0.0 => return fault("division by zero"),
        Binary::Power if a < 0.0 && b.fract() != 0.0 => return fault("the power is not a real number"),
        Binary::Power => a.powf(b),
    })
}

/// `-a` and `+a`.
pub(super) fn signed(value: &Value, is_negative: bool) -> Made<Value> {
    match value {
        Value::Undefined(reason) => fault(&**reason),
        Value::Float(number) => Ok(Value::Float(if is_negative { -number } else { *number })),
        other => match other.whole() {
            Some(number) => Ok(Value::Int(if is_negative { number.saturating_neg() } else { number })),
            None => fault(format!("bad operand type for unary sign: '{}'", other.kind())),
        },
    }
}

/// `a < b` and the like.
pub(in crate::jinja) fn compare(comparison: Comparison, a: &Value, b: &Value, meter: &Meter) -> Made<bool> {
    match comparison {
        Comparison::Equal => equal(a, b, meter),
        Comparison::NotEqual => equal(a, b, meter).map(|equal| !equal),
        Comparison::Less => less(a, b, false, "<", meter),
        Comparison::LessOrEqual => less(a, b, true, "<=", meter),
        Comparison::Greater => less(b, a, false, ">", meter),
        Comparison::GreaterOrEqual => less(b, a, true, ">=", meter),
        Comparison::In => contains(b, a, meter),
        Comparison::NotIn => contains(b, a, meter).map(|is_in| !is_in),
    }
}

/// `item in value`.
pub(in crate::jinja) fn contains(value: &Value, item: &Value, meter: &Meter) -> Made<bool> {
    let any = |items: &[Value]| {
        for other in items {
            if equal(other, item, meter)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    match value {
        Value::Undefined(_) => Ok(false),
        Value::Text(text) => {
            let Value::Text(part) = item else {
                return fault(format!("'in <string>' requires string as left operand, not {}", item.kind()));
            };
            meter.looks(text.len())?;
            Ok(text.contains(&**part))
        }
        Value::List(list) | Value::Tuple(list) => any(&list.items),
        Value::Dict(dict) | Value::View(View::Keys, dict) => Ok(dict.get(item, meter)?.is_some()),
        Value::View(..) | Value::Range(_) => any(&value.items(meter)?),
        Value::Generator(generator) => loop {
            let next = generator.left.borrow_mut().pop_front();
            match next {
                Some(next) if equal(&next, item, meter)? => return Ok(true),
                Some(_) => {}
                None => return Ok(false),
            }
        },
        other => fault(format!("argument of type '{}' is not iterable", other.kind())),
    }
}

/// `a ~ b ~ c`.
pub(super) fn concat(values: &[Value], meter: &Meter) -> Made<Rc<str>> {
    let mut out = Text::new(meter);
    for value in values {
        out.push(&value.text(meter)?)?;
    }
    Ok(out.shared())
}
