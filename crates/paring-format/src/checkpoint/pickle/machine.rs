//! A machine that reads the pickles of tensors, and nothing else. It knows the instructions that torch's pickles are
//! made of and a fixed list of names; it calls nothing, and no value it makes can do anything.

use std::collections::HashMap;
use std::mem::size_of;

use super::reader::Reader;
use super::value::{Global, Storage, Tensor, Value};
use crate::checkpoint::shard::one_line;

/// Most values that wait for their container at a time: pickles are written in batches of a thousand.
const MAX_WAITING: usize = 1 << 16;
/// Most dimensions of a tensor, as in torch.
const MAX_DIMS: usize = 64;

type Result<T> = std::result::Result<T, String>;

/// The values of one file's pickles.
pub(super) struct Arena<'a> {
    /// Contents of tuples and lists.
    sequences: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub storages: Vec<Storage<'a>>,
    pub tensors: Vec<Tensor>,
    /// Bytes that may still be used.
    left: usize,
}

impl<'a> Arena<'a> {
    /// Room for values that take at most about `budget` bytes of memory.
    pub fn new(budget: usize) -> Self {
        Self { sequences: Vec::new(), dicts: Vec::new(), storages: Vec::new(), tensors: Vec::new(), left: budget }
    }

    /// The contents of a tuple or a list.
    pub fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::Tuple(i) | Value::List(i) => self.sequences.get(i).map(Vec::as_slice),
            _ => None,
        }
    }

    /// The contents of a dict, in the order in which they came.
    pub fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match value {
            Value::Dict(i) => self.dicts.get(i).map(Vec::as_slice),
            _ => None,
        }
    }

    /// Runs one pickle and leaves the reader after it. Errors, as a reason without the file's name, on instructions
    /// and names that tensors do not need, and on everything that does not fit together.
    pub fn run(&mut self, reader: &mut Reader<'a>) -> Result<Value<'a>> {
        let mut machine = Machine { arena: self, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        loop {
            let at = reader.at();
            let op = reader.u8().ok_or("a pickle that is cut off")?;
            if op == b'.' {
                return machine.pop();
            }
            machine.step(op, reader).map_err(|reason| format!("{reason} (at byte {at}, in the pickle)"))?;
        }
    }

    fn charge(&mut self, bytes: usize) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or("a pickle that makes more values than its file could hold")?;
        Ok(())
    }

    fn new_sequence(&mut self, items: Vec<Value<'a>>) -> Result<usize> {
        self.charge(size_of::<Vec<Value>>() + items.len() * size_of::<Value>())?;
        self.sequences.push(items);
        Ok(self.sequences.len() - 1)
    }

    fn new_dict(&mut self) -> Result<Value<'a>> {
        self.charge(size_of::<Vec<(Value, Value)>>())?;
        self.dicts.push(Vec::new());
        Ok(Value::Dict(self.dicts.len() - 1))
    }
}

struct Machine<'m, 'a> {
    arena: &'m mut Arena<'a>,
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
}

