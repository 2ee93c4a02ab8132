//! `adapter_config.json`: read with care, written with the keys that PEFT needs.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::modules::{MOST_LISTS, MOST_PATTERNS};
use super::{ELSEWHERE, ModulePattern, Modules, TargetModules, wrong};
use crate::checkpoint::one_line;
use crate::{Error, Result, files};

/// The largest rank that is read: with more, factors would be larger than the weights of today.
const LARGEST_RANK: usize = 1 << 14;

/// The key of an adapter that counts only where weights are not 0.
const MASKED: &str = "paring_masked";

/// Characters of a value that an error shows.
const SHOWN: usize = 60;

/// The settings of an adapter.
#[derive(Clone, Debug)]
pub struct AdapterConfig {
    /// The rank r of linears that [`AdapterConfig::ranks`] does not name.
    pub rank: usize,
    /// α of linears that [`AdapterConfig::alphas`] does not name.
    pub alpha: f64,
    /// True if a change is multiplied by α / √r instead of α / r.
    pub rslora: bool,
    /// The linears that are adapted.
    pub modules: Modules,
    /// Ranks of some linears: the first pattern that matches a path or its end decides.
    pub ranks: Vec<(ModulePattern, usize)>,
    /// α of some linears, likewise.
    pub alphas: Vec<(ModulePattern, f64)>,
    /// The share of inputs that training dropped.
    pub dropout: f64,
    /// The name of the model that it was trained on, as the file has it.
    pub base: Option<String>,
    /// True if the change counts only where the base's weights are not 0, which PEFT has no word for.
    pub masked: bool,
    file: String,
}

/// Keys that change the arithmetic when they are neither false, null, 0 nor empty.
const REFUSED: [(&str, &str); 16] = [
    ("use_dora", "DoRA"),
    ("use_qalora", "QA-LoRA"),
    ("use_bdlora", "BD-LoRA"),
    ("lora_bias", "a bias of its own"),
    ("fan_in_fan_out", "weights stored as [in, out]"),
    ("modules_to_save", "modules trained as a whole"),
    ("layer_replication", "blocks that are there more than once"),
    ("trainable_token_indices", "embeddings of single tokens"),
    ("target_parameters", "parameters that are no linears"),
    ("alora_invocation_tokens", "aLoRA"),
    ("arrow_config", "Arrow"),
    ("kasa_config", "KaSA"),
    ("velora_config", "VeLoRA"),
    ("monteclora_config", "MonteCLoRA"),
    ("corda_config", "CorDA, which changes the base"),
    ("lora_ga_config", "LoRA-GA, which changes the base"),
];

/// Ways to draw factors that leave the base as it is. The others take what the factors begin with out of it.
const DRAWN: [&str; 3] = ["gaussian", "eva", "orthogonal"];

