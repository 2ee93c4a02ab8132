//! Masks that a run is given, in place of those that it would find.

use paring_format::message;
use serde::Serialize;

use super::{Opt, Pattern, Plan};
use crate::Result;

/// The masks that a run is given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GivenMasks {
    /// Their file.
    pub file: String,
    /// [`paring_format::masks::Masks::digest`], in 16 hexadecimal digits; empty until the file is open.
    pub digest: String,
    /// The pattern that they must have; `None`: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
}

impl Plan {
    /// Errors where masks do not go with the other choices: those of a file, and those that are all that a run takes of a sweep.
    pub(crate) fn check_masks(&self) -> Result<()> {
        let only = self.choices().any(|(_, choice)| choice.recipe.mask_only);
        if only && self.dense_stream.is_some() {
            let problem = message![Opt::MaskOnly, " keeps weights as they are, and ", Opt::DenseStream, " shifts them"];
            return Err(Opt::MaskOnly.misuse(problem).hint("leave one of them out"));
        }
        if only && self.reconstruct_steps.is_some() {
            let problem = message![Opt::MaskOnly, " keeps weights as they are, and ", Opt::Reconstruct, " trains them"];
            return Err(Opt::MaskOnly.misuse(problem).hint("leave one of them out"));
        }
        if self.masks.is_none() {
            return Ok(());
        }
        if self.choices().any(|(_, choice)| choice.recipe.spqr.is_some()) {
            let problem = message![Opt::Masks, " is for methods without outliers, not for spqr"];
            return Err(Opt::Masks.misuse(problem).hint(message![
                "use ",
                Opt::Method.with("gptq"),
                ", or prune first: zeros of a pruned model stay"
            ]));
        }
        Ok(())
    }
}
