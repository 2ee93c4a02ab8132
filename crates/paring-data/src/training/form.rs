//! The form of records, by their fields.

use std::path::Path;

use paring_format::message;
use paring_format::message::Setting;

use crate::documents::Documents;
use crate::error::option;
use crate::line::{self, Fields as Found};
use crate::{Error, Result, parquet};

/// The field of texts, where none is named.
const TEXT_FIELD: &str = "text";

/// The form of data to train on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Texts, joined; every token is learned.
    Text,
    /// Instructions with answers, of which the answers are learned.
    Instruction,
    /// Conversations, of which the turns of the assistant are learned.
    Chat,
}

/// The fields of the records of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// A field of texts.
    Text(String),
    /// An instruction and its answer.
    Answers(&'static Answers),
    /// A field of messages.
    Chat(String),
}

impl Layout {
    pub fn form(&self) -> Form {
        match self {
            Layout::Text(_) => Form::Text,
            Layout::Answers(_) => Form::Instruction,
            Layout::Chat(_) => Form::Chat,
        }
    }

    /// The fields that are read, for people.
    pub fn note(&self) -> Option<String> {
        match self {
            Layout::Text(_) => None,
            Layout::Answers(Answers { prompt, answer, writing: Writing::Verbatim, .. }) => {
                Some(format!("{prompt:?} is taken as it is written, {answer:?} after it is learned"))
            }
            Layout::Answers(Answers { prompt, answer, .. }) => {
                Some(format!("{prompt:?} is put into Alpaca's prompt, {answer:?} after it is learned"))
            }
            Layout::Chat(field) => Some(format!("the assistant's turns in {field:?} are learned")),
        }
    }
}

/// Fields of a prompt and its answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answers {
    pub prompt: &'static str,
    pub answer: &'static str,
    /// More for the prompt, which may be absent.
    pub input: Option<&'static str>,
    pub writing: Writing,
}

/// The way from fields to a prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// Alpaca's prompt, of the instruction in the field.
    Alpaca,
    /// The same with this instruction, and the field for its input.
    Asked(&'static str),
    /// The field itself.
    Verbatim,
}

/// Known pairs of fields, from the first that is looked for.
static ANSWERS: [Answers; 4] = [
    Answers { prompt: "instruction", answer: "output", input: Some("input"), writing: Writing::Alpaca },
    Answers { prompt: "question", answer: "answer", input: None, writing: Writing::Alpaca },
    ARTICLES,
    // Who writes prompts has put them into their form.
    Answers { prompt: "prompt", answer: "completion", input: None, writing: Writing::Verbatim },
];

/// Those of cnn_dailymail, with the instruction that sparsity-aware training was published with.
const ARTICLES: Answers = Answers {
    prompt: "article",
    answer: "highlights",
    input: None,
    writing: Writing::Asked("Summarize the following news article:"),
};

/// Fields of messages: OpenAI's, ShareGPT's.
const MESSAGES: [&str; 2] = ["messages", "conversations"];

/// The layout of articles and their summaries.
pub(super) fn articles() -> Layout {
    Layout::Answers(&ANSWERS[2])
}

