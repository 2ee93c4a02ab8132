//! The metadata at the head of a card, which hubs read: YAML between two lines of dashes.

use std::fmt;

use paring_data::hub::Repo;
use paring_data::named;
use paring_format::layouts::layout;
use paring_format::{Checkpoint, PRESETS, QuantArgs, Scheme, files};
use serde_json::Value;

use super::Origin;
use super::text::{plain, yaml};
use crate::plan::{Plan, yaml_value};
use crate::report::names::CARD;
use crate::{Error, Result};

/// Bytes of a card that are read, and of the metadata at its head; real ones have kilobytes.
const MOST: u64 = 1 << 20;
const MOST_FRONT: usize = 64 << 10;
/// Elements of a list that are kept.
const MOST_ELEMENTS: usize = 100;
/// The task of every model that is read.
const TASK: &str = "text-generation";

/// The metadata of a card: what the base model's says and is true of the output as well, and what a run knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Front {
    /// The base model's name on the hub, where it is known.
    pub(super) base_model: Option<String>,
    /// Pairs of `license`, `license_name` and `license_link`, as far as the base model's card has them.
    pub(super) license: Vec<(String, String)>,
    pub(super) language: Vec<String>,
    pub(super) task: Option<String>,
    pub(super) datasets: Vec<String>,
    pub(super) tags: Vec<String>,
}

/// Keys of a licence.
const LICENSE: [&str; 3] = ["license", "license_name", "license_link"];

impl Front {
    /// The metadata for an output that is made of `checkpoint`, which a person called `model`. Also returns a note where the card
    /// beside it cannot be read.
    pub fn of_base(checkpoint: &Checkpoint, model: &str) -> (Self, Option<String>) {
        let path = checkpoint.dir().map(|dir| dir.join(CARD)).filter(|path| path.is_file());
        let (mut front, note) = match path.map(|path| files::read(&path, MOST)) {
            None => (Self::default(), None),
            Some(Err(error)) => (Self::default(), Some(error.to_string())),
            Some(Ok(bytes)) => match Self::read(&String::from_utf8_lossy(&bytes)) {
                Ok(front) => (front, None),
                Err(error) => (Self::default(), Some(error.to_string())),
            },
        };
        let named = hub_name(checkpoint, model);
        front.base_model = named.or(front.base_model);
        // Those of the base are of its training, and its tags are of what it is.
        (front.datasets, front.tags) = (Vec::new(), Vec::new());
        let note = note.map(|reason| {
            format!("{reason}: the metadata of the model's card is left out of the output's, its licence among it")
        });
        (front, note)
    }

    /// The metadata of a card with this text; empty where it has none. The base model is taken from a card that says
    /// that its model is a quantized one: every other's base is another model.
    ///
    /// # Errors
    /// Metadata that is no YAML, or more than 64 KiB of it.
    pub fn read(text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let Some(rest) = text.strip_prefix("---\n") else { return Ok(Self::default()) };
        let Some(end) = rest.find("\n---") else { return Ok(Self::default()) };
        if end > MOST_FRONT {
            let reason = format!("{end} bytes of metadata, expected at most {MOST_FRONT}");
            return Err(Error::content(CARD.to_string(), reason));
        }
        let value = yaml_value(CARD, &rest[..end])?;
        let one = |key: &str| value.get(key).and_then(Value::as_str).and_then(plain);
        let several = |key: &str| -> Vec<String> {
            match value.get(key) {
                Some(Value::Array(list)) => {
                    list.iter().filter_map(Value::as_str).filter_map(plain).take(MOST_ELEMENTS).collect()
                }
                Some(Value::String(text)) => plain(text).into_iter().collect(),
                _ => Vec::new(),
            }
        };
        let is_quantized = one("base_model_relation").is_some_and(|relation| relation == "quantized");
        let base = several("base_model").into_iter().next().filter(|name| Repo::parse_model(name).is_some());
        Ok(Self {
            base_model: base.filter(|_| is_quantized),
            license: LICENSE.iter().filter_map(|key| Some((key.to_string(), one(key)?))).collect(),
            language: several("language"),
            task: one("pipeline_tag"),
            datasets: several("datasets"),
            tags: several("tags"),
        })
    }

