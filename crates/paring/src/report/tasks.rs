//! Tasks that a run was judged by, before and after, and what two runs are compared by.

use std::collections::BTreeMap;

use paring_tasks::results::summary;
use paring_tasks::{Comparison, Sample, TaskResult, compare};
use serde::{Deserialize, Serialize};

/// Tasks that input and output of a run were judged by, over the same documents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TasksReport {
    /// Results of the input, each group before its tasks.
    pub before: Vec<TaskResult>,
    /// Results of the output, in the same order.
    pub after: Vec<TaskResult>,
    /// The differences, by the documents that both answered.
    pub differences: Vec<Comparison>,
    /// The output's answers, a row for each task: what other runs are compared with.
    pub answers: Vec<Answers>,
}

/// The documents of a task that a model has right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// The task.
    pub task: String,
    /// Documents.
    pub documents: usize,
    /// A checksum of what was asked, examples included.
    pub digest: String,
    /// For each metric of rights and wrongs the documents that are right, four to a hexadecimal digit, the first in its highest bit.
    pub right: BTreeMap<String, String>,
}

impl TasksReport {
    /// The report of results before and after.
    ///
    /// # Errors
    /// When both did not answer the same documents.
    pub fn new(
        before: (Vec<TaskResult>, &[Sample]),
        after: (Vec<TaskResult>, &[Sample]),
    ) -> paring_tasks::Result<Self> {
        let differences = compare(before.1, after.1)?;
        Ok(Self { before: before.0, after: after.0, differences, answers: answers(after.1) })
    }

    /// Results before and after that people look at: of many tasks, groups stand for theirs.
    pub fn shown(&self) -> impl Iterator<Item = (&TaskResult, &TaskResult)> {
        let find = |task: &str| self.before.iter().find(|result| result.task == task);
        summary(&self.after).into_iter().filter_map(move |after| Some((find(&after.task)?, after)))
    }

    /// The differences between the outputs of two runs, `self` the first, in tasks that both answered alike; none where they have
    /// none in common.
    pub fn against(&self, other: &Self) -> Vec<Comparison> {
        let same = |own: &&Answers| other.answers.iter().any(|theirs| own.asks_the_same(theirs));
        let names: Vec<&str> = self.answers.iter().filter(same).map(|answers| answers.task.as_str()).collect();
        let of = |report: &Self| -> Vec<Sample> {
            let shared = report.answers.iter().filter(|answers| names.contains(&answers.task.as_str()));
            shared.flat_map(Answers::samples).collect()
        };
        compare(&of(self), &of(other)).unwrap_or_default()
    }
}

impl Answers {
    fn asks_the_same(&self, other: &Self) -> bool {
        (&self.task, self.documents, &self.digest) == (&other.task, other.documents, &other.digest)
    }

    /// The documents as records that are compared.
    fn samples(&self) -> impl Iterator<Item = Sample> + '_ {
        // A report may come from anywhere: there are no more documents than digits say.
        let most = self.right.values().map(|digits| 4 * digits.len()).max().unwrap_or(0);
        (0..self.documents.min(most)).map(|doc| Sample {
            task: self.task.clone(),
            doc,
            digest: self.digest.clone(),
            gold: None,
            choices: Vec::new(),
            context: None,
            requests: Vec::new(),
            values: self
                .right
                .iter()
                .filter_map(|(metric, digits)| Some((metric.clone(), bit(digits, doc)?)))
                .collect(),
        })
    }
}

/// Bit `number` of hexadecimal digits, as a number; `None` where there is none.
fn bit(digits: &str, number: usize) -> Option<f64> {
    let digit = char::from(*digits.as_bytes().get(number / 4)?).to_digit(16)?;
    Some(f64::from(digit >> (3 - number % 4) & 1))
}

/// The answers of a model by tasks.
fn answers(samples: &[Sample]) -> Vec<Answers> {
    let mut all: Vec<(&str, Vec<&Sample>)> = Vec::new();
    for sample in samples {
        match all.last_mut().filter(|(task, _)| *task == sample.task) {
            Some((_, own)) => own.push(sample),
            None => all.push((&sample.task, vec![sample])),
        }
    }
    let of = |(task, samples): (&str, Vec<&Sample>)| {
        let mut right: BTreeMap<String, String> = BTreeMap::new();
        let rights =
            samples.first().into_iter().flat_map(|first| first.values.keys()).filter(|name| name.starts_with("acc"));
        for metric in rights {
            let is_right = |sample: &&Sample| sample.values.get(metric).is_some_and(|&value| value > 0.5);
            let digits = samples.chunks(4).filter_map(|four| {
                let bits = four.iter().enumerate().map(|(k, sample)| u32::from(is_right(sample)) << (3 - k)).sum();
                char::from_digit(bits, 16)
            });
            right.insert(metric.clone(), digits.collect());
        }
        let digests = samples.iter().flat_map(|sample| sample.digest.bytes());
        let digest = xxhash_rust::xxh3::xxh3_64(&digests.collect::<Vec<u8>>());
        Answers { task: task.to_string(), documents: samples.len(), digest: format!("{digest:016x}"), right }
    };
    all.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(task: &str, doc: usize, acc: f64) -> Sample {
        let values = BTreeMap::from([("acc".to_string(), acc), ("loglikelihood".to_string(), -1.5)]);
        let (context, requests, choices) = (None, Vec::new(), Vec::new());
        Sample { task: task.into(), doc, digest: format!("{doc:016x}"), gold: None, choices, context, requests, values }
    }

    fn report(rights: [f64; 6]) -> TasksReport {
        let samples: Vec<Sample> = rights.iter().enumerate().map(|(doc, &acc)| sample("piqa", doc, acc)).collect();
        TasksReport::new((Vec::new(), &samples), (Vec::new(), &samples)).unwrap()
    }

    #[test]
    fn runs_are_compared_by_their_answers() {
        let (one, two) = (report([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]), report([1.0, 1.0, 1.0, 0.0, 1.0, 1.0]));
        assert_eq!(one.answers[0].right, BTreeMap::from([("acc".to_string(), "b4".to_string())]));
        let differences = one.against(&two);
        assert_eq!(differences.len(), 1);
        let found = &differences[0];
        assert_eq!((found.task.as_str(), found.metric.as_str(), found.documents), ("piqa", "acc", 6));
        assert!((found.difference - 1.0 / 6.0).abs() < 1e-12 && found.stderr.is_some());
        assert!(one.against(&one).iter().all(|same| same.difference == 0.0));
        // Of other documents there is nothing to compare, and a report that lies is no reason to panic.
        let mut other = two.clone();
        other.answers[0].digest = "0".into();
        assert!(one.against(&other).is_empty());
        let mut lies = two;
        lies.answers[0].right.insert("acc".into(), "é".into());
        assert!(one.against(&lies).is_empty());
        lies.answers[0].right.clear();
        lies.answers[0].documents = usize::MAX;
        assert!(lies.against(&lies.clone()).is_empty());
    }
}
