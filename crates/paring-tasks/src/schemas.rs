//! The rows of each data set → documents: which columns it has, and how they read as a question.

use serde_json::Value;

use paring_data::python::{capitalized, is_space};

use crate::document::{Article, Choices, Document, Row, up_to};
use crate::error::{Error, Result};
use crate::options::Protocol;
use crate::text::{cleaned, detokenized, pieces, stripped};

/// The columns of a data set, and what a row of them asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schema {
    /// Columns that every row has.
    pub needed: &'static [&'static str],
    /// Columns that tell rows apart, or may be absent for another reason.
    pub also: &'static [&'static str],
    pub read: fn(&Row<'_>, Protocol) -> Result<Document>,
}

/// A question with the same context for all choices.
fn one_context(context: String, choices: Vec<String>, gold: usize) -> Result<Document> {
    Ok(Document::Choices(Choices { contexts: vec![context], choices, gold }))
}

pub(crate) const WINOGRANDE: Schema = Schema {
    needed: &["sentence", "option1", "option2", "answer"],
    also: &[],
    read: |row, _| {
        let sentence = row.text("sentence")?;
        let blank = || row.bad("sentence", "a sentence with _ in it", row.value("sentence"));
        let (before, after) = sentence.split_once('_').ok_or_else(blank)?;
        let gold = match row.text("answer")? {
            "1" => 0,
            "2" => 1,
            _ => return Err(row.bad("answer", "\"1\" or \"2\"", row.value("answer"))),
        };
        let options = [row.text("option1")?, row.text("option2")?];
        let after = stripped(after).to_owned();
        let contexts = options.map(|option| format!("{before}{option}")).to_vec();
        Ok(Document::Choices(Choices { contexts, choices: vec![after.clone(), after], gold }))
    },
};

pub(crate) const PIQA: Schema = Schema {
    needed: &["goal", "sol1", "sol2", "label"],
    also: &[],
    read: |row, _| {
        let choices = vec![row.text("sol1")?.into(), row.text("sol2")?.into()];
        one_context(format!("Question: {}\nAnswer:", row.text("goal")?), choices, row.number("label", 2)?)
    },
};

pub(crate) const HELLASWAG: Schema = Schema {
    needed: &["activity_label", "ctx_a", "ctx_b", "endings", "label"],
    also: &["ind", "source_id", "split", "split_type"],
    read: |row, _| {
        let (label, begin, end) = (row.text("activity_label")?, row.text("ctx_a")?, row.text("ctx_b")?);
        let context = cleaned(&format!("{label}: {begin} {}", capitalized(end)));
        let endings: Vec<String> = row.texts("endings")?.iter().map(|ending| cleaned(ending)).collect();
        let gold = row.text("label")?.parse().ok().filter(|&gold: &usize| gold < endings.len());
        let bad = || row.bad("label", &format!("{} as text", up_to(endings.len())), row.value("label"));
        let gold = gold.ok_or_else(bad)?;
        one_context(context, endings, gold)
    },
};

pub(crate) const ARC: Schema = Schema {
    needed: &["question", "choices", "answerKey"],
    also: &["id"],
    read: |row, protocol| {
        let (choices, labels) = lettered(row)?;
        let answer = row.text("answerKey")?;
        let letters = ["A", "B", "C", "D", "E"];
        let gold = match protocol {
            Protocol::Harness => labels.iter().position(|label| label == answer),
            Protocol::Spqr => letters.iter().position(|letter| *letter == answer).or_else(|| {
                let number = answer.parse::<usize>().ok()?;
                number.checked_sub(1).filter(|&gold| gold < letters.len())
            }),
        };
        let gold = gold.filter(|&gold| gold < choices.len()).ok_or_else(|| bad_answer(row, &labels))?;
        one_context(format!("Question: {}\nAnswer:", row.text("question")?), choices, gold)
    },
};

pub(crate) const OPENBOOKQA: Schema = Schema {
    needed: &["question_stem", "choices", "answerKey"],
    also: &["id"],
    read: |row, _| {
        let (choices, labels) = lettered(row)?;
        let answer = row.text("answerKey")?.trim_start_matches(is_space);
        let gold = labels.iter().position(|label| label == answer).ok_or_else(|| bad_answer(row, &labels))?;
        one_context(row.text("question_stem")?.into(), choices, gold)
    },
};

/// The choices of a row, and their labels.
fn lettered(row: &Row<'_>) -> Result<(Vec<String>, Vec<String>)> {
    let (choices, labels) = (row.texts_in("choices", "text")?, row.texts_in("choices", "label")?);
    if choices.len() != labels.len() {
        return Err(row.bad("choices", "as many labels as texts", row.value("choices")));
    }
    Ok((choices, labels))
}

fn bad_answer(row: &Row<'_>, labels: &[String]) -> Error {
    row.bad("answerKey", &format!("one of {}", labels.join(", ")), row.value("answerKey"))
}

pub(crate) const LAMBADA: Schema = Schema {
    needed: &["text"],
    also: &[],
    read: |row, _| {
        let text = row.text("text")?;
        let (context, last) = text.rsplit_once(' ').unwrap_or(("", text));
        one_context(context.into(), vec![last.into()], 0)
    },
};

pub(crate) const BOOLQ: Schema = Schema {
    needed: &["question", "passage", "label"],
    also: &["idx"],
    read: |row, _| {
        let context = format!("{}\nQuestion: {}?\nAnswer:", row.text("passage")?, row.text("question")?);
        one_context(context, vec!["no".into(), "yes".into()], row.number("label", 2)?)
    },
};

pub(crate) const MMLU: Schema = Schema {
    needed: &["question", "choices", "answer"],
    also: &["subject"],
    read: |row, _| {
        let choices = row.texts("choices")?;
        let letters = ["A", "B", "C", "D"];
        if choices.len() != letters.len() {
            return Err(row.bad("choices", "a list of 4 texts", row.value("choices")));
        }
        let listed: String =
            letters.iter().zip(&choices).map(|(letter, choice)| format!("\n{letter}. {choice}")).collect();
        let context = format!("{}{listed}\nAnswer:", stripped(row.text("question")?));
        one_context(context, letters.map(String::from).to_vec(), row.number("answer", 4)?)
    },
};

pub(crate) const WIKITEXT: Schema = Schema {
    needed: &["page"],
    also: &[],
    read: |row, _| {
        let page = row.text("page")?;
        Ok(Document::Page { text: detokenized(page), words: pieces(page), bytes: page.len() })
    },
};

pub(crate) const CNN_DAILYMAIL: Schema = Schema {
    needed: &["article", "highlights"],
    also: &[],
    read: |row, _| {
        let (article, highlights) = (row.text("article")?.into(), row.text("highlights")?.into());
        Ok(Document::Article(Article { article, highlights }))
    },
};

/// A file of one's own: `query` or `context`, `choices`, and the number of the right one in `gold`.
pub(crate) const OWN: Schema = Schema {
    needed: &["choices", "gold"],
    also: &["query", "context"],
    read: |row, _| {
        let choices = row.texts("choices")?;
        let name = match (row.value("query"), row.value("context")) {
            (Value::Null, Value::Null) => return Err(row.bad("query", "text, or text in context", &Value::Null)),
            (_, Value::Null) => "query",
            (Value::Null, _) => "context",
            (_, both) => return Err(row.bad("context", "nothing beside query", both)),
        };
        let gold = row.number("gold", choices.len())?;
        one_context(row.text(name)?.into(), choices, gold)
    },
};
