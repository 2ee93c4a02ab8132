//! Masks that a run is given, held to the model before the work.

use std::collections::BTreeSet;

use paring_format::masks::{Crowded, Masks};
use paring_format::message;
use paring_format::message::Message;
use paring_format::near;
use paring_model::LinearInfo;
use rayon::prelude::*;

use super::Job;
use super::select::Selection;
use crate::plan::{Opt, Pattern};
use crate::{Error, Result};

impl Job {
    /// Marks of the weights of a linear that go, row-major: 1 for each. `None` where no masks are given.
    ///
    /// # Errors
    /// When they have none for this linear, or one of another shape.
    pub(super) fn removed(&self, linear: &LinearInfo) -> Result<Option<Vec<u8>>> {
        self.masks.as_deref().map(|masks| removed(masks, linear)).transpose()
    }
}

/// Marks of the weights of a linear that go, row-major. Errors when there is no mask of its shape.
pub(super) fn removed(masks: &Masks, linear: &LinearInfo) -> Result<Vec<u8>> {
    let found = masks.of(&linear.name).filter(|bits| (bits.rows(), bits.cols()) == (linear.rows, linear.cols));
    found.map(|bits| bits.removed()).ok_or_else(|| missing(masks, &linear.name, 0))
}

/// Errors unless the masks fit the linears that are compressed: all have one of their shape that keeps something, and the
/// pattern that is asked for. Reads all masks.
pub(super) fn check(job: &Job, selection: &Selection) -> Result<()> {
    let Some(masks) = &job.masks else { return Ok(()) };
    let linears: Vec<LinearInfo> = (0..job.decoder.blocks()).flat_map(|i| job.decoder.linears(i)).collect();
    check_names(masks, &linears)?;
    let chosen = || linears.iter().filter(|linear| selection.contains(&linear.name));
    let lack: Vec<&LinearInfo> = chosen().filter(|linear| masks.shape(&linear.name).is_none()).collect();
    if let Some(first) = lack.first() {
        return Err(missing(masks, &first.name, lack.len() - 1));
    }
    for LinearInfo { name, rows, cols, .. } in chosen() {
        if let Some((r, c)) = masks.shape(name).filter(|shape| *shape != (*rows, *cols)) {
            let problem = format!("{name} is [{rows}, {cols}], and its mask [{r}, {c}]");
            return Err(Opt::Masks.unfit(file(masks), problem).hint("give masks of this model"));
        }
    }
    let pattern = job.plan.masks.as_ref().and_then(|given| given.pattern);
    let chosen: Vec<&LinearInfo> = chosen().collect();
    let checked: Vec<Result<()>> = chosen.into_par_iter().map(|linear| check_content(masks, linear, pattern)).collect();
    // The first in the order of the model, however many are wrong.
    checked.into_iter().collect()
}

/// Errors where a mask is for no linear of the model.
fn check_names(masks: &Masks, linears: &[LinearInfo]) -> Result<()> {
    let known: BTreeSet<&str> = linears.iter().map(|linear| linear.name.as_str()).collect();
    let unknown: Vec<&str> = masks.modules().map(|(name, ..)| name).filter(|name| !known.contains(name)).collect();
    let Some(first) = unknown.first() else { return Ok(()) };
    let others = more(unknown.len() - 1);
    let problem = format!("the model has no linear {first} in its blocks{others}");
    let example = || format!("names look like {}", known.first().copied().unwrap_or_default());
    let hint = near::did_you_mean(first, known.iter().copied()).unwrap_or_else(example);
    Err(Opt::Masks.unfit(file(masks), problem).hint(hint))
}

/// Errors where a mask keeps nothing, or more of a group than the pattern does. Fewer are no fault: a weight that was kept may
/// be zero, and so its mask says that it goes.
fn check_content(masks: &Masks, linear: &LinearInfo, pattern: Option<Pattern>) -> Result<()> {
    let name = &linear.name;
    let Some(bits) = masks.of(name) else { return Err(missing(masks, name, 0)) };
    if bits.count() == 0 {
        let problem = format!("the mask of {name} keeps no weight");
        return Err(Opt::Masks.unfit(file(masks), problem).hint(message!["leave it out with ", Opt::Ignore]));
    }
    let Some(Pattern::NofM { keep, of }) = pattern else { return Ok(()) };
    match bits.check(keep, of) {
        Ok(()) => Ok(()),
        Err(Crowded { row, column, kept }) => {
            let problem = format!("{name} row {row}: {kept} of {of} kept, expected {keep} (from column {column} on)");
            let hint = message!["leave ", Opt::Pattern, " out, or give masks that have it"];
            Err(Opt::Masks.unfit(file(masks), problem).hint(hint))
        }
    }
}

fn missing(masks: &Masks, name: &str, others: usize) -> Error {
    let problem = format!("no mask of {name}{}", more(others));
    Opt::Masks.unfit(file(masks), problem).hint(message!["add it, or leave the linear out with ", Opt::Ignore])
}

/// The number of others of which the same is true.
fn more(others: usize) -> String {
    if others > 0 { format!(", and none of {others} more") } else { String::new() }
}

fn file(masks: &Masks) -> String {
    masks.path().display().to_string()
}

impl Job {
    /// Notes on the masks that are given: the file, rows without a weight that stays, and masks of linears that are not compressed.
    pub(super) fn mask_notes(&self, selection: &Selection) -> Vec<Message> {
        let Some(masks) = &self.masks else { return Vec::new() };
        let (mut kept, mut all, mut used) = (0usize, 0usize, 0usize);
        let (mut empty, mut first) = (0, None);
        for (name, rows, cols) in masks.modules().filter(|(name, ..)| selection.contains(name)) {
            let Some(bits) = masks.of(name) else { continue };
            (kept, all, used) = (kept + bits.count(), all + rows * cols, used + 1);
            for row in (0..rows).filter(|row| bits.kept_in_row(*row) == 0) {
                empty += 1;
                first.get_or_insert_with(|| format!("{name} row {row}"));
            }
        }
        let file = file(masks);
        let share = 100.0 * (1.0 - kept as f64 / all.max(1) as f64);
        let digest = masks.digest();
        let mut notes =
            vec![Message::from(format!("masks of {used} linears from {file} (digest {digest:016x}): {share:.1} % go"))];
        if let Some(first) = first {
            let rows = if empty == 1 { "1 row".to_string() } else { format!("{empty} rows") };
            notes.push(format!("{file}: {rows} keep no weight, such as {first}").into());
        }
        let idle = masks.modules().count() - used;
        if idle > 0 {
            notes.push(format!("{file}: {idle} masks are not used: their linears are not compressed").into());
        }
        notes
    }
}
