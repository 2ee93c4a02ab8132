//! Options → a [`Recipe`], for all linears or for some.

#[cfg(test)]
mod tests;

use paring_format::message;
use paring_format::near;
use paring_format::{Element, PRESETS, Preset};

use super::options::{GroupChange, GroupOptions, RecipeOptions, SpqrOptions};
use crate::Result;
use crate::plan::allocation::{Allocation, BITS};
use crate::plan::method::{GPTQ, METHODS, MethodInfo, RTN, SPQR};
use crate::plan::{
    ActOrder, Choice, Curvature, Grouping, MaskSearch, Opt, Override, Pattern, Recipe, Rounding, Search, SizedBy, Spqr,
    for_target_bits,
};

impl RecipeOptions {
    /// The recipe, and the share of outliers where a threshold must be found for it. `removes` where the recipe may do
    /// without rounding.
    pub(super) fn resolve(&self, removes: bool) -> Result<(Recipe, Option<f64>)> {
        let Some(target) = self.spqr.target_bits else {
            let usual = self.usual_scheme().filter(|_| !removes);
            let mut recipe = usual.map_or_else(|| self.recipe(), |scheme| self.with_scheme(scheme))?;
            self.improve(&mut recipe);
            recipe.check()?;
            return Ok((recipe, self.spqr.outlier_share));
        };
        if self.allots() {
            return self.to_allot(target);
        }
        self.check_target(target)?;
        let (rounding, chosen, share) = for_target_bits(target, self.searches_spqr())?;
        let bits = Some(rounding.element.bits());
        let mut recipe = Self { bits, grouping: Some(rounding.grouping), ..self.clone() }.recipe()?;
        if let Some(spqr) = &mut recipe.spqr {
            let Spqr { scale_bits, zero_bits, second_rows, permutation, .. } = chosen;
            let permutation = self.spqr.permutation.clone().unwrap_or(permutation);
            *spqr = Spqr { scale_bits, zero_bits, second_rows, permutation, ..spqr.clone() };
        }
        self.improve(&mut recipe);
        recipe.check()?;
        Ok((recipe, Some(share)))
    }

    /// The choices that the run makes for each linear by measuring.
    pub(super) fn allocation(&self) -> Option<Allocation> {
        let free_groups = self.grouping.is_none();
        let bits = self.spqr.target_bits.filter(|_| self.allots());
        let bits = bits.map(|target| Allocation::Bits { target, free_groups });
        self.allocate.map(Allocation::Sparsity).or(bits)
    }

    /// True if bits to reach would be reached by bits of each linear.
    fn allots(&self) -> bool {
        let method = self.method.as_deref().and_then(|name| MethodInfo::named(name).ok());
        method.is_some_and(|method| method.rounds && !method.drops && !method.spqr)
    }

    /// The recipe of a run that chooses bits of each linear, for those that get no others.
    fn to_allot(&self, target: f64) -> Result<(Recipe, Option<f64>)> {
        self.check_alone(target, &[])?;
        let within = BITS.into_iter().rev().find(|bits| f64::from(*bits) <= target);
        let spqr = SpqrOptions { target_bits: None, ..self.spqr.clone() };
        let mut recipe = Self { bits: within.or(Some(BITS[0])), spqr, ..self.clone() }.recipe()?;
        self.improve(&mut recipe);
        recipe.check()?;
        Ok((recipe, None))
    }

    /// Errors when an option is given that the choice of bits to reach excludes.
    fn check_target(&self, target: f64) -> Result<()> {
        self.check_alone(target, &[(Opt::GroupSize, self.grouping.map(|grouping| grouping.to_string()))])?;
        match self.method.as_deref() {
            Some(method) if method != SPQR.name && METHODS.iter().any(|known| known.name == method) => {
                let needs = message![Opt::TargetBits, format!(" is for methods that only quantize, not for {method}")];
                Err(Opt::TargetBits.misuse(needs))
            }
            _ => Ok(()),
        }
    }

    /// Errors when bits are given beside those to reach, or one of these options.
    fn check_alone(&self, target: f64, others: &[(Opt, Option<String>)]) -> Result<()> {
        let bits = [(Opt::Wbits, self.bits.map(|bits| bits.to_string())), (Opt::Scheme, self.scheme.clone())];
        match bits.iter().chain(others).find_map(|(option, value)| Some((*option, value.as_ref()?))) {
            None => Ok(()),
            Some((option, value)) => {
                let both = message![Opt::TargetBits.with(target), " chooses bits and groups itself: leave "];
                Err(Opt::TargetBits.misuse(both.then(option.with(value)).then(" out, or use it alone")))
            }
        }
    }

