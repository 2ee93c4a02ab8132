//! Names of the files that this program writes.

use crate::checkpoint::{CONFIG, INDEX, SINGLE};

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

/// The file in which a run leaves its plan and the digests of what it made.
pub const REPORT: &str = "paring.json";

/// The file in which a run leaves its report.
pub const NUMBERS: &str = "report.json";

/// The file in which a run leaves its report as a page.
pub const PAGE: &str = "report.html";

/// The journal of a run that is not finished: what it has done, line by line.
pub const JOURNAL: &str = "journal.jsonl";

/// The file that whoever writes into a folder keeps locked meanwhile.
pub const LOCK: &str = ".paring.lock";

/// How the names of files begin in which a run keeps activations.
pub const ACTIVATIONS: &str = ".activations";

/// The file that shows whether a folder can be written to.
pub(super) const PROBE: &str = ".paring-probe";

/// The name of shard `i` (from 0) of `n`.
pub fn shard_name(i: usize, n: usize) -> String {
    if n == 1 { SINGLE.to_string() } else { format!("model-{:05}-of-{n:05}.safetensors", i + 1) }
}

/// Whether a file of this name is one of those that this program writes, finished or not.
pub(super) fn is_own(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    let fixed = [CONFIG, INDEX, REPORT, NUMBERS, PAGE, JOURNAL, PROBE];
    fixed.contains(&name) || COMPANIONS.contains(&name) || name.starts_with(ACTIVATIONS) || is_weights(name)
}

/// Whether a file of this name is what is left of one that was never finished.
pub(super) fn is_remains(name: &str) -> bool {
    name.ends_with(".tmp") && is_own(name)
}

/// `model.safetensors` or `model-00001-of-00002.safetensors`.
pub(super) fn is_weights(name: &str) -> bool {
    let number = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let middle = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    name == SINGLE || middle.and_then(|m| m.split_once("-of-")).is_some_and(|(i, n)| number(i) && number(n))
}
