//! llm-compressor's recipes: modifiers in stages → settings.
//!
//! A modifier that prunes and one that quantizes after it are one sweep where both are of the methods that go together;
//! other sequences are an error, because they would be another model.

use std::collections::BTreeSet;

use super::groups::{self, Part};
use super::yaml::{Node, Tree};
use super::{Alike, Known, Named, RecipeFile, Setting, at, expect_known, unknown_key};
use crate::Result;
use crate::plan::method::{METHODS, MethodInfo, ModifierInfo};

/// The modifier that leaves zeros where they are, as everything here does.
static CONSTANT: ModifierInfo = ModifierInfo { name: "ConstantPruningModifier", keys: &["targets"], defaults: &[] };

/// All modifiers with their methods; none for the one that changes nothing.
fn known_modifiers() -> impl Iterator<Item = (&'static ModifierInfo, Option<&'static MethodInfo>)> {
    let of_method = |method: &&'static MethodInfo| {
        let method = *method;
        method.modifiers.iter().map(move |info| (info, Some(method)))
    };
    METHODS.iter().flat_map(of_method).chain([(&CONSTANT, None)])
}

/// Keys that change nothing here, and why.
const WITHOUT_EFFECT: [(&str, &str); 9] = [
    ("sequential_targets", "blocks are compressed one after another"),
    ("sequential_update", "blocks are compressed one after another"),
    ("offload_hessians", "statistics of one block are in memory at a time"),
    ("init_sparsity", "weights are removed in one step"),
    ("start", "weights are removed in one step"),
    ("end", "weights are removed in one step"),
    ("update_frequency", "weights are removed in one step"),
    ("update_scheduler", "weights are removed in one step"),
    ("leave_enabled", "weights are removed in one step"),
];

/// A modifier with its keys.
struct Modifier<'a> {
    info: &'static ModifierInfo,
    /// `None`: it leaves everything as it is.
    method: Option<&'static MethodInfo>,
    line: usize,
    keys: &'a [(String, Node)],
}

/// Settings of a modifier, before they are put together.
#[derive(Default)]
struct Read {
    settings: Vec<Setting>,
    parts: Vec<Part>,
    ignore: Vec<String>,
    notes: Vec<String>,
}

pub(super) fn convert(path: &str, root: &Node, known: &Known) -> Result<RecipeFile> {
    let mut modifiers = Vec::new();
    find(path, root, &mut modifiers)?;
    let mut file = RecipeFile { path: path.to_string(), ..RecipeFile::default() };
    let mut prune: Option<(&Modifier, Read)> = None;
    let mut quantize: Option<(&Modifier, Read)> = None;
    for modifier in &modifiers {
        let read = modifier.read(path, known)?;
        let Some(method) = modifier.method else {
            file.notes.push(format!("{}: zeros of a sparse model are always kept", modifier.info.name));
            continue;
        };
        let (slot, order) = match method.drops {
            true => (&mut prune, quantize.as_ref().map(|(m, _)| m.info.name)),
            false => (&mut quantize, None),
        };
        let before = order.or(slot.as_ref().map(|(m, _)| m.info.name));
        if let Some(before) = before {
            let text = format!(
                "{} after {before} takes two runs; write two recipes and run one after the other",
                modifier.info.name
            );
            return Err(at(path, modifier.line, text));
        }
        *slot = Some((modifier, read));
    }
    let none = || at(path, root.line, format!("no modifier that prunes or quantizes; add one of {}", names()));
    let read = match (prune, quantize) {
        (None, None) => return Err(none()),
        (Some((modifier, read)), None) | (None, Some((modifier, read))) => {
            let mut read = read;
            read.settings.insert(0, modifier.method());
            for (option, value) in modifier.info.defaults {
                if read.settings.iter().all(|setting| setting.name != *option) {
                    read.settings.push(setting(option, value, modifier.line));
                }
            }
            read
        }
        (Some((first, pruned)), Some((second, rounded))) => {
            file.alike = alike(path, (first, &pruned), (second, &rounded));
            together(path, (first, pruned), (second, rounded))?
        }
    };
    file.notes.extend(read.notes);
    if read.ignore.iter().all(|name| !name.contains("lm_head")) {
        file.notes.push("lm_head is not compressed, although the recipe does not ignore it".into());
    }
    let line = modifiers.first().map_or(1, |m| m.line);
    file.settings = read.settings;
    groups::spread(&mut file, read.parts);
    if !read.ignore.is_empty() {
        file.settings.push(Setting { name: "ignore".into(), values: read.ignore, line });
    }
    Ok(file)
}

