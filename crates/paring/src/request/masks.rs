//! Masks that a request names.

use std::borrow::Cow;
use std::sync::Arc;

use paring_format::masks::Masks;
use paring_format::message;

use super::Request;
use super::options::RecipeOptions;
use crate::Result;
use crate::plan::{GivenMasks, Opt, Pattern, Plan};

impl Request {
    /// The options of the recipe, with the masks' pattern in place of one to find where the request names masks and prunes.
    ///
    /// # Errors
    /// Options that would find masks, beside masks.
    pub(super) fn recipe_options(&self) -> Result<Cow<'_, RecipeOptions>> {
        if self.masks.is_none() {
            return Ok(Cow::Borrowed(&self.recipe));
        }
        let other = |option: Opt| {
            let problem = message![Opt::Masks, " says which weights go, and so does ", option];
            Err(Opt::Masks.misuse(problem).hint("leave one of them out"))
        };
        if self.recipe.allocate.is_some() {
            return other(Opt::Allocate);
        }
        if let Some(Pattern::Unstructured(_)) = self.recipe.pattern {
            return other(Opt::Sparsity);
        }
        let of_groups = self.groups.iter().filter_map(|group| Some((group.change.as_ref()?, &group.place)));
        for (change, place) in of_groups {
            let by_share = matches!(change.recipe.pattern, Some(Pattern::Unstructured(_)));
            let finds = [
                (Opt::Sparsity, by_share),
                (Opt::Pattern, change.recipe.pattern.is_some()),
                (Opt::Mask, change.recipe.mask.is_some()),
            ];
            if let Some((option, _)) = finds.into_iter().find(|(_, finds)| *finds) {
                return other(option).map_err(|error| error.at(place));
            }
        }
        let pattern = self.prunes.then_some(Pattern::Given);
        Ok(Cow::Owned(RecipeOptions { pattern, ..self.recipe.clone() }))
    }

    /// The masks as a plan has them before their file is open.
    pub(super) fn given_masks(&self) -> Option<GivenMasks> {
        let file = self.masks.as_ref()?.display().to_string();
        Some(GivenMasks { file, digest: String::new(), pattern: self.recipe.pattern })
    }

    /// Opens the masks, and notes their digest in the plan.
    ///
    /// # Errors
    /// A file that cannot be read, or is none of masks.
    pub(super) fn open_masks(&self, plan: &mut Plan) -> Result<Option<Arc<Masks>>> {
        let Some(path) = &self.masks else { return Ok(None) };
        let masks = Masks::open(path)?;
        if let Some(given) = &mut plan.masks {
            given.digest = format!("{:016x}", masks.digest());
        }
        Ok(Some(Arc::new(masks)))
    }
}
