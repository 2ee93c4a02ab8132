//! The commands that store the numbers of a checkpoint in another way.

use std::sync::Arc;

use paring::Result;
use paring::commands::convert::Conversion;
use paring::report::progress::Observer;

use super::refuse_same_folder;
use crate::args::{ConvertArgs, DecompressArgs};
use crate::progress::{Log, Progress};
use crate::{demo, open, show};

/// Files to write beside the weights of a model that has no folder.
fn companions(model: &str) -> Vec<(String, Vec<u8>)> {
    if model == demo::NAME { demo::companions() } else { Vec::new() }
}

pub fn decompress(args: &DecompressArgs, log: &Log) -> Result<()> {
    let local = open::local(&args.look.model, args.telling.quiet)?;
    refuse_same_folder(&local, &args.out)?;
    let checkpoint = open::checkpoint(&local)?;
    let mut progress = Progress::new(args.telling.quiet, false, log);
    let made = paring::commands::decompress::decompress(
        &checkpoint,
        &args.out,
        companions(&local),
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
    if args.look.json { show::json(&made) } else { Ok(()) }
}

pub fn convert(args: &ConvertArgs, log: &Log) -> Result<()> {
    let local = open::local(&args.look.model, args.telling.quiet)?;
    refuse_same_folder(&local, &args.out)?;
    let checkpoint = Arc::new(open::checkpoint(&local)?);
    let how = Conversion { format: &args.format, groups: &args.group };
    let mut progress = Progress::new(args.telling.quiet, false, log);
    let made = paring::commands::convert::convert(
        &checkpoint,
        how,
        &args.out,
        companions(&local),
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
    if args.look.json { show::json(&made) } else { Ok(()) }
}
