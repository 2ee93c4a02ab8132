//! The report of a run that is done, and runs side by side.

use std::path::{Path, PathBuf};

use paring::report::Report;
use paring::report::comparison::{self, Comparison};
use paring::report::difference::Difference;
use paring::report::export::{Exported, tensorboard, wandb};
use paring::report::names::REPORT_PAGE;
use paring::report::training::TrainingReport;
use paring::{Error, Result};
use paring_format::names::MANIFEST;
use paring_format::writer::{InputFiles, NamedFile, write_beside};
use serde_json::json;

use crate::args::ReportArgs;
use crate::show::{Answer, Failure};
use crate::{page, show, typed};

pub fn report(args: &ReportArgs) -> Result<Answer, Failure> {
    if let Some(path) = args.html.as_deref().filter(|path| path.is_dir()) {
        return Err(Error::Misuse(format!("--html {}: is a folder; name a file", path.display())).into());
    }
    let mut inputs = InputFiles::default();
    let runs: Vec<&PathBuf> = std::iter::once(&args.run).chain(&args.others).collect();
    if runs.len() > comparison::MOST {
        return Err(Error::Misuse(format!("{} runs, expected at most {}", runs.len(), comparison::MOST)).into());
    }
    runs.iter().for_each(|run| inputs.add(&Report::path(run)));
    if let Some(path) = &args.html {
        page_file(path, &inputs, args.overwrite).check()?;
    }
    if let ([run], Some(training)) = (&runs[..], TrainingReport::beside(&args.run)?) {
        inputs.add(&TrainingReport::path(run));
        return trained(args, &inputs, &training);
    }
    let reports = runs.into_iter().map(|run| Report::read(run)).collect::<Result<Vec<_>>>()?;
    match &reports[..] {
        [report] => one(args, &inputs, report),
        reports => many(args, &inputs, reports),
    }
}

fn one(args: &ReportArgs, inputs: &InputFiles, report: &Report) -> Result<Answer, Failure> {
    let beside = Report::path(&args.run).with_file_name(REPORT_PAGE);
    let path = args.html.as_deref().unwrap_or(&beside);
    let page = page::of(report);
    let is_runs = args.html.is_none() && beside.with_file_name(MANIFEST).is_file();
    let written =
        if is_runs { write_own_page(&page, path) } else { write(&page, &page_file(path, inputs, args.overwrite)) };
    written.map_err(|error| match args.html {
        Some(_) => error,
        None => Error::Plan(format!("{}; name another place for the page with --html", typed(&error))),
    })?;
    let replace = (inputs, args.overwrite);
    let mut lines = show::run(report);
    let command = show::stored::command(report);
    lines.push(format!("as a page: {}", path.display()));
    lines.extend(exported(args, report, replace)?);
    Ok(Answer::new(report)?.whole_lines(command).lines(lines))
}

/// The report of a training.
fn trained(args: &ReportArgs, inputs: &InputFiles, report: &TrainingReport) -> Result<Answer, Failure> {
    if let Some(path) = &args.html {
        let reason = "a training has no page; its curves are in --tensorboard and --wandb";
        return Err(Error::Misuse(format!("--html {}: {reason}", path.display())).into());
    }
    let mut lines = show::training::curve(report);
    lines.extend(show::training::outcome(report));
    lines.extend(exported(args, report, (inputs, args.overwrite))?);
    Ok(Answer::new(report)?.lines(lines))
}

/// Writes a report for other programs, where that is asked for.
fn exported(args: &ReportArgs, report: &impl Exported, replace: (&InputFiles, bool)) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    if let Some(folder) = &args.tensorboard {
        lines.push(format!("for TensorBoard: {}", tensorboard::write(report, folder, replace)?.display()));
    }
    if let Some(folder) = &args.wandb {
        lines.push(format!("for Weights & Biases: wandb sync {}", wandb::write(report, folder, replace)?.display()));
    }
    Ok(lines)
}

fn many(args: &ReportArgs, inputs: &InputFiles, reports: &[Report]) -> Result<Answer, Failure> {
    let comparison = Comparison::of(reports);
    let two = match reports {
        [first, second] => Some(Difference::between(first, second)),
        _ => None,
    };
    let detail = |two: &Difference| show::difference(two, &show::comparison::numbers(&comparison, two));
    let mut lines = two.as_ref().map(detail).unwrap_or_default();
    if let Some(path) = &args.html {
        let page = page::of_many(reports, &comparison, two.as_ref());
        write(&page, &page_file(path, inputs, args.overwrite))?;
        lines.push(format!("as a page: {}", path.display()));
    }
    let answer = match &two {
        Some(difference) => {
            let mut value = json!(difference);
            if !comparison.tasks.is_empty() {
                value["tasks"] = json!(comparison.tasks);
            }
            Answer::new(&value)?
        }
        None => Answer::new(&comparison)?,
    };
    let headline = show::comparison::headline(&comparison);
    Ok(answer.lines(headline).whole_lines(show::comparison::tables(&comparison)).lines(lines))
}

/// A page where a person wants it.
fn page_file<'a>(path: &'a Path, inputs: &'a InputFiles, overwrite: bool) -> NamedFile<'a> {
    NamedFile { path, inputs, is_own: &page::is_own, overwrite }
}

fn write(page: &str, file: &NamedFile<'_>) -> Result<()> {
    file.write(page.len(), |file| file.write_all(page.as_bytes()))?;
    Ok(())
}

/// Puts the page of a run into its output folder, in the place of an earlier one.
pub fn write_own_page(page: &str, path: &Path) -> Result<()> {
    write_beside(path, page.len(), |file| file.write_all(page.as_bytes()))?;
    Ok(())
}