impl<'a> Machine<'_, 'a> {
    fn push(&mut self, value: Value<'a>) -> Result<()> {
        if self.stack.len() >= MAX_WAITING {
            return Err(format!("more than {MAX_WAITING} values wait for their container"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        self.stack.pop().ok_or_else(|| "a value is missing".to_string())
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>> {
        let at = self.stack.len().checked_sub(count).ok_or("a value is missing")?;
        Ok(self.stack.split_off(at))
    }

    /// The values since the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let at = self.marks.pop().filter(|&at| at <= self.stack.len()).ok_or("a mark is missing")?;
        Ok(self.stack.split_off(at))
    }

    /// The container that stays on the stack while it is filled.
    fn top(&self) -> Result<Value<'a>> {
        self.stack.last().copied().ok_or_else(|| "a value is missing".to_string())
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Result<()> {
        self.arena.charge(items.len() * size_of::<Value>())?;
        match self.top()? {
            Value::List(i) => self.arena.sequences[i].extend(items),
            other => return Err(format!("{} is appended to", other.kind())),
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Value<'a>>) -> Result<()> {
        self.arena.charge(items.len() * size_of::<Value>())?;
        let (pairs, rest) = items.as_chunks::<2>();
        match self.top()? {
            Value::Dict(i) if rest.is_empty() => self.arena.dicts[i].extend(pairs.iter().map(|&[k, v]| (k, v))),
            Value::Dict(_) => return Err("a key without a value".to_string()),
            other => return Err(format!("{} is given items", other.kind())),
        }
        Ok(())
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) -> Result<()> {
        let tuple = Value::Tuple(self.arena.new_sequence(items)?);
        self.push(tuple)
    }

    fn memoize(&mut self, key: u32) -> Result<()> {
        let value = self.top()?;
        self.arena.charge(2 * size_of::<(u32, Value)>())?;
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        let value = self.memo.get(&key).copied().ok_or_else(|| format!("memo {key} is empty"))?;
        self.push(value)
    }

    /// Follows an instruction, whose arguments the reader has.
    fn step(&mut self, op: u8, reader: &mut Reader<'a>) -> Result<()> {
        let cut = || "a pickle that is cut off".to_string();
        match op {
            // Protocol, and frames, which only help to read ahead.
            0x80 => match reader.u8().ok_or_else(cut)? {
                2..=5 => Ok(()),
                other => Err(format!("protocol {other} of pickle; 2 to 5 are read")),
            },
            0x95 => reader.u64().map(drop).ok_or_else(cut),

            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => self.push(Value::Int(reader.u8().ok_or_else(cut)?.into())),
            b'M' => self.push(Value::Int(reader.u16().ok_or_else(cut)?.into())),
            b'J' => self.push(Value::Int(i32::from_le_bytes(reader.array().ok_or_else(cut)?).into())),
            0x8a => {
                let len = reader.u8().ok_or_else(cut)?;
                self.push(long(reader.take(len.into()).ok_or_else(cut)?))
            }
            b'G' => {
                reader.u64().ok_or_else(cut)?;
                self.push(Value::Float)
            }

            b'X' | b'T' => self.text(reader.len32().and_then(|len| reader.take(len)).ok_or_else(cut)?),
            0x8c | b'U' => self.text(reader.u8().and_then(|len| reader.take(len.into())).ok_or_else(cut)?),
            0x8d => self.text(reader.len64().and_then(|len| reader.take(len)).ok_or_else(cut)?),

            b'c' => {
                let (module, name) = reader.line().zip(reader.line()).ok_or_else(cut)?;
                self.global(&String::from_utf8_lossy(module), &String::from_utf8_lossy(name))
            }
            0x93 => match self.pop_many(2)?[..] {
                [Value::Text(module), Value::Text(name)] => self.global(module, name),
                _ => Err("a name that is not a string".to_string()),
            },

            b'q' => self.memoize(reader.u8().ok_or_else(cut)?.into()),
            b'r' => self.memoize(reader.u32().ok_or_else(cut)?),
            0x94 => self.memoize(u32::try_from(self.memo.len()).map_err(|_| "a memo without end")?),
            b'h' => self.recall(reader.u8().ok_or_else(cut)?.into()),
            b'j' => self.recall(reader.u32().ok_or_else(cut)?),
            _ => self.step_on_values(op),
        }
    }

    /// An instruction that works on the values of the stack alone.
    fn step_on_values(&mut self, op: u8) -> Result<()> {
        match op {
            b'(' if self.marks.len() >= MAX_WAITING => Err(format!("more than {MAX_WAITING} marks are open")),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b')' => self.tuple(Vec::new()),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(op - 0x84))?;
                self.tuple(items)
            }
            b't' => {
                let items = self.pop_mark()?;
                self.tuple(items)
            }
            b']' => {
                let list = Value::List(self.arena.new_sequence(Vec::new())?);
                self.push(list)
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(items)
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)
            }
            b'}' => {
                let dict = self.arena.new_dict()?;
                self.push(dict)
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set_items(items)
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(items)
            }

            b'Q' => {
                let id = self.pop()?;
                self.storage(id)
            }
            b'R' => {
                let arguments = self.pop()?;
                let called = self.pop()?;
                self.call(called, arguments)
            }
            // Attributes of an ordered dict, such as the versions of modules, say nothing about the tensors in it.
            b'b' => match (self.pop()?, self.top()?) {
                (Value::Dict(_), Value::Dict(_)) => Ok(()),
                (state, other) => Err(format!("{} is given the state of {}", other.kind(), state.kind())),
            },
            other => Err(format!("the instruction {other:#04x}, which pickles of tensors do not need; it is not read")),
        }
    }

    fn text(&mut self, bytes: &'a [u8]) -> Result<()> {
        let text = std::str::from_utf8(bytes).map_err(|_| "a string that is not UTF-8")?;
        self.push(Value::Text(text))
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let known = Global::find(module, name);
        let known = known.ok_or_else(|| {
            let asked = one_line(&format_args!("{module}.{name}"));
            format!("the pickle asks for {asked}, which tensors do not need; nothing was run and nothing is read")
        })?;
        self.push(Value::Global(known))
    }

    /// `("storage", class, key, location, elements)`, and in old files a sixth entry for views.
    fn storage(&mut self, id: Value<'a>) -> Result<()> {
        let storage = match (self.arena.sequence(id), id) {
            (
                Some(
                    &[
                        Value::Text("storage"),
                        Value::Global(Global::Storage(dtype)),
                        Value::Text(key),
                        Value::Text(_),
                        Value::Int(count),
                    ]
                    | &[
                        Value::Text("storage"),
                        Value::Global(Global::Storage(dtype)),
                        Value::Text(key),
                        Value::Text(_),
                        Value::Int(count),
                        Value::None,
                    ],
                ),
                Value::Tuple(_),
            ) => Storage { key, dtype, count: size(Value::Int(count))? },
            _ => return Err("a reference to something that is not a storage".to_string()),
        };
        self.arena.charge(size_of::<Storage>())?;
        self.arena.storages.push(storage);
        self.push(Value::Storage(self.arena.storages.len() - 1))
    }

    fn call(&mut self, called: Value<'a>, arguments: Value<'a>) -> Result<()> {
        let Value::Global(global) = called else { return Err(format!("{} is called", called.kind())) };
        let Value::Tuple(_) = arguments else { return Err("a call without arguments".to_string()) };
        let made = match (global, self.arena.sequence(arguments).unwrap_or_default()) {
            (Global::OrderedDict, []) => self.arena.new_dict()?,
            (Global::RebuildParameter, &[tensor @ Value::Tensor(_), Value::Bool(_), _]) => tensor,
            (Global::RebuildTensorV2, &[Value::Storage(storage), offset, shape, strides, Value::Bool(_), _]) => {
                self.tensor(storage, None, [offset, shape, strides], Value::None)?
            }
            (Global::RebuildTensorV2, &[Value::Storage(storage), offset, shape, strides, Value::Bool(_), _, more]) => {
                self.tensor(storage, None, [offset, shape, strides], more)?
            }
            (
                Global::RebuildTensorV3,
                &[
                    Value::Storage(s),
                    offset,
                    shape,
                    strides,
                    Value::Bool(_),
                    _,
                    Value::Global(Global::Dtype(dtype)),
                    ref more @ ..,
                ],
            ) if more.len() < 2 => {
                let more = more.first().copied().unwrap_or(Value::None);
                self.tensor(s, Some(dtype), [offset, shape, strides], more)?
            }
            (global, _) => return Err(format!("a call of {global:?} with other arguments than torch gives")),
        };
        self.push(made)
    }

    /// Offset, shape and strides of a tensor, and what else torch notes about it: that it is conjugated or negated.
    fn tensor(
        &mut self,
        storage: usize,
        dtype: Option<crate::Dtype>,
        [offset, shape, strides]: [Value<'a>; 3],
        more: Value<'a>,
    ) -> Result<Value<'a>> {
        if !(more == Value::None || self.arena.dict(more).is_some_and(<[_]>::is_empty)) {
            return Err("a tensor with notes on how to read it (such as conj or neg); save a plain copy of it".into());
        }
        let sizes = |value: Value<'a>| -> Result<Vec<usize>> {
            let items = self.arena.sequence(value).filter(|items| items.len() <= MAX_DIMS);
            items
                .ok_or_else(|| format!("a tensor with {} for its shape", value.kind()))?
                .iter()
                .map(|&v| size(v))
                .collect()
        };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        if shape.len() != strides.len() {
            return Err(format!("a tensor with {} dimensions and {} strides", shape.len(), strides.len()));
        }
        self.arena.charge(size_of::<Tensor>() + 2 * size_of::<usize>() * shape.len())?;
        self.arena.tensors.push(Tensor { storage, dtype, offset: size(offset)?, shape, strides });
        Ok(Value::Tensor(self.arena.tensors.len() - 1))
    }
}

/// A signed integer of any length, the low byte first.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

/// A number of elements.
fn size(value: Value) -> Result<usize> {
    match value {
        Value::Int(n) => usize::try_from(n).map_err(|_| format!("a size of {n}")),
        other => Err(format!("{} for a size", other.kind())),
    }
}
