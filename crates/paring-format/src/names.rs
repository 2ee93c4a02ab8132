//! Names of the files in the folder of a checkpoint.

/// The file name of a checkpoint that is not split.
pub const SINGLE: &str = "model.safetensors";
/// The file name of the list of shards.
pub const INDEX: &str = "model.safetensors.index.json";
/// The file name of a pickled checkpoint that is not split.
pub const PICKLE: &str = "pytorch_model.bin";
/// The file name of the list of pickled shards.
pub const PICKLE_INDEX: &str = "pytorch_model.bin.index.json";
/// The file name of the configuration.
pub const CONFIG: &str = "config.json";

/// Names of the files that belong to a model besides weights and config, and are copied along.
pub const COMPANIONS: [&str; 10] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// The file beside a checkpoint that says how it was made and what its digests are.
pub const MANIFEST: &str = "paring.json";

/// The journal of a checkpoint that is not finished: a folder that has one, and no [`CONFIG`], is no model yet.
pub const JOURNAL: &str = "journal.jsonl";

/// The file that is locked while a program writes into the folder.
pub const LOCK: &str = ".paring.lock";

/// The file that shows whether a folder can be written to.
pub(crate) const PROBE: &str = ".paring-probe";

/// The name of shard `i` (from 0) of `n`.
pub fn shard_name(i: usize, n: usize) -> String {
    if n == 1 { SINGLE.to_string() } else { format!("model-{:05}-of-{n:05}.safetensors", i + 1) }
}

/// Files that the program which writes a checkpoint leaves in its folder, beside those of the checkpoint itself. What
/// overwrites a checkpoint removes them too.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunFiles {
    /// Their names.
    pub names: &'static [&'static str],
    /// The beginning of the names of others.
    pub prefix: Option<&'static str>,
}

impl RunFiles {
    /// Tells whether a file of this name is one of these or of a checkpoint's own, finished or not.
    pub(crate) fn is_own(self, name: &str) -> bool {
        let name = name.strip_suffix(".tmp").unwrap_or(name);
        let fixed = [CONFIG, INDEX, MANIFEST, JOURNAL, PROBE];
        fixed.contains(&name)
            || COMPANIONS.contains(&name)
            || is_weights(name)
            || self.names.contains(&name)
            || self.prefix.is_some_and(|prefix| name.starts_with(prefix))
    }

    /// Tells whether a file of this name is the rest of one that was never finished.
    pub(crate) fn is_leftover(self, name: &str) -> bool {
        name.ends_with(".tmp") && self.is_own(name)
    }
}

/// Tells whether this is the name of weights, `model.safetensors` or `model-00001-of-00002.safetensors`.
pub(crate) fn is_weights(name: &str) -> bool {
    let number = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let middle = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    name == SINGLE || middle.and_then(|m| m.split_once("-of-")).is_some_and(|(i, n)| number(i) && number(n))
}

/// Tells whether a name from a file is the plain name of a file beside it, and leads to no other folder.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0', ':'])
}