    /// The scheme of a run that asks for no grids: the one that programs serve best.
    pub(super) fn usual_scheme(&self) -> Option<&'static str> {
        let asks = self.bits.is_some() || self.scheme.is_some() || self.spqr.target_bits.is_some();
        let usual = if self.symmetric == Some(false) { "W4A16_ASYM" } else { "W4A16" };
        (!asks).then_some(usual)
    }

    /// The recipe of a run that asks for no grids, with this scheme.
    fn with_scheme(&self, name: &str) -> Result<Recipe> {
        let method = self.method.as_deref().map(MethodInfo::named).transpose()?;
        if self.spqr.any() || method.is_some_and(|method| method.spqr) {
            let needs = message!["spqr needs ", Opt::Wbits.with("B"), " or ", Opt::TargetBits.with("BITS")];
            return Err(Opt::Wbits.misuse(needs));
        }
        let mut recipe = Self { scheme: Some(name.into()), ..self.clone() }.recipe()?;
        if let Some(rounding) = recipe.rounding.as_mut()
            && let SizedBy::Scheme(name) = rounding.sized_by
        {
            rounding.sized_by = SizedBy::Usual(name);
        }
        Ok(recipe)
    }

    /// Sets what was not asked for to what loses least, unless the published code's defaults are wanted: columns are visited
    /// by falling curvature (SpQR's in its own order), scales are searched by weighted errors; masks of SparseGPT are
    /// searched, and its weights fitted once more.
    fn improve(&self, recipe: &mut Recipe) {
        let Recipe { method, pattern, rounding, spqr, mask, refit, .. } = recipe;
        if pattern.is_some() && searches_masks(method) && !self.published {
            // Exchanges of single columns gain next to nothing after a refit; ADMM does.
            let searched = match pattern {
                Some(Pattern::Unstructured(_)) => MaskSearch::Admm,
                Some(Pattern::Given) => MaskSearch::SparseGpt,
                _ => MaskSearch::Descent,
            };
            *mask = self.mask.unwrap_or(searched);
            *refit = self.refit.unwrap_or(true);
        }
        let Some(rounding) = rounding.as_mut().filter(|_| !self.published) else { return };
        if self.search.is_none() && spqr.as_ref().map_or(moves_errors(method), |spqr| spqr.per_channel) {
            rounding.search = Search::Weighted;
        }
        if self.act_order.is_none() && moves_errors(method) {
            rounding.act_order = ActOrder::Static;
        }
    }

    /// The recipe for all linears, as the published code would have it. Without a method's name it is gptq, spqr when one of
    /// its options is given, or the usual one of the scheme.
    ///
    /// # Errors
    /// Options that do not go together, and names of methods or schemes that there are not.
    pub fn recipe(&self) -> Result<Recipe> {
        let spqr = self.spqr.any();
        let preset = self.scheme.as_deref().map(preset).transpose()?;
        let usual = match preset {
            _ if spqr => &SPQR,
            Some(preset) => usual_method(preset),
            None => &GPTQ,
        };
        let method = self.method.as_deref().map_or(Ok(usual), MethodInfo::named)?;
        let quantizes = self.bits.is_some() || preset.is_some();
        let searches = self.search.is_some_and(|search| search != Search::MinMax);
        let refines = searches || [self.symmetric, self.static_groups].contains(&Some(true));
        if !quantizes && (self.grouping.is_some() || refines) {
            let refining = message![Opt::GroupSize, ", ", Opt::Sym, ", ", Opt::Scales, " and ", Opt::StaticGroups];
            let needs = message![" need ", Opt::Wbits, " or ", Opt::Scheme];
            return Err(Opt::GroupSize.misuse(refining.then(needs)));
        }
        self.check_per_channel(method)?;
        if let Some(preset) = preset.filter(|_| method.spqr) {
            let problem = format!("{method} keeps outliers and fractional zeros, which no scheme has");
            let hint = message!["choose ", Opt::Wbits, " and ", Opt::GroupSize];
            return Err(Opt::Scheme.wrong(preset.name, problem).hint(hint));
        }
        let weights = match preset {
            Some(Preset { name, weights: None, .. }) => {
                return Err(Opt::Scheme
                    .misuse(message![Opt::Scheme.with(name), " leaves the weights as they are; choose another"]));
            }
            Some(preset) => sized(preset),
            None => self.bits.map(|bits| Rounding::int(bits, None)),
        };
        let recipe = Recipe {
            method,
            pattern: self.pattern,
            rounding: weights.map(|weights| self.refined(weights, preset)).transpose()?,
            spqr: (spqr || method.spqr).then(|| self.spqr.settings(self.per_channel, Spqr::default())),
            input: preset.and_then(|preset| preset.input.clone()),
            mask: self.mask.unwrap_or_default(),
            refit: self.refit.unwrap_or(false),
            mask_only: self.mask_only.unwrap_or(false),
            percdamp: self.percdamp.unwrap_or(0.01),
            blocksize: self.blocksize.unwrap_or(128),
        };
        recipe.check()?;
        Ok(recipe)
    }

    fn check_per_channel(&self, method: &MethodInfo) -> Result<()> {
        if !method.spqr && self.per_channel == Some(false) {
            let problem = format!(": {method} always has a grid per row; leave it out");
            return Err(Opt::PerChannel.misuse(message![Opt::PerChannel.switched(false), problem]));
        }
        Ok(())
    }

    /// A rounding with the options that refine it. `scheme` is where it comes from, if from one.
    fn refined(&self, base: Rounding, scheme: Option<&Preset>) -> Result<Rounding> {
        let name = scheme.map(|preset| preset.name);
        let source = |otherwise: &str| match name {
            Some(name) => message![Opt::Scheme.with(name)],
            None => message![otherwise],
        };
        let integers = base.element.int_bits().is_some();
        if let Some(asked) = self.grouping.filter(|_| !integers) {
            let problem = source("floats").then(" has its own scales");
            return Err(Opt::GroupSize
                .wrong(asked, problem)
                .hint("leave it out: groups can be chosen for integers only"));
        }
        let grouping = self.grouping.unwrap_or(base.grouping);
        let is_sized = self.grouping.is_some() || self.per_channel == Some(true);
        if self.per_channel == Some(true) && matches!(grouping, Grouping::Matrix | Grouping::Tile(..)) {
            let problem = source("the others").then(" has no grid per row; leave it out");
            return Err(Opt::PerChannel.misuse(message![Opt::PerChannel, ": "].then(problem)));
        }
        match (self.symmetric, name) {
            (Some(symmetric), Some(name)) if symmetric != base.symmetric => {
                let is = if symmetric { " is asymmetric; leave it out" } else { " is symmetric; leave it out" };
                let scheme = message![": ", Opt::Scheme.with(name), is];
                return Err(Opt::Sym.misuse(message![Opt::Sym.switched(symmetric)].then(scheme)));
            }
            (Some(false), None) if !integers => {
                return Err(
                    Opt::Sym.misuse(message![Opt::Sym.switched(false), ": floats have no zero points; leave it out"])
                );
            }
            _ => {}
        }
        Ok(Rounding {
            grouping,
            sized_by: if is_sized { SizedBy::Request } else { base.sized_by },
            symmetric: self.symmetric.unwrap_or(base.symmetric),
            search: self.search.unwrap_or(base.search),
            static_groups: self.static_groups.unwrap_or(base.static_groups),
            act_order: self.act_order.unwrap_or(base.act_order),
            ..base
        })
    }

    /// The rounding that a group's options start from, before they refine it.
    fn started(&self, base: &Recipe, scheme: Option<&Preset>) -> Result<Option<Rounding>> {
        match (scheme, self.bits, base.rounding) {
            (Some(scheme), _, others) => Ok(sized(scheme).map(|own| {
                others.map_or(own, |Rounding { search, static_groups, act_order, .. }| Rounding {
                    search,
                    static_groups,
                    act_order,
                    ..own
                })
            })),
            (None, Some(bits), Some(others)) if others.element.int_bits().is_none() => Err(Opt::Wbits
                .wrong(bits, "the other layers have floats")
                .hint(message!["name a ", Opt::Scheme, " for these"])),
            (None, Some(bits), Some(others)) => Ok(Some(Rounding { element: Element::Int(bits), ..others })),
            (None, Some(bits), None) => Ok(Some(Rounding::int(bits, None))),
            (None, None, others) => Ok(others),
        }
    }

    /// The method of a group's linears, which would otherwise be treated as `base` says.
    fn method_over(&self, base: &Recipe, scheme: Option<&Preset>) -> Result<&'static MethodInfo> {
        Ok(match (self.method.as_deref(), scheme) {
            (Some(name), _) => MethodInfo::named(name)?,
            (None, _) if self.spqr.any() => &SPQR,
            // A pruning recipe keeps its method when only the scheme changes.
            (None, Some(scheme)) if !base.method.drops => usual_method(scheme),
            (None, _) => base.method,
        })
    }
}

