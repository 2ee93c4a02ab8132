//! Runs a parsed template.

pub(super) mod access;
mod call;
mod expression;
pub(super) mod operators;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{Args, Body, For, Macro, Node, Statement, Target};
use super::fault::{Made, Meter, TEXT, fault};
use super::given::Given;
use super::value::{Dict, Function, Loop, Value};

/// Levels of statements, expressions and macros inside each other; each takes one or two kilobytes of the stack.
const DEEPEST: usize = 300;

/// Names and their values; those of the scopes around it are seen through it.
pub(crate) struct Scope {
    names: RefCell<HashMap<Rc<str>, Value>>,
    outer: Option<Rc<Scope>>,
}

impl Scope {
    fn within(outer: &Rc<Scope>) -> Rc<Self> {
        Rc::new(Self { names: RefCell::default(), outer: Some(outer.clone()) })
    }

    fn set(&self, name: &str, value: Value) {
        self.names.borrow_mut().insert(name.into(), value);
    }

    fn get(&self, name: &str) -> Option<Value> {
        let mut scope = self;
        loop {
            if let Some(value) = scope.names.borrow().get(name) {
                return Some(value.clone());
            }
            scope = scope.outer.as_deref()?;
        }
    }
}

/// The way out of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// A template at work.
pub(super) struct Run<'a> {
    pub(super) meter: &'a Meter,
    /// `strftime_now`.
    clock: &'a dyn Fn(&str) -> Result<String, String>,
    depth: Cell<usize>,
    out: RefCell<String>,
    /// Scopes and namespaces that may hold what holds them: emptied at the end.
    scopes: RefCell<Vec<Rc<Scope>>>,
    namespaces: RefCell<Vec<Rc<RefCell<Dict>>>>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        for scope in self.scopes.take() {
            scope.names.take();
        }
        for names in self.namespaces.take() {
            names.take();
        }
    }
}

/// The text that statements write, with some names given.
pub(super) fn run(
    body: &Body,
    names: Vec<(&str, Value)>,
    meter: &Meter,
    clock: &dyn Fn(&str) -> Result<String, String>,
) -> Made<String> {
    let run = Run {
        meter,
        clock,
        depth: Cell::new(0),
        out: RefCell::default(),
        scopes: RefCell::default(),
        namespaces: RefCell::default(),
    };
    let globals = Rc::new(Scope { names: RefCell::default(), outer: None });
    for (name, global) in call::GLOBALS {
        globals.set(name, Value::Function(Rc::new(Function::Global(global))));
    }
    for (name, value) in names {
        globals.set(name, value);
    }
    run.body(body, &Scope::within(&globals))?;
    Ok(run.out.take())
}

