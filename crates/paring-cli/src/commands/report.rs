//! The report of a run that is done, and how two runs differ.

use std::path::Path;

use paring::report::Report;
use paring::report::difference::Difference;
use paring::report::export::{tensorboard, wandb};
use paring::report::names::REPORT_PAGE;
use paring::{Error, Result};
use paring_format::names::MANIFEST;
use paring_format::writer::{InputFiles, NamedFile, write_beside};

use crate::args::ReportArgs;
use crate::show::{Answer, Failure};
use crate::{page, show, typed};

pub fn report(args: &ReportArgs) -> Result<Answer, Failure> {
    if let Some(path) = args.html.as_deref().filter(|path| path.is_dir()) {
        return Err(Error::Misuse(format!("--html {}: is a folder; name a file", path.display())).into());
    }
    let mut inputs = InputFiles::default();
    [Some(&args.run), args.other.as_ref()].into_iter().flatten().for_each(|run| inputs.add(&Report::path(run)));
    if let Some(path) = &args.html {
        page_file(path, &inputs, args.overwrite).check()?;
    }
    let first = Report::read(&args.run)?;
    match &args.other {
        None => one(args, &inputs, &first),
        Some(other) => two(args, &inputs, &first, &Report::read(other)?),
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
    if let Some(folder) = &args.tensorboard {
        lines.push(format!("for TensorBoard: {}", tensorboard::write(report, folder, replace)?.display()));
    }
    if let Some(folder) = &args.wandb {
        lines.push(format!("for Weights & Biases: wandb sync {}", wandb::write(report, folder, replace)?.display()));
    }
    Ok(Answer::new(report)?.whole_lines(command).lines(lines))
}

fn two(args: &ReportArgs, inputs: &InputFiles, first: &Report, second: &Report) -> Result<Answer, Failure> {
    let difference = Difference::between(first, second);
    let mut lines = show::difference(&difference, [&first.out, &second.out]);
    if let Some(path) = &args.html {
        write(&page::of_two(first, second, &difference), &page_file(path, inputs, args.overwrite))?;
        lines.push(format!("as a page: {}", path.display()));
    }
    Ok(Answer::new(&difference)?.lines(lines))
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