impl GroupOptions {
    /// The override for linears that would otherwise be treated as `base` says, which `asked` led to.
    pub(super) fn over(&self, base: Choice, asked: &RecipeOptions) -> Result<Override> {
        let targets = self.targets.clone();
        let Some(change) = &self.change else {
            return Ok(Override { targets, recipe: None, outlier_share: None, format: None });
        };
        change.over(base, asked, targets).map_err(|error| error.at(&self.place))
    }
}

impl GroupChange {
    fn over(&self, base: Choice, asked: &RecipeOptions, targets: Vec<String>) -> Result<Override> {
        let Self { recipe: options, format } = self;
        if options.spqr.target_bits.is_some() {
            return Err(Opt::TargetBits.misuse(message![Opt::TargetBits, " is for all linears, not for an override"]));
        }
        let scheme = options.scheme.as_deref().map(preset).transpose()?;
        let method = options.method_over(base.recipe, scheme)?;
        if let Some(scheme) = scheme.filter(|_| method.spqr) {
            return Err(Opt::Scheme.wrong(scheme.name, "spqr has no schemes; choose bits and groups"));
        }
        options.check_per_channel(method)?;
        let pattern = options.pattern.or(base.recipe.pattern);
        if scheme.is_some_and(|scheme| scheme.weights.is_none()) && pattern.is_none() {
            return Ok(Override { targets, recipe: None, outlier_share: None, format: None });
        }
        // An order of visit has no meaning for methods that move no errors.
        let visits = moves_errors(method) || options.act_order.is_some();
        let plain = |r: Rounding| Rounding { act_order: ActOrder::None, search: Search::MinMax, ..r };
        let started = options.started(base.recipe, scheme)?;
        let rounding = started
            .map(|started| options.refined(if visits { started } else { plain(started) }, scheme))
            .transpose()?;
        let known = base.recipe.spqr.clone().unwrap_or_default();
        let (input, share, base_format) = match scheme {
            Some(scheme) => (scheme.input.clone(), None, None),
            None => (base.recipe.input.clone(), base.outlier_share, base.format),
        };
        let mut recipe = Recipe {
            method,
            pattern,
            rounding,
            spqr: method.spqr.then(|| options.spqr.settings(options.per_channel, known)),
            input,
            // Other methods have masks of their own.
            mask: options.mask.unwrap_or(if searches_masks(method) { base.recipe.mask } else { MaskSearch::SparseGpt }),
            refit: options
                .refit
                .unwrap_or(pattern.is_some() && asked.refit.unwrap_or(base.recipe.refit && searches_masks(method))),
            mask_only: options
                .mask_only
                .unwrap_or(base.recipe.mask_only && searches_masks(method) && pattern.is_some()),
            percdamp: options.percdamp.unwrap_or(base.recipe.percdamp),
            blocksize: options.blocksize.unwrap_or(base.recipe.blocksize),
        };
        // What other linears inherit has these defaults already.
        if !moves_errors(base.recipe.method) || base.recipe.rounding.is_none() || method.spqr {
            let (act_order, search) = (options.act_order.or(asked.act_order), options.search.or(asked.search));
            let (mask, refit) = (options.mask.or(asked.mask), options.refit.or(asked.refit));
            let published = asked.published;
            RecipeOptions { act_order, search, mask, refit, published, ..RecipeOptions::default() }
                .improve(&mut recipe);
        }
        recipe.check()?;
        // A threshold that is given takes the place of one that would be found.
        let finds = method.spqr && options.spqr.outlier_threshold.is_none();
        Ok(Override {
            targets,
            recipe: Some(recipe),
            outlier_share: options.spqr.outlier_share.or(share).filter(|_| finds),
            format: format.as_deref().or(base_format).map(String::from),
        })
    }
}

