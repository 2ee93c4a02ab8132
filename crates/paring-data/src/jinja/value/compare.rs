//! Equality and order, as Python has them.

use std::cmp::Ordering;
use std::rc::Rc;

use super::Value;
use crate::jinja::fault::{Made, Meter, fault};

/// True when two values are equal.
pub(in crate::jinja) fn equal(a: &Value, b: &Value, meter: &Meter) -> Made<bool> {
    meter.steps(1)?;
    Ok(match (a, b) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Text(a), Value::Text(b)) => {
            meter.looks(a.len().min(b.len()))?;
            a == b
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            if a.items.len() != b.items.len() {
                return Ok(false);
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(a, b, meter)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, value) in a.entries() {
                match b.get(key, meter)? {
                    Some(other) if equal(value, other, meter)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Range(a), Value::Range(b)) => {
            let start = a.len == 0 || a.start == b.start;
            a.len == b.len && start && (a.len < 2 || a.step == b.step)
        }
        (Value::Generator(a), Value::Generator(b)) => Rc::ptr_eq(a, b),
        (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
        (Value::Function(a), Value::Function(b)) => Rc::ptr_eq(a, b),
        _ => match (a.whole(), b.whole()) {
            (Some(a), Some(b)) => a == b,
            _ => matches!((a.number(), b.number()), (Some(a), Some(b)) if a == b),
        },
    })
}

/// The order of two values; `None` for one that is not a number beside one that is. Errors where Python has no order.
fn order(a: &Value, b: &Value, sign: &str, meter: &Meter) -> Made<Option<Ordering>> {
    meter.steps(1)?;
    match (a, b) {
        (Value::Undefined(reason), _) | (_, Value::Undefined(reason)) => fault(&**reason),
        (Value::Text(a), Value::Text(b)) => {
            meter.looks(a.len().min(b.len()))?;
            Ok(Some(a.cmp(b)))
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(a, b, meter)? {
                    return order(a, b, sign, meter);
                }
            }
            Ok(Some(a.items.len().cmp(&b.items.len())))
        }
        _ => match (a.whole(), b.whole(), a.number(), b.number()) {
            (Some(a), Some(b), ..) => Ok(Some(a.cmp(&b))),
            (.., Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
            _ => fault(format!("'{sign}' not supported between instances of '{}' and '{}'", a.kind(), b.kind())),
        },
    }
}

/// True when `a` comes before `b`, or with `or_equal` is no later. `sign` is for messages.
pub(in crate::jinja) fn less(a: &Value, b: &Value, or_equal: bool, sign: &str, meter: &Meter) -> Made<bool> {
    Ok(match order(a, b, sign, meter)? {
        Some(Ordering::Less) => true,
        Some(Ordering::Equal) => or_equal,
        _ => false,
    })
}
