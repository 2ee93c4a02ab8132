//! The measurements of a run's input and output: perplexity, and tasks.

use std::path::Path;

use paring_data::Windows;
use paring_format::message::Message;
use paring_model::Decoder;
use paring_tasks::{Sample, TaskResult, Work};

use super::Request;
use super::sources::{Model, Sources};
use crate::commands::likelihoods::Amount;
use crate::commands::{perplexity, tasks};
use crate::cost::Measurement;
use crate::pipeline::device::DeviceBudget;
use crate::report::progress::Observer;
use crate::report::{Clock, PerplexityReport, Report, TasksReport};
use crate::{Precision, Result};

/// All that a run's input and output are measured by, and the input.
pub(super) struct Evaluation {
    text: Option<Text>,
    tasks: Option<Work>,
    sources: Sources,
    /// The folder of the dense model, or its built-in name.
    local: String,
    precision: Precision,
}

/// The windows that perplexity is measured on.
struct Text {
    dataset: String,
    windows: Windows,
}

/// The measurements of a model.
pub(super) struct Measured {
    perplexity: Option<f64>,
    tasks: Option<(Vec<TaskResult>, Vec<Sample>)>,
}

impl Request {
    /// The measurements that are asked for, if any are.
    pub(super) fn evaluation(
        &self,
        model: &Model,
        local: &str,
        notes: &mut Vec<Message>,
    ) -> Result<Option<Evaluation>> {
        let text = match &self.evaluation {
            None => None,
            Some(name) => {
                let length = (self.seqlen, self.limit);
                let (dataset, windows, more) = self.sources.windows(model, Some(name), &self.data_options, length)?;
                notes.extend(more.into_iter().map(Message::from));
                Some(Text { dataset, windows })
            }
        };
        let tasks = self.tasks.as_ref().map(|options| self.sources.tasks(model, options)).transpose()?;
        let (sources, local) = (self.sources.clone(), local.to_string());
        let is_asked = text.is_some() || tasks.is_some();
        Ok(is_asked.then_some(Evaluation { text, tasks, sources, local, precision: model.precision }))
    }
}

impl Evaluation {
    /// The measurements as far as their time depends on them.
    pub fn measured(&self, decoder: &dyn Decoder) -> Result<Vec<Measurement>> {
        let mut all: Vec<Measurement> = self.text.iter().map(|text| Measurement::from(&text.windows)).collect();
        if let Some(work) = &self.tasks {
            let Amount { requests, tokens, computed, predictions, rounds, .. } = tasks::amount(decoder, work)?;
            let length = tokens / requests.max(1);
            all.push(Measurement { tokens: computed, predictions, length, passes: rounds });
        }
        Ok(all)
    }

    /// Measures the dense model, which shows before the work that data and model belong together.
    pub fn before(&self, budget: &DeviceBudget, observer: &mut dyn Observer) -> Result<Measured> {
        self.measure(["perplexity before", "tasks before"], Path::new(&self.local), budget, observer)
    }

    /// Measures the one that was written to `out`, and adds both to the report.
    pub fn after(
        &self,
        before: Measured,
        (budget, out): (&DeviceBudget, &Path),
        report: &mut Report,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let after = self.measure(["perplexity after", "tasks after"], out, budget, observer)?;
        if let (Some(text), Some(before), Some(after)) = (&self.text, before.perplexity, after.perplexity) {
            let (dataset, windows) = (text.dataset.clone(), &text.windows);
            let (windows, seqlen) = (windows.count(), windows.seqlen);
            report.perplexity = Some(PerplexityReport { before, after, dataset, windows, seqlen });
        }
        if let (Some((before, asked)), Some((after, answered))) = (before.tasks, after.tasks) {
            report.tasks = Some(TasksReport::new((before, &asked), (after, &answered))?);
        }
        Ok(())
    }

    fn measure(
        &self,
        [of_text, of_tasks]: [&'static str; 2],
        model: &Path,
        budget: &DeviceBudget,
        observer: &mut dyn Observer,
    ) -> Result<Measured> {
        let model = self.sources.model(model, Some(self.precision), budget.device(), true)?;
        let (decoder, clock) = (model.decoder.as_ref(), &mut Clock::default());
        let perplexity = match &self.text {
            None => None,
            Some(Text { dataset, windows }) => {
                observer.measuring(of_text);
                Some(perplexity::measure(decoder, budget, windows, dataset, clock, observer)?.perplexity)
            }
        };
        let tasks = match &self.tasks {
            None => None,
            Some(work) => {
                observer.measuring(of_tasks);
                let judged = tasks::judge(decoder, budget, work, clock, observer)?;
                let samples = work.samples(&judged.scores)?.collect();
                Some((judged.results, samples))
            }
        };
        Ok(Measured { perplexity, tasks })
    }
}
