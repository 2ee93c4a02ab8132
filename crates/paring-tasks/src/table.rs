//! The tasks: one row each.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::LazyLock;

use paring_format::near;

use crate::error::{Error, Result};
use crate::schemas::{self, Schema};

/// A set of documents, and the way in which a model is judged by it.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name in the harness, or that of a file without its ending.
    pub name: Cow<'static, str>,
    /// The place of its documents.
    pub source: Source,
    /// The split that is evaluated.
    pub split: &'static str,
    /// Documents of that split as it is published; 0 of a file of one's own.
    pub documents: usize,
    /// The harness's version of the task; `None` of one that it does not have.
    pub version: Option<f64>,
    /// The form of its answers.
    pub kind: Kind,
    pub(crate) description: Cow<'static, str>,
    pub(crate) schema: Schema,
    pub(crate) shots: Shots,
}

/// The place of documents.
#[derive(Clone, Debug)]
pub enum Source {
    /// A data set of the hub.
    Hub {
        /// `org/name`.
        repo: &'static str,
        /// The configuration, `default` where there is one only.
        config: &'static str,
        /// Paths of the files of a split: `{split}` and `{config}` stand for their names, and a path that ends in `/` for all
        /// files there.
        files: &'static [&'static str],
    },
    /// A file.
    File(PathBuf),
}

impl Source {
    /// The repository on the hub and its configuration; `None` of a file.
    pub fn repository(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Source::Hub { repo, config, .. } => Some((repo, config)),
            Source::File(_) => None,
        }
    }

    /// True of a file of one's own.
    pub fn is_own(&self) -> bool {
        self.repository().is_none()
    }
}

/// The form of answers, and the metrics that are made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of several choices is right. `normed`: scores are also divided by the lengths of the choices.
    Choice {
        /// True where `acc_norm` is a metric.
        normed: bool,
    },
    /// The last word of a text.
    LastWord,
    /// The probability of whole texts, in windows.
    Rolling,
    /// A summary that the model writes, compared with a person's by ROUGE.
    Summary,
}

impl Kind {
    /// The names of its metrics.
    pub fn metrics(self) -> &'static [&'static str] {
        match self {
            Kind::Choice { normed: true } => &["acc", "acc_norm"],
            Kind::Choice { normed: false } => &["acc"],
            Kind::LastWord => &["perplexity", "acc"],
            Kind::Rolling => &["word_perplexity", "byte_perplexity", "bits_per_byte"],
            Kind::Summary => &["rouge1", "rouge2", "rougeL", "rougeLsum"],
        }
    }
}

