//! Checks that a quantization accounts for every linear, and that all of its entries mean something.

use std::collections::BTreeSet;

use paring_format::config::Target;
use paring_format::layouts::part_names;
use paring_format::{Checkpoint, Dtype};
use paring_model::LinearInfo;

use crate::output::side_files::{named_dtype, torch_name};
use crate::{Error, Result};

/// Linears by their treatment in the quantization.
#[derive(Default)]
pub(super) struct Accounts {
    pub(super) covered: usize,
    pub(super) ignored: usize,
    pub(super) untargeted: usize,
    pub(super) notes: Vec<String>,
}

/// Most names of linears in a note.
const NAMED: usize = 3;

/// Counts the linears of the blocks and those outside them. All zero for a model without a quantization.
pub(super) fn accounts(checkpoint: &Checkpoint, linears: &[LinearInfo], outer: &[String]) -> Result<Accounts> {
    let mut accounts = Accounts::default();
    let Some(quant) = checkpoint.quant_config()? else { return Ok(accounts) };
    let target = |text: &String| Target::new(text).map_err(Error::Plan);
    let ignored = quant.ignore.iter().map(target).collect::<Result<Vec<_>>>()?;
    let stored = |name: &&String| part_names().iter().any(|part| checkpoint.info(&format!("{name}.{part}")).is_some());
    let all = linears.iter().map(|linear| &linear.name).chain(outer.iter().filter(stored));
    let mut untargeted = Vec::new();
    for name in all {
        if quant.scheme(name)?.is_some() {
            accounts.covered += 1;
        } else if Target::any(&ignored, name).map_err(Error::Plan)? {
            accounts.ignored += 1;
        } else {
            untargeted.push(name.as_str());
        }
    }
    accounts.untargeted = untargeted.len();
    if !untargeted.is_empty() {
        let count = untargeted.len();
        let more = if count > NAMED { ", …" } else { "" };
        let names = untargeted[..count.min(NAMED)].join(", ");
        accounts
            .notes
            .push(format!("{count} layers are dense, though quantization_config does not ignore them: {names}{more}"));
    }
    let modules = modules(checkpoint);
    for (group, scheme) in &quant.groups {
        for text in &scheme.targets {
            let target = target(text)?;
            let target = [target];
            let mut found = false;
            for module in &modules {
                found = found || Target::any(&target, module).map_err(Error::Plan)?;
            }
            if !found {
                accounts.notes.push(format!("the target {text} of {group} matches no module"));
            }
        }
    }
    accounts.notes.extend(scales_of_another_type(checkpoint, linears));
    Ok(accounts)
}

/// The path of every module that holds a tensor, or another module.
fn modules(checkpoint: &Checkpoint) -> BTreeSet<&str> {
    let mut modules = BTreeSet::new();
    for name in checkpoint.names() {
        let mut path = name;
        while let Some((module, _)) = path.rsplit_once('.') {
            if !modules.insert(module) {
                break;
            }
            path = module;
        }
    }
    modules
}

/// Notes scales that are not of the model's type: programs that load the model in its type round them to it.
fn scales_of_another_type(checkpoint: &Checkpoint, linears: &[LinearInfo]) -> Option<String> {
    let model = named_dtype(checkpoint.config())?;
    let other = |linear: &&LinearInfo| {
        let scale = checkpoint.info(&format!("{}.weight_scale", linear.name));
        scale.is_some_and(|info| info.dtype.is_weight() && info.dtype != model)
    };
    let first = linears.iter().find(other)?;
    let count = linears.iter().filter(other).count();
    let dtype = checkpoint.info(&format!("{}.weight_scale", first.name)).map_or(Dtype::F32, |info| info.dtype);
    Some(format!(
        "the scales of {count} layers are {} in a {} model, and other programs round them to its type: {}",
        torch_name(dtype),
        torch_name(model),
        first.name
    ))
}
