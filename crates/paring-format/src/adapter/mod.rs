//! Adapters of rank r (LoRA, Hu et al. 2021) in PEFT's files: `adapter_config.json`, and `adapter_model.safetensors` with two
//! factors for each linear that is adapted.
//!
//! What PEFT's files may say and would change the arithmetic is refused by name; see [`AdapterConfig::parse`].

mod config;
mod modules;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

pub use config::AdapterConfig;
pub use modules::{ModulePattern, Modules, TargetModules};

use crate::checkpoint::few;
use crate::names::{ADAPTER_CONFIG, ADAPTER_PICKLE, ADAPTER_WEIGHTS};
use crate::{Checkpoint, Error, Result};

/// The beginning of all names of tensors in PEFT's files.
const PREFIX: &str = "base_model.model.";
/// The ends of those of the factors.
const ENDS: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];
/// Advice where only PEFT computes what a file asks for.
const ELSEWHERE: &str = "merge it with PEFT (merge_and_unload), and use the merged model";

/// An adapter in memory.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Its settings.
    pub config: AdapterConfig,
    /// The factors by the module path of their linear, such as `model.layers.0.self_attn.q_proj`.
    pub pairs: BTreeMap<String, Pair>,
    /// The folder that it was read from, for messages; empty where it was made in memory.
    pub place: PathBuf,
}

/// The change s · B A of one weight `[rows, cols]`.
#[derive(Clone, PartialEq)]
pub struct Pair {
    /// Rows of A and columns of B, 1 or more.
    pub rank: usize,
    /// Rows of B: outputs of the linear.
    pub rows: usize,
    /// Columns of A: inputs of the linear.
    pub cols: usize,
    /// Row-major `[rank, cols]`.
    pub a: Vec<f32>,
    /// Row-major `[rows, rank]`.
    pub b: Vec<f32>,
    /// The factor s: α / r, or α / √r (Kalajdzievski 2023).
    pub scale: f32,
}

/// Sizes alone: factors have millions of numbers.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pair { rank, rows, cols, scale, .. } = self;
        write!(f, "Pair({rows} x {cols}, rank {rank}, scale {scale})")
    }
}

impl Pair {
    /// Factors of a weight `[rows, cols]`. Errors unless `a` has rank · cols numbers and `b` rows · rank, and all are more than 0.
    pub fn new(rank: usize, (rows, cols): (usize, usize), a: Vec<f32>, b: Vec<f32>, scale: f32) -> Result<Pair> {
        let fits = |len: usize, m: usize, n: usize| len > 0 && m.checked_mul(n) == Some(len);
        if !fits(a.len(), rank, cols) || !fits(b.len(), rows, rank) {
            let (a, b) = (a.len(), b.len());
            return Err(Error::parts(format!(
                "{a} and {b} numbers are no factors of rank {rank} for [{rows}, {cols}]"
            )));
        }
        Ok(Pair { rank, rows, cols, a, b, scale })
    }
}

/// Bytes of a tensor's name: names in targets are looked for after each of its dots.
const LONGEST_NAME: usize = 4096;

/// The tensors of one linear, by [`ENDS`].
type Found = [Option<String>; 2];

impl Adapter {
    /// Reads the adapter in a folder of PEFT's. Costs the memory of its factors in f32.
    ///
    /// # Errors
    /// When a file is missing or is not what it should be, when it asks for other arithmetic, and when tensors and settings do
    /// not belong together; in one line that names the file and the key or tensor.
    pub fn open(dir: &Path) -> Result<Adapter> {
        let config = dir.join(ADAPTER_CONFIG);
        if !config.is_file() {
            let reason = match dir.is_dir() {
                true => format!("no {ADAPTER_CONFIG} here"),
                false => "not a folder".to_string(),
            };
            let hint = format!("an adapter is a folder with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}");
            return Err(Error::NotAFolder { path: dir.to_path_buf(), reason: format!("{reason}; {hint}") });
        }
        let config = AdapterConfig::read(&config)?;
        let weights = dir.join(ADAPTER_WEIGHTS);
        if !weights.is_file() {
            let got = match dir.join(ADAPTER_PICKLE).is_file() {
                true => format!("{ADAPTER_PICKLE} instead; open the adapter with PEFT and save it again"),
                false => "nothing of this name; download the adapter again".to_string(),
            };
            return Err(Error::shard(&weights.display().to_string(), format!("expected the weights, got {got}")));
        }
        let mut adapter = Adapter { config, pairs: BTreeMap::new(), place: dir.to_path_buf() };
        adapter.read_pairs(&Checkpoint::open_file(&weights)?, &weights.display().to_string())?;
        Ok(adapter)
    }

