//! Blocks that are trained after their linears were compressed.

use paring_format::message;

use super::{Opt, Plan};
use crate::Result;

/// Steps of runs that ask for reconstruction and not for so many.
pub const RECONSTRUCT_STEPS: usize = 64;

impl Plan {
    /// True if the dense model passes through each block beside the compressed one.
    pub(crate) fn runs_dense(&self) -> bool {
        self.dense_stream.is_some() || self.reconstruct_steps.is_some()
    }

    /// Errors where blocks cannot be trained.
    pub(crate) fn check_reconstruction(&self) -> Result<()> {
        match self.reconstruct_steps {
            None => Ok(()),
            Some(0) => Err(Opt::ReconstructSteps.wrong(0, "must be 1 or more")),
            Some(_) if self.device != "cpu" => {
                let problem = message![Opt::Reconstruct, format!(": not on {}", self.device)];
                Err(Opt::Reconstruct.misfit(problem).hint(message![
                    "use ",
                    Opt::Device.with("cpu"),
                    ", or leave it out"
                ]))
            }
            Some(_) => self.check_ranges(),
        }
    }

    /// Errors where ranges of activations are stored: they are those from before a block is trained.
    fn check_ranges(&self) -> Result<()> {
        if self.kv_cache.is_some() {
            let problem = message![Opt::Reconstruct, ": the scales of caches are measured before blocks are trained"];
            return Err(Opt::Reconstruct.misuse(problem).hint(message!["leave out one of it and ", Opt::KvCache]));
        }
        match self.choices().find(|(_, choice)| choice.recipe.stores_input_scales()) {
            None => Ok(()),
            Some((number, _)) => {
                let problem =
                    format!(": {}scales of inputs are measured before blocks are trained", self.place(number));
                let hint =
                    message!["leave it out, or choose a ", Opt::Scheme, " whose inputs are not rounded, or on the fly"];
                Err(Opt::Reconstruct.misuse(message![Opt::Reconstruct, problem]).hint(hint))
            }
        }
    }
}
