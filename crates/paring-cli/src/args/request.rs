//! Arguments → a [`Request`], which knows all defaults.

use std::rc::Rc;

use paring::plan::{ActOrder, Grouping, Opt, Pattern, RECONSTRUCT_STEPS, Search};
use paring::request::{BuiltIn, GroupChange, GroupOptions, RecipeOptions, Request, Sources};
use paring::{Error, Result};
use paring_data::hub::DownloadObserver;
use paring_format::message;

use super::tasks::Measures;
use super::{
    ActOrderArg, Grids, Inputs, MaskArg, OffloadArg, OpeningArgs, QuantizeArgs, Removal, Run, Running, ScalesArg,
    Shared, SparsifyArgs, SpqrArgs, Sweep, Target,
};
use crate::demo;
use crate::progress::Downloads;

/// Models and data by their names on the command line.
pub fn sources(quiet: bool, opening: &OpeningArgs) -> Sources {
    const BUILT_IN: &[BuiltIn] = &[demo::BUILT_IN];
    let downloads = Rc::new(move || -> Box<dyn DownloadObserver> { Box::new(Downloads::new(quiet)) });
    let isolation = super::isolation::isolation();
    Sources { built_in: BUILT_IN, downloads, isolation, lenient: opening.lenient, ..Sources::default() }
}

impl SparsifyArgs {
    /// The run that is asked for.
    pub fn request(&self, shared: &Shared) -> Result<Request> {
        let recipe = RecipeOptions {
            method: Some(self.method.clone()),
            pattern: self.removal.pattern(),
            allocate: self.allocate.allocate,
            mask: self.removal.mask.map(MaskArg::search),
            refit: self.removal.refit,
            mask_only: self.removal.mask_only.then_some(true),
            published: self.published.published,
            ..recipe(&self.grids, &self.sweep)?
        };
        let request = Request { recipe, ..Request::sparsify(&self.inputs.model) };
        self.run.request(request, &self.inputs, (&self.running, shared))
    }
}

impl QuantizeArgs {
    /// The run that is asked for.
    pub fn request(&self, shared: &Shared) -> Result<Request> {
        let recipe = RecipeOptions {
            method: self.method.clone(),
            spqr: self.spqr.options(&self.target),
            published: self.published.published,
            ..recipe(&self.grids, &self.sweep)?
        };
        let request = Request { recipe, ..Request::quantize(&self.inputs.model) };
        self.run.request(request, &self.inputs, (&self.running, shared))
    }
}

impl super::LayerArgs {
    /// The recipe that is asked for.
    pub fn recipe(&self) -> Result<RecipeOptions> {
        Ok(RecipeOptions {
            method: Some(self.method.clone()),
            pattern: self.removal.pattern(),
            mask: self.removal.mask.map(MaskArg::search),
            refit: self.removal.refit,
            mask_only: self.removal.mask_only.then_some(true),
            spqr: self.spqr.options(&self.target),
            published: self.published.published,
            ..recipe(&self.grids, &self.sweep)?
        })
    }
}

impl super::Change {
    fn options(&self) -> Result<GroupChange> {
        let recipe = RecipeOptions {
            method: self.method.clone(),
            pattern: self.removal.pattern(),
            mask: self.removal.mask.map(MaskArg::search),
            refit: self.removal.refit,
            mask_only: self.removal.mask_only.then_some(true),
            spqr: self.spqr.options(&self.target),
            ..recipe(&self.grids, &self.sweep)?
        };
        Ok(GroupChange { recipe, format: self.format.clone() })
    }
}

impl super::Changed {
    /// The options of these linears.
    pub fn options(self) -> Result<GroupOptions> {
        let change = self.change.map(|change| change.options()).transpose();
        let change = change.map_err(|error: Error| error.at(&self.place))?;
        Ok(GroupOptions { targets: self.targets, change: change.map(Box::new), place: self.place })
    }
}

impl Removal {
    /// The pattern of what is removed.
    fn pattern(&self) -> Option<Pattern> {
        self.pattern.or(self.sparsity.map(Pattern::Unstructured))
    }
}

