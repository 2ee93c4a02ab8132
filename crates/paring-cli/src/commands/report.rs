//! The report of a run that is done, and how two runs differ.

use std::path::Path;

use paring::report::Report;
use paring::report::difference::Difference;
use paring::report::export::{tensorboard, wandb};
use paring::report::names::REPORT_PAGE;
use paring::{Error, Result};
use paring_format::writer::write_beside;

use crate::args::ReportArgs;
use crate::{page, show, typed};

pub fn report(args: &ReportArgs) -> Result<()> {
    if let Some(path) = args.html.as_deref().filter(|path| path.is_dir()) {
        return Err(Error::Misuse(format!("--html {}: is a folder; name a file", path.display())));
    }
    let first = Report::read(&args.run)?;
    match &args.other {
        None => one(args, &first),
        Some(other) => two(args, &first, &Report::read(other)?),
    }
}

fn one(args: &ReportArgs, report: &Report) -> Result<()> {
    let beside = Report::path(&args.run).with_file_name(REPORT_PAGE);
    let path = args.html.as_deref().unwrap_or(&beside);
    let written = write_page(&page::of(report), path);
    written.map_err(|error| match args.html {
        Some(_) => error,
        None => Error::Plan(format!("{}; name another place for the page with --html", typed(&error))),
    })?;
    let mut lines = show::run(report);
    lines.push(format!("as a page: {}", path.display()));
    if let Some(folder) = &args.tensorboard {
        lines.push(format!("for TensorBoard: {}", tensorboard::write(report, folder)?.display()));
    }
    if let Some(folder) = &args.wandb {
        lines.push(format!("for Weights & Biases: wandb sync {}", wandb::write(report, folder)?.display()));
    }
    finish(args, &lines, report)
}

fn two(args: &ReportArgs, first: &Report, second: &Report) -> Result<()> {
    let difference = Difference::between(first, second);
    let mut lines = show::difference(&difference, [&first.out, &second.out]);
    if let Some(path) = &args.html {
        write_page(&page::of_two(first, second, &difference), path)?;
        lines.push(format!("as a page: {}", path.display()));
    }
    finish(args, &lines, &difference)
}

fn finish(args: &ReportArgs, lines: &[String], value: &impl serde::Serialize) -> Result<()> {
    show::lines(lines)?;
    if args.json { show::json(value) } else { Ok(()) }
}

/// Puts a page in the place of an earlier one.
pub fn write_page(page: &str, path: &Path) -> Result<()> {
    write_beside(path, page.len(), |file| file.write_all(page.as_bytes()))?;
    Ok(())
}
