//! The commands that store the numbers of a checkpoint in another way.

use std::sync::Arc;

use paring::Result;
use paring::commands::convert::Conversion;
use paring::report::progress::Observer;
use paring::request::refuse_same_folder;

use crate::args::{ConvertArgs, DecompressArgs, Shared, sources};
use crate::machine;
use crate::progress::{Log, Progress};
use crate::show;

pub fn decompress(args: &DecompressArgs, shared: &Shared, log: &Log) -> Result<()> {
    machine::threads(None)?;
    let sources = sources(shared.quiet, &args.look.opening);
    let local = sources.local(&args.look.model)?;
    refuse_same_folder(&local, &args.out)?;
    let checkpoint = sources.checkpoint(&local)?;
    let mut progress = Progress::new(shared.quiet, false, log);
    let made = paring::commands::decompress::decompress(
        &checkpoint,
        &args.out,
        sources.companions(&local),
        args.overwrite,
        &mut progress,
    )?;
    progress.done();
    made.notes.iter().for_each(|note| progress.note(note));
    log.result(&show::value(&made)?);
    let left_out = match made.left_out {
        0 => String::new(),
        n => format!(", {n} scales of activations left out"),
    };
    show::lines(&[format!(
        "{} matrices decoded{left_out}, {} became {}; written to {}",
        made.decoded,
        show::size(made.bytes_in),
        show::size(made.bytes_out),
        made.out
    )])?;
    if shared.json { show::json(&made) } else { Ok(()) }
}

pub fn convert(args: &ConvertArgs, shared: &Shared, log: &Log) -> Result<()> {
    machine::threads(None)?;
    let sources = sources(shared.quiet, &args.look.opening);
    let local = sources.local(&args.look.model)?;
    refuse_same_folder(&local, &args.out)?;
    let checkpoint = Arc::new(sources.checkpoint(&local)?);
    let how = Conversion { format: &args.format, groups: &args.group };
    let mut progress = Progress::new(shared.quiet, false, log);
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
    log.result(&show::value(&made)?);
    show::lines(&[format!(
        "{} matrices are {} now, {} became {}; written to {}",
        made.converted,
        made.format,
        show::size(made.bytes_in),
        show::size(made.bytes_out),
        made.out
    )])?;
    if shared.json { show::json(&made) } else { Ok(()) }
}
