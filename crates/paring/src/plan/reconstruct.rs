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
            Some(_) => Ok(()),
        }
    }
}
