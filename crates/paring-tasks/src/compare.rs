//! Two runs over the same documents: differences of their metrics, and whether chance explains them.
//!
//! What one document decides, it decides for both models, so the error of the difference is that of the paired differences
//! (Miller, "Adding Error Bars to Evals", 2024, section 4.2): mostly much smaller than the errors of both metrics together.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::results::{Sample, mean_stderr};
use crate::table;

/// The difference of a metric between two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The task, or a group all of whose tasks are there.
    pub task: String,
    /// `acc`, `acc_norm`, or `loglikelihood`, the mean of the documents' in place of a perplexity.
    pub metric: String,
    /// Documents in both.
    pub documents: usize,
    /// The mean in the first run.
    pub before: f64,
    /// The mean in the second.
    pub after: f64,
    /// The second minus the first.
    pub difference: f64,
    /// Its standard error, of the paired differences; `None` of a single document.
    pub stderr: Option<f64>,
    /// The difference in standard errors; `None` where there is no error, or it is 0.
    pub z: Option<f64>,
    /// The probability of a difference as large in either direction if both were equally good, by the normal distribution.
    pub p: Option<f64>,
}

/// Compares the metrics of two runs by their documents, for each task that both have, and for groups of these.
///
/// Errors where they have no task in common, or not the same documents of one: another limit, other examples, other data.
pub fn compare(before: &[Sample], after: &[Sample]) -> Result<Vec<Comparison>> {
    let of: HashMap<(&str, usize), &Sample> =
        after.iter().map(|sample| ((sample.task.as_str(), sample.doc), sample)).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    after.iter().for_each(|sample| *counts.entry(&sample.task).or_default() += 1);
    let mut tasks: Vec<(&str, Vec<(&Sample, &Sample)>)> = Vec::new();
    for sample in before.iter().filter(|sample| counts.contains_key(sample.task.as_str())) {
        let (task, doc) = (sample.task.as_str(), sample.doc);
        let other = of.get(&(task, doc)).filter(|other| other.digest == sample.digest);
        let other = other.ok_or_else(|| {
            Error::Scores(format!(
                "{task}, document {doc}: the runs did not ask the same; use the same data, limit and examples for both"
            ))
        })?;
        match tasks.iter_mut().find(|(known, _)| *known == task) {
            Some((_, pairs)) => pairs.push((sample, other)),
            None => tasks.push((task, vec![(sample, other)])),
        }
    }
    if tasks.is_empty() {
        return Err(Error::Scores("the runs have no task in common; run the same tasks for both".into()));
    }
    for (task, pairs) in &tasks {
        let there = counts.get(task).copied().unwrap_or_default();
        if there != pairs.len() {
            let got = pairs.len();
            return Err(Error::Scores(format!(
                "{task}: {got} documents in one run, {there} in the other; use the same limit for both"
            )));
        }
    }
    let groups = table::groups().iter().filter_map(|group| {
        let members = group.tasks.iter().map(|name| tasks.iter().find(|(task, _)| task == name));
        let pairs = members.map(|member| Some(member?.1.iter().copied())).collect::<Option<Vec<_>>>()?;
        Some((group.name, pairs.into_iter().flatten().collect::<Vec<_>>()))
    });
    let all: Vec<(&str, Vec<(&Sample, &Sample)>)> = groups.chain(tasks.iter().cloned()).collect();
    Ok(all.iter().flat_map(|(task, pairs)| of_task(task, pairs)).collect())
}

/// The comparisons of a task, one a metric.
fn of_task(task: &str, pairs: &[(&Sample, &Sample)]) -> Vec<Comparison> {
    let Some((first, _)) = pairs.first() else { return Vec::new() };
    let metric = |metric: &String| {
        let both = pairs.iter().map(|(a, b)| Some((*a.values.get(metric)?, *b.values.get(metric)?)));
        let both = both.collect::<Option<Vec<(f64, f64)>>>()?;
        let n = both.len() as f64;
        let (before, after) = both.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let differences: Vec<f64> = both.iter().map(|(before, after)| after - before).collect();
        let (difference, stderr) = (differences.iter().sum::<f64>() / n, mean_stderr(&differences));
        let z = stderr.filter(|&stderr| stderr > 0.0).map(|stderr| difference / stderr);
        let p = match (z, stderr) {
            (Some(z), _) => Some(erfc(z.abs() / std::f64::consts::SQRT_2)),
            (None, Some(_)) => Some(if difference == 0.0 { 1.0 } else { 0.0 }),
            (None, None) => None,
        };
        let (task, metric, documents) = (task.to_owned(), metric.clone(), both.len());
        Some(Comparison { task, metric, documents, before: before / n, after: after / n, difference, stderr, z, p })
    };
    first.values.keys().filter_map(metric).collect()
}

