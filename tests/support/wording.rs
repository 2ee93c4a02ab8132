//! The wording of messages: no text that Rust prints for programmers, and a next step.

/// Words by which an error says what to do, or what is expected instead.
const STEPS: [&str; 54] = [
    " add ",
    " allow ",
    " ask ",
    " belongs to ",
    " check ",
    " choose ",
    " continues it",
    " convert it",
    " correct ",
    " did you mean ",
    " download ",
    " expected ",
    " for wide support",
    " free some",
    " give ",
    " ignores ",
    " known: ",
    " leave ",
    " lists ",
    " make ",
    " move ",
    " must be ",
    " must not ",
    " name ",
    " names look like ",
    " more than once",
    " need ",
    " needs ",
    " not in ",
    " not one of ",
    " prune ",
    " put ",
    " reads it as ",
    " remove ",
    " rename ",
    " replace ",
    " rerun ",
    " run ",
    " set ",
    " should be ",
    " start over ",
    " store it ",
    " such as ",
    " to avoid this",
    " try ",
    " unset ",
    " use ",
    " wait for ",
    " was it cut off?",
    " which must ",
    "a model is a folder with ",
    "not json: ",
    "not both",
    "--help",
];

/// A piece of `text` as `{:?}` prints it, or of a crash; `None` where there is none.
pub fn debug_text(text: &str) -> Option<&str> {
    let crash = ["panicked", "RUST_BACKTRACE", "unwrap()"].into_iter().find(|word| text.contains(word));
    crash.or_else(|| text.split_whitespace().find(|word| has_path(word) || has_variant(word))).or_else(|| fields(text))
}

/// A path of Rust, `io::Error`, with nothing that makes it an address.
fn has_path(word: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    word.match_indices("::").any(|(at, _)| word[..at].ends_with(is_name) && word[at + 2..].starts_with(is_name))
}

/// A name of a variant before what it holds, `Int(3)`.
fn has_variant(word: &str) -> bool {
    // Names of processors have marks.
    let is_mark = |rest: &str| ["(R)", "(TM)"].iter().any(|mark| rest.starts_with(mark));
    word.match_indices('(').any(|(at, _)| !is_mark(&word[at..]) && is_type(last_name(&word[..at])))
}

/// A name of a type before its fields, `Os { code`.
fn fields(text: &str) -> Option<&str> {
    text.match_indices(" { ").find_map(|(at, _)| Some(last_name(&text[..at])).filter(|name| is_type(name)))
}

fn last_name(text: &str) -> &str {
    text.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default()
}

/// A name such as `Int` or `NotFound`, other than `DATASET` and `iconv`.
fn is_type(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.contains(|c: char| c.is_ascii_lowercase())
}

/// Tells whether an error says what to do next, or what was expected. What the system says of a file needs no more words.
pub fn says_what_to_do(error: &str) -> bool {
    let error = error.to_lowercase();
    error.contains("(os error ") || STEPS.iter().any(|step| error.contains(step))
}

#[test]
fn debug_text_is_told_from_words() {
    for text in [
        "holds 8-bit floats, not Int(3) by Group(32)",
        "Some(\"x\")",
        "a: Os { code: 2, kind: NotFound }",
        "std::io::Error",
        "thread 'main' panicked at x.rs:1",
    ] {
        assert!(debug_text(text).is_some(), "{text}");
    }
    for text in [
        "a.txt: No such file or directory (os error 2)",
        "m: shape [2, 3], expected [3, 2]",
        "expected {\"role\": …} (a list)",
        "AutoTokenizer.from_pretrained(…).save_pretrained(…) of transformers",
        "cannot reach [::1]:9 (Connection refused)",
        "{{ messages }} in the template",
        "processor    Intel(R) Xeon(TM) Processor",
    ] {
        assert_eq!(debug_text(text), None, "{text}");
    }
    assert!(says_what_to_do("a: too large; use a smaller one") && !says_what_to_do("a: too large"));
}
