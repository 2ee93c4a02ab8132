//! The report of a run that is done, and how two runs differ.

use paring::Result;
use paring::report::Report;
use paring::report::difference::Difference;

use crate::args::ReportArgs;
use crate::show;

pub fn report(args: &ReportArgs) -> Result<()> {
    let first = Report::read(&args.run)?;
    match &args.other {
        None => one(args, &first),
        Some(other) => two(args, &first, &Report::read(other)?),
    }
}

fn one(args: &ReportArgs, report: &Report) -> Result<()> {
    show::lines(&show::run(report))?;
    if args.json { show::json(report) } else { Ok(()) }
}

fn two(args: &ReportArgs, first: &Report, second: &Report) -> Result<()> {
    let difference = Difference::of(first, second);
    show::lines(&show::difference(&difference, [&first.out, &second.out]))?;
    if args.json { show::json(&difference) } else { Ok(()) }
}
