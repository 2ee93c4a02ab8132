//! The data sets that papers measure with: which file of which repository, and how each published code reads it.

use paring_format::message;
use paring_format::message::Setting;
use std::path::{Path, PathBuf};

use crate::dataset::{Data, Reading};
use crate::documents::Documents;
use crate::error::option;
use crate::{Error, Result};

/// Names that DATASET may have; a hyphen and an underscore are the same.
pub const NAMES: [&str; 7] = ["wikitext2", "c4", "ptb", "pajama", "refinedweb", "c4-new", "ptb-new"];

/// The published code that reads a data set. They join documents differently, and measure on other parts of c4 and ptb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// GPTQ's and SpQR's. Calibration: an empty line between joined documents; documents of c4 that have `seqlen` tokens
    /// or more. Evaluation: 256 windows of c4's validation set drawn with seed 0; ptb's validation set, joined by an
    /// empty line.
    Gptq,
    /// SparseGPT's and Wanda's, which is GPTQ's `-new` too. Calibration: a space between joined documents; documents of
    /// c4 that have more than `seqlen` tokens. Evaluation: the first 256 windows of the first 1100 documents of c4's
    /// validation set; ptb's test set; both joined by a space.
    SparseGpt,
}

/// The use of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To calibrate on: the training part.
    Calibration,
    /// To measure on: a part that training did not see.
    Evaluation,
}

/// A file of a repository of data sets on the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// `org/name`.
    pub repo: &'static str,
    /// Branch; `None`: main.
    pub revision: Option<&'static str>,
    /// Path in the repository.
    pub path: &'static str,
}

/// The source of the files of named sets.
pub struct Files<'a> {
    /// A folder that holds them, laid out as the repository or flat; the hub is then not asked.
    pub dir: Option<&'a Path>,
    /// Returns where a file of the hub lies now, after fetching it if need be.
    pub fetch: &'a dyn Fn(&Remote) -> Result<PathBuf>,
}

/// A file that a set may be read from.
struct Part {
    remote: Remote,
    /// Other names that it has in a folder.
    also: &'static [&'static str],
    field: &'static str,
}

const fn part(repo: &'static str, path: &'static str, also: &'static [&'static str], field: &'static str) -> Part {
    Part { remote: Remote { repo, revision: None, path }, also, field }
}

const WIKITEXT: &str = "Salesforce/wikitext";
const WIKITEXT_TRAIN: Part = part(
    WIKITEXT,
    "wikitext-2-raw-v1/train-00000-of-00001.parquet",
    &["wiki.train.raw", "train.parquet", "train.jsonl", "train.txt"],
    "text",
);
const WIKITEXT_TEST: Part = part(
    WIKITEXT,
    "wikitext-2-raw-v1/test-00000-of-00001.parquet",
    &["wiki.test.raw", "test.parquet", "test.jsonl", "test.txt"],
    "text",
);
const C4_TRAIN: Part = part("allenai/c4", "en/c4-train.00000-of-01024.json.gz", &[], "text");
const C4_VALIDATION: Part = part("allenai/c4", "en/c4-validation.00000-of-00008.json.gz", &[], "text");

