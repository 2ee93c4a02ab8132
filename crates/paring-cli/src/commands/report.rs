//! The report of a run that is done, and how two runs differ.

use std::path::Path;

use paring::report::Report;
use paring::report::difference::Difference;
use paring::report::export::{tensorboard, wandb};
use paring::report::names::REPORT_PAGE;
use paring::{Error, Result};
use paring_format::names::MANIFEST;
use paring_format::writer::{InputFiles, NamedFile, write_beside};

use crate::args::{ReportArgs, Shared};
use crate::{page, show, typed};

pub fn report(args: &ReportArgs, shared: &Shared) -> Result<()> {
    if let Some(path) = args.html.as_deref().filter(|path| path.is_dir()) {
        return Err(Error::Misuse(format!("--html {}: is a folder; name a file", path.display())));
    }
    let mut inputs = InputFiles::default();
    [Some(&args.run), args.other.as_ref()].into_iter().flatten().for_each(|run| inputs.add(&Report::path(run)));
    if let Some(path) = &args.html {
        page_file(path, &inputs, args.overwrite).check()?;
    }
    let first = Report::read(&args.run)?;
    match &args.other {
        None => one((args, shared), &inputs, &first),
        Some(other) => two((args, shared), &inputs, &first, &Report::read(other)?),
    }
}

fn one((args, shared): (&ReportArgs, &Shared), inputs: &InputFiles, report: &Report) -> Result<()> {
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
    lines.push(format!("as a page: {}", path.display()));
    if let Some(folder) = &args.tensorboard {
        lines.push(format!("for TensorBoard: {}", tensorboard::write(report, folder, replace)?.display()));
    }
    if let Some(folder) = &args.wandb {
        lines.push(format!("for Weights & Biases: wandb sync {}", wandb::write(report, folder, replace)?.display()));
    }
    finish(shared, &lines, report)
}

fn two((args, shared): (&ReportArgs, &Shared), inputs: &InputFiles, first: &Report, second: &Report) -> Result<()> {
    let difference = Difference::between(first, second);
    let mut lines = show::difference(&difference, [&first.out, &second.out]);
    if let Some(path) = &args.html {
        write(&page::of_two(first, second, &difference), &page_file(path, inputs, args.overwrite))?;
        lines.push(format!("as a page: {}", path.display()));
    }
    finish(shared, &lines, &difference)
}

fn finish(shared: &Shared, lines: &[String], value: &impl serde::Serialize) -> Result<()> {
    show::lines(lines)?;
    if shared.json { show::json(value) } else { Ok(()) }
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
