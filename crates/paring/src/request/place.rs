//! The output folder of a run.

use std::path::{Path, PathBuf};

use paring_format::Element;
use paring_format::writer::leads_to_same;

use super::sources::Sources;
use crate::Result;
use crate::plan::{Allocation, Opt, Pattern, Plan};

/// The output folder where none is named: in the working directory, after the model and what is done to it.
pub(super) fn usual_out(plan: &Plan, sources: &Sources) -> PathBuf {
    let mut name = format!("{}-{}", sources.short_name(&plan.model), plan.recipe.method);
    match plan.recipe.pattern {
        Some(Pattern::NofM { keep, of }) => name += &format!("-{keep}of{of}"),
        Some(Pattern::Unstructured(share)) => name += &format!("-{share}"),
        Some(Pattern::Given) | None => {}
    }
    if plan.masks.is_some() {
        name += "-masked";
    }
    if let Some(Allocation::Bits { target, .. }) = plan.allocation {
        return format!("{name}-{target}bits").into();
    }
    if let Some(rounding) = plan.recipe.rounding {
        name += &match rounding.element {
            Element::Int(bits) => format!("-w{bits}"),
            Element::E4m3 => "-fp8".to_string(),
            Element::E2m3 => "-fp6".to_string(),
            Element::E2m1 => "-fp4".to_string(),
        };
        name += &rounding.group_size().map_or(String::new(), |size| format!("g{size}"));
    }
    name.into()
}

/// An error where the output would lie in the model's own folder.
///
/// # Errors
/// Only that.
pub fn refuse_same_folder(model: &str, out: &Path) -> Result<()> {
    refuse_folder_of("model", Path::new(model), out)
}

/// An error where the output would lie in the folder of an input; `what` it is of.
///
/// # Errors
/// Only that.
pub fn refuse_folder_of(what: &str, folder: &Path, out: &Path) -> Result<()> {
    match leads_to_same(folder, out) {
        true => Err(Opt::Out.wrong(out.display(), format!("is the {what}'s own folder")).hint("choose another")),
        false => Ok(()),
    }
}