impl AdapterConfig {
    /// Settings of one rank for all linears of these names, without dropout.
    pub fn new<S: Into<String>>(rank: usize, alpha: f64, names: impl IntoIterator<Item = S>) -> AdapterConfig {
        AdapterConfig {
            rank,
            alpha,
            rslora: false,
            modules: Modules::named(names),
            ranks: Vec::new(),
            alphas: Vec::new(),
            dropout: 0.0,
            base: None,
            masked: false,
            file: String::new(),
        }
    }

    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<AdapterConfig> {
        let bytes = files::read(path, files::SETTINGS)?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| Error::BadJson { path: path.to_path_buf(), reason: format!("not valid JSON: {error}") })?;
        AdapterConfig::parse(&value, &path.display().to_string())
    }

    /// Reads the object of a file of this name. Keys that it does not know are ignored, unless they are called `use_…` and set.
    ///
    /// # Errors
    /// On values of other types, on what changes the arithmetic (DoRA and other variants, biases, whole modules, a base that is
    /// not the one that it names), and on patterns that are none of Python's or too many.
    pub fn parse(value: &Value, file: &str) -> Result<AdapterConfig> {
        let Value::Object(object) = value else {
            return Err(wrong(file, "the file", "a JSON object", kind(value), "download it again"));
        };
        let keys = Keys { object, file };
        keys.refuse()?;
        keys.count_patterns()?;
        let alpha = match keys.set("lora_alpha") {
            Some(value) => keys.number("lora_alpha", value)?,
            None => 8.0,
        };
        let rank = keys.set("r").map_or(Ok(8), |value| keys.rank("r", value))?;
        Ok(AdapterConfig {
            rank,
            alpha,
            rslora: keys.flag("use_rslora")?,
            modules: keys.modules()?,
            ranks: keys.table("rank_pattern", |key, value| keys.rank(key, value))?,
            alphas: keys.table("alpha_pattern", |key, value| keys.number(key, value))?,
            dropout: keys.set("lora_dropout").and_then(Value::as_f64).unwrap_or(0.0),
            base: keys.set("base_model_name_or_path").and_then(Value::as_str).map(String::from),
            masked: keys.flag(MASKED)?,
            file: file.to_string(),
        })
    }

    /// The rank of the linear at this module path. Errors when a pattern takes too many steps to find out.
    pub fn rank(&self, module: &str) -> Result<usize> {
        Ok(self.first("rank_pattern", &self.ranks, module)?.unwrap_or(self.rank))
    }

    /// The factor of the change of this linear, whose rank is `rank`. Errors as [`AdapterConfig::rank`].
    pub fn scale(&self, module: &str, rank: usize) -> Result<f32> {
        let alpha = self.first("alpha_pattern", &self.alphas, module)?.unwrap_or(self.alpha);
        let rank = rank as f64;
        Ok((alpha / if self.rslora { rank.sqrt() } else { rank }) as f32)
    }

    fn first<T: Copy>(&self, key: &str, table: &[(ModulePattern, T)], module: &str) -> Result<Option<T>> {
        for (pattern, value) in table {
            let matches = pattern.matches(module);
            if matches.map_err(|reason| wrong(&self.file, key, "a pattern", reason, "correct it"))? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }

    /// The object to write: the keys that PEFT's own file has, as far as they mean something here, in their order.
    pub fn to_json(&self) -> Value {
        let table = |pairs: Vec<(&str, Value)>| -> Map<String, Value> {
            pairs.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
        };
        let number = |number: f64| match number.fract() == 0.0 && number.abs() < 1e15 {
            true => json!(number as i64),
            false => json!(number),
        };
        let modules = |modules: &TargetModules| match modules {
            TargetModules::AllLinear => json!("all-linear"),
            TargetModules::Names(names) => json!(names),
            TargetModules::Pattern(pattern) => json!(pattern.text()),
        };
        let lists: Vec<&str> = self.modules.lists.iter().map(ModulePattern::text).collect();
        let mut object = json!({
            "alpha_pattern": table(self.alphas.iter().map(|(key, alpha)| (key.text(), number(*alpha))).collect()),
            "base_model_name_or_path": self.base,
            "bias": "none",
            "exclude_modules": self.modules.excluded.as_ref().map(modules),
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": if lists.is_empty() { Value::Null } else { json!(lists) },
            "layers_to_transform": self.modules.blocks,
            "lora_alpha": number(self.alpha),
            "lora_dropout": self.dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "peft_version": PEFT_VERSION,
            "r": self.rank,
            "rank_pattern": table(self.ranks.iter().map(|(key, rank)| (key.text(), json!(rank))).collect()),
            "target_modules": modules(&self.modules.targets),
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.rslora,
        });
        // Not even as false: PEFT warns of keys that it does not know.
        if self.masked {
            object[MASKED] = json!(true);
        }
        object
    }
}

/// The release of PEFT whose form is written.
const PEFT_VERSION: &str = "0.21.2";

/// The keys of a file.
struct Keys<'a> {
    object: &'a Map<String, Value>,
    file: &'a str,
}

impl<'a> Keys<'a> {
    /// The value of a key that is there and not null.
    fn set(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, expected: &str, got: &Value) -> Error {
        wrong(self.file, key, expected, shown(got), "correct it or download the adapter again")
    }

    /// Errors on what changes the arithmetic.
    fn refuse(&self) -> Result<()> {
        match self.set("peft_type") {
            Some(Value::String(kind)) if kind == "LORA" => {}
            other => {
                let got = other.map_or("nothing".to_string(), shown);
                return Err(wrong(self.file, "peft_type", "LORA", got, ELSEWHERE));
            }
        }
        for (key, what) in REFUSED {
            if let Some(value) = self.set(key).filter(|value| is_set(value)) {
                let hint = format!("{what} is not supported: {ELSEWHERE}");
                return Err(wrong(self.file, key, "nothing", shown(value), hint));
            }
        }
        let variant = |(key, value): &(&String, &Value)| {
            key.starts_with("use_")
                && *key != "use_rslora"
                && !REFUSED.iter().any(|(known, _)| known == key)
                && is_set(value)
        };
        if let Some((key, value)) = self.object.iter().find(variant) {
            let hint = format!("this variant is not supported: {ELSEWHERE}");
            return Err(wrong(self.file, &one_line(key), "nothing", shown(value), hint));
        }
        match self.set("init_lora_weights") {
            None | Some(Value::Bool(_)) => Ok(()),
            Some(Value::String(way)) if DRAWN.contains(&way.as_str()) => Ok(()),
            Some(other) => {
                let hint = "this way changes the base: save the adapter with path_initial_model_for_weight_conversion, \
                    or merge it with PEFT";
                let expected = format!("true, false, {}", DRAWN.join(", "));
                Err(wrong(self.file, "init_lora_weights", expected, shown(other), hint))
            }
        }
    }