    fn read_pairs(&mut self, tensors: &Checkpoint, file: &str) -> Result<()> {
        let mut found: BTreeMap<&str, Found> = BTreeMap::new();
        for name in tensors.names() {
            let known = name.strip_prefix(PREFIX).and_then(|local| {
                let ends = ENDS.iter().enumerate();
                ends.filter_map(|(factor, end)| Some((local.strip_suffix(end)?, factor))).next()
            });
            let Some((module, factor)) = known.filter(|(module, _)| !module.is_empty() && name.len() <= LONGEST_NAME)
            else {
                return Err(unknown(file, name));
            };
            found.entry(module).or_default()[factor] = Some(name.to_string());
        }
        if found.is_empty() {
            return Err(wrong(file, "the header", "tensors of an adapter", "none", "download it again"));
        }
        for (module, names) in found {
            if !self.config.modules.cover(module)? {
                let targets = &self.config.modules.targets;
                return Err(wrong(
                    file,
                    module,
                    format!("one of the target_modules of {ADAPTER_CONFIG} ({})", targets.describe()),
                    "another module",
                    "use the two files that belong together",
                ));
            }
            let [Some(a), Some(b)] = names else {
                let missing = names.iter().zip(["lora_A", "lora_B"]).find(|(name, _)| name.is_none());
                let missing = missing.map_or("", |(_, factor)| factor);
                return Err(wrong(file, module, "lora_A and lora_B", format!("no {missing}"), "download it again"));
            };
            let pair = self.pair(tensors, (file, module), [&a, &b])?;
            self.pairs.insert(module.to_string(), pair);
        }
        Ok(())
    }

    /// The factors of a module, from tensors of these names.
    fn pair(&self, tensors: &Checkpoint, (file, module): (&str, &str), [a, b]: [&str; 2]) -> Result<Pair> {
        let rank = self.config.rank(module)?;
        let shape = |name: &str| tensors.info(name).map_or(&[][..], |info| &info.shape[..]);
        let (cols, rows) = match (shape(a), shape(b)) {
            (&[stored, cols], &[rows, inner]) if stored == rank && inner == rank && rows > 0 && cols > 0 => {
                (cols, rows)
            }
            (of_a, of_b) => {
                return Err(wrong(
                    file,
                    module,
                    format!("lora_A of [{rank}, inputs] and lora_B of [outputs, {rank}], as {ADAPTER_CONFIG} has it"),
                    format!("{of_a:?} and {of_b:?}"),
                    "use the two files that belong together",
                ));
            }
        };
        let read = |name: &str, shape: [usize; 2]| tensors.read_f32(name, &shape);
        let scale = self.config.scale(module, rank)?;
        Pair::new(rank, (rows, cols), read(a, [rank, cols])?, read(b, [rows, rank])?, scale)
            .map_err(|error| error.in_module(module, file))
    }

    /// The largest rank of its pairs; 0 where there are none.
    pub fn largest_rank(&self) -> usize {
        self.pairs.values().map(|pair| pair.rank).max().unwrap_or(0)
    }

    /// Its largest rank, and the kinds of linears that it adapts, for people.
    pub fn describe(&self) -> String {
        let kinds = self.pairs.keys().map(|module| module.rsplit('.').next().unwrap_or(module));
        let kinds: Vec<&str> = kinds.collect::<BTreeSet<_>>().into_iter().collect();
        format!("rank {}, {} linears: {}", self.largest_rank(), self.pairs.len(), few(&kinds))
    }
}

/// The error of a tensor that is no factor of a linear.
fn unknown(file: &str, name: &str) -> Error {
    let expected = format!("{PREFIX}MODULE{} and …{}", ENDS[0], ENDS[1]);
    let of = |part: &str| name.contains(part);
    let (got, hint) = if of("lora_embedding") {
        ("an adapter of an embedding", ELSEWHERE)
    } else if of("lora_magnitude_vector") {
        ("a magnitude of DoRA", ELSEWHERE)
    } else if of("modules_to_save") {
        ("a module that was trained as a whole", ELSEWHERE)
    } else if name.ends_with(".bias") {
        ("a bias", ELSEWHERE)
    } else {
        ("another name, or a longer one", "use an adapter that PEFT saved as LORA")
    };
    let name: String = name.chars().take(200).collect();
    wrong(file, &format!("tensor {name}"), expected, got, hint)
}

/// The error about a part of an adapter's file.
fn wrong(
    file: &str,
    part: &str,
    expected: impl Into<String>,
    got: impl Into<String>,
    hint: impl Into<String>,
) -> Error {
    Error::Adapter { place: format!("{file}: {part}"), expected: expected.into(), got: got.into(), hint: hint.into() }
}