/// Pruning and quantizing in one sweep.
fn together(path: &str, (first, pruned): (&Modifier, Read), (second, rounded): (&Modifier, Read)) -> Result<Read> {
    let fail = |text: String| Err(at(path, second.line, text));
    if !first.sweeps_with(second) {
        return fail(format!(
            "{} after {} takes two runs (one run does {}); write two recipes and run one after the other",
            second.info.name,
            first.info.name,
            single_sweeps()
        ));
    }
    let mut read = Read { settings: vec![first.method()], ..rounded };
    read.settings.extend(pruned.settings);
    for more in rounded.settings {
        match read.settings.iter().find(|s| s.name == more.name) {
            None => read.settings.push(more),
            Some(same) if same.values == more.values => {}
            Some(other) => {
                let text = format!(
                    "{} is {} here and {} on line {}; one run has one; use the same for both",
                    more.name,
                    more.values.join(", "),
                    other.values.join(", "),
                    other.line
                );
                return Err(at(path, more.line, text));
            }
        }
    }
    read.notes.extend(pruned.notes);
    Ok(read)
}

/// The linears of both, where they are not named by the same words.
fn alike(path: &str, first: (&Modifier, &Read), second: (&Modifier, &Read)) -> Option<Alike> {
    let named = |(modifier, read): (&Modifier, &Read)| {
        let sorted = |names: Vec<String>| names.into_iter().collect::<BTreeSet<String>>().into_iter().collect();
        let targets = read.parts.iter().flat_map(|part| part.targets.clone()).collect();
        Named { modifier: modifier.info.name.into(), targets: sorted(targets), ignore: sorted(read.ignore.clone()) }
    };
    let place = format!("{path}, line {}", second.0.line);
    let (first, second) = (named(first), named(second));
    ((&first.targets, &first.ignore) != (&second.targets, &second.ignore)).then_some(Alike { place, first, second })
}

fn names() -> String {
    known_modifiers().map(|(info, _)| info.name).collect::<Vec<_>>().join(", ")
}

