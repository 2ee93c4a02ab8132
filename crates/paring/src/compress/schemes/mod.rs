//! Layout and scheme of each choice of a plan, and the configuration that names them for every linear.

use paring_format::layouts::{self, Layout};
use paring_format::message;
use paring_format::{Dtype, QuantArgs, QuantConfig, QuantMethod, Scheme, SecondLevel};

use super::legacy;
use super::select::Selection;
use crate::methods::Stored;
use crate::plan::compatibility::usual_layout;
use crate::plan::{ActOrder, Choice, Opt, Plan, Recipe, Rounding, Spqr, named_layout};
use crate::{Error, Result};

/// Storage of the linears of one choice.
pub(crate) struct Kind {
    /// The layout.
    pub(crate) layout: &'static dyn Layout,
    /// Their entry in the config without its targets; `None` when they are dense.
    pub(crate) scheme: Option<Scheme>,
}

impl Kind {
    /// Errors when a choice is for no layout.
    pub(crate) fn of(choice: &Choice) -> Result<Self> {
        let layout = layout_for(choice)?;
        Ok(Self { layout, scheme: scheme_for(choice.recipe, layout) })
    }

    /// Storage of a matrix whose floats the input has as `dtype`.
    pub(crate) fn stored(&self, dtype: Dtype) -> Stored {
        let dtype = self.layout.float_type().unwrap_or(dtype);
        Stored { added_outliers: self.layout.adds_outliers(), ..Stored::plain(dtype) }
    }
}

/// The kinds of a plan's choices by number. Errors when one checkpoint cannot hold them all.
pub(crate) fn kinds(plan: &Plan) -> Result<Vec<Option<Kind>>> {
    let kinds = (0..=plan.overrides.len()).map(|number| plan.choice(number).map(|c| Kind::of(&c)).transpose());
    let kinds: Vec<Option<Kind>> = kinds.collect::<Result<_>>()?;
    let mut coded = kinds.iter().flatten().filter(|kind| kind.scheme.is_some());
    if let Some(first) = coded.next()
        && let Some(other) = coded.find(|kind| kind.layout.method() != first.layout.method())
    {
        return Err(Error::Misuse(format!(
            "{} and {} cannot be in one checkpoint: no program reads both; choose one format",
            first.layout.name(),
            other.layout.name()
        )));
    }
    let mut all = kinds.iter().flatten();
    let legacy = kinds.iter().flatten().find(|kind| kind.layout.instead().is_some());
    if let Some(legacy) = legacy
        && let Some(other) = kinds.iter().flatten().find(|kind| kind.layout.name() != legacy.layout.name())
    {
        let (legacy, other) = (legacy.layout.name(), other.layout.name());
        let alone = message![Opt::Format.with(legacy), " is for all layers of a checkpoint"];
        return Err(Opt::Format.misuse(alone).hint(format!("leave out {other}")));
    }
    if let Some(first) = all.next()
        && let Some(other) = all.find(|kind| kind.layout.float_type() != first.layout.float_type())
    {
        let apart = " cannot be in one checkpoint: one of them needs all floats in its own type; choose one format";
        let other = format!(" and {}{apart}", other.layout.name());
        return Err(Opt::Format.misuse(message![Opt::Format.with(first.layout.name()), other]));
    }
    Ok(kinds)
}