/// The documents that examples are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shots {
    /// A text is no question.
    None,
    /// The first rows of a split.
    First(&'static str),
    /// Rows of a split, or of the documents themselves, that are drawn anew for each document. `apart`: one more is drawn, so that
    /// the document itself can be left out.
    Drawn { pool: Option<&'static str>, apart: bool },
}

const TRAIN: Shots = Shots::Drawn { pool: Some("train"), apart: false };
const TRAIN_APART: Shots = Shots::Drawn { pool: Some("train"), apart: true };
const NORMED: Kind = Kind::Choice { normed: true };
const PLAIN: Kind = Kind::Choice { normed: false };

/// A row of the table that the harness has.
const fn task(
    name: &'static str,
    (repo, config, files): (&'static str, &'static str, &'static [&'static str]),
    (split, documents): (&'static str, usize),
    version: f64,
    kind: Kind,
    schema: Schema,
    shots: Shots,
) -> Task {
    let (source, version) = (Source::Hub { repo, config, files }, Some(version));
    let (name, description) = (Cow::Borrowed(name), Cow::Borrowed(""));
    Task { name, source, split, documents, version, kind, description, schema, shots }
}

/// A row of articles that are summarized.
const fn summary(
    name: &'static str,
    (repo, config, files): (&'static str, &'static str, &'static [&'static str]),
    (split, documents): (&'static str, usize),
    schema: Schema,
) -> Task {
    let (source, version, kind, shots) = (Source::Hub { repo, config, files }, None, Kind::Summary, Shots::None);
    let (name, description) = (Cow::Borrowed(name), Cow::Borrowed(""));
    Task { name, source, split, documents, version, kind, description, schema, shots }
}

const SHARDS: &[&str] = &["{config}/{split}"];

#[rustfmt::skip]
static TASKS: [Task; 10] = [
    task("winogrande", ("allenai/winogrande", "winogrande_xl", SHARDS), ("validation", 1267), 1.0, PLAIN, schemas::WINOGRANDE, TRAIN_APART),
    task("piqa", ("baber/piqa", "default", &["piqa_{split}"]), ("validation", 1838), 1.0, NORMED, schemas::PIQA, TRAIN_APART),
    task("hellaswag", ("Rowan/hellaswag", "default", &["data/{split}"]), ("validation", 10042), 1.0, NORMED, schemas::HELLASWAG, TRAIN_APART),
    task("arc_easy", ("allenai/ai2_arc", "ARC-Easy", SHARDS), ("test", 2376), 1.0, NORMED, schemas::ARC, TRAIN),
    task("arc_challenge", ("allenai/ai2_arc", "ARC-Challenge", SHARDS), ("test", 1172), 1.0, NORMED, schemas::ARC, TRAIN),
    task("lambada_openai", ("EleutherAI/lambada_openai", "default", &["default/{split}/", "data/lambada_{split}"]), ("test", 5153), 1.0,
        Kind::LastWord, schemas::LAMBADA, Shots::Drawn { pool: None, apart: false }),
    task("boolq", ("aps/super_glue", "boolq", SHARDS), ("validation", 3270), 2.0, PLAIN, schemas::BOOLQ, TRAIN_APART),
    task("openbookqa", ("allenai/openbookqa", "main", SHARDS), ("test", 500), 1.0, NORMED, schemas::OPENBOOKQA, TRAIN),
    task("wikitext", ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1", &["{config}/{config}-{split}"]), ("test", 62), 2.0,
        Kind::Rolling, schemas::WIKITEXT, Shots::None),
    summary("cnn_dailymail", ("abisee/cnn_dailymail", "3.0.0", SHARDS), ("test", 11490), schemas::CNN_DAILYMAIL),
];

/// Names of the groups of [`SUBJECTS`]; that of all is the first.
const GROUPS: [&str; 5] = ["mmlu", "mmlu_stem", "mmlu_other", "mmlu_social_sciences", "mmlu_humanities"];
const STEM: usize = 1;
const OTHER: usize = 2;
const SOCIAL: usize = 3;
const HUMANITIES: usize = 4;

/// Subjects of MMLU: name, group, and documents of the test split.
#[rustfmt::skip]
const SUBJECTS: [(&str, usize, usize); 57] = [
    ("abstract_algebra", STEM, 100), ("anatomy", STEM, 135), ("astronomy", STEM, 152), ("business_ethics", OTHER, 100),
    ("clinical_knowledge", OTHER, 265), ("college_biology", STEM, 144), ("college_chemistry", STEM, 100),
    ("college_computer_science", STEM, 100), ("college_mathematics", STEM, 100), ("college_medicine", OTHER, 173),
    ("college_physics", STEM, 102), ("computer_security", STEM, 100), ("conceptual_physics", STEM, 235),
    ("econometrics", SOCIAL, 114), ("electrical_engineering", STEM, 145), ("elementary_mathematics", STEM, 378),
    ("formal_logic", HUMANITIES, 126), ("global_facts", OTHER, 100), ("high_school_biology", STEM, 310),
    ("high_school_chemistry", STEM, 203), ("high_school_computer_science", STEM, 100),
    ("high_school_european_history", HUMANITIES, 165), ("high_school_geography", SOCIAL, 198),
    ("high_school_government_and_politics", SOCIAL, 193), ("high_school_macroeconomics", SOCIAL, 390),
    ("high_school_mathematics", STEM, 270), ("high_school_microeconomics", SOCIAL, 238), ("high_school_physics", STEM, 151),
    ("high_school_psychology", SOCIAL, 545), ("high_school_statistics", STEM, 216), ("high_school_us_history", HUMANITIES, 204),
    ("high_school_world_history", HUMANITIES, 237), ("human_aging", OTHER, 223), ("human_sexuality", SOCIAL, 131),
    ("international_law", HUMANITIES, 121), ("jurisprudence", HUMANITIES, 108), ("logical_fallacies", HUMANITIES, 163),
    ("machine_learning", STEM, 112), ("management", OTHER, 103), ("marketing", OTHER, 234), ("medical_genetics", OTHER, 100),
    ("miscellaneous", OTHER, 783), ("moral_disputes", HUMANITIES, 346), ("moral_scenarios", HUMANITIES, 895),
    ("nutrition", OTHER, 306), ("philosophy", HUMANITIES, 311), ("prehistory", HUMANITIES, 324),
    ("professional_accounting", OTHER, 282), ("professional_law", HUMANITIES, 1534), ("professional_medicine", OTHER, 272),
    ("professional_psychology", SOCIAL, 612), ("public_relations", SOCIAL, 110), ("security_studies", SOCIAL, 245),
    ("sociology", SOCIAL, 201), ("us_foreign_policy", SOCIAL, 100), ("virology", OTHER, 166), ("world_religions", HUMANITIES, 171),
];

fn subject((name, _, documents): (&'static str, usize, usize)) -> Task {
    let about = name.replace('_', " ");
    let description = format!("The following are multiple choice questions (with answers) about {about}.\n\n");
    let source = ("cais/mmlu", name, SHARDS);
    let subject = task(name, source, ("test", documents), 1.0, PLAIN, schemas::MMLU, Shots::First("dev"));
    Task { name: Cow::Owned(format!("mmlu_{name}")), description: Cow::Owned(description), ..subject }
}

/// Several tasks under one name, whose documents are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// The names of its tasks.
    pub tasks: Vec<&'static str>,
}

/// All tasks, MMLU's subjects in the order of the alphabet after the others.
pub fn tasks() -> &'static [Task] {
    static ALL: LazyLock<Vec<Task>> = LazyLock::new(|| TASKS.iter().cloned().chain(SUBJECTS.map(subject)).collect());
    &ALL
}

