//! Schemes and config groups of llm-compressor's modifiers → settings, for all linears or for some.

use paring_format::near;
use paring_format::{Element, PRESETS, Preset, QuantArgs, Strategy};

use super::modifiers::setting;
use super::yaml::{Node, Tree};
use super::{Group, Known, RecipeFile, Setting, at, unknown_key};
use crate::{Error, Result};

/// The class that covers all linears.
pub(super) const CLASS: &str = "Linear";

/// Linears that are treated alike.
pub(super) struct Part {
    /// Names, `re:` patterns, or the class.
    pub(super) targets: Vec<String>,
    pub(super) settings: Vec<Setting>,
}

impl Part {
    fn is_class(&self) -> bool {
        self.targets.iter().any(|target| target == CLASS)
    }
}

/// A list of strings, or one.
pub(super) fn strings(path: &str, node: &Node) -> Result<Vec<String>> {
    let list = match &node.tree {
        Tree::Scalar(text, _) => return Ok(vec![text.clone()]),
        Tree::List(list) => list,
        Tree::Map(_) => return Err(at(path, node.line, "expected a list of names")),
    };
    let text = |node: &Node| node.text().map(String::from).ok_or_else(|| at(path, node.line, "expected a name"));
    list.iter().map(text).collect()
}

/// The names of linears that something is for: a list of strings, or one, and not nothing, which would be all of them.
pub(super) fn names(path: &str, node: &Node) -> Result<Vec<String>> {
    match strings(path, node)? {
        none if none.is_empty() => Err(at(path, node.line, "expected at least one name, such as Linear")),
        targets => Ok(targets),
    }
}

/// `scheme: NAME`, or `scheme: {NAME: [targets], …}`.
pub(super) fn schemes(path: &str, node: &Node, targets: Vec<String>) -> Result<Vec<Part>> {
    let named = |name: &str, line: usize| match Preset::find(name) {
        Some(preset) => Ok(vec![setting("scheme", preset.name, line)]),
        None => {
            let instead = near::suggestion(name, PRESETS.iter().map(|preset| preset.name));
            Err(at(path, line, format!("scheme: no scheme {name}; {instead}")))
        }
    };
    match &node.tree {
        Tree::Scalar(name, _) => Ok(vec![Part { targets, settings: named(name, node.line)? }]),
        Tree::Map(entries) if entries.is_empty() => Err(at(path, node.line, "scheme: expected a name, such as W4A16")),
        Tree::Map(entries) => {
            let part = |(name, node): &(String, Node)| {
                Ok(Part { targets: names(path, node)?, settings: named(name, node.line)? })
            };
            entries.iter().map(part).collect()
        }
        Tree::List(_) => Err(at(path, node.line, "scheme: expected a name, or names with their targets")),
    }
}

/// `config_groups: {NAME: {targets, weights, input_activations}, …}`.
pub(super) fn config_groups(path: &str, node: &Node) -> Result<Vec<Part>> {
    match &node.tree {
        Tree::Map(groups) if !groups.is_empty() => {
            groups.iter().map(|(name, group)| config_group(path, name, group)).collect()
        }
        _ => Err(at(path, node.line, "config_groups: expected groups, NAME: {targets, weights}")),
    }
}

fn config_group(path: &str, name: &str, group: &Node) -> Result<Part> {
    if let (Some(preset), Tree::List(_)) = (Preset::find(name), &group.tree) {
        let settings = vec![setting("scheme", preset.name, group.line)];
        return Ok(Part { targets: names(path, group)?, settings });
    }
    let Tree::Map(keys) = &group.tree else {
        return Err(at(path, group.line, format!("{name}: expected its settings, key: value")));
    };
    let (mut targets, mut weights, mut input) = (None, None, None);
    for (key, node) in keys.iter().filter(|(_, node)| !node.is_null()) {
        match key.as_str() {
            "targets" => targets = Some(names(path, node)?),
            "weights" => weights = Some((args(path, key, node)?, node)),
            "input_activations" => input = Some(args(path, key, node)?),
            _ => {
                let problem = unknown_key(key, ["targets", "weights", "input_activations"]);
                return Err(at(path, node.line, format!("{name}: {problem}")));
            }
        }
    }
    let targets = targets.ok_or_else(|| at(path, group.line, format!("{name}: no targets; add targets: [Linear]")))?;
    let (weights, node) =
        weights.ok_or_else(|| at(path, group.line, format!("{name}: no weights; add weights: {{num_bits: 4, …}}")))?;
    let mut settings = quantization(&weights, input.as_ref(), node.line).ok_or_else(|| {
        at(
            path,
            node.line,
            format!("{name}: paring has no scheme with these weights and inputs; `paring schemes` lists all"),
        )
    })?;
    if let Some(order) = &weights.actorder {
        settings.push(order_setting(order, node.line));
    }
    if let Tree::Map(keys) = &node.tree
        && let Some((_, observer)) = keys.iter().find(|(key, node)| key == "observer" && !node.is_null())
    {
        match observer.text() {
            Some("mse" | "memoryless_mse") => settings.push(setting("scales", "mse", observer.line)),
            Some("minmax" | "memoryless_minmax" | "static_minmax") => {}
            other => {
                let text = format!("observer: {}: expected minmax or mse", other.unwrap_or("a list"));
                return Err(at(path, observer.line, text));
            }
        }
    }
    Ok(Part { targets, settings })
}