/// The layout that a choice's linears are written in.
fn layout_for(choice: &Choice) -> Result<&'static dyn Layout> {
    let recipe = choice.recipe;
    let rounding = recipe.rounding;
    let usual = match (&rounding, &recipe.spqr) {
        (_, Some(_)) => "paring-spqr",
        (Some(rounding), None) => usual_layout(&rounding.args(), recipe.input.as_ref()).name(),
        (None, None) => layouts::DENSE.name(),
    };
    let name = choice.format.unwrap_or(usual);
    let layout = named_layout(name)?;
    let holds = layout.holds();
    if layout.instead().is_some() {
        return legacy::check(layout, recipe).map(|()| layout);
    }
    // What is wrong with the layout follows its name.
    let fail = |problem: String| Err(Opt::Format.misuse(message![Opt::Format.with(name), " ", problem]));
    match rounding {
        Some(_) if recipe.spqr.is_some() && !holds.spqr && !holds.dense => {
            fail("cannot hold SpQR's fractional zeros and outliers; use paring-spqr, spqr or dense".into())
        }
        Some(r) if holds.spqr && recipe.spqr.as_ref().is_some_and(|s| !fits_spqr(layout, &r, s)) => {
            let bits = message![" can hold only ", Opt::Wbits.with(3), " ", Opt::GroupSize.with(16), " "];
            let second = [Opt::QqScaleBits.with(3), Opt::QqZeroBits.with(3), Opt::QqGroupSize.with(16)];
            let [scales, zeros, rows] = second;
            let without = message![", without ", Opt::Sym, ", ", Opt::RoundZero, " and ", Opt::KeepLastColumns];
            let one = bits.then(message![scales, " ", zeros, " ", rows]).then(without);
            Err(Opt::Format.misuse(message![Opt::Format.with(name)].then(one)))
        }
        Some(_) if recipe.spqr.is_none() && holds.spqr => {
            let misplaced = message![Opt::Format.with(name), " needs ", Opt::Method.with("spqr")];
            Err(Opt::Format.misuse(misplaced))
        }
        None if !holds.dense => {
            fail("holds integers, and pruning alone makes none; add bits or leave the format out".into())
        }
        Some(_) if layout.is_dense() && recipe.input.is_some() => {
            fail("cannot store quantized activations; leave it out".into())
        }
        Some(r) if name == "int-quantized" && r.element.bits() != 8 && recipe.input.is_none() => {
            let bytes = message![Opt::Format.with(name), " stores a byte for every weight"];
            let packed = message!["use pack-quantized for ", Opt::Wbits.with(r.element.bits())];
            Err(Opt::Format.misuse(bytes).hint(packed))
        }
        Some(r) if recipe.spqr.is_none() && layout.check_args(&r.args()).is_err() => {
            fail(format!("cannot hold {} ({}); use {usual}", r.element, r.args().strategy))
        }
        Some(r) if !layout.is_dense() && r.act_order == ActOrder::Group && r.group_size().is_some() => {
            let problem = format!(" needs a group for each column, which current readers of {name} do not support");
            let hint = message!["use ", Opt::ActOrder.with("static"), ", or ", Opt::Format.with("dense")];
            Err(Opt::ActOrder.misuse(message![Opt::ActOrder.with("group"), problem]).hint(hint))
        }
        _ => Ok(layout),
    }
}

/// Tells whether a layout of SpQR matrices holds what these choices make.
fn fits_spqr(layout: &dyn Layout, r: &Rounding, s: &Spqr) -> bool {
    // What the package reads has no columns that are kept as they are.
    let kept = s.keep_last_columns > 0 && layout.method() == QuantMethod::Spqr;
    !kept && layout.check_args(&quant_args(r, Some(s))).is_ok()
}

/// The rounding as a config says it, with what SpQR codes again.
fn quant_args(rounding: &Rounding, spqr: Option<&Spqr>) -> QuantArgs {
    let zero_bits = spqr.and_then(|s| s.zero_bits_used(rounding));
    let coded = spqr.filter(|s| s.scale_bits.is_some() || zero_bits.is_some());
    QuantArgs {
        float_zeros: spqr.is_some_and(|s| !rounding.symmetric && (!s.round_zero || zero_bits.is_some())),
        second: coded.map(|s| SecondLevel { scale_bits: s.scale_bits, zero_bits, rows: s.second_rows }),
        ..rounding.args()
    }
}

/// The scheme that says how the linears are stored; `None` when they are dense.
fn scheme_for(recipe: &Recipe, layout: &dyn Layout) -> Option<Scheme> {
    if let Some(scheme) = legacy::dense_scheme(layout, recipe) {
        return Some(scheme);
    }
    let rounding = recipe.rounding.filter(|_| !layout.is_dense())?;
    if layout.method() == QuantMethod::Spqr {
        return Some(Scheme::spqr(vec!["Linear".into()]));
    }
    Some(Scheme {
        targets: vec!["Linear".into()],
        format: layout.name().into(),
        weights: Some(quant_args(&rounding, recipe.spqr.as_ref())),
        input: recipe.input.clone(),
        ..Scheme::dense()
    })
}