/// The complementary error function of a number that is not negative: Abramowitz and Stegun 7.1.6 up to 2, and the continued
/// fraction 7.1.14 beyond, to 13 digits.
fn erfc(x: f64) -> f64 {
    let bell = (-x * x).exp() / std::f64::consts::PI.sqrt();
    if x < 2.0 {
        let (mut term, mut sum) = (2.0 * x, 0.0);
        for n in 1..120 {
            sum += term;
            term *= 2.0 * x * x / (2.0 * f64::from(n) + 1.0);
        }
        1.0 - bell * sum
    } else {
        let fraction = (1..=160).rev().fold(x, |below, n| x + f64::from(n) / 2.0 / below);
        bell / fraction
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn run(task: &str, accs: &[u8], digest: &str) -> Vec<Sample> {
        let sample = |(doc, acc): (usize, &u8)| Sample {
            task: task.into(),
            doc,
            digest: digest.into(),
            gold: Some(0),
            choices: Vec::new(),
            context: None,
            requests: Vec::new(),
            values: BTreeMap::from([("acc".to_string(), f64::from(*acc))]),
        };
        accs.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn differences_are_paired() {
        let (a, b) = (run("piqa", &[1, 1, 0, 0, 1, 1, 0, 1], "x"), run("piqa", &[1, 0, 0, 0, 1, 0, 1, 1], "x"));
        let made = compare(&a, &b).unwrap();
        assert_eq!(made.len(), 1);
        let Comparison { documents, before, after, difference, stderr, z, p, .. } = made[0].clone();
        assert_eq!((documents, before, after, difference), (8, 0.625, 0.5, -0.125));
        // Differences 0, -1, 0, 0, 0, -1, 1, 0: their squares about the mean sum up to 2.875.
        let error = (2.875f64 / 7.0).sqrt() / 8f64.sqrt();
        assert!((stderr.unwrap() - error).abs() < 1e-15 && (z.unwrap() + 0.125 / error).abs() < 1e-15);
        // 2 · (1 − Φ(0.5516772843673705)), from Python's statistics.NormalDist.
        assert!((p.unwrap() - 0.581_169_475_857_714_6).abs() < 1e-9, "{p:?}");
        let same = &compare(&a, &a).unwrap()[0];
        assert_eq!((same.stderr, same.z, same.p), (Some(0.0), None, Some(1.0)));
        let one = &compare(&a[..1], &b[..1]).unwrap()[0];
        assert_eq!((one.stderr, one.z, one.p), (None, None, None));
    }

    #[test]
    fn groups_are_compared_over_all_their_documents() {
        let all = |acc: u8| -> Vec<Sample> {
            let of = |name: &&str| match *name {
                "mmlu_virology" => run(name, &[1, 0, acc], "x"),
                name => run(name, &[acc], "x"),
            };
            table::group("mmlu_other").unwrap().tasks.iter().flat_map(of).collect()
        };
        let made = compare(&all(0), &all(1)).unwrap();
        assert_eq!((made.len(), made[0].task.as_str(), made[0].documents), (14, "mmlu_other", 15));
        assert!((made[0].difference - 13.0 / 15.0).abs() < 1e-15);
        assert_eq!(compare(&all(0)[1..], &all(1)[1..]).unwrap().len(), 12, "a task of the group is missing");
    }

    #[test]
    fn other_documents_cannot_be_compared() {
        let a = run("piqa", &[1, 0], "x");
        for (b, words) in [
            (run("piqa", &[1, 0], "y"), "piqa, document 0: the runs did not ask the same"),
            (run("piqa", &[1], "x"), "piqa, document 1: the runs did not ask the same"),
            (run("piqa", &[1, 0, 1], "x"), "piqa: 2 documents in one run, 3 in the other"),
            (run("boolq", &[1, 0], "x"), "no task in common"),
        ] {
            let error = compare(&a, &b).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    /// From Python's `math.erfc`.
    #[test]
    fn tails_of_the_bell() {
        for (x, want) in [
            (0.0, 1.0),
            (0.1, 0.887_537_083_981_715_2),
            (1.0, 0.157_299_207_050_285_13),
            (1.99, 0.004_888_586_800_383_003),
            (2.0, 0.004_677_734_981_047_265),
            (3.5, 7.430_983_723_414_128e-7),
            (10.0, 2.088_487_583_762_545e-45),
        ] {
            let got = erfc(x);
            assert!((got - want).abs() <= 1e-12 * want.max(1e-3), "{x}: {got}");
        }
        assert!((erfc(10.0) / 2.088_487_583_762_545e-45 - 1.0).abs() < 1e-12);
    }
}