    /// Errors on more regular expressions than are compiled.
    fn count_patterns(&self) -> Result<()> {
        let tables = ["rank_pattern", "alpha_pattern"].map(|key| self.set(key).and_then(Value::as_object));
        let patterns = tables.into_iter().flatten().flat_map(Map::keys);
        match patterns.filter(|text| !ModulePattern::is_plain(text)).count() {
            0..=MOST_PATTERNS => Ok(()),
            count => {
                let expected = format!("at most {MOST_PATTERNS} regular expressions");
                Err(wrong(self.file, "rank_pattern and alpha_pattern", expected, count.to_string(), "name the modules"))
            }
        }
    }

    fn flag(&self, key: &str) -> Result<bool> {
        match self.set(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    fn number(&self, key: &str, value: &Value) -> Result<f64> {
        let number = value.as_f64().filter(|number| number.is_finite() && number.abs() <= f64::from(f32::MAX));
        number.ok_or_else(|| self.wrong(&one_line(&key), "a number", value))
    }

    fn rank(&self, key: &str, value: &Value) -> Result<usize> {
        let rank = value.as_u64().and_then(|rank| usize::try_from(rank).ok());
        let expected = format!("a rank of 1 to {LARGEST_RANK}");
        let rank = rank.filter(|rank| (1..=LARGEST_RANK).contains(rank));
        rank.ok_or_else(|| self.wrong(&one_line(&key), &expected, value))
    }

    /// A pattern for the end of a path.
    fn pattern(&self, key: &str, text: &str) -> Result<ModulePattern> {
        self.compiled(key, text, ModulePattern::end(text))
    }

    fn compiled(&self, key: &str, text: &str, made: Result<ModulePattern, String>) -> Result<ModulePattern> {
        made.map_err(|reason| {
            let got = format!("{}, {}", shown(&json!(text)), one_line(&reason));
            wrong(self.file, key, "a regular expression of Python's", got, "correct it")
        })
    }

    /// An object of patterns and values, in its order.
    fn table<T>(&self, key: &str, read: impl Fn(&str, &Value) -> Result<T>) -> Result<Vec<(ModulePattern, T)>> {
        match self.set(key) {
            None => Ok(Vec::new()),
            Some(Value::Object(table)) => {
                let entry = |(text, value): (&String, &Value)| {
                    Ok((self.pattern(key, text)?, read(&format!("{key}: {text}"), value)?))
                };
                table.iter().map(entry).collect()
            }
            Some(other) => Err(self.wrong(key, "an object", other)),
        }
    }

    /// Names, or a pattern.
    fn targets(&self, key: &str) -> Result<Option<TargetModules>> {
        match self.set(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("all-linear") => Ok(Some(TargetModules::AllLinear)),
            Some(Value::String(text)) => {
                let whole = self.compiled(key, text, ModulePattern::whole(text))?;
                Ok(Some(TargetModules::Pattern(whole)))
            }
            Some(list @ Value::Array(names)) => {
                let name = |name: &Value| name.as_str().map(String::from);
                let names: Option<_> = names.iter().map(name).collect();
                names.map(|names| Some(TargetModules::Names(names))).ok_or_else(|| self.wrong(key, "names", list))
            }
            Some(other) => Err(self.wrong(key, "a list of names, or a pattern", other)),
        }
    }

    fn modules(&self) -> Result<Modules> {
        let Some(targets) = self.targets("target_modules")? else {
            return Err(self.wrong("target_modules", "a list of names, or a pattern", &Value::Null));
        };
        let numbers = |list: &Value| match list {
            Value::Array(list) => list.iter().map(Value::as_u64).collect(),
            number => number.as_u64().map(|number| [number].into()),
        };
        let key = "layers_to_transform";
        let blocks = match self.set(key) {
            None => None,
            Some(Value::Array(list)) if list.is_empty() => None,
            Some(list) => Some(numbers(list).ok_or_else(|| self.wrong(key, "numbers of blocks", list))?),
        };
        let key = "layers_pattern";
        let lists = match self.set(key) {
            None => Vec::new(),
            Some(Value::String(text)) if text.is_empty() => Vec::new(),
            Some(Value::String(text)) => vec![self.pattern(key, text)?],
            Some(list @ Value::Array(texts)) if texts.len() <= MOST_LISTS => {
                let read = |text: &Value| match text.as_str() {
                    Some(text) => self.pattern(key, text),
                    None => Err(self.wrong(key, "names", list)),
                };
                texts.iter().map(read).collect::<Result<_>>()?
            }
            Some(other) => return Err(self.wrong(key, "a name or a few", other)),
        };
        let excluded = self.targets("exclude_modules")?;
        Ok(Modules { targets, excluded, blocks, lists, file: self.file.to_string() })
    }
}

/// True for a value that asks for something.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::String(_) => "a text",
        _ => "something else",
    }
}

/// A value on one line, the first part of a long one.
fn shown(value: &Value) -> String {
    let text = one_line(value);
    let cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() { cut + "…" } else { cut }
}