/// The configuration of a finished run: a group for each scheme, and in `ignore` the linears without one and the `outer`
/// ones. `None` when all are dense. `kept` are the linears of the blocks that were not chosen.
///
/// The first group has the class `Linear`; the others have the patterns of their overrides, or, where a reader would come
/// to another result with those, the names of their linears.
pub(super) fn config(
    plan: &Plan,
    selection: &Selection,
    kinds: &[Option<Kind>],
    outer: Vec<String>,
    kept: Vec<String>,
) -> Result<Option<QuantConfig>> {
    let scheme = |number: usize| kinds.get(number)?.as_ref()?.scheme.as_ref();
    // Schemes with the choices that share them.
    let mut groups: Vec<(&Scheme, Vec<usize>)> = Vec::new();
    for number in selection.used() {
        let Some(scheme) = scheme(number) else { continue };
        match groups.iter_mut().find(|(other, _)| *other == scheme) {
            Some((_, numbers)) => numbers.push(number),
            None => groups.push((scheme, vec![number])),
        }
    }
    if groups.is_empty() && plan.kv_cache.is_none() {
        return Ok(None);
    }
    let dense = selection.iter().filter(|(_, number)| scheme(*number).is_none()).map(|(name, _)| name.to_string());
    let ignore: Vec<String> = outer.into_iter().chain(kept).chain(dense).collect();
    let group_of = |number: usize| groups.iter().position(|(_, numbers)| numbers.contains(&number));
    let with = |targets: &dyn Fn(usize) -> Vec<String>| {
        let named = groups.iter().enumerate().map(|(i, (scheme, _))| {
            let targets = if i == 0 { scheme.targets.clone() } else { targets(i) };
            (format!("group_{i}"), Scheme { targets, ..(*scheme).clone() })
        });
        QuantConfig { kv_cache: plan.kv_cache.clone(), ..QuantConfig::new(named.collect(), ignore.clone()) }
    };
    let patterns = |i: usize| -> Vec<String> {
        let of = |&number: &usize| plan.overrides.get(number.wrapping_sub(1)).map_or(&[][..], |o| &o.targets);
        groups[i].1.iter().flat_map(of).cloned().collect()
    };
    let names = |i: usize| -> Vec<String> {
        selection.iter().filter(|(_, number)| group_of(*number) == Some(i)).map(|(name, _)| name.to_string()).collect()
    };
    let right = |config: &QuantConfig| -> Result<bool> {
        for (name, number) in selection.iter() {
            // A group of sparse weights that are not quantized is none of the config's.
            let named = |i: usize| config.groups.iter().find(|(group, _)| *group == format!("group_{i}"));
            let wanted = group_of(number).and_then(named).map(|(_, scheme)| scheme);
            if config.scheme(name)? != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let portable = (1..groups.len()).all(|i| patterns(i).iter().all(|target| is_portable(target)));
    let short = with(&patterns);
    // A class and a list of exceptions leave no choice.
    if groups.len() == 1 || portable && right(&short)? {
        return Ok(Some(short));
    }
    let long = with(&names);
    match right(&long)? {
        true => Ok(Some(long)),
        false => Err(Error::Plan("a config cannot say which layer has which scheme; use fewer overrides".into())),
    }
}

/// Tells whether a target is a name, or a pattern that other programs' regular expressions read as ours do.
fn is_portable(target: &str) -> bool {
    let Some(pattern) = target.strip_prefix("re:") else { return true };
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => matches!(chars.next(), Some('.' | 'd')),
            '(' => chars.peek() != Some(&'?'),
            _ => c.is_ascii_alphanumeric() || "._*+?|)^$-".contains(c),
        };
        if !plain {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests;
