//! Answers of a model → metrics, of each document, task and group.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::bootstrap::perplexity_stderr;
use crate::request::{Request, Score};
use crate::set::{Asked, Set, What};
use crate::table::{Group, Kind};

/// The result of a task, or of a group of tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Its name.
    pub task: String,
    /// The harness's version of the task; that of its tasks for a group.
    pub version: f64,
    /// Documents that were asked.
    pub documents: usize,
    /// Examples in front of each question.
    pub shots: usize,
    /// Its metrics, in the order of the table.
    pub metrics: Vec<Metric>,
    /// The tasks of a group; empty for a task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<String>,
}

/// A metric and its standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// `acc`, `acc_norm`, `perplexity`, `word_perplexity`, `byte_perplexity` or `bits_per_byte`.
    pub metric: String,
    /// Its value; 0 to 1 for accuracies.
    pub value: f64,
    /// Its standard error, where it has one: a single document has none.
    pub stderr: Option<f64>,
}

impl TaskResult {
    /// The metric of a name.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.metric == name)
    }
}

/// Results that are shown one by one; of more, groups stand for their tasks.
const SHOWN: usize = 24;

/// The results that people look at: of more than 24, groups stand for their tasks, such as mmlu's for its 57.
pub fn summary(results: &[TaskResult]) -> Vec<&TaskResult> {
    let grouped: HashSet<&str> = results.iter().flat_map(|result| &result.tasks).map(String::as_str).collect();
    let is_shown = |result: &&TaskResult| results.len() <= SHOWN || !grouped.contains(result.task.as_str());
    results.iter().filter(is_shown).collect()
}

/// A document and the answers to its requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The task.
    pub task: String,
    /// The number of the document, from 0.
    pub doc: usize,
    /// A checksum of its texts, examples included: two runs that have the same asked the same.
    pub digest: String,
    /// The number of the right choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<usize>,
    /// The choices; of a text without, none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// Token ids of the context, where all requests share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Vec<u32>>,
    /// The requests, in the order of the choices.
    pub requests: Vec<Answered>,
    /// The document's part in each metric: 0 or 1 for accuracies, and `loglikelihood`, the sum over a text, for perplexities.
    pub values: BTreeMap<String, f64>,
}

/// A request and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// Token ids of the context, before it is cut; `None`: that of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Vec<u32>>,
    /// Token ids of the continuation.
    pub continuation: Vec<u32>,
    /// The logarithm of its probability.
    pub loglikelihood: f64,
    /// True if it is what greedy decoding gives.
    pub is_greedy: bool,
}

/// The first of the largest numbers.
fn largest(values: impl Iterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (number, value) in values.enumerate() {
        if best.is_none_or(|(_, most)| value > most) {
            best = Some((number, value));
        }
    }
    best.map(|(number, _)| number)
}

/// The names of the values of a document of a kind, which [`values`] gives.
fn names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Choice { .. } => kind.metrics(),
        Kind::LastWord => &["loglikelihood", "acc"],
        Kind::Rolling => &["loglikelihood"],
        // No answer to a request counts.
        Kind::Summary => &[],
    }
}

/// The values of a document.
fn values(kind: Kind, document: &Asked, scores: &[Score]) -> Vec<f64> {
    let all = || scores.iter().map(|score| score.loglikelihood);
    let truth = |is_right: bool| f64::from(u8::from(is_right));
    match (&document.what, kind) {
        (What::Choices { choices, gold }, Kind::Choice { normed }) => {
            let acc = truth(largest(all()) == Some(*gold));
            let by_length = || all().zip(choices).map(|(score, choice)| score / choice.chars().count() as f64);
            [acc].into_iter().chain(normed.then(|| truth(largest(by_length()) == Some(*gold)))).collect()
        }
        (_, Kind::LastWord) => vec![all().sum(), truth(scores.iter().all(|score| score.is_greedy))],
        _ => vec![all().sum()],
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard error of a mean; `None` of fewer than two values.
pub(crate) fn mean_stderr(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let (mean, n) = (mean(values), values.len() as f64);
    let squares = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
    Some((squares / (n - 1.0)).sqrt() / n.sqrt())
}

/// The scores of a document.
fn of<'a>(document: &Asked, scores: &'a [Score]) -> &'a [Score] {
    scores.get(document.requests.clone()).unwrap_or_default()
}

