//! The directory of a zip file whose entries are only stored: nothing is ever unpacked, so nothing can swell.

use std::collections::BTreeMap;
use std::ops::Range;

use super::reader::Reader;
use crate::names::is_obeyed;

/// The first bytes of a zip file.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

const END: u32 = 0x0605_4b50;
const END_LEN: usize = 22;
const END64_LOCATOR: u32 = 0x0706_4b50;
const END64_LOCATOR_LEN: usize = 20;
const END64: u32 = 0x0606_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const CENTRAL_LEN: usize = 46;
const LOCAL: u32 = 0x0403_4b50;
const ZIP64_FIELD: u16 = 1;
const ENCRYPTED: u16 = 1;
/// Sizes follow the data, and the entry's own header need not know them.
const SIZES_AFTER: u16 = 1 << 3;

const CUT: &str = "a zip file without its end; is it cut off?";

/// The entries by name, each with the bytes of the file that it is.
///
/// Errors when an entry is compressed, encrypted or outside the file, when two overlap or have one name, and when what
/// the file says of an entry in two places differs.
pub(super) fn entries(bytes: &[u8]) -> Result<BTreeMap<&str, Range<usize>>, String> {
    let (directory, count) = directory(bytes)?;
    // The list itself is bounded by the bytes that describe it.
    if count > directory.len() / CENTRAL_LEN {
        return Err(format!("a zip directory of {} bytes cannot list {count} entries", directory.len()));
    }
    let mut reader = Reader::new(bytes.get(..directory.end).unwrap_or_default(), directory.start);
    let mut found = BTreeMap::new();
    let mut spans: Vec<(Range<usize>, &str)> = Vec::with_capacity(count);
    for _ in 0..count {
        let listed = listed(&mut reader).ok_or("a zip directory that is cut off or not one")?;
        let name = std::str::from_utf8(listed.name).map_err(|_| "an entry whose name is not UTF-8".to_string())?;
        if name.contains(is_obeyed) {
            return Err("an entry whose name holds control characters".to_string());
        }
        let data = data(bytes, directory.start, name, &listed)?;
        spans.push((listed.header..data.end, name));
        if found.insert(name, data).is_some() {
            return Err(format!("two entries are named {name}"));
        }
    }
    spans.sort_by_key(|(span, _)| (span.start, span.end));
    match spans.windows(2).find(|pair| pair[1].0.start < pair[0].0.end) {
        Some(pair) => Err(format!("the entries {} and {} overlap", pair[0].1, pair[1].1)),
        None => Ok(found),
    }
}

/// The place of the directory, and the number of entries that it lists.
fn directory(bytes: &[u8]) -> Result<(Range<usize>, usize), String> {
    // A comment of up to 64 KiB may follow the last record, which says how long it is.
    let last = bytes.len().checked_sub(END_LEN).ok_or(CUT)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let ends = |at: &usize| {
        let mut reader = Reader::new(bytes, *at);
        reader.u32() == Some(END)
            && reader
                .take(16)
                .and_then(|_| reader.u16())
                .is_some_and(|comment| at + END_LEN + usize::from(comment) == bytes.len())
    };
    let end = (first..=last).rev().find(ends).ok_or(CUT)?;
    let mut reader = Reader::new(bytes, end + 4);
    let mut fields = || -> Option<[u64; 6]> {
        let short = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        let [disk, start, here, total] = short.map(|v| if v == u16::MAX { u64::MAX } else { u64::from(v) });
        let [size, offset] =
            [reader.u32()?, reader.u32()?].map(|v| if v == u32::MAX { u64::MAX } else { u64::from(v) });
        Some([disk, start, here, total, size, offset])
    };
    let mut found = fields().ok_or(CUT)?;
    let limit = match end64(bytes, end)? {
        Some((at, wide)) => {
            // A field that is full in the short record stands in the wide one.
            if found.iter().zip(wide).any(|(&short, wide)| short != u64::MAX && short != wide) {
                return Err("two records at the end of the zip file disagree".to_string());
            }
            found = wide;
            at
        }
        None => end,
    };
    let [disk, start_disk, here, total, size, offset] = found;
    if disk != 0 || start_disk != 0 || here != total {
        return Err("one part of a zip file in several; join them first".to_string());
    }
    let range = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
    let range = range.and_then(|(offset, size)| Some(offset..offset.checked_add(size)?));
    let range = range.filter(|range| range.end <= limit);
    let range = range.ok_or_else(|| {
        format!("a zip directory of {size} bytes at {offset}, which is outside the {} bytes of the file", bytes.len())
    })?;
    Ok((range, usize::try_from(total).unwrap_or(usize::MAX)))
}

