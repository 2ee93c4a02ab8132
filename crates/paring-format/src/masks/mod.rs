//! Files of masks: which weights of a model's linears stay.
//!
//! [`Masks`] reads those that [`write()`] makes, a bit for each weight, and plain ones that other programs save: a tensor of 0 and
//! 1 for each linear. docs/formats.md has the bytes.

mod bits;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::checkpoint::{Entry, Extent, Shard, ShardKind};
use crate::{Dtype, Error, Result};

pub use bits::{Bits, Crowded};
pub use write::{MaskedModule, is_own, write};

/// The key of a file's metadata that tells files of ours, and its value.
const FORMAT: (&str, &str) = ("mask_format", "paring-masks");
/// The version of the format, which is the only one that is read.
const VERSION: (&str, &str) = ("mask_version", "1");
/// The key of the shapes: an object of module paths and `[rows, cols]`.
const SHAPES: &str = "mask_shapes";
/// The key of the digest, in 16 hexadecimal digits.
const DIGEST: &str = "mask_digest";

/// The end of the names of tensors in files of ours.
const OWN: &str = ".mask";
/// The ends of the names that plain masks have, the longest first: Model-Optimizer's buffer with and without the name of its weight,
/// that of torch.nn.utils.prune, and ours.
const ENDS: [&str; 4] = [".weight._weight_mask", "._weight_mask", ".weight_mask", OWN];

/// The masks in a file, which stays open: a mask is read when it is asked for.
#[derive(Debug)]
pub struct Masks {
    path: PathBuf,
    shard: Shard,
    masks: BTreeMap<String, StoredMask>,
    digest: u64,
}

/// A mask in the file.
#[derive(Debug)]
struct StoredMask {
    rows: usize,
    cols: usize,
    /// The type of the elements; `None`: they are bits.
    elements: Option<Dtype>,
    place: Extent,
}

