//! Files that `torch.save` wrote, read without running anything: the pickle in them is a program, of which only the
//! instructions that put tensors together are known here, and everything else is an error.
//!
//! * `zip`: where the entries of a zip file lie (files since torch 1.6).
//! * `legacy`: the files before.
//! * `machine`, `value`: the pickle.
//!
//! Memory: the pickle's values take at most about the bytes of the file; tensors stay in the file until they are asked
//! for, one at a time.

mod legacy;
mod machine;
mod reader;
#[cfg(test)]
mod tests;
mod value;
#[cfg(test)]
#[path = "../../../../../tests/support/pickles.rs"]
mod writer;
mod zip;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::shard::{Entry, Extent, Shard, ShardKind, Strides, one_line};
use crate::names::is_obeyed;
use crate::{Dtype, Error, Result};
use machine::Arena;
use reader::Reader;
use value::{Tensor, Value};

/// Room for the values of a small file, in bytes; a larger file may use as much as it has bytes.
const SMALL: usize = 1 << 20;

/// Names under which training scripts wrap a model's tensors.
const WRAPPERS: [&str; 2] = ["state_dict", "model"];

/// Fewest bytes that could be a file of `torch.save`.
const MIN_LEN: usize = 16;

/// A file whose pickle was read.
struct Pickle<'a> {
    file: &'a str,
    arena: Arena<'a>,
    root: Value<'a>,
    /// The place of each storage in the file.
    places: BTreeMap<&'a str, Range<usize>>,
}

/// The tensors of a checkpoint: a dict from names to tensors, or one of these under `state_dict` or `model`.
pub(super) fn entries(file: &str, bytes: &[u8]) -> Result<Vec<(String, Entry)>> {
    let pickle = Pickle::parse(file, bytes)?;
    let mut found = BTreeMap::new();
    for &(name, value) in pickle.named()? {
        let Value::Text(name) = name else {
            return Err(pickle.bad(format!("{} for the name of a tensor", name.kind())));
        };
        if name.contains(is_obeyed) {
            return Err(pickle.bad(format!("the name {} holds control characters", one_line(&name.escape_debug()))));
        }
        let Value::Tensor(tensor) = value else {
            let reason = format!("{name} should be a tensor, and is {}", value.kind());
            return Err(pickle.bad(reason));
        };
        let entry = pickle.entry(name, &pickle.arena.tensors[tensor])?;
        if found.insert(name.to_string(), entry).is_some() {
            return Err(pickle.bad(format!("{name} is there twice")));
        }
    }
    Ok(found.into_iter().collect())
}

/// Token ids in a file of `torch.save`: rows of a tensor of integers `[n, t]` or `[t]`, or of a list of such tensors;
/// where an entry of the list is a tuple or a list of tensors, as (input, target), the first one counts.
///
/// Errors on everything else, and when tensors that share their bytes would together be larger than the file.
pub fn tokens(path: &Path) -> Result<Vec<Vec<i64>>> {
    let shard = Shard::open(path, ShardKind::Pickle)?;
    let bytes = shard.bytes();
    let pickle = Pickle::parse(&shard.file, bytes)?;
    let list = [pickle.root];
    let items = match pickle.root {
        Value::Tensor(_) => &list[..],
        other => pickle.arena.sequence(other).ok_or_else(|| {
            pickle.bad(format!("{} at the top; expected a tensor of token ids or a list of them", other.kind()))
        })?,
    };
    let mut rows = Vec::new();
    let mut left = bytes.len();
    for (i, &item) in items.iter().enumerate() {
        let first = pickle.arena.sequence(item).and_then(|pair| pair.first()).copied().unwrap_or(item);
        let Value::Tensor(tensor) = first else {
            return Err(
                pickle.bad(format!("entry {i} of the list is {}; expected a tensor of token ids", first.kind()))
            );
        };
        let name = format!("entry {i}");
        let entry = pickle.entry(&name, &pickle.arena.tensors[tensor])?;
        let wide: fn(&[u8]) -> Vec<i64> = match entry.dtype {
            Dtype::I64 => |row| row.as_chunks().0.iter().map(|&id| i64::from_le_bytes(id)).collect(),
            Dtype::I32 => |row| row.as_chunks().0.iter().map(|&id| i32::from_le_bytes(id).into()).collect(),
            other => return Err(pickle.bad(format!("{name} is of type {other}; expected token ids, I64 or I32"))),
        };
        let (count, length) = match entry.shape[..] {
            [length] => (1, length),
            [count, length] => (count, length),
            _ => return Err(pickle.bad(format!("{name} has the shape {:?}; expected [n, t] or [t]", entry.shape))),
        };
        if length == 0 {
            return Err(
                pickle.bad(format!("{name} has the shape {:?}; expected at least one token a row", entry.shape))
            );
        }
        left = left.checked_sub(entry.place.len).ok_or_else(|| {
            pickle.bad(format!("{name} and those before it are larger than the {} bytes of the file", bytes.len()))
        })?;
        let size = entry.dtype.size();
        for row in 0..count {
            let row = shard.read(&entry.place, row * length * size, length * size);
            rows.push(wide(&row.ok_or_else(|| pickle.bad(format!("{name} does not lie inside the file")))?));
        }
    }
    Ok(rows)
}

/// Advice on a pickle that is not read.
const INSTEAD: &str = "; download it again, or convert it to safetensors";

