//! Names of the files in the folder of a checkpoint.

#[cfg(test)]
mod tests;

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

/// The file name of the settings of an adapter.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The file name of the factors of an adapter.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// The file name of the factors of an adapter of earlier releases of PEFT.
pub(crate) const ADAPTER_PICKLE: &str = "adapter_model.bin";

/// Well-known names of files that belong to a model besides weights and config. Programs whose outputs list no files copied these
/// along, and no others; [`crate::beside`] has the rule of today.
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

/// The file that says of a folder that an output is made in it, beside the one that it will replace.
pub(crate) const STAGED: &str = ".paring-staged";

/// The file that says of a folder that it was replaced, and which of its files go.
pub(crate) const REPLACED: &str = ".paring-replaced";

/// The end of the names of files that are not finished.
const TEMPORARY: &str = ".paring.tmp";

/// The name of a file that is to be called `name`, while it is written. `unique` makes it one that nothing else has.
pub(crate) fn temporary_name(name: &std::ffi::OsStr, (process, number): (u32, u64)) -> std::ffi::OsString {
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{process:x}-{number:x}{TEMPORARY}"));
    temporary
}

/// The name that the file of a temporary name was to have; `None` for other names.
pub(crate) fn temporary_of(name: &str) -> Option<&str> {
    let (of, number) = name.strip_prefix('.')?.strip_suffix(TEMPORARY)?.rsplit_once('.')?;
    let hexadecimal = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    number.split_once('-').is_some_and(|(a, b)| hexadecimal(a) && hexadecimal(b)).then_some(of)
}

/// The name of shard `i` (from 0) of `n`.
pub fn shard_name(i: usize, n: usize) -> String {
    if n == 1 { SINGLE.to_string() } else { format!("model-{:05}-of-{n:05}.safetensors", i + 1) }
}

/// The name of the file in which shards are merged until it is called `name`.
pub(crate) fn merging_name(name: &str) -> String {
    format!(".{name}.paring-merging")
}

/// Tells whether a file of this name may come of merging `shards` shards.
pub(crate) fn is_merged(name: &str, shards: usize) -> bool {
    let count = name.strip_suffix(".safetensors").and_then(|name| name.rsplit_once("-of-")?.1.parse::<usize>().ok());
    is_weights(name) && shards > 1 && count.unwrap_or(1) < shards
}

/// Files that the program which writes a checkpoint leaves in its folder, beside those of the checkpoint itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunFiles {
    /// Their names.
    pub names: &'static [&'static str],
    /// The beginning of the names of others, which end in a dash and a number.
    pub prefix: Option<&'static str>,
}

impl RunFiles {
    /// Tells whether a run leaves a file of this name beside its checkpoint, finished or not.
    pub(crate) fn has(self, name: &str) -> bool {
        let numbered = |prefix: &str| {
            let rest = name.strip_prefix(prefix).map(|rest| rest.strip_suffix(".tmp").unwrap_or(rest));
            let number = rest.and_then(|rest| rest.strip_prefix('-'));
            rest == Some("") || number.is_some_and(|n| n.len() >= 5 && n.bytes().all(|b| b.is_ascii_digit()))
        };
        self.names.contains(&name) || self.prefix.is_some_and(numbered)
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

/// Tells whether a name is that of a file beside others, or in folders below theirs: `a/b.json`.
pub fn is_plain_path(name: &str) -> bool {
    name.split('/').all(is_plain_name)
}

/// Tells whether a terminal obeys this character, or shows the text around it in another order than it has: a control
/// character, a line or paragraph separator, a mark that sets the direction of writing, or a space without a width, which
/// hides in a name.
pub fn is_obeyed(c: char) -> bool {
    let directions =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || directions || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}' | '\u{2060}' | '\u{feff}')
}