/// Tells whether a method's masks can be searched: its sweep moves errors, so it has the Gram matrix.
fn searches_masks(method: &MethodInfo) -> bool {
    method.drops && method.curvature == Curvature::Full
}

/// Tells whether a method's order of visit and grids are a rounding's. SpQR has its own.
fn moves_errors(method: &MethodInfo) -> bool {
    method.curvature == Curvature::Full && !method.spqr
}

/// The rounding of a scheme's weights, whose groups have its size.
fn sized(preset: &Preset) -> Option<Rounding> {
    preset.weights.as_ref().map(|weights| Rounding { sized_by: SizedBy::Scheme(preset.name), ..Rounding::of(weights) })
}

/// The method that a scheme is made with where none is named: 8-bit floats lose little when they are only rounded, which
/// needs no data; for all others the errors are worth moving.
fn usual_method(preset: &Preset) -> &'static MethodInfo {
    match preset.weights.as_ref().map(|weights| weights.element) {
        Some(Element::E4m3) => &RTN,
        _ => &GPTQ,
    }
}

fn preset(name: &str) -> Result<&'static Preset> {
    Preset::find(name).ok_or_else(|| {
        let hint = match near::did_you_mean(name, PRESETS.iter().map(|preset| preset.name)) {
            Some(near) => format!("{near} `paring schemes` lists all"),
            None => "`paring schemes` lists all".to_string(),
        };
        Opt::Scheme.wrong(name, "no such scheme").hint(hint)
    })
}
