//! Expressions → values.

use std::rc::Rc;

use super::{Run, Scope, access, operators};
use crate::jinja::ast::{Args, Expr};
use crate::jinja::fault::Made;
use crate::jinja::filters;
use crate::jinja::given::Given;
use crate::jinja::probes;
use crate::jinja::value::{Dict, Value};

impl Run<'_> {
    pub(super) fn value(&self, expr: &Expr, scope: &Rc<Scope>) -> Made<Value> {
        self.deeper(|| self.shallow(expr, scope))
    }

    fn values(&self, exprs: &[Expr], scope: &Rc<Scope>) -> Made<Vec<Value>> {
        exprs.iter().map(|expr| self.value(expr, scope)).collect()
    }

    fn shallow(&self, expr: &Expr, scope: &Rc<Scope>) -> Made<Value> {
        let meter = self.meter;
        Ok(match expr {
            Expr::None => Value::None,
            Expr::Bool(is) => Value::Bool(*is),
            Expr::Int(number) => Value::Int(*number),
            Expr::Float(number) => Value::Float(*number),
            Expr::Text(text) => {
                meter.bytes(text.len())?;
                Value::from(&**text)
            }
            Expr::Name(name) => scope.get(name).unwrap_or_else(|| Value::undefined(format!("'{name}' is undefined"))),
            Expr::Tuple(items) => Value::tuple(self.values(items, scope)?, meter)?,
            Expr::List(items) => Value::list(self.values(items, scope)?, meter)?,
            Expr::Dict(entries) => {
                let mut dict = Dict::default();
                for (key, value) in entries {
                    dict.insert(self.value(key, scope)?, self.value(value, scope)?, meter)?;
                }
                Value::Dict(Rc::new(dict))
            }
            Expr::Attribute(of, name) => access::attribute(&self.value(of, scope)?, name, meter)?,
            Expr::Item(of, key) => self.item(of, key, scope)?,
            Expr::Slice(_) => Value::undefined("a slice stands in brackets"),
            Expr::Call(of, args) => {
                let of = self.value(of, scope)?;
                self.call(&of, self.given(args, scope)?)?
            }
            Expr::Filter(of, name, args) => {
                let of = self.value(of, scope)?;
                filters::call(self, &of, name, &self.given(args, scope)?)?
            }
            Expr::Test(of, name, args) => {
                let of = self.value(of, scope)?;
                Value::Bool(probes::call(&of, name, &self.given(args, scope)?, meter)?)
            }
            Expr::Not(of) => Value::Bool(!self.value(of, scope)?.is_true()),
            Expr::Negative(of) => operators::signed(&self.value(of, scope)?, true)?,
            Expr::Positive(of) => operators::signed(&self.value(of, scope)?, false)?,
            Expr::Binary(operator, a, b) => {
                let (a, b) = (self.value(a, scope)?, self.value(b, scope)?);
                operators::binary(*operator, &a, &b, meter)?
            }
            Expr::Compare(first, more) => {
                let mut left = self.value(first, scope)?;
                for (comparison, right) in more {
                    let right = self.value(right, scope)?;
                    if !operators::compare(*comparison, &left, &right, meter)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
            Expr::And(parts) => self.until(parts, scope, false)?,
            Expr::Or(parts) => self.until(parts, scope, true)?,
            Expr::Concat(parts) => Value::Text(operators::concat(&self.values(parts, scope)?, meter)?),
            Expr::If { test, then, otherwise } => match (self.value(test, scope)?.is_true(), otherwise) {
                (true, _) => self.value(then, scope)?,
                (false, Some(otherwise)) => self.value(otherwise, scope)?,
                (false, None) => Value::undefined("an if without else is false, so there is no value"),
            },
        })
    }

    fn item(&self, of: &Expr, key: &Expr, scope: &Rc<Scope>) -> Made<Value> {
        let of = self.value(of, scope)?;
        let Expr::Slice(parts) = key else { return access::item(&of, &self.value(key, scope)?, self.meter) };
        let mut places = [const { None }; 3];
        for (place, part) in places.iter_mut().zip(&**parts) {
            *place = part.as_ref().map(|part| self.value(part, scope)).transpose()?;
        }
        access::slice(&of, places, self.meter)
    }

    /// The first of several values that is true, or false, or the last.
    fn until(&self, parts: &[Expr], scope: &Rc<Scope>, wanted: bool) -> Made<Value> {
        let mut value = Value::None;
        for part in parts {
            value = self.value(part, scope)?;
            if value.is_true() == wanted {
                break;
            }
        }
        Ok(value)
    }

    pub(super) fn given(&self, args: &Args, scope: &Rc<Scope>) -> Made<Given> {
        let mut given = Given::positional(self.values(&args.positional, scope)?);
        for (name, value) in &args.named {
            given.named.push((Rc::from(&**name), self.value(value, scope)?));
        }
        if let Some(more) = &args.more {
            given.positional.extend(self.value(more, scope)?.items(self.meter)?);
        }
        if let Some(more) = &args.more_named {
            given.add_dict(&self.value(more, scope)?)?;
        }
        Ok(given)
    }
}
