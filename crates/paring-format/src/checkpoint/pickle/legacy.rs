//! The files of `torch.save` before version 1.6: five pickles one after the other, then the storages.

use std::collections::BTreeMap;
use std::ops::Range;

use super::machine::Arena;
use super::reader::Reader;
use super::value::Value;

/// The number that such a file starts with, as a pickle holds it.
const MAGIC: &[u8] = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
const VERSION: i64 = 1001;

/// The object of the file, and where its storages lie. Errors on other pickles and on files that are cut off.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    arena: &mut Arena<'a>,
) -> Result<(Value<'a>, BTreeMap<&'a str, Range<usize>>), String> {
    let mut reader = Reader::new(bytes, 0);
    if arena.run(&mut reader)? != Value::Long(MAGIC) || arena.run(&mut reader)? != Value::Int(VERSION) {
        return Err("a pickle that torch.save did not write".to_string());
    }
    let system = arena.run(&mut reader)?;
    let little = |&(key, value): &(Value, Value)| key == Value::Text("little_endian") && value == Value::Bool(true);
    if !arena.dict(system).is_some_and(|entries| entries.iter().any(little)) {
        return Err("numbers that are not stored with the low byte first".to_string());
    }
    let root = arena.run(&mut reader)?;
    let keys = arena.run(&mut reader)?;

    // Elements and bytes of an element of each storage that the tensors mentioned.
    let mut known: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for storage in &arena.storages {
        let entry = (storage.count, storage.dtype.map_or(1, |dtype| dtype.size()));
        if *known.entry(storage.key).or_insert(entry) != entry {
            return Err(format!("the storage {} has two types or sizes", storage.key));
        }
    }
    let Some(listed) = arena.sequence(keys) else { return Err("no list of storages after the tensors".to_string()) };
    let mut places = BTreeMap::new();
    for &key in listed {
        let Value::Text(key) = key else { return Err(format!("{} for the key of a storage", key.kind())) };
        let &(count, size) = known.get(key).ok_or_else(|| format!("the storage {key} belongs to no tensor"))?;
        let stored = reader.len64().ok_or_else(|| format!("the storage {key} is missing; is the file cut off?"))?;
        if stored != count {
            return Err(format!("the storage {key} should have {count} elements, the file says {stored}"));
        }
        let start = reader.at();
        let data = count.checked_mul(size).and_then(|len| reader.take(len));
        data.ok_or_else(|| {
            let left = bytes.len() - start;
            let wanted = format!("{count} elements of {size} bytes");
            format!("the storage {key} should have {wanted}, and {left} bytes are left; is the file cut off?")
        })?;
        if places.insert(key, start..reader.at()).is_some() {
            return Err(format!("the storage {key} is there twice"));
        }
    }
    Ok((root, places))
}