impl<'a> Pickle<'a> {
    fn parse(file: &'a str, bytes: &'a [u8]) -> Result<Self> {
        let bad = |reason: String| Error::shard(file, reason + INSTEAD);
        let mut arena = Arena::new(bytes.len().saturating_add(SMALL));
        let (root, places) = if bytes.starts_with(zip::MAGIC) {
            zipped(bytes, &mut arena).map_err(bad)?
        } else if bytes.len() >= MIN_LEN && bytes[0] == 0x80 {
            legacy::read(bytes, &mut arena).map_err(bad)?
        } else {
            let len = bytes.len();
            return Err(bad(format!("{len} bytes that torch.save did not write")));
        };
        Ok(Pickle { file, arena, root, places })
    }

    fn bad(&self, reason: String) -> Error {
        Error::shard(self.file, reason + INSTEAD)
    }

    /// The dict of tensors.
    fn named(&self) -> Result<&[(Value<'a>, Value<'a>)]> {
        let top = self.arena.dict(self.root).ok_or_else(|| {
            self.bad(format!("{} at the top; expected a dict from names to tensors", self.root.kind()))
        })?;
        let wrapper = |wanted: &str| {
            let found = top.iter().find(|(key, _)| *key == Value::Text(wanted));
            found.and_then(|&(_, value)| self.arena.dict(value))
        };
        let mut wrapped = WRAPPERS.iter().filter_map(|wanted| wrapper(wanted).map(|inner| (*wanted, inner)));
        let Some((name, inner)) = wrapped.next() else { return Ok(top) };
        if wrapped.next().is_some() || top.iter().any(|(_, value)| matches!(value, Value::Tensor(_))) {
            return Err(self.bad(format!("tensors both in {name} and beside it; which are the model's?")));
        }
        Ok(inner)
    }

    /// The place of a tensor, after everything that is said about it was checked.
    fn entry(&self, name: &str, tensor: &Tensor) -> Result<Entry> {
        let bad = |reason: String| self.bad(format!("{name} {reason}"));
        let storage = &self.arena.storages[tensor.storage];
        let key = storage.key;
        let key = one_line(&key.escape_debug());
        let place = self.places.get(storage.key);
        let place = place.ok_or_else(|| bad(format!("lies in the storage {key}, which the file does not hold")))?;
        let unit = storage.dtype.map_or(1, Dtype::size);
        if storage.count.checked_mul(unit) != Some(place.len()) {
            let (count, got) = (storage.count, place.len());
            return Err(bad(format!(
                "lies in the storage {key}, which should have {count} x {unit} bytes and has {got}"
            )));
        }
        let dtype = tensor.dtype.or(storage.dtype).ok_or_else(|| bad("has no type".to_string()))?;
        let size = dtype.size();
        let len = dtype.bytes_of(&tensor.shape).filter(|&len| len <= place.len());
        let outside = || {
            let Tensor { offset, shape, strides, .. } = tensor;
            let got = place.len();
            bad(format!(
                "of shape {shape:?} with strides {strides:?} from element {offset} on does not lie inside the {got} \
                 bytes of its storage {key}, or lies there more than once"
            ))
        };
        let len = len.ok_or_else(outside)?;
        let shape = tensor.shape.clone();
        if len == 0 {
            return Ok(Entry { dtype, shape, place: Extent { start: place.start, len, strides: None } });
        }
        let mut last = Some(tensor.offset);
        for (&dim, &stride) in shape.iter().zip(&tensor.strides) {
            last = last.zip((dim - 1).checked_mul(stride)).and_then(|(last, more)| last.checked_add(more));
        }
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
        if end.is_none_or(|end| end > place.len()) {
            return Err(outside());
        }
        let start = place.start + tensor.offset * size;
        let dims = || shape.iter().copied().zip(tensor.strides.iter().copied()).collect();
        let strides = (!row_major(&shape, &tensor.strides)).then(|| Strides { size, dims: dims() });
        Ok(Entry { dtype, shape, place: Extent { start, len, strides } })
    }
}

/// Tells whether the elements lie one after the other. The stride of a dimension of one element says nothing.
fn row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&dim, &stride)| {
        let fits = dim == 1 || stride == expected;
        expected *= dim;
        fits
    })
}

/// The object of a zip file `X`: its pickle is `X/data.pkl`, and the storage `k` is `X/data/k`.
fn zipped<'a>(
    bytes: &'a [u8],
    arena: &mut Arena<'a>,
) -> std::result::Result<(Value<'a>, BTreeMap<&'a str, Range<usize>>), String> {
    let entries = zip::entries(bytes)?;
    let mut folders = entries.keys().filter_map(|name| name.strip_suffix("/data.pkl")).filter(|top| !top.contains('/'));
    let top = folders.next().ok_or("a zip file without data.pkl, which torch.save did not write")?;
    if folders.next().is_some() {
        return Err("a zip file with more than one data.pkl".to_string());
    }
    let within = |name: &str| entries.get(format!("{top}/{name}").as_str()).and_then(|place| bytes.get(place.clone()));
    if within("constants.pkl").is_some() {
        return Err("a TorchScript program, not a file of tensors; save the model's state_dict".to_string());
    }
    match within("byteorder") {
        None | Some(b"little") => {}
        Some(_) => return Err("numbers that are not stored with the low byte first".to_string()),
    }
    let pickle = within("data.pkl").ok_or("a zip file without data.pkl")?;
    let root = arena.run(&mut Reader::new(pickle, 0))?;
    let storage = |name: &'a str| name.strip_prefix(top)?.strip_prefix("/data/");
    let places = entries.iter().filter_map(|(&name, place)| Some((storage(name)?, place.clone()))).collect();
    Ok((root, places))
}
