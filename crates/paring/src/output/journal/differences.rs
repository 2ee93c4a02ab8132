//! The inputs that a run depends on, and the first difference between two runs.

use paring_format::message;
use paring_format::message::Message;
use paring_format::{Checkpoint, FileSample};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use super::RunIdentity;
use crate::output::digests::hexadecimal;
use crate::plan::Opt;
use crate::report::choices::Choices;
use paring_data::Windows;

/// Choices of a plan that do not decide what is written: names of what [`Input`] knows better, where things wait, and how a
/// run treats its folder.
const FREE: [&str; 9] =
    ["model", "dataset", "config", "device", "masks", "max_vram", "moment", "offload_activations", "overwrite"];

/// A file of the input. When it was written has no bearing: a copy of the same bytes is the same file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct InputFile {
    name: String,
    bytes: u64,
    /// Of samples of all its tensors.
    #[serde(with = "hexadecimal")]
    weights: u64,
}

/// The checkpoint and the data that a run reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Input {
    /// The weight files.
    files: Vec<InputFile>,
    /// Of `config.json`.
    #[serde(with = "hexadecimal")]
    config: u64,
    /// Of names, types and shapes of all tensors.
    #[serde(with = "hexadecimal")]
    tensors: u64,
    /// Of the token ids of all calibration windows; 0 without.
    #[serde(with = "hexadecimal")]
    tokens: u64,
    /// Of the files that are put beside the weights.
    #[serde(with = "hexadecimal")]
    companions: u64,
}

impl Input {
    /// Reads samples of the weights: [`Checkpoint::samples`].
    pub fn of(checkpoint: &Checkpoint, windows: Option<&Windows>, companions: &[(String, Vec<u8>)]) -> Self {
        let file = |FileSample { name, bytes, digest }| InputFile { name, bytes, weights: digest };
        let files = checkpoint.samples().into_iter().map(file).collect();
        let mut tensors = Xxh3::new();
        for (name, info) in checkpoint.names().filter_map(|name| Some((name, checkpoint.info(name)?))) {
            tensors.update(format!("{name} {} {:?} {}\n", info.dtype.name(), info.shape, info.file).as_bytes());
        }
        let mut tokens = Xxh3::new();
        if let Some(windows) = windows {
            tokens.update(&(windows.seqlen as u64).to_le_bytes());
            windows.ids.iter().for_each(|id| tokens.update(&id.to_le_bytes()));
        }
        let mut beside = Xxh3::new();
        for (name, bytes) in companions {
            beside.update(format!("{name} {}\n", bytes.len()).as_bytes());
            beside.update(bytes);
        }
        let mut config = Xxh3::new();
        config.update(checkpoint.config().to_string().as_bytes());
        Self {
            files,
            config: config.digest(),
            tensors: tensors.digest(),
            tokens: windows.map_or(0, |_| tokens.digest()),
            companions: beside.digest(),
        }
    }

    /// The first thing that is not as it was, in words.
    fn difference(&self, now: &Self) -> Option<String> {
        for (was, is) in self.files.iter().zip(&now.files) {
            let InputFile { name, bytes, .. } = was;
            if *name != is.name {
                return Some(format!("the model has a file {} in place of {name}", is.name));
            }
            if *bytes != is.bytes {
                return Some(format!("{name} has {} bytes now, and had {bytes}", is.bytes));
            }
        }
        let (was, is) = (self.files.len(), now.files.len());
        let other_weights = || self.files.iter().zip(&now.files).find(|(was, is)| was.weights != is.weights);
        let other = |same: bool, what: &str| (!same).then(|| format!("{what} changed"));
        (was != is)
            .then(|| format!("the model has {is} files now, and had {was}"))
            .or_else(|| other(self.config == now.config, "the model's config.json"))
            .or_else(|| other(self.tensors == now.tensors, "the model's list of tensors"))
            .or_else(|| Some(format!("the weights in {} changed", other_weights()?.0.name)))
            .or_else(|| other(self.tokens == now.tokens, "the calibration tokens"))
            .or_else(|| other(self.companions == now.companions, "a file next to the model's weights"))
    }
}

