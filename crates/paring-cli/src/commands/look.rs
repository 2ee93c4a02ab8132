//! The commands that look at a checkpoint and write no other.

use std::path::Path;
use std::sync::Arc;

use paring::inspect::Summary;
use paring::{Error, Result, picture};
use paring_format::Checkpoint;
use serde_json::json;

use crate::args::{InspectArgs, Look, SchemesArgs};
use crate::open;
use crate::show;

pub fn inspect(args: &InspectArgs) -> Result<()> {
    if let Some(path) = args.outliers.as_deref().filter(|path| path.is_dir()) {
        return Err(Error::Misuse(format!("--outliers {}: is a folder; name a file", path.display())));
    }
    let checkpoint = open::checkpoint(&open::local(&args.look.model, false)?)?;
    let summary = paring::inspect::inspect(&checkpoint)?;
    let drawn = match &args.outliers {
        Some(path) => Some(draw(&checkpoint, &summary, args.module.as_deref(), path)?),
        None => None,
    };
    if args.look.json {
        return show::json(&summary);
    }
    let mut lines = show::summary(&summary);
    lines.extend(drawn);
    show::lines(&lines)
}

/// Draws the outliers of a module, or of the one that has the most, and says so.
fn draw(checkpoint: &Checkpoint, summary: &Summary, module: Option<&str>, path: &Path) -> Result<String> {
    let none = || Error::Plan(format!("{}: no matrix in it keeps outliers; nothing to draw", checkpoint.describe()));
    let module = module.or_else(|| summary.most_outliers()).ok_or_else(none)?;
    let found = paring::inspect::outliers(checkpoint, module)?;
    let svg = picture::outliers(module, found.rows, found.cols, &found.mask);
    std::fs::write(path, svg).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    Ok(format!("outliers of {module} drawn in {}", path.display()))
}

pub fn verify(args: &Look) -> Result<()> {
    let verified = paring::verify::verify(Arc::new(open::checkpoint(&open::local(&args.model, false)?)?))?;
    if args.json {
        return show::json(&verified);
    }
    show::lines(&show::verified(&args.model, &verified))
}

/// The table of schemes.
pub fn schemes(args: &SchemesArgs) -> Result<()> {
    let table = paring::serves::table();
    let blocks = table.iter().map(|row| {
        format!(
            "{}\n  weights       {}\n  inputs        {}\n  layout        {}\n  transformers  {}\n  vLLM          {}",
            row.scheme, row.weights, row.inputs, row.format, row.transformers, row.vllm
        )
    });
    show::lines(&blocks.collect::<Vec<_>>())?;
    if args.json { show::json(&json!({"schemes": table})) } else { Ok(()) }
}
