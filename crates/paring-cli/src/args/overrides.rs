//! Options of some of the linears → [`Override`]s.

use clap::Parser;
use paring::plan::Curvature;
use paring::plan::method::{MethodInfo, SPQR};
use paring::plan::{ActOrder, Choice, Override, Recipe, Rounding};
use paring::{Error, Result};

use super::recipe::{preset, refined, usual_method};
use super::{Grids, Removal, SpqrArgs, Sweep};

/// The options that may differ between linears.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
pub struct Change {
    /// How
    #[arg(long)]
    pub method: Option<String>,
    #[command(flatten)]
    pub removal: Removal,
    #[command(flatten)]
    pub grids: Grids,
    #[command(flatten)]
    pub sweep: Sweep,
    #[command(flatten)]
    pub spqr: SpqrArgs,
    /// The layout
    #[arg(long)]
    pub format: Option<String>,
}

/// What a recipe file says of some linears.
pub struct Changed {
    /// Exact names or `re:` patterns.
    pub targets: Vec<String>,
    /// What differs; `None`: they stay as they are.
    pub change: Option<Box<Change>>,
    /// Where it stands, for messages.
    pub place: String,
}

impl Changed {
    /// The override for linears that would otherwise be treated as `base` says.
    pub fn over(&self, base: Choice) -> Result<Override> {
        let targets = self.targets.clone();
        let Some(change) = &self.change else {
            return Ok(Override { targets, recipe: None, outlier_share: None, format: None });
        };
        change.over(base, targets).map_err(|error| match error {
            Error::Misuse(text) => Error::Misuse(format!("{}: {text}", self.place)),
            other => other,
        })
    }
}

impl Change {
    fn over(&self, base: Choice, targets: Vec<String>) -> Result<Override> {
        let Self { method, removal, grids, sweep, spqr, format } = self;
        if spqr.target_bits.is_some() {
            return Err(Error::Misuse("--target-bits is for all linears".into()));
        }
        let scheme = grids.scheme.as_deref().map(preset).transpose()?;
        let info = match (method.as_deref(), scheme) {
            (Some(name), _) => MethodInfo::named(name)?,
            (None, _) if spqr.any() => &SPQR,
            // A pruning recipe keeps its method when only the scheme changes.
            (None, Some(scheme)) if !base.recipe.info().drops => usual_method(scheme),
            (None, _) => base.recipe.method,
        };
        let is_spqr = info.spqr;
        if let (Some(scheme), true) = (scheme, is_spqr) {
            return Err(Error::Misuse(format!("--scheme {}: spqr rounds to no scheme", scheme.name)));
        }
        if !is_spqr && grids.perchannel == Some(false) {
            return Err(Error::Misuse(format!("--perchannel=false: {} always has a grid per row", info.name)));
        }
        let pattern = removal.chosen().or(base.recipe.pattern);
        let unquantized = scheme.is_some_and(|scheme| scheme.weights.is_none());
        if unquantized && pattern.is_none() {
            return Ok(Override { targets, recipe: None, outlier_share: None, format: None });
        }
        // What an order of visit means to methods that move no errors.
        let visits = info.curvature == Curvature::Full || grids.actorder.is_some();
        let order = |r: Rounding| if visits { r } else { Rounding { act_order: ActOrder::None, ..r } };
        let start = match (scheme, grids.wbits) {
            (Some(scheme), _) => {
                let kept = |r: Rounding| match base.recipe.rounding {
                    None => r,
                    Some(Rounding { mse, static_groups, act_order, .. }) => {
                        Rounding { mse, static_groups, act_order, ..r }
                    }
                };
                scheme.weights.as_ref().map(|weights| kept(Rounding::of(weights)))
            }
            (None, Some(bits)) => Some(match base.recipe.rounding {
                Some(r) if r.element.int_bits().is_none() => {
                    return Err(Error::Misuse(format!("--wbits {bits}: the others are floats; name a --scheme")));
                }
                Some(r) => Rounding { element: paring_format::Element::Int(bits), ..r },
                None => Rounding::int(bits, None),
            }),
            (None, None) => base.recipe.rounding,
        };
        let rounding = start.map(|start| refined(order(start), grids, scheme.map(|s| s.name))).transpose()?;
        let known = base.recipe.spqr.clone().unwrap_or_default();
        let (input, share, base_format) = match scheme {
            Some(scheme) => (scheme.input.clone(), None, None),
            None => (base.recipe.input.clone(), base.outlier_share, base.format),
        };
        let recipe = Recipe {
            method: info,
            pattern,
            rounding,
            spqr: is_spqr.then(|| spqr.settings(grids.perchannel, known)),
            input,
            percdamp: sweep.percdamp.unwrap_or(base.recipe.percdamp),
            blocksize: sweep.blocksize.unwrap_or(base.recipe.blocksize),
        };
        recipe.check()?;
        Ok(Override {
            targets,
            recipe: Some(recipe),
            // A threshold that is given takes the place of one that would be found.
            outlier_share: spqr.outlier_share.or(share).filter(|_| is_spqr && spqr.outlier_threshold.is_none()),
            format: format.as_deref().or(base_format).map(String::from),
        })
    }
}