/// The repository of Penn Treebank holds a script; its data lies in a branch that the hub makes.
const fn ptb(path: &'static str, also: &'static [&'static str]) -> Part {
    let revision = Some("refs/convert/parquet");
    Part { remote: Remote { repo: "ptb-text-only/ptb_text_only", revision, path }, also, field: "sentence" }
}
const PTB_TRAIN: Part = ptb(
    "penn_treebank/train/0000.parquet",
    &["penn_treebank/train-00000-of-00001.parquet", "ptb.train.txt", "train.txt"],
);
const PTB_VALIDATION: Part = ptb(
    "penn_treebank/validation/0000.parquet",
    &["penn_treebank/validation-00000-of-00001.parquet", "ptb.valid.txt", "valid.txt", "validation.txt"],
);
const PTB_TEST: Part =
    ptb("penn_treebank/test/0000.parquet", &["penn_treebank/test-00000-of-00001.parquet", "ptb.test.txt", "test.txt"]);

/// Names of files, without their endings, that do not say which set they are of.
const SHARED: [&str; 4] = ["train", "test", "valid", "validation"];

/// Windows that c4 is measured on.
const C4_WINDOWS: usize = 256;
/// Documents of c4 that SparseGPT joins to measure on.
const C4_DOCUMENTS: usize = 1100;

/// The repository on the hub of a named set; `None` for other names, and for sets that lie in no repository.
pub fn repository(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-");
    match name.strip_suffix("-new").unwrap_or(&name) {
        "wikitext2" => Some(WIKITEXT_TRAIN.remote.repo),
        "ptb" => Some(PTB_TRAIN.remote.repo),
        "c4" => Some(C4_TRAIN.remote.repo),
        _ => None,
    }
}

/// Opens a named set; `None` when `name` is the name of none.
///
/// `protocol` is that of the method that calibrates, or the one chosen to measure with. A name with `-new`, as GPTQ and
/// SpQR call their second way, means [`Protocol::SparseGpt`] whatever it is, except for which documents of c4 are long
/// enough to calibrate on: there, both have one way. Errors when a file of the set is nowhere, or the set has no part for the
/// purpose.
pub fn open(name: &str, purpose: Purpose, protocol: Protocol, files: &Files<'_>) -> Result<Option<Data>> {
    let name = name.replace('_', "-");
    let set = name.strip_suffix("-new").unwrap_or(&name);
    if !NAMES.contains(&name.as_str()) {
        return Ok(None);
    }
    let calibrating = purpose == Purpose::Calibration;
    let longer = usize::from(protocol == Protocol::SparseGpt);
    let newer = protocol == Protocol::SparseGpt || set != name;
    let joined = |separator| Reading::Joined { separator, documents: usize::MAX, windows: usize::MAX };
    let line = if newer { " " } else { "\n\n" };
    let (part, reading) = match (set, calibrating) {
        ("wikitext2", true) => (WIKITEXT_TRAIN, joined(line)),
        ("wikitext2", false) => (WIKITEXT_TEST, joined("\n\n")),
        ("ptb", true) => (PTB_TRAIN, joined(line)),
        ("ptb", false) => (if newer { PTB_TEST } else { PTB_VALIDATION }, joined(line)),
        ("c4", true) => (C4_TRAIN, Reading::Drawn { beyond: longer, windows: usize::MAX }),
        ("c4", false) if newer => {
            (C4_VALIDATION, Reading::Joined { separator: " ", documents: C4_DOCUMENTS, windows: C4_WINDOWS })
        }
        ("c4", false) => (C4_VALIDATION, Reading::Drawn { beyond: 0, windows: C4_WINDOWS }),
        _ => return stored(set, purpose, files).map(Some),
    };
    // The published name says which of its two parts, or ways to cut it, c4 and ptb were measured by.
    let shown = if !calibrating && newer && set != "wikitext2" { format!("{set}-new") } else { set.to_owned() };
    let path = part.find(&shown, files)?;
    let lines = if set == "wikitext2" { Documents::whole_lines } else { Documents::lines };
    let documents = Documents::of(&path, part.field).unwrap_or_else(|| lines(&path));
    let is_shared = path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| SHARED.contains(&stem));
    let name = path.file_name().unwrap_or_default().display();
    let note = is_shared.then(|| format!("read from {name}, which any set may have"));
    Ok(Some(Data::published(shown, documents, reading).noted(note)))
}

/// The tokens that SpQR's repository holds.
fn stored(set: &str, purpose: Purpose, files: &Files<'_>) -> Result<Data> {
    let file = if set == "pajama" { "data/red_pajama_n=1024.pth" } else { "data/refined_web_n=128.pth" };
    if purpose == Purpose::Evaluation {
        return Err(Error::data(set, "a set of tokens to calibrate on; measure on wikitext2, c4, ptb or a file"));
    }
    let Some(dir) = files.dir else {
        let text = format!("not on the hub; download {file} from SpQR's repository, and name its folder with ");
        return Err(Error::data(set, text).then_option(option::DATA_DIR));
    };
    let path = in_folder(set, dir, file, &[])?;
    // What the path says matters less than which set it is.
    Ok(Data::open(&path, "")?.named(set))
}

impl Part {
    /// Its place: in the folder, or fetched.
    fn find(&self, set: &str, files: &Files<'_>) -> Result<PathBuf> {
        match files.dir {
            Some(dir) => in_folder(set, dir, self.remote.path, self.also),
            None => (files.fetch)(&self.remote),
        }
    }
}

/// The file `path` of a repository, or one that stands for it, in a folder: where the repository has it, or flat.
fn in_folder(set: &str, dir: &Path, path: &str, also: &[&str]) -> Result<PathBuf> {
    let mut tried = Vec::new();
    for name in std::iter::once(path).chain(also.iter().copied()) {
        tried.push(name);
        // Without its folder, 0000.parquet could be any part of any set.
        let flat = Path::new(name).file_name().and_then(|n| n.to_str()).filter(|n| *n != "0000.parquet");
        tried.extend(flat.filter(|flat| *flat != name));
    }
    let found = tried.iter().map(|name| dir.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let none = match files_of(dir) {
            None => format!(": no such folder; name the one that has {}", tried.join(" or ")),
            Some(there) if there.is_empty() => format!(" is empty; it needs {}", tried.join(" or ")),
            Some(there) => {
                let (tried, there) = (tried.join(", "), there.join(", "));
                format!(" has none of {tried} (it has: {there}); name a file instead of {set}")
            }
        };
        Error::data(set, message![Setting::with(option::DATA_DIR, dir.display()), none])
    })
}

/// Some names of what a folder holds, sorted; `None` where it cannot be read.
fn files_of(dir: &Path) -> Option<Vec<String>> {
    /// Entries that are looked at, and those that are named.
    const LOOKED_AT: usize = 10_000;
    const NAMED: usize = 8;
    let entries = std::fs::read_dir(dir).ok()?.take(LOOKED_AT).flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    if names.len() > NAMED {
        names.truncate(NAMED);
        names.push("…".into());
    }
    Some(names)
}
