//! Bodies of the targets. The fuzz targets and an ordinary test, which replays the inputs under
//! `tests/golden/fuzz`, share these files.

mod adapters;
mod files;
mod formats;
mod kernels;
mod outputs;
mod readers;

use std::fmt::{Debug, Display};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use paring_format::{LAYOUTS, layouts};

const LAYOUT: &str = "layout-";

/// A target: its function, which returns true for a good input, and the memory it may use.
struct Target {
    name: &'static str,
    run: fn(&[u8]) -> bool,
    /// Bytes of memory for any input, and for each byte of it.
    memory: (usize, usize),
}

const MIB: usize = 1 << 20;

/// All but the layouts.
const TARGETS: &[Target] = &[
    // A pattern may take a few megabytes before it is refused.
    // Some twenty patterns of up to ten megabytes.
    Target { name: "adapter", run: adapters::adapter, memory: (256 * MIB, 1000) },
    Target { name: "checkpoint", run: files::checkpoint, memory: (64 * MIB, 1000) },
    Target { name: "config", run: formats::config, memory: (64 * MIB, 1000) },
    Target { name: "header", run: files::header, memory: (2 * MIB, 100) },
    Target { name: "index", run: files::index, memory: (2 * MIB, 100) },
    // A bit may be a weight, of which there is a mark.
    Target { name: "masks", run: files::masks, memory: (2 * MIB, 100) },
    Target { name: "pickle", run: files::pickle, memory: (4 * MIB, 100) },
    Target { name: "pickled-tokens", run: readers::pickled_tokens, memory: (4 * MIB, 100) },
    Target { name: "token-file", run: readers::token_file, memory: (2 * MIB, 100) },
    // Names of ten thousand blocks, and what is missing of them.
    Target { name: "model-config", run: readers::model_config, memory: (64 * MIB, 100) },
    Target { name: "tokenizer", run: readers::tokenizer, memory: (64 * MIB, 1000) },
    // Text and lists of 256 MiB, some of them in buffers that grow to twice their size. Tokenizing a text of megabytes takes
    // hundreds of bytes for each of its bytes until the time is up: the worker is a thread here, whose memory no limit bounds.
    Target { name: "chat-template", run: readers::chat_template, memory: (1536 * MIB, 1000) },
    Target { name: "recipe-toml", run: readers::recipe_toml, memory: (2 * MIB, 1000) },
    Target { name: "recipe-yaml", run: readers::recipe_yaml, memory: (2 * MIB, 1000) },
    Target { name: "jsonl", run: readers::jsonl, memory: (2 * MIB, 200) },
    // A line of 64 MiB in a buffer that grows to twice its size, beside the smaller one before, and its text.
    Target { name: "packed-lines", run: readers::packed_lines, memory: (320 * MIB, 200) },
    // A page of 64 MiB in such a buffer, and eight bytes for each text of four.
    Target { name: "parquet", run: readers::parquet, memory: (512 * MIB, 200) },
    // The same, and values of a row; lists of small values in JSON take many times their text.
    Target { name: "records", run: readers::records, memory: (512 * MIB, 400) },
    // Lines are parsed whole, and again as what they hold.
    Target { name: "journal", run: outputs::journal, memory: (2 * MIB, 400) },
    // Parsed as any JSON first; compared with itself, each number is there twice.
    Target { name: "report", run: outputs::report, memory: (4 * MIB, 1000) },
    // A model of 80 kB is read by several threads.
    Target { name: "manifest", run: outputs::manifest, memory: (16 * MIB, 1000) },
    // Operands are small; each thread of products has a workspace of its own.
    Target { name: "operation", run: kernels::operation, memory: (4096 * MIB, 0) },
    Target { name: "hub-list", run: readers::hub_list, memory: (2 * MIB, 100) },
];

/// A bit may be a weight, of which there are codes, floats, and all again for what is read back.
const LAYOUT_MEMORY: (usize, usize) = (2 * MIB, 400);

/// The names of all targets.
pub fn targets() -> Vec<String> {
    let layouts = LAYOUTS.iter().map(|layout| format!("{LAYOUT}{}", layout.name()));
    TARGETS.iter().map(|target| target.name.to_string()).chain(layouts).collect()
}

/// Runs a target, which panics when it finds something. Returns whether the input was a good one: it was not refused.
pub fn run(target: &str, data: &[u8]) -> bool {
    match (TARGETS.iter().find(|known| known.name == target), target.strip_prefix(LAYOUT).and_then(layouts::layout)) {
        (Some(known), _) => (known.run)(data),
        (_, Some(layout)) => formats::decode(layout, data),
        _ => panic!("no target {target}"),
    }
}

/// Bytes of memory that a target may take at once for an input of this length.
pub fn memory(target: &str, len: usize) -> usize {
    let (any, each) = TARGETS.iter().find(|known| known.name == target).map_or(LAYOUT_MEMORY, |known| known.memory);
    any + each * len
}

/// An input from its beginning. Past its end there are zeros.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Below 240 a byte, else that many bytes more than 239, little-endian.
    fn number(&mut self) -> usize {
        match self.byte() {
            small @ ..240 => usize::from(small),
            more => {
                let bytes = self.take(usize::from(more - 239).min(8));
                bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte)) as usize
            }
        }
    }

    /// At most `count` bytes.
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// A folder of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("paring-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for files to open");
    folder
});

/// A folder in it, made of these files when it is first asked for.
fn folder(name: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let folder = FOLDER.join(name);
    if !folder.exists() {
        fs::create_dir(&folder).expect("a folder for files to open");
        files.iter().for_each(|(file, bytes)| put(&folder.join(file), bytes));
    }
    folder
}

/// Writes a file to open.
fn put(path: &std::path::Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a file to open");
}

/// Removes what targets left on disk.
pub fn clean() {
    fs::remove_dir_all(&*FOLDER).expect("the folder of this process");
}

/// Every error has a text. Names out of a file may have line ends, which the program takes out where it prints them.
fn assert_text(error: &(impl Display + Debug)) {
    assert!(!error.to_string().is_empty(), "{error:?}");
}

/// Returns true for a success; otherwise the error has a text.
fn is_good<T>(result: Result<T, impl Display + Debug>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            assert_text(&error);
            false
        }
    }
}