/// The pairs of modifiers that one sweep does.
fn single_sweeps() -> String {
    let of = |method: &MethodInfo| method.modifiers.iter().map(|info| info.name);
    let pairs = METHODS.iter().flat_map(|first| METHODS.iter().map(move |second| (first, second)));
    let pairs = pairs.filter(|(first, second)| first.includes(second));
    let words = pairs.flat_map(|(first, second)| {
        of(first).flat_map(move |first| of(second).map(move |second| format!("{first} and {second}")))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// A setting that came from that line.
pub(super) fn setting(name: &str, value: impl ToString, line: usize) -> Setting {
    Setting { name: name.into(), values: vec![value.to_string()], line }
}

/// All modifiers, in their order: in stages, in groups of modifiers, or bare.
fn find<'a>(path: &str, node: &'a Node, found: &mut Vec<Modifier<'a>>) -> Result<()> {
    let entries = match &node.tree {
        Tree::List(list) => return list.iter().try_for_each(|node| find(path, node, found)),
        Tree::Map(entries) => entries,
        Tree::Scalar(..) => return Err(at(path, node.line, "expected stages and modifiers, such as GPTQModifier")),
    };
    for (key, value) in entries {
        if let Some((info, method)) = known_modifiers().find(|(info, _)| info.name == key) {
            let keys = match &value.tree {
                Tree::Map(keys) => keys.as_slice(),
                _ if value.is_null() => &[],
                _ => return Err(at(path, value.line, format!("{}: expected its settings, key: value", info.name))),
            };
            found.push(Modifier { info, method, line: value.line, keys });
        } else if key.ends_with("Modifier") {
            return Err(at(path, value.line, format!("{key}: paring has no such method; use one of {}", names())));
        } else if key == "modifiers" || key.ends_with("_modifiers") || key.ends_with("_stage") {
            find(path, value, found)?;
        } else if key != "run_type" || value.text() != Some("oneshot") {
            let others = ["NAME_stage", "NAME_modifiers", "run_type: oneshot"];
            let known = others.into_iter().chain(known_modifiers().map(|(info, _)| info.name));
            return Err(at(path, value.line, unknown_key(key, known)));
        }
    }
    Ok(())
}

impl Modifier<'_> {
    fn method(&self) -> Setting {
        setting("method", self.method.map_or("", |method| method.name), self.line)
    }

    /// Tells whether one sweep prunes as this modifier and rounds as `rounding` says.
    fn sweeps_with(&self, rounding: &Modifier) -> bool {
        self.method.zip(rounding.method).is_some_and(|(first, second)| first.includes(second))
    }

    fn read(&self, path: &str, known: &Known) -> Result<Read> {
        let mut read = Read::default();
        let get =
            |key: &str| self.keys.iter().find(|(name, _)| name == key).map(|(_, node)| node).filter(|n| !n.is_null());
        for (key, node) in self.keys {
            if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(name, _)| name == key) {
                read.notes.push(format!("{}: {key} has no effect: {why}", self.info.name));
                continue;
            }
            let keys = self.info.keys.iter().copied().chain(WITHOUT_EFFECT.iter().map(|(name, _)| *name));
            expect_known(path, node.line, key, keys).map_err(|_| {
                let problem = unknown_key(key, self.info.keys.iter().copied());
                at(path, node.line, format!("{}: {problem}", self.info.name))
            })?;
        }
        let text = |key: &str| -> Result<Option<(String, usize)>> {
            let Some(node) = get(key) else { return Ok(None) };
            let text =
                node.text().ok_or_else(|| at(path, node.line, format!("{key}: expected one value, not a list")))?;
            Ok(Some((text.to_string(), node.line)))
        };
        for (key, option) in [("block_size", "blocksize"), ("dampening_frac", "percdamp")] {
            if let Some((value, line)) = text(key)? {
                read.settings.push(setting(option, value, line));
            }
        }
        if let Some((value, line)) = text("actorder")? {
            read.settings.push(groups::order(path, &value, line)?);
        }
        if let Some((value, line)) =
            text("preserve_sparsity_mask")?.filter(|(value, _)| value.to_lowercase() != "false")
        {
            let text = format!("preserve_sparsity_mask: {value}: pruning chooses among all weights; expected false");
            return Err(at(path, line, text));
        }
        if self.method.is_some_and(|method| method.drops) {
            read.settings.push(self.removal(
                path,
                text("mask_structure")?,
                text("sparsity")?.or(text("final_sparsity")?),
            )?);
        }
        let targets = get("targets").map(|node| groups::names(path, node)).transpose()?;
        let targets = targets.unwrap_or_else(|| vec![groups::CLASS.into()]);
        read.ignore = get("ignore").map(|node| groups::strings(path, node)).transpose()?.unwrap_or_default();
        read.parts = match (get("scheme"), get("config_groups")) {
            (Some(node), Some(_)) => {
                return Err(at(path, node.line, "scheme has no effect with config_groups; remove one of them"));
            }
            (Some(node), None) => groups::schemes(path, node, targets)?,
            (None, Some(node)) => groups::config_groups(path, node)?,
            (None, None) if self.method.is_some_and(|method| !method.drops) => {
                return Err(at(
                    path,
                    self.line,
                    format!("{}: no scheme or config_groups; add one of them", self.info.name),
                ));
            }
            (None, None) => vec![Part { targets, settings: Vec::new() }],
        };
        if let Some(node) = get("kv_cache_scheme") {
            read.settings.push(groups::kv_cache(path, node, known)?);
        }
        Ok(read)
    }

    /// The pattern that is removed. llm-compressor's N:M removes N of M, this program keeps N.
    fn removal(&self, path: &str, mask: Option<(String, usize)>, share: Option<(String, usize)>) -> Result<Setting> {
        let unstructured = |mask: &str| ["0:0", "unstructured"].contains(&mask.to_lowercase().as_str());
        match (mask.filter(|(mask, _)| !unstructured(mask)), share) {
            (None, Some((share, line))) => Ok(setting("sparsity", share, line)),
            (None, None) => Err(at(
                path,
                self.line,
                format!("{}: no sparsity or mask_structure N:M; add one of them", self.info.name),
            )),
            (Some((mask, line)), share) => {
                let numbers =
                    mask.split_once(':').and_then(|(n, m)| Some((n.parse::<u32>().ok()?, m.parse::<u32>().ok()?)));
                let Some((n, m)) = numbers.filter(|(n, m)| n <= m && *m > 0) else {
                    return Err(at(path, line, format!("mask_structure: {mask}: expected N:M or unstructured")));
                };
                let agrees =
                    |share: &str| share.parse::<f64>().is_ok_and(|s| (s - f64::from(n) / f64::from(m)).abs() < 1e-6);
                match share.filter(|(share, _)| !agrees(share)) {
                    Some((share, line)) => Err(at(
                        path,
                        line,
                        format!("sparsity: {share} contradicts mask_structure {mask}; remove one of them"),
                    )),
                    None => Ok(setting("pattern", format!("{}:{m}", m - n), line)),
                }
            }
        }
    }
}