impl Run<'_> {
    /// Runs something one level deeper.
    pub(super) fn deeper<T>(&self, part: impl FnOnce() -> Made<T>) -> Made<T> {
        self.meter.steps(1)?;
        let depth = self.depth.get();
        if depth == DEEPEST {
            return fault(format!("recursion: more than {DEEPEST} levels deep"));
        }
        self.depth.set(depth + 1);
        let made = part();
        self.depth.set(depth);
        made
    }

    fn write(&self, text: &str) -> Made<()> {
        let mut out = self.out.borrow_mut();
        if out.len() + text.len() > TEXT {
            return fault(format!("it writes more than {} MiB", TEXT >> 20));
        }
        self.meter.bytes(text.len())?;
        out.push_str(text);
        Ok(())
    }

    /// The text that something writes, in place of writing it.
    fn captured(&self, part: impl FnOnce() -> Made<()>) -> Made<Value> {
        let before = self.out.take();
        let made = part();
        let text = self.out.replace(before);
        made.map(|()| Value::from(text))
    }

    fn body(&self, body: &[Statement], scope: &Rc<Scope>) -> Made<Flow> {
        for statement in body {
            let flow = self.deeper(|| self.statement(&statement.node, scope)).map_err(|e| e.at(statement.line))?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn statement(&self, node: &Node, scope: &Rc<Scope>) -> Made<Flow> {
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Print(value) => match self.value(value, scope)? {
                Value::Text(text) => self.write(&text)?,
                other => self.write(&other.text(self.meter)?)?,
            },
            Node::If { branches, otherwise } => {
                for (test, body) in branches {
                    if self.value(test, scope)?.is_true() {
                        return self.body(body, scope);
                    }
                }
                return self.body(otherwise, scope);
            }
            Node::For(node) => {
                let over = self.value(&node.over, scope)?;
                self.rounds(node, &over, scope, 0)?;
            }
            Node::Set { target, value } => {
                let value = self.value(value, scope)?;
                self.assign(target, value, scope)?;
            }
            Node::SetBlock { target, filters, body } => {
                let text = self.captured(|| self.body(body, &Scope::within(scope)).map(drop))?;
                let value = self.filtered(text, filters, scope)?;
                self.assign(target, value, scope)?;
            }
            Node::Macro(node) => {
                let value = self.macro_in(node, scope);
                scope.set(&node.name, value);
            }
            Node::Call { call, caller } => {
                let caller = self.macro_in(caller, scope);
                let made = self.call_with(call, caller, scope)?;
                self.write(&made.text(self.meter)?)?;
            }
            Node::Filter { filters, body } => {
                let text = self.captured(|| self.body(body, &Scope::within(scope)).map(drop))?;
                let value = self.filtered(text, filters, scope)?;
                self.write(&value.text(self.meter)?)?;
            }
            Node::With { values, body } => {
                let inner = Scope::within(scope);
                for (target, value) in values {
                    let value = self.value(value, scope)?;
                    self.assign(target, value, &inner)?;
                }
                return self.body(body, &inner);
            }
            Node::Generation(body) => {
                let text = self.call(&self.macro_in(body, scope), Given::default())?;
                self.write(&text.text(self.meter)?)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// A macro that sees the names of `scope`.
    fn macro_in(&self, is: &Arc<Macro>, scope: &Rc<Scope>) -> Value {
        self.hold(scope);
        Value::Function(Rc::new(Function::Macro { is: is.clone(), scope: scope.clone() }))
    }

    /// Keeps a scope in mind that something may point to which it holds itself.
    fn hold(&self, scope: &Rc<Scope>) {
        let mut scopes = self.scopes.borrow_mut();
        if !scopes.last().is_some_and(|last| Rc::ptr_eq(last, scope)) {
            scopes.push(scope.clone());
        }
    }

    fn filtered(&self, mut value: Value, filters: &[(Box<str>, Args)], scope: &Rc<Scope>) -> Made<Value> {
        for (name, args) in filters {
            let given = self.given(args, scope)?;
            value = super::filters::call(self, &value, name, &given)?;
        }
        Ok(value)
    }

    /// Goes over the items of a value; `level` counts the loops that called themselves.
    fn rounds(&self, node: &Arc<For>, over: &Value, scope: &Rc<Scope>, level: usize) -> Made<()> {
        let mut items = over.items(self.meter)?;
        if let Some(test) = &node.test {
            let mut kept = Vec::new();
            for item in items {
                let inner = Scope::within(scope);
                self.assign(&node.target, item.clone(), &inner)?;
                if self.value(test, &inner)?.is_true() {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if node.recursive {
            self.hold(scope);
        }
        let depth = Value::depth_over(&items)?;
        let items = Rc::new(items);
        let changed = Rc::new(RefCell::default());
        let mut is_through = false;
        for index in 0..items.len() {
            self.meter.steps(1)?;
            let inner = Scope::within(scope);
            self.assign(&node.target, items[index].clone(), &inner)?;
            let recursion = node.recursive.then(|| (node.clone(), scope.clone()));
            let state = Loop { items: items.clone(), index, level, depth, changed: changed.clone(), recursion };
            inner.set("loop", Value::Loop(Rc::new(state)));
            match self.body(&node.body, &inner)? {
                Flow::On => is_through = true,
                Flow::Continue => {}
                Flow::Break => break,
            }
        }
        // Jinja takes note of a round at the end of its body: where none came there, it is as if there were no items.
        if is_through { Ok(()) } else { self.body(&node.otherwise, &Scope::within(scope)).map(drop) }
    }

    fn assign(&self, target: &Target, value: Value, scope: &Rc<Scope>) -> Made<()> {
        match target {
            Target::Name(name) => scope.set(name, value),
            Target::Attribute(name, attribute) => {
                let Some(Value::Namespace(names)) = scope.get(name) else {
                    return fault(format!("{name}.{attribute} is set, but {name} is not a namespace"));
                };
                if attribute.starts_with('_') {
                    return fault(format!("a name of a namespace must not begin with _, as {attribute} does"));
                }
                names.borrow_mut().insert(Value::from(&**attribute), value, self.meter)?;
            }
            Target::Tuple(targets) => {
                let values = value.items(self.meter)?;
                if values.len() != targets.len() {
                    return fault(format!("{} values to unpack, expected {}", values.len(), targets.len()));
                }
                for (target, value) in targets.iter().zip(values) {
                    self.assign(target, value, scope)?;
                }
            }
        }
        Ok(())
    }

    fn namespace(&self, given: Given) -> Made<Value> {
        let dict = self.dict(given)?;
        if let Some((Value::Text(name), _)) =
            dict.entries().iter().find(|(key, _)| matches!(key, Value::Text(name) if name.starts_with('_')))
        {
            return fault(format!("a name of a namespace must not begin with _, as {name} does"));
        }
        let names = Rc::new(RefCell::new(dict));
        self.namespaces.borrow_mut().push(names.clone());
        Ok(Value::Namespace(names))
    }
}
