//! Tasks that judge a model: its answers to their requests, and what they come to.

use std::time::Instant;

use paring_model::Decoder;
use paring_tasks::{Score, TaskResult, Work};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::likelihoods::{self, Amount, Asked, Beyond};
use crate::pipeline::device::DeviceBudget;
use crate::report::progress::Observer;
use crate::report::{Clock, DeviceReport, peak_rss_mib};
use crate::{Error, Result};

/// The results of tasks.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The results, each group before its tasks.
    #[serde(skip)]
    pub results: Vec<TaskResult>,
    /// The answers to the requests, in their order.
    #[serde(skip)]
    pub scores: Vec<Score>,
    /// Device.
    #[serde(flatten)]
    pub place: DeviceReport,
    /// Its work.
    #[serde(flatten)]
    pub amount: Amount,
    /// Time it took.
    pub seconds: f64,
    /// Highest resident memory of the process so far.
    pub peak_rss_mib: f64,
}

/// Answers the requests of tasks, block by block ([`likelihoods::score`]), and counts the answers. The device of `budget` is the
/// decoder's. `observer` gets the progress.
///
/// # Errors
/// As [`likelihoods::score`], with the document that a model cannot be run on.
pub fn judge(
    decoder: &dyn Decoder,
    budget: &DeviceBudget,
    work: &Work,
    clock: &mut Clock,
    observer: &mut dyn Observer,
) -> Result<Judged> {
    let start = Instant::now();
    let amount = amount(decoder, work)?;
    let scores = likelihoods::score(decoder, budget, &asked(work), clock, observer).map_err(|error| match error {
        Error::Text { text, position, problem } => {
            Error::Plan(format!("{}, token {position}: {problem}", work.place(text)))
        }
        other => other,
    })?;
    Ok(Judged {
        results: work.results(&scores)?,
        scores,
        place: DeviceReport::new(decoder.device())?,
        amount,
        seconds: start.elapsed().as_secs_f64(),
        peak_rss_mib: peak_rss_mib(),
    })
}

/// The work of [`judge`].
///
/// # Errors
/// Those of requests that cannot be scored.
pub fn amount(decoder: &dyn Decoder, work: &Work) -> Result<Amount> {
    likelihoods::amount(decoder, &asked(work))
}

fn asked(work: &Work) -> Asked<'_> {
    Asked { requests: &work.requests, longest: work.longest, beyond: Beyond::default() }
}

/// Results by the names of their tasks: each metric and its `_stderr` (null where it has none), `n` documents, the `version` of the
/// task, and `num_fewshot`; of a group also its `tasks`.
pub fn by_name(results: &[TaskResult]) -> Value {
    let one = |result: &TaskResult| {
        let mut values = Map::new();
        for metric in &result.metrics {
            values.insert(metric.metric.clone(), json!(metric.value));
            values.insert(format!("{}_stderr", metric.metric), json!(metric.stderr));
        }
        values.insert("n".into(), json!(result.documents));
        values.insert("version".into(), json!(result.version));
        values.insert("num_fewshot".into(), json!(result.shots));
        if !result.tasks.is_empty() {
            values.insert("tasks".into(), json!(result.tasks));
        }
        (result.task.clone(), Value::Object(values))
    };
    Value::Object(results.iter().map(one).collect())
}