/// All groups: MMLU, and its four parts.
pub fn groups() -> &'static [Group] {
    static ALL: LazyLock<Vec<Group>> = LazyLock::new(|| {
        let names = tasks()[TASKS.len()..].iter().map(|task| task.name.as_ref());
        let of = |group: usize| {
            let members = names.clone().zip(SUBJECTS).filter(|(_, (_, of, _))| group == 0 || *of == group);
            Group { name: GROUPS[group], tasks: members.map(|(name, _)| name).collect() }
        };
        (0..GROUPS.len()).map(of).collect()
    });
    &ALL
}

/// The group of a name.
pub fn group(name: &str) -> Option<&'static Group> {
    groups().iter().find(|group| group.name == name)
}

/// The task of a name.
pub fn find(name: &str) -> Option<&'static Task> {
    tasks().iter().find(|task| task.name == name)
}

/// The error that no task or group has a name.
pub(crate) fn unknown(name: &str) -> Error {
    let short = TASKS.iter().map(|task| task.name.as_ref()).chain(GROUPS);
    let all = || format!("known: {}, and mmlu_SUBJECT", short.clone().collect::<Vec<_>>().join(", "));
    let known = short.clone().chain(tasks()[TASKS.len()..].iter().map(|task| task.name.as_ref()));
    let advice = near::did_you_mean(name, known).unwrap_or_else(all);
    Error::Misuse(format!("no task is called {name:?}; {advice}").into())
}

/// Endings of files of documents; the first ones are preferred.
pub(crate) const ENDINGS: [&str; 7] =
    [".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst"];

/// The task of a file of questions (`.jsonl`, `.json` or `.parquet`): its name is that of the file without the ending. Errors
/// where that is empty, or the name of another task.
pub fn of_file(path: PathBuf) -> Result<Task> {
    let bad = |reason: &str| Error::Misuse(format!("{}: {reason}", path.display()).into());
    let whole = path.file_name().and_then(|name| name.to_str());
    let name = whole.and_then(|name| ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)));
    let name = name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| bad("expected .jsonl, .json or .parquet after a name, such as questions.jsonl"))?;
    if find(name).is_some() || group(name).is_some() {
        return Err(bad(&format!("{name} is a task already; rename the file")));
    }
    let name = Cow::Owned(name.to_owned());
    let shots = Shots::Drawn { pool: None, apart: true };
    let (split, documents, version, kind, schema) = ("file", 0, Some(1.0), NORMED, schemas::OWN);
    let description = Cow::Borrowed("");
    Ok(Task { name, source: Source::File(path), split, documents, version, kind, description, schema, shots })
}