/// QuantizationArgs; the observer of weights is looked at by the caller.
fn args(path: &str, key: &str, node: &Node) -> Result<QuantArgs> {
    QuantArgs::parse(&node.json(), key).map_err(|error| match error {
        paring_format::Error::BadConfig { key, reason } => at(path, node.line, format!("{key}: {reason}")),
        paring_format::Error::UnsupportedFormat { format, .. } => {
            at(path, node.line, format!("{key}: {format} is not supported"))
        }
        other => Error::Format(other),
    })
}

/// The settings with this meaning; `None` when there are none.
fn quantization(weights: &QuantArgs, input: Option<&QuantArgs>, line: usize) -> Option<Vec<Setting>> {
    let groups = |strategy: Strategy| match strategy {
        Strategy::Channel => Some(-1),
        Strategy::Group(size) => i64::try_from(size).ok(),
        _ => None,
    };
    if let (Element::Int(bits @ 2..=8), Some(size), None) = (weights.element, groups(weights.strategy), input) {
        let settings =
            [("wbits", bits.to_string()), ("groupsize", size.to_string()), ("sym", weights.symmetric.to_string())];
        return Some(settings.into_iter().map(|(name, value)| setting(name, value, line)).collect());
    }
    let plain = QuantArgs { actorder: None, ..weights.clone() };
    let is_int = weights.element.int_bits().is_some();
    let alike = |preset: &Preset| {
        let known =
            preset.weights.as_ref().is_some_and(|known| match (groups(known.strategy), groups(plain.strategy)) {
                (Some(_), Some(_)) if is_int => QuantArgs { strategy: plain.strategy, ..known.clone() } == plain,
                _ => *known == plain,
            });
        known && preset.input.as_ref() == input
    };
    let preset = PRESETS.iter().find(|preset| alike(preset))?;
    let mut settings = vec![setting("scheme", preset.name, line)];
    if let Some(size) = groups(plain.strategy).filter(|_| preset.weights.as_ref() != Some(&plain)) {
        settings.push(setting("groupsize", size, line));
    }
    Some(settings)
}

/// The option for an order of visit.
pub(super) fn order(path: &str, value: &str, line: usize) -> Result<Setting> {
    match value {
        "static" | "weight" | "group" => Ok(order_setting(value, line)),
        "false" | "False" => Ok(setting("actorder", "none", line)),
        _ => Err(at(path, line, format!("actorder: {value}: expected static, weight, group or false"))),
    }
}

fn order_setting(value: &str, line: usize) -> Setting {
    setting("actorder", if value == "group" { "group" } else { "static" }, line)
}

/// The option for a quantized cache.
pub(super) fn kv_cache(path: &str, node: &Node, known: &Known) -> Result<Setting> {
    let wanted = QuantArgs { strategy: Strategy::Tensor, ..QuantArgs::new(Element::E4m3) };
    let is_fp8 = args(path, "kv_cache_scheme", node)? == wanted;
    match known.options.iter().find(|name| *name == "kv-cache").filter(|_| is_fp8) {
        Some(name) => Ok(setting(name, "fp8", node.line)),
        None => {
            Err(at(path, node.line, "kv_cache_scheme: expected static symmetric floats of 8 bits, one scale a tensor"))
        }
    }
}

/// Puts parts into a file: one for all linears, the others as groups in the order in which compressed-tensors would have
/// them win: names over patterns, of those the alphabetically first, over the class.
pub(super) fn spread(file: &mut RecipeFile, parts: Vec<Part>) {
    let line = parts.iter().flat_map(|p| &p.settings).map(|s| s.line).min().unwrap_or(1);
    let default = parts.iter().position(Part::is_class);
    let several = parts.len() > 1;
    let all: Vec<String> = parts.iter().flat_map(|part| part.targets.clone()).collect();
    let mut rest: Vec<(String, Vec<Setting>)> = Vec::new();
    for (i, part) in parts.into_iter().enumerate() {
        if i == default.unwrap_or(0) {
            file.settings.extend(part.settings.iter().cloned());
        }
        if several && default != Some(i) {
            rest.extend(part.targets.into_iter().map(|target| (target, part.settings.clone())));
        }
    }
    if default.is_none() {
        file.settings.push(Setting { name: "include".into(), values: all, line });
    }
    // The last one wins, so the strongest goes last.
    rest.sort_by(|(a, _), (b, _)| (!a.starts_with("re:"), b.as_str()).cmp(&(!b.starts_with("re:"), a.as_str())));
    for (target, settings) in rest {
        let line = settings.first().map_or(line, |s| s.line);
        file.groups.push(Group { targets: vec![target], skip: false, settings, line });
    }
}
