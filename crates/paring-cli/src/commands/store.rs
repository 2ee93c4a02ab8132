//! The commands that store a checkpoint in another way, or with an adapter in it.

use std::sync::Arc;

use paring::Result;
use paring::commands::convert::Conversion;
use paring::commands::merge::{Loss, Merging};
use paring::report::progress::Observer;
use paring::request::{refuse_folder_of, refuse_same_folder};

use paring_format::Adapter;

use crate::args::{ConvertArgs, DecompressArgs, ExportMasksArgs, MergeArgs, Shared, sources};
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

pub fn merge(args: &MergeArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    machine::threads(None, None)?;
    let sources = sources(shared.quiet, &args.opening);
    // Small, and wrong more often than the base.
    let adapter = Arc::new(Adapter::open(&args.adapter).map_err(paring::Error::from)?);
    let local = sources.local(&args.model)?;
    refuse_same_folder(&local, &args.out)?;
    refuse_folder_of("adapter", &args.adapter, &args.out)?;
    let checkpoint = Arc::new(sources.checkpoint(&local)?);
    let how = Merging { adapter, masks: args.masks.map(|masks| masks.masks()), dry_run: args.dry_run };
    let mut progress = Progress::new(shared.channels(), false, log);
    progress.end_on_signals()?;
    let companions = sources.companions(&local);
    let made = paring::commands::merge::merge(&checkpoint, &how, &args.out, companions, args.overwrite, &mut progress)?;
    progress.done();
    made.notes.iter().for_each(|note| progress.note(note));
    let answer = Answer::new(&made)?;
    log.result(answer.value());
    let mut lines = vec![format!("{} with the adapter {}: {}", matrices(made.merged), made.adapter, lost(&made.loss))];
    if made.rounded > 0 {
        lines.push(format!("{} rounded to the grids that they have", matrices(made.rounded)));
    }
    if made.masked > 0 {
        lines.push(format!("{} keep their zeros", matrices(made.masked)));
    }
    lines.push(match (&made.out, made.bytes_out) {
        (Some(out), Some(bytes)) => format!("{} → {}, written to {out}", show::size(made.bytes_in), show::size(bytes)),
        _ => "nothing was written".to_string(),
    });
    Ok(answer.lines(lines))
}

/// The loss of a merge, for people.
fn lost(loss: &Loss) -> String {
    let percent = |share: f64| match 100.0 * share {
        0.0 => "0 %".to_string(),
        share if share < 0.01 => "less than 0.01 %".to_string(),
        share => format!("{share:.2} %"),
    };
    format!(
        "a change of {} of the weights, {} of it lost to rounding, {} of them unmoved; {} from base and adapter",
        percent(loss.change),
        percent(loss.rounding),
        percent(loss.vanished),
        percent(loss.distance)
    )
}

fn matrices(count: usize) -> String {
    format!("{count} {}", if count == 1 { "matrix" } else { "matrices" })
}
