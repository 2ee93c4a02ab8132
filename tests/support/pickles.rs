//! Files as `torch.save` writes them, and ones that lie: zip files and pickles, put together byte by byte. Tests of the
//! format crate include this file too.

// Each test file uses some of it.
#![allow(dead_code)]

/// An entry of a zip file. What it says about itself can be changed before it is written.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub data: Vec<u8>,
    /// 0: stored, 8: deflated.
    pub method: u16,
    pub flags: u16,
    /// Claimed sizes, in the file and unpacked.
    pub stored: u64,
    pub unpacked: u64,
    /// Offset that the directory claims; `None` for the true one.
    pub at: Option<u64>,
    /// True to store sizes and offsets in the fields for files above 4 GiB.
    pub wide: bool,
}

impl Entry {
    pub fn new(name: &str, data: &[u8]) -> Self {
        let len = data.len() as u64;
        let (name, data) = (name.to_string(), data.to_vec());
        Self { name, data, method: 0, flags: 0, stored: len, unpacked: len, at: None, wide: false }
    }
}

/// A zip file of these entries, with the records for files above 4 GiB if one of them is wide.
pub fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let at = entry.at.unwrap_or(file.len() as u64);
        let short = |value: u64| if entry.wide { u32::MAX } else { value as u32 };
        let sizes = [short(entry.stored), short(entry.unpacked)].map(u32::to_le_bytes).concat();
        let mut extra = Vec::new();
        if entry.wide {
            extra.extend([1, 0, 24, 0]);
            extra.extend([entry.unpacked, entry.stored, at].map(u64::to_le_bytes).concat());
        }
        // Version, flags, method, time, date; then the checksum, which nobody looks at.
        let head = [20, entry.flags, entry.method, 0, 0, 0, 0].map(u16::to_le_bytes).concat();
        let name_len = (entry.name.len() as u16).to_le_bytes();
        file.extend(
            [b"PK\x03\x04", &head[..], &sizes, &name_len, &[0, 0], entry.name.as_bytes(), &entry.data].concat(),
        );
        let extra_len = (extra.len() as u16).to_le_bytes();
        directory.extend([b"PK\x01\x02\x14\x00", &head[..], &sizes, &name_len, &extra_len, &[0; 10]].concat());
        directory.extend([&short(at).to_le_bytes(), entry.name.as_bytes(), &extra].concat());
    }
    let (offset, size, count) = (file.len() as u64, directory.len() as u64, entries.len() as u64);
    file.extend(directory);
    if entries.iter().any(|entry| entry.wide) {
        let at = file.len() as u64;
        file.extend([b"PK\x06\x06", &44u64.to_le_bytes()[..], &[45, 0, 45, 0], &[0; 8]].concat());
        file.extend([count, count, size, offset].map(u64::to_le_bytes).concat());
        file.extend([b"PK\x06\x07", &[0; 4][..], &at.to_le_bytes(), &1u32.to_le_bytes()].concat());
        file.extend([b"PK\x05\x06", &[0; 4][..], &[0xff; 12], &[0; 2]].concat());
    } else {
        let counts = [0, 0, count as u16, count as u16].map(u16::to_le_bytes).concat();
        let place = [size as u32, offset as u32].map(u32::to_le_bytes).concat();
        file.extend([b"PK\x05\x06", &counts[..], &place, &[0, 0]].concat());
    }
    file
}

/// A tensor as a pickle speaks of it.
#[derive(Clone)]
pub struct View {
    pub name: String,
    /// The class of its storage, such as `FloatStorage`.
    pub class: &'static str,
    pub key: String,
    /// Elements of the storage.
    pub count: i64,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}

impl View {
    /// A whole storage in row-major order.
    pub fn new(name: &str, class: &'static str, key: &str, shape: &[i64]) -> Self {
        let mut strides = vec![1; shape.len()];
        (1..shape.len()).rev().for_each(|i| strides[i - 1] = strides[i] * shape[i]);
        let (name, key, shape) = (name.to_string(), key.to_string(), shape.to_vec());
        Self { name, class, key, count: shape.iter().product(), offset: 0, shape, strides }
    }

    /// The instructions that leave the tensor on the stack.
    pub fn pickled(&self) -> Vec<u8> {
        let storage =
            [&b"("[..], &text("storage"), &global("torch", self.class), &text(&self.key), &text("cpu")].concat();
        let whole =
            [&global("torch._utils", "_rebuild_tensor_v2"), &b"("[..], &storage, &int(self.count), b"tQ"].concat();
        let shape = [&whole[..], &int(self.offset), &ints(&self.shape), &ints(&self.strides)].concat();
        [&shape[..], b"\x89", &global("collections", "OrderedDict"), b")RtR"].concat()
    }
}

pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub fn int(n: i64) -> Vec<u8> {
    [b"\x8a\x08", &n.to_le_bytes()[..]].concat()
}

fn ints(all: &[i64]) -> Vec<u8> {
    [b"(", &all.iter().flat_map(|&n| int(n)).collect::<Vec<u8>>()[..], b"t"].concat()
}

/// Instructions that leave a dict on the stack.
pub fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"}(", &items[..], b"u"].concat()
}

/// A whole pickle.
pub fn pickle(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

/// The pickle of a dict of tensors.
pub fn state(views: &[View]) -> Vec<u8> {
    let items: Vec<(&str, Vec<u8>)> = views.iter().map(|view| (view.name.as_str(), view.pickled())).collect();
    pickle(&dict(&items))
}

/// The entries of a file that holds this pickle and these storages, by key.
pub fn archive(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<Entry> {
    let mut entries = vec![Entry::new("archive/data.pkl", pickle), Entry::new("archive/byteorder", b"little")];
    entries.extend(storages.iter().map(|(key, bytes)| Entry::new(&format!("archive/data/{key}"), bytes)));
    entries
}
