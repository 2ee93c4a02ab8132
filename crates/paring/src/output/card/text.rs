//! Text from elsewhere, made harmless in YAML and in Markdown.

use paring_format::names::is_obeyed;

/// Characters of a text that are kept.
const LONGEST: usize = 200;

/// A text of one line without characters that a terminal or a page obeys; `None` where it has such, is empty, or too long.
pub(super) fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let is_plain = !text.is_empty() && text.chars().count() <= LONGEST && !text.contains(is_obeyed);
    is_plain.then(|| text.to_string())
}

/// A text in a line of Markdown, in which it means nothing but itself.
pub(super) fn markdown(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            c if is_obeyed(c) => safe.push(' '),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '(' | ')' | '#' | '|' | '!' | '&' | '~'
            | '$' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

/// A scalar of YAML: without quotes where it can only be read as a text, otherwise as JSON writes it, which YAML reads alike.
pub(super) fn yaml(text: &str) -> String {
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_string() } else { serde_json::Value::from(text).to_string() }
}

/// The last part of a path, or of a name on a hub.
pub(super) fn last_part(path: &str) -> &str {
    path.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or(path)
}

/// A word of a command without the place of a file on this machine: of an absolute path its last part.
pub(super) fn without_place(word: &str) -> String {
    let (option, path) = match word.split_once('=') {
        Some((option, path)) if option.starts_with('-') => (format!("{option}="), path),
        _ => (String::new(), word),
    };
    let drive = path.as_bytes().get(1) == Some(&b':');
    let leads_away = ["/", "~", "..", "\\"].iter().any(|start| path.starts_with(start)) || drive;
    format!("{option}{}", if leads_away { last_part(path) } else { path })
}