/// The options that all recipes have.
fn recipe(grids: &Grids, sweep: &Sweep) -> Result<RecipeOptions> {
    let grouping = |g: i64| Grouping::of_columns(g).ok_or_else(|| Opt::GroupSize.wrong(g, "must be -1 or more than 0"));
    Ok(RecipeOptions {
        scheme: grids.scheme.clone(),
        bits: grids.wbits,
        grouping: grids.groupsize.map(grouping).transpose()?,
        symmetric: grids.sym,
        per_channel: sweep.perchannel,
        search: search(sweep)?,
        act_order: sweep.actorder.map(|order| match order {
            ActOrderArg::None => ActOrder::None,
            ActOrderArg::Static => ActOrder::Static,
            ActOrderArg::Group => ActOrder::Group,
        }),
        static_groups: sweep.static_groups,
        percdamp: sweep.percdamp,
        blocksize: sweep.blocksize,
        ..RecipeOptions::default()
    })
}

/// The choice of scales, of the two options that say it.
fn search(sweep: &Sweep) -> Result<Option<Search>> {
    let named = sweep.scales.map(ScalesArg::search);
    match (named, sweep.mse) {
        (Some(named), Some(mse)) if mse != (named == Search::Mse) => {
            let mse = if mse { message![Opt::Mse] } else { message![Opt::Mse.switched(false)] };
            let other = message![Opt::Scales, " and "].then(mse).then(" disagree; leave one of them out");
            Err(Opt::Scales.misuse(other))
        }
        (None, Some(true)) => Ok(Some(Search::Mse)),
        (None, Some(false)) => Ok(Some(Search::MinMax)),
        (named, _) => Ok(named),
    }
}

impl SpqrArgs {
    fn options(&self, target: &Target) -> paring::request::SpqrOptions {
        paring::request::SpqrOptions {
            scale_bits: self.qq_scale_bits,
            zero_bits: self.qq_zero_bits,
            second_rows: self.qq_groupsize,
            zero_symmetric: self.qq_zero_sym,
            outlier_threshold: self.outlier_threshold,
            outlier_share: self.outlier_share,
            target_bits: target.target_bits,
            permutation: self.permutation_order.map(super::recipe::PermutationArg::permutation),
            simplified_outliers: self.simplified_outliers,
            round_zero: self.round_zero,
            keep_last_columns: self.keep_last_columns,
        }
    }
}

impl Run {
    /// A request with what all runs may say.
    fn request(&self, request: Request, inputs: &Inputs, (running, shared): (&Running, &Shared)) -> Result<Request> {
        let count = |n: Option<u32>| n.map(|n| n as usize);
        let Measures { evaluation, limit, tasks } = self.measures(inputs)?;
        Ok(Request {
            data: inputs.dataset.clone(),
            data_options: inputs.data_options(),
            sources: sources(shared.quiet, &inputs.opening),
            masks: self.masks.clone(),
            groups: self.groups.clone(),
            config: self.config.as_ref().map(|path| path.display().to_string()),
            alike: self.alike.clone(),
            kv_cache: self.kv_cache.map(|kind| kind.args()),
            format: self.format.clone(),
            out: self.out.clone(),
            nsamples: count(self.nsamples),
            seqlen: count(self.seqlen),
            seed: self.seed,
            evaluation,
            limit,
            tasks,
            layers: self.layers,
            include: self.include.clone(),
            ignore: self.ignore.clone(),
            true_sequential: self.true_sequential,
            dense_stream: self.dense_stream,
            reconstruct_steps: count(self.reconstruct_steps).or(self.reconstruct.then_some(RECONSTRUCT_STEPS)),
            gram_precision: self.gram_precision,
            skip_out_loss: self.skip_out_loss,
            allow_fallback: self.allow_fallback,
            offload_activations: matches!(self.offload, OffloadArg::Activations),
            precision: running.dtype.precision(),
            device: running.place.device,
            max_vram: running.max_vram,
            strict: self.strict,
            loader_notes: !shared.quiet,
            estimate: !shared.quiet,
            overwrite: self.overwrite,
            resume: self.resuming.resume,
            allow_mixed_arithmetic: self.resuming.allow_mixed_arithmetic,
            resumable: self.resuming.resumable.decided(),
            command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            ..request
        })
    }
}