impl Masks {
    /// Opens a file of masks, and reads all of it once: one mask at a time is in memory.
    ///
    /// # Errors
    /// A file that is none of safetensors, or without masks; shapes and types that masks do not have; values other than 0 and 1; two masks
    /// of one module; a digest that is not that of what the file holds.
    pub fn open(path: &Path) -> Result<Masks> {
        let shard = Shard::open(path, ShardKind::Safetensors)?;
        let entries = shard.entries()?;
        let metadata: BTreeMap<String, String> = entries.metadata.into_iter().collect();
        let is_own = metadata.get(FORMAT.0).is_some_and(|name| name == FORMAT.1);
        let file = path.display().to_string();
        let masks = if is_own { own(&file, &metadata, entries.tensors) } else { plain(&file, entries.tensors) }?;
        if masks.is_empty() {
            return Err(Error::shard(
                &file,
                format!("no masks; expected tensors whose names end in {}", ENDS.join(", ")),
            ));
        }
        let mut masks = Masks { path: path.to_path_buf(), shard, masks, digest: 0 };
        masks.digest = masks.check()?;
        match metadata.get(DIGEST).filter(|_| is_own) {
            Some(written) if *written != hexadecimal(masks.digest) => {
                let got = hexadecimal(masks.digest);
                let reason =
                    format!("its masks have the digest {got}, expected {written}; it was changed: export it again");
                Err(Error::shard(&file, reason))
            }
            None if is_own => Err(Error::shard(&file, format!("its metadata has no {DIGEST}; export it again"))),
            _ => Ok(masks),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of module paths, shapes and bits (xxh3): the same for the same masks, whatever the form of their file.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The modules that have a mask, sorted, with their rows and columns.
    pub fn modules(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.masks.iter().map(|(name, mask)| (name.as_str(), mask.rows, mask.cols))
    }

    /// Rows and columns of a module's mask; `None` where it has none.
    pub fn shape(&self, module: &str) -> Option<(usize, usize)> {
        self.masks.get(module).map(|mask| (mask.rows, mask.cols))
    }

    /// The mask of a module; `None` where it has none.
    pub fn of(&self, module: &str) -> Option<Bits> {
        // Values were checked when the file was opened. Of one that was changed since, other weights stay.
        self.read(self.masks.get(module)?, &mut None)
    }

    /// A mask. What it should not hold is put into `wrong`, the first only.
    fn read(&self, mask: &StoredMask, wrong: &mut Option<String>) -> Option<Bits> {
        let &StoredMask { rows, cols, elements, ref place } = mask;
        let bytes = self.shard.read(place, 0, place.len)?;
        let at = |index: usize| format!("row {}, column {}", index / cols.max(1), index % cols.max(1));
        match elements {
            None => {
                let step = cols.div_ceil(8);
                if let Some(used) = bits::padded(cols)
                    && let Some(row) = bytes.chunks_exact(step.max(1)).position(|row| row[step - 1] & !used != 0)
                {
                    *wrong = Some(format!("row {row}: bits after its {cols} columns, expected 0"));
                }
                Bits::from_packed(rows, cols, bytes)
            }
            Some(dtype) if dtype.is_float() => {
                let values = dtype.decode_f32(&bytes);
                if let Some(index) = values.iter().position(|value| ![0.0, 1.0].contains(value)) {
                    *wrong = Some(format!("{} in {}, expected 0 or 1", values[index], at(index)));
                }
                Bits::from_values(rows, cols, &values, |&value| value != 0.0)
            }
            Some(_) => {
                if let Some(index) = bytes.iter().position(|value| *value > 1) {
                    *wrong = Some(format!("{} in {}, expected 0 or 1", bytes[index], at(index)));
                }
                Bits::from_values(rows, cols, &bytes, |&value| value != 0)
            }
        }
    }

    /// The digest of all masks. Errors at the first that holds what none does.
    fn check(&self) -> Result<u64> {
        let mut digest = Digest::default();
        for (module, mask) in &self.masks {
            let mut wrong = None;
            let bits = self.read(mask, &mut wrong);
            match (bits, wrong) {
                (Some(bits), None) => digest.add(module, &bits),
                (_, wrong) => {
                    let wrong = wrong.unwrap_or_else(|| "does not lie inside the file".to_string());
                    return Err(Error::shard(
                        &self.path.display().to_string(),
                        format!("the mask of {module}: {wrong}"),
                    ));
                }
            }
        }
        Ok(digest.finish())
    }
}

/// The masks of a file of ours. Errors where metadata and tensors disagree.
fn own(
    file: &str,
    metadata: &BTreeMap<String, String>,
    tensors: Vec<(String, Entry)>,
) -> Result<BTreeMap<String, StoredMask>> {
    let bad = |reason: String| Error::shard(file, reason);
    match metadata.get(VERSION.0) {
        Some(version) if version == VERSION.1 => {}
        other => {
            let version = other.map_or("no", String::as_str);
            let reason = format!("masks of version {version:.20}, expected {}; export them again", VERSION.1);
            return Err(bad(reason));
        }
    }
    let shapes = metadata.get(SHAPES).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(Value::Object(shapes)) = shapes else {
        return Err(bad(format!("{SHAPES} of its metadata is no object of modules and shapes; export it again")));
    };
    let shape_of = |module: &str| {
        let shape = shapes.get(module)?.as_array().filter(|shape| shape.len() == 2)?;
        let length = |at: usize| usize::try_from(shape.get(at)?.as_u64()?).ok().filter(|length| *length > 0);
        Some((length(0)?, length(1)?))
    };
    let mut masks = BTreeMap::new();
    for (name, Entry { dtype, shape, place }) in tensors {
        let Some(module) = name.strip_suffix(OWN) else {
            return Err(bad(format!("{name} is no mask; expected names that end in {OWN}")));
        };
        let Some((rows, cols)) = shape_of(module) else {
            return Err(bad(format!("{name}: expected [rows, columns] of {module} in {SHAPES} of the metadata")));
        };
        let packed = [rows, cols.div_ceil(8)];
        if dtype != Dtype::U8 || shape != packed {
            let expected = format!("expected {} {packed:?} for {rows} rows and {cols} columns", Dtype::U8.name());
            return Err(bad(format!("{name}: {} {shape:?}, {expected}", dtype.name())));
        }
        masks.insert(module.to_string(), StoredMask { rows, cols, elements: None, place });
    }
    match shapes.keys().find(|module| !masks.contains_key(*module)) {
        Some(module) => Err(bad(format!("no tensor {module}{OWN}, whose shape its metadata has; export it again"))),
        None => Ok(masks),
    }
}

/// The masks of another program's file; other tensors in it are passed over.
fn plain(file: &str, tensors: Vec<(String, Entry)>) -> Result<BTreeMap<String, StoredMask>> {
    let mut masks: BTreeMap<String, StoredMask> = BTreeMap::new();
    for (name, Entry { dtype, shape, place }) in tensors {
        let Some(module) = ENDS.iter().find_map(|end| name.strip_suffix(end)).filter(|module| !module.is_empty())
        else {
            continue;
        };
        let &[rows, cols] = &shape[..] else {
            return Err(Error::shard(file, format!("{name}: shape {shape:?}, expected [rows, columns]")));
        };
        if rows == 0 || cols == 0 {
            return Err(Error::shard(file, format!("{name}: shape {shape:?} is empty, expected rows and columns")));
        }
        if ![Dtype::Bool, Dtype::U8].contains(&dtype) && !dtype.is_float() {
            let reason = format!("{name}: type {}, expected 0 and 1 as BOOL, U8 or floats", dtype.name());
            return Err(Error::shard(file, reason));
        }
        let mask = StoredMask { rows, cols, elements: Some(dtype), place };
        if masks.insert(module.to_string(), mask).is_some() {
            return Err(Error::shard(file, format!("two masks of {module}; leave one of them out")));
        }
    }
    Ok(masks)
}

/// A digest of masks on its way: xxh3 (64 bits) of each module in the order of names, as path, a byte 0, rows and columns (64 bits
/// each, little-endian), and [`Bits::bytes`].
#[derive(Default)]
pub struct Digest(Xxh3);

impl Digest {
    /// Adds the mask of the module that comes next by name.
    pub fn add(&mut self, module: &str, bits: &Bits) {
        self.0.update(module.as_bytes());
        self.0.update(&[0]);
        self.0.update(&(bits.rows() as u64).to_le_bytes());
        self.0.update(&(bits.cols() as u64).to_le_bytes());
        self.0.update(bits.bytes());
    }

    /// The digest of all masks that were added.
    pub fn finish(&self) -> u64 {
        self.0.digest()
    }
}

fn hexadecimal(digest: u64) -> String {
    format!("{digest:016x}")
}
