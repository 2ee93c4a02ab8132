//! The commands that store the numbers of a checkpoint in another way.

use std::sync::Arc;

use paring::Result;
use paring::commands::convert::Conversion;
use paring::report::progress::Observer;
use paring::request::refuse_same_folder;

use crate::args::{ConvertArgs, DecompressArgs, ExportMasksArgs, Shared, sources};
use crate::machine;
use crate::progress::{Log, Progress};
use crate::show::{self, Answer, Failure};
use paring::report::words::plural;

pub fn decompress(args: &DecompressArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    machine::threads(None, None)?;
    let sources = sources(shared.quiet, &args.look.opening);
    let local = sources.local(&args.look.model)?;
    refuse_same_folder(&local, &args.out)?;
    let checkpoint = sources.checkpoint(&local)?;
    let mut progress = Progress::new(shared.channels(), false, log);
    progress.end_on_signals()?;
    let made = paring::commands::decompress::decompress(
        &checkpoint,
        &args.out,
        sources.companions(&local),
        args.overwrite,
        &mut progress,
    )?;
    progress.done();
    made.notes.iter().for_each(|note| progress.note(note));
    let answer = Answer::new(&made)?;
    log.result(answer.value());
    let left_out = match made.left_out {
        0 => String::new(),
        n => format!(", {} of activations left out", plural(n, "scale")),
    };
    let line = format!(
        "{} decoded{left_out}: {} → {}, written to {}",
        matrices(made.decoded),
        show::size(made.bytes_in),
        show::size(made.bytes_out),
        made.out
    );
    Ok(answer.lines([line]))
}

pub fn convert(args: &ConvertArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    machine::threads(None, None)?;
    let sources = sources(shared.quiet, &args.look.opening);
    let local = sources.local(&args.look.model)?;
    refuse_same_folder(&local, &args.out)?;
    let checkpoint = Arc::new(sources.checkpoint(&local)?);
    let how = Conversion { format: &args.format, groups: &args.group };
    let mut progress = Progress::new(shared.channels(), false, log);
    progress.end_on_signals()?;
    let made = paring::commands::convert::convert(
        &checkpoint,
        how,
        &args.out,
        sources.companions(&local),
        args.overwrite,
        &mut progress,
    )?;
    progress.done();
    made.notes.iter().for_each(|note| progress.note(note));
    let answer = Answer::new(&made)?;
    log.result(answer.value());
    let line = format!(
        "{} converted to {}: {} → {}, written to {}",
        matrices(made.converted),
        made.format,
        show::size(made.bytes_in),
        show::size(made.bytes_out),
        made.out
    );
    Ok(answer.lines([line]))
}

pub fn export_masks(args: &ExportMasksArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    machine::threads(None, None)?;
    let sources = sources(shared.quiet, &args.look.opening);
    let checkpoint = Arc::new(sources.checkpoint(&sources.local(&args.look.model)?)?);
    let mut progress = Progress::new(shared.channels(), false, log);
    progress.end_on_signals()?;
    let made = paring::commands::export_masks::export(&checkpoint, &args.out, args.overwrite, &mut progress)?;
    progress.done();
    let answer = Answer::new(&made)?;
    log.result(answer.value());
    let holds = made.pattern.as_ref().map_or(String::new(), |pattern| format!(", all {pattern}"));
    let dense = match made.dense {
        0 => String::new(),
        n => format!("; {} without a zero left out", plural(n, "linear")),
    };
    let line = format!(
        "masks of {}: {:.2} % of their weights go{holds}{dense}; {} written to {}",
        plural(made.modules.len(), "linear"),
        100.0 * made.sparsity,
        show::size(made.bytes),
        made.out
    );
    Ok(answer.lines([line]))
}

fn matrices(count: usize) -> String {
    format!("{count} {}", if count == 1 { "matrix" } else { "matrices" })
}