/// The record for files that are too large for the one at `end`: where it lies, and the same six fields.
fn end64(bytes: &[u8], end: usize) -> Result<Option<(usize, [u64; 6])>, String> {
    let Some(at) = end.checked_sub(END64_LOCATOR_LEN) else { return Ok(None) };
    let mut reader = Reader::new(bytes, at);
    if reader.u32() != Some(END64_LOCATOR) {
        return Ok(None);
    }
    let mut fields = || -> Option<(usize, [u64; 6])> {
        let (_, at, _) = (reader.u32()?, reader.len64()?, reader.u32()?);
        let mut reader = Reader::new(bytes.get(..end)?, at);
        if reader.u32()? != END64 {
            return None;
        }
        reader.take(12)?;
        let [disk, start] = [reader.u32()?, reader.u32()?].map(u64::from);
        Some((at, [disk, start, reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?]))
    };
    fields().map(Some).ok_or_else(|| "a zip file whose 64-bit record is not where it should be".to_string())
}

/// An entry of the directory.
struct Listed<'a> {
    name: &'a [u8],
    flags: u16,
    method: u16,
    stored: u64,
    unpacked: u64,
    /// The start of its own header.
    header: usize,
}

fn listed<'a>(reader: &mut Reader<'a>) -> Option<Listed<'a>> {
    if reader.u32()? != CENTRAL {
        return None;
    }
    reader.take(4)?;
    let (flags, method) = (reader.u16()?, reader.u16()?);
    reader.take(8)?;
    let [stored, unpacked] = [reader.u32()?, reader.u32()?];
    let [name_len, extra_len, comment_len] = [reader.u16()?, reader.u16()?, reader.u16()?].map(usize::from);
    reader.take(8)?;
    let header = reader.u32()?;
    let name = reader.take(name_len)?;
    let extra = reader.take(extra_len)?;
    reader.take(comment_len)?;
    // Full fields stand in the zip64 field, in this order.
    let mut wide = zip64_field(extra);
    let mut widen = |v: u32| if v == u32::MAX { wide.u64() } else { Some(u64::from(v)) };
    let unpacked = widen(unpacked)?;
    let stored = widen(stored)?;
    let header = usize::try_from(widen(header)?).ok()?;
    Some(Listed { name, flags, method, stored, unpacked, header })
}

/// The contents of the field with the 64-bit numbers, empty if there is none.
fn zip64_field(extra: &[u8]) -> Reader<'_> {
    let mut reader = Reader::new(extra, 0);
    while let (Some(id), Some(len)) = (reader.u16(), reader.u16()) {
        let Some(field) = reader.take(usize::from(len)) else { break };
        if id == ZIP64_FIELD {
            return Reader::new(field, 0);
        }
    }
    Reader::new(&[], 0)
}

/// The bytes of an entry, all of which must lie before `limit`.
fn data(bytes: &[u8], limit: usize, name: &str, listed: &Listed) -> Result<Range<usize>, String> {
    if listed.flags & ENCRYPTED != 0 {
        return Err(format!("the entry {name} is encrypted"));
    }
    if listed.method != 0 {
        return Err(format!(
            "the entry {name} is compressed (method {}, {} bytes said to become {}); torch.save stores entries as they \
             are, and nothing else is read",
            listed.method, listed.stored, listed.unpacked
        ));
    }
    if listed.stored != listed.unpacked {
        let Listed { stored, unpacked, .. } = listed;
        return Err(format!("the entry {name} is stored in {stored} bytes, but should be {unpacked}"));
    }
    let mut reader = Reader::new(bytes.get(..limit).unwrap_or_default(), listed.header);
    let mut own = || -> Option<(u16, u16, u32, usize, usize)> {
        if reader.u32()? != LOCAL {
            return None;
        }
        reader.take(2)?;
        let (flags, method) = (reader.u16()?, reader.u16()?);
        reader.take(8)?;
        let (stored, _) = (reader.u32()?, reader.u32()?);
        Some((flags, method, stored, reader.u16()?.into(), reader.u16()?.into()))
    };
    let missing = || format!("the entry {name} is not where the zip directory says; is the file cut off?");
    let (flags, method, stored, name_len, extra_len) = own().ok_or_else(missing)?;
    let same_name = reader.take(name_len) == Some(name.as_bytes());
    let known = flags & SIZES_AFTER == 0 && stored != u32::MAX;
    if !same_name || method != 0 || (known && u64::from(stored) != listed.stored) {
        return Err(format!("the entry {name} and the zip directory disagree about its name, size or compression"));
    }
    reader.take(extra_len).ok_or_else(missing)?;
    let start = reader.at();
    let end = usize::try_from(listed.stored).ok().and_then(|len| start.checked_add(len)).filter(|&end| end <= limit);
    let end = end.ok_or_else(|| {
        format!("the entry {name} should have {} bytes from {start} on, the file has {}", listed.stored, bytes.len())
    })?;
    Ok(start..end)
}