    /// Adds the data set of a plan, where the hub has it.
    pub fn with_data(mut self, plan: &Plan) -> Self {
        let repository = plan.dataset.as_deref().and_then(named::repository);
        self.datasets.extend(repository.map(String::from));
        self
    }

    /// Adds the tags of an output with these schemes.
    pub(super) fn with_tags(mut self, schemes: &[&Scheme], origin: &Origin) -> Self {
        let mut tags = vec!["paring".to_string()];
        if schemes.iter().any(|scheme| scheme.weights.is_some() && !is_spqr(scheme)) {
            tags.push("compressed-tensors".into());
        }
        for scheme in schemes {
            tags.extend(scheme.weights.as_ref().map(|weights| scheme_name(scheme, weights)));
        }
        if let Origin::Run(report) = origin {
            let pattern = report.plan.get("recipe").and_then(|recipe| recipe.get("pattern"));
            tags.extend(pattern.filter(|pattern| !pattern.is_null()).map(|_| "pruned".to_string()));
        }
        self.tags.clear();
        for tag in tags {
            if !self.tags.contains(&tag) {
                self.tags.push(tag);
            }
        }
        self
    }

    /// The licence, in a word.
    pub(super) fn license(&self) -> Option<&str> {
        let of = |key: &str| self.license.iter().find(|(other, _)| other == key).map(|(_, text)| text.as_str());
        of("license_name").or_else(|| of("license"))
    }
}

/// The name that others know a scheme by: that of the preset which differs in no more than the size of groups, or how wide a
/// weight is.
pub(super) fn scheme_name(scheme: &Scheme, weights: &QuantArgs) -> String {
    if is_spqr(scheme) {
        return "SpQR".into();
    }
    let numbers = |args: &QuantArgs| (args.element, args.symmetric, args.scale_type);
    let preset = PRESETS.iter().find(|preset| {
        preset.weights.as_ref().is_some_and(|other| numbers(other) == numbers(weights))
            && match (&preset.input, &scheme.input) {
                (None, None) => true,
                (Some(other), Some(input)) => numbers(other) == numbers(input) && other.dynamic == input.dynamic,
                _ => false,
            }
    });
    preset.map_or_else(|| format!("{}-bit", weights.element.bits()), |preset| preset.name.to_string())
}

fn is_spqr(scheme: &Scheme) -> bool {
    layout(&scheme.format).is_some_and(|layout| layout.holds().spqr)
}

/// The name on the hub of a model: as it was given, or that of the folder in a hub's cache that it lies in.
fn hub_name(checkpoint: &Checkpoint, model: &str) -> Option<String> {
    let dir = checkpoint.dir()?;
    if let Some(repo) = Repo::parse_model(model).filter(|_| dir != std::path::Path::new(model)) {
        return Some(repo.id().to_string());
    }
    let dir = dir.canonicalize().ok()?;
    let parts: Vec<&str> = dir.iter().filter_map(|part| part.to_str()).collect();
    let cached = parts.windows(2).find(|pair| pair[1] == "snapshots" && pair[0].starts_with("models--"))?;
    let name = cached[0].strip_prefix("models--")?.replacen("--", "/", 1);
    Some(name).filter(|name| Repo::parse_model(name).is_some())
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "---")?;
        if let Some(base) = &self.base_model {
            writeln!(f, "base_model: {}\nbase_model_relation: quantized", yaml(base))?;
        }
        writeln!(f, "library_name: transformers")?;
        writeln!(f, "pipeline_tag: {}", yaml(self.task.as_deref().unwrap_or(TASK)))?;
        for (key, text) in &self.license {
            writeln!(f, "{key}: {}", yaml(text))?;
        }
        for (key, list) in [("language", &self.language), ("datasets", &self.datasets), ("tags", &self.tags)] {
            if !list.is_empty() {
                writeln!(f, "{key}:")?;
            }
            list.iter().try_for_each(|text| writeln!(f, "- {}", yaml(text)))?;
        }
        writeln!(f, "---")
    }
}