/// The result of a task.
pub(crate) fn of_set(set: &Set, scores: &[Score], shots: usize, bootstrap: usize) -> TaskResult {
    let each: Vec<Vec<f64>> =
        set.documents.iter().map(|document| values(set.kind, document, of(document, scores))).collect();
    let column = |k: usize| -> Vec<f64> { each.iter().filter_map(|values| values.get(k)).copied().collect() };
    let metric = |metric: &str, value: f64, stderr| Metric { metric: metric.into(), value, stderr };
    let accuracy = |name: &str, k: usize| {
        let values = column(k);
        metric(name, mean(&values), mean_stderr(&values))
    };
    let metrics = match set.kind {
        Kind::Choice { .. } => set.kind.metrics().iter().enumerate().map(|(k, name)| accuracy(name, k)).collect(),
        Kind::LastWord => {
            let values = column(0);
            let perplexity = metric("perplexity", (-mean(&values)).exp(), perplexity_stderr(&values, bootstrap));
            vec![perplexity, accuracy("acc", 1)]
        }
        Kind::Rolling => {
            let sizes = set.documents.iter().map(|document| match document.what {
                What::Page { words, bytes } => (words, bytes),
                What::Choices { .. } => (0, 0),
            });
            let (words, bytes) = sizes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
            let total: f64 = column(0).iter().sum();
            let (by_word, by_byte) = (-total / words as f64, -total / bytes as f64);
            let bits = by_byte / std::f64::consts::LN_2;
            let names = set.kind.metrics();
            let all = [by_word.exp(), by_byte.exp(), bits];
            names.iter().zip(all).map(|(name, value)| metric(name, value, None)).collect()
        }
        Kind::Summary => Vec::new(),
    };
    let Set { task, version, documents, .. } = set;
    let (task, version) = (task.clone(), *version);
    TaskResult { task, version, documents: documents.len(), shots, metrics, tasks: Vec::new() }
}

/// The result of a group: the mean over all documents of its tasks, and the harness's pooled standard error of it. `None` where
/// none of its tasks is there.
pub(crate) fn of_group(group: &Group, tasks: &[TaskResult]) -> Option<TaskResult> {
    let members: Vec<&TaskResult> = tasks.iter().filter(|result| group.tasks.contains(&result.task.as_str())).collect();
    let first = members.first()?;
    let documents = members.iter().map(|member| member.documents).sum::<usize>();
    let free = documents.checked_sub(members.len()).filter(|&free| free > 0).map(|free| free as f64);
    let pooled = |name: &str| {
        let parts = || members.iter().filter_map(|member| Some((member.documents as f64, member.metric(name)?)));
        let value = parts().map(|(n, part)| n * part.value).sum::<f64>() / documents as f64;
        let squares = parts().map(|(n, part)| Some((n - 1.0) * part.stderr?.powi(2) * n)).sum::<Option<f64>>();
        let stderr = squares.zip(free).map(|(squares, free)| (squares / free / documents as f64).sqrt());
        Metric { metric: name.to_owned(), value, stderr }
    };
    let names = first.metrics.iter().map(|metric| metric.metric.as_str());
    Some(TaskResult {
        task: group.name.into(),
        version: first.version,
        documents,
        shots: first.shots,
        metrics: names.map(pooled).collect(),
        tasks: members.iter().map(|member| member.task.clone()).collect(),
    })
}

/// The records of a task's documents.
pub(crate) fn samples<'a>(
    set: &'a Set,
    requests: &'a [Request],
    scores: &'a [Score],
) -> impl Iterator<Item = Sample> + 'a {
    set.documents.iter().enumerate().map(|(doc, document)| {
        let (scores, requests) = (of(document, scores), requests.get(document.requests.clone()).unwrap_or_default());
        let shared = requests.first().filter(|first| requests.iter().all(|request| request.context == first.context));
        let answered = |(request, score): (&Request, &Score)| Answered {
            context: shared.is_none().then(|| request.context.clone()),
            continuation: request.continuation.clone(),
            loglikelihood: score.loglikelihood,
            is_greedy: score.is_greedy,
        };
        let (gold, choices) = match &document.what {
            What::Choices { choices, gold } => (Some(*gold), choices.clone()),
            What::Page { .. } => (None, Vec::new()),
        };
        let names = names(set.kind).iter().map(|name| name.to_string());
        Sample {
            task: set.task.clone(),
            doc,
            digest: format!("{:016x}", document.digest),
            gold,
            choices,
            context: shared.map(|first| first.context.clone()),
            requests: requests.iter().zip(scores).map(answered).collect(),
            values: names.zip(values(set.kind, document, scores)).collect(),
        }
    })
}

#[cfg(test)]
mod tests;
