//! The commands that store the numbers of a checkpoint in another way.

use std::sync::Arc;

use paring::Result;
use paring::convert::Conversion;

use super::refuse_same_folder;
use crate::args::{ConvertArgs, DecompressArgs};
use crate::{demo, open, show};

/// Files to write beside the weights of a model that has no folder.
fn companions(model: &str) -> Vec<(String, Vec<u8>)> {
    if model == demo::NAME { demo::companions() } else { Vec::new() }
}

/// A line on stderr for each.
fn notes(notes: &[String]) {
    notes.iter().for_each(|note| eprintln!("note: {note}"));
}

pub fn decompress(args: &DecompressArgs) -> Result<()> {
    let local = open::local(&args.look.model, false)?;
    refuse_same_folder(&local, &args.out)?;
    let checkpoint = open::checkpoint(&local)?;
    let made = paring::decompress::decompress(&checkpoint, &args.out, companions(&local), args.overwrite)?;
    notes(&made.notes);
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

pub fn convert(args: &ConvertArgs) -> Result<()> {
    let local = open::local(&args.look.model, false)?;
    refuse_same_folder(&local, &args.out)?;
    let checkpoint = Arc::new(open::checkpoint(&local)?);
    let how = Conversion { format: &args.format, groups: &args.group };
    let made = paring::convert::convert(&checkpoint, how, &args.out, companions(&local), args.overwrite)?;
    notes(&made.notes);
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