/// The reason why a run that began as `was` cannot be resumed as `now`, in words; `None` when it can.
pub(crate) fn difference(was: &RunIdentity, now: &RunIdentity) -> Option<Message> {
    if was.program != now.program {
        return Some(format!("it was started by {}, and this is {}", was.program, now.program).into());
    }
    let choices = |plan: &Value| {
        let mut plan = plan.clone();
        if let Some(plan) = plan.as_object_mut() {
            FREE.iter().for_each(|name| drop(plan.remove(*name)));
        }
        plan
    };
    if let Some(changed) = masks(&was.plan, &now.plan) {
        return Some(changed);
    }
    let plans = [&was.plan, &now.plan].map(choices);
    if let Some(changed) = choice(&plans) {
        return Some(changed);
    }
    if let Some((path, [was, now])) = first("", &plans[0], &plans[1]) {
        return Some(format!("{path} was {was} at the start, and is {now} now").into());
    }
    was.input.difference(&now.input).map(Message::from).or_else(|| {
        let (was, now) = (was.shards, now.shards);
        (was != now).then(|| format!("it would have {now} files now, and was to have {was}").into())
    })
}

/// The difference between the masks that two plans are given: what their files hold, whatever they are called.
fn masks(was: &Value, now: &Value) -> Option<Message> {
    let of = |plan: &Value, key: &str| Some(plan.pointer("/masks")?.get(key)?.as_str()?.to_string());
    let [file_was, file_now] = [was, now].map(|plan| of(plan, "file"));
    match (of(was, "digest"), of(now, "digest")) {
        (was, now) if was == now => None,
        (Some(was), Some(now)) => {
            let file = file_now.unwrap_or_default();
            Some(format!("the masks in {file} changed (digest {now}, and {was} at the start)").into())
        }
        _ => {
            let [was, now] = [file_was, file_now].map(|file| file.unwrap_or_else(|| "unset".into()));
            Some(message![Opt::Masks, format!(" was {was} at the start, and is {now} now")])
        }
    }
}

/// The first choice of two plans that differs, where an option makes it.
fn choice(plans: &[Value; 2]) -> Option<Message> {
    let choices = plans.each_ref().map(Choices::of);
    let value = |choices: &Choices, option: Opt| {
        let of_option = choices.all().filter(|choice| choice.option == Some(option));
        match of_option.map(|choice| choice.value.as_str()).collect::<Vec<_>>()[..] {
            [] => "unset".to_string(),
            [""] => "set".to_string(),
            ref values => values.join(", "),
        }
    };
    let options = choices.iter().flat_map(Choices::all).filter_map(|choice| choice.option);
    let changed = |option| Some((option, choices.each_ref().map(|choices| value(choices, option))));
    let (option, [was, now]) = options.filter_map(changed).find(|(_, [was, now])| was != now)?;
    Some(message![option, format!(" was {was} at the start, and is {now} now")])
}

/// The first place where two values differ, and what they are there.
pub(crate) fn first(path: &str, a: &Value, b: &Value) -> Option<(String, [String; 2])> {
    match (a, b) {
        _ if a == b => None,
        (Value::Object(x), Value::Object(y)) => {
            let keys = x.keys().chain(y.keys().filter(|key| !x.contains_key(*key)));
            let at = |key: &String| if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let of = |map: &serde_json::Map<String, Value>, key: &String| map.get(key).cloned().unwrap_or(Value::Null);
            keys.into_iter().find_map(|key| first(&at(key), &of(x, key), &of(y, key)))
        }
        _ => Some((
            path.to_string(),
            [a, b].map(|value| if value.is_null() { "unset".into() } else { value.to_string() }),
        )),
    }
}