/// The layout of a file, by its first record, of the form `asked` if one is.
pub(super) fn layout(path: &Path, text_field: Option<&str>, asked: Option<Form>) -> Result<Layout> {
    let bad = |reason: message::Message| Error::data(path.display().to_string(), reason);
    if Documents::of(path, "").is_none() {
        return match asked {
            None | Some(Form::Text) => Ok(Layout::Text(text_field.unwrap_or(TEXT_FIELD).into())),
            Some(_) => {
                Err(bad("expected .parquet, .jsonl or .json (also .gz or .zst) for records of this form".into()))
            }
        };
    }
    if let Some(field) = text_field.filter(|_| asked != Some(Form::Instruction)) {
        let chat = asked.map_or_else(|| holds_messages(path, field), |form| Ok(form == Form::Chat))?;
        return Ok(if chat { Layout::Chat(field.into()) } else { Layout::Text(field.into()) });
    }
    let text = || Layout::Text(TEXT_FIELD.into());
    if asked == Some(Form::Text) {
        return Ok(text());
    }
    let first = First::of(path)?;
    let chat = first.find(&MESSAGES).map(|field| Layout::Chat((*field).into()));
    let answers = ANSWERS.iter().find(|answers| first.has(answers.prompt) && first.has(answers.answer));
    let answers = answers.map(Layout::Answers);
    let pairs: Vec<String> =
        ANSWERS.iter().map(|answers| format!("{} and {}", answers.prompt, answers.answer)).collect();
    let pairs = pairs.join(", ");
    let (found, expected) = match asked {
        Some(Form::Chat) => (chat, format!("{}; name another with ", MESSAGES.join(" or "))),
        Some(Form::Instruction) => (answers, format!("{pairs}; rename its fields")),
        // An empty file is an error when it is read.
        _ if first.is_none => (Some(text()), String::new()),
        _ => {
            let found = chat.or(answers).or_else(|| first.has(TEXT_FIELD).then(text));
            (found, format!("{}, {pairs} or {}; name a field of texts with ", MESSAGES.join(", "), TEXT_FIELD))
        }
    };
    found.ok_or_else(|| {
        let there =
            if first.names.is_empty() { String::new() } else { format!(" (it has: {})", first.names.join(", ")) };
        let problem = message![format!("the first record has no fields to train on{there}, expected {expected}")];
        let has_option = asked != Some(Form::Instruction);
        bad(if has_option { problem.then(Setting::new(option::TEXT_FIELD)) } else { problem })
    })
}

/// Tells whether a field of the first document is a list.
fn holds_messages(path: &Path, field: &str) -> Result<bool> {
    let mut chat = false;
    if let Some(documents) = Documents::of(path, field) {
        documents.each(&mut |_, document| {
            chat = matches!(document, crate::documents::Document::Chat(_));
            Ok(false)
        })?;
    }
    Ok(chat)
}

/// The fields of the first record of a file.
struct First {
    /// Those that are looked for.
    known: Vec<&'static str>,
    /// Some of them all.
    names: Vec<String>,
    /// True where there is no record.
    is_none: bool,
}

impl First {
    fn of(path: &Path) -> Result<Self> {
        let pairs = ANSWERS.iter().flat_map(|answers| [answers.prompt, answers.answer]);
        let wanted: Vec<&'static str> = MESSAGES.into_iter().chain(pairs).chain([TEXT_FIELD]).collect();
        let mut first = Self { known: Vec::new(), names: Vec::new(), is_none: true };
        // One object of JSON is a record only if it has the field that is asked for: a list in it may be the documents.
        for lead in MESSAGES {
            let Some(documents) = Documents::of(path, lead).filter(|_| first.known.is_empty()) else { break };
            if documents.is_parquet() {
                let names = parquet::columns(path)?;
                first.known = wanted.iter().copied().filter(|name| names.iter().any(|there| there == name)).collect();
                first.names = names.into_iter().take(8).map(|name| name.escape_debug().to_string()).collect();
                first.is_none = false;
                break;
            }
            documents.each_text(&mut |number, begin, text| {
                let fields =
                    line::fields(text, &wanted).map_err(|wrong| documents.no_json(number, begin, text, &wrong))?;
                let values = match fields {
                    Found::Values(values) => values,
                    Found::NoObject(what) => return Err(documents.bad(number, format!("{what}, expected an object"))),
                };
                let known = wanted.iter().zip(values).filter_map(|(name, value)| value.map(|_| *name));
                (first.known, first.names, first.is_none) = (known.collect(), line::names(text), false);
                Ok(false)
            })?;
        }
        Ok(first)
    }

    fn has(&self, name: &str) -> bool {
        self.known.contains(&name)
    }

    fn find<'a>(&self, names: &'a [&'static str]) -> Option<&'a &'static str> {
        names.iter().find(|name| self.has(name))
    }
}
