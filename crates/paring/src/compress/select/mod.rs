//! The linears that a plan compresses.

use std::collections::{BTreeMap, BTreeSet};

use paring_format::config::Target;
use paring_format::message;
use paring_format::message::Message;
use paring_format::near;
use paring_model::LinearInfo;
use paring_model::decoder::Decoder;

use crate::plan::file::Alike;
use crate::plan::{Opt, Override, Plan};
use crate::{Error, Result};

/// The linears to compress, by module path: the number of each one's [`crate::plan::Choice`].
pub(crate) struct Selection(BTreeMap<String, usize>);

impl Selection {
    /// Errors when a pattern is no regular expression or matches nothing, when nothing is left to do, and when an override
    /// decides about nothing. Overrides choose among the linears that are compressed at all; the last one that matches decides.
    pub(crate) fn new(plan: &Plan, decoder: &dyn Decoder) -> Result<Self> {
        let blocks = decoder.blocks();
        let (first, end) = plan.layers.unwrap_or((0, blocks));
        if first >= end || end > blocks {
            let there = format!("the model has the blocks 0..{blocks}; choose some of them");
            return Err(Opt::Layers.unfit(format!("{first}..{end}"), there));
        }
        let names: Vec<String> = (first..end).flat_map(|i| decoder.linears(i)).map(|l| l.name).collect();
        let known = Known { names: &names, outer: decoder.outer_linears(), others: others(decoder) };
        let include = known.targets(&plan.include, Opt::Include, &message![Opt::Include], true)?;
        let ignore = known.targets(&plan.ignore, Opt::Ignore, &message![Opt::Ignore], false)?;
        let overridden = Message::from("the override of");
        let overrides =
            plan.overrides.iter().map(|o| known.targets(&o.targets, Opt::Include, &overridden, o.recipe.is_some()));
        let overrides: Vec<Vec<Target>> = overrides.collect::<Result<_>>()?;
        let mut chosen = BTreeMap::new();
        for name in &names {
            if (!include.is_empty() && !matches_any(&include, name)?) || matches_any(&ignore, name)? {
                continue;
            }
            let mut number = Some(0);
            // Later ones decide; one without a recipe leaves the linear alone.
            for (i, targets) in overrides.iter().enumerate() {
                if matches_any(targets, name)? {
                    number = plan.overrides[i].recipe.as_ref().map(|_| i + 1);
                }
            }
            chosen.extend(number.map(|number| (name.clone(), number)));
        }
        let selection = Self(chosen);
        let used = selection.used();
        let idle = |&(i, o): &(usize, &Override)| o.recipe.is_some() && !used.contains(&(i + 1));
        if let Some((_, idle)) = plan.overrides.iter().enumerate().find(idle).filter(|_| !used.is_empty()) {
            return Err(Error::Plan(format!(
                "the override of {} has no effect: the layers that it names are ignored, or a later override \
                names them too; \
                remove it",
                idle.targets.join(", ")
            )));
        }
        if selection.0.is_empty() {
            let see = message!["check ", Opt::Include, ", ", Opt::Ignore, ", ", Opt::Layers, " and overrides"];
            return Err(Opt::Include.misfit("no layer is left to compress").hint(see));
        }
        Ok(selection)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The number of a linear's choice; `None` when it is left alone.
    pub(crate) fn choice(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }

    /// The numbers of the choices that some linear has.
    pub(crate) fn used(&self) -> BTreeSet<usize> {
        self.0.values().copied().collect()
    }

    /// The linears of a choice.
    pub(crate) fn linears(&self, decoder: &dyn Decoder, number: usize) -> Vec<LinearInfo> {
        let all = (0..decoder.blocks()).flat_map(|i| decoder.linears(i));
        all.filter(|linear| self.choice(&linear.name) == Some(number)).collect()
    }

    /// All linears with the numbers of their choices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, &number)| (name.as_str(), number))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The names that targets may match.
struct Known<'a> {
    /// Linears of the blocks at hand.
    names: &'a [String],
    /// Linears outside the blocks. They are never compressed: to leave them alone is harmless.
    outer: Vec<String>,
    /// Modules that are no linears.
    others: Vec<String>,
}

impl Known<'_> {
    /// The patterns of an option, which messages call `named`. Errors when one is no regular expression or matches nothing,
    /// and when one that says what to compress matches only what is never compressed.
    fn targets(&self, texts: &[String], option: Opt, named: &Message, compresses: bool) -> Result<Vec<Target>> {
        let made = texts.iter().map(|text| target(text)).collect::<Result<Vec<_>>>()?;
        for (text, target) in texts.iter().zip(&made) {
            if first_match(target, self.names)?.is_some() {
                continue;
            }
            let outer = first_match(target, &self.outer)?;
            let what = if outer.is_some() { "a layer outside the blocks" } else { "not a matrix" };
            let kept = if outer.is_some() { outer } else { first_match(target, &self.others)? };
            match kept {
                Some(kept) if compresses => {
                    let problem = named
                        .clone()
                        .then(format!(" {text} matches nothing to compress: {kept} is {what}, and stays as it is"));
                    let hint = "only the layers in blocks can be compressed; leave it out";
                    return Err(option.misfit(problem).hint(hint));
                }
                // To leave alone what is left alone is harmless.
                Some(_) => {}
                None => {
                    let problem = named.clone().then(format!(" {text}: no layer of this name"));
                    let known = self.names.iter().chain(&self.outer).map(String::as_str);
                    let example = || {
                        let example = self.names.first().map(String::as_str).unwrap_or_default();
                        format!("names look like {example}, and patterns begin with re:")
                    };
                    return Err(option.misfit(problem).hint(near::did_you_mean(text, known).unwrap_or_else(example)));
                }
            }
        }
        Ok(made)
    }
}

/// The modules of a model that are no linears: embeddings, norms, and what else has tensors.
fn others(decoder: &dyn Decoder) -> Vec<String> {
    let blocks = (0..decoder.blocks()).flat_map(|i| decoder.rest_names(i));
    let module = |name: String| name.rsplit_once('.').map_or(name.clone(), |(module, _)| module.to_string());
    let linears: BTreeSet<String> = decoder
        .outer_linears()
        .into_iter()
        .chain((0..decoder.blocks()).flat_map(|i| decoder.linears(i)).map(|l| l.name))
        .collect();
    decoder.outer_names().into_iter().chain(blocks).map(module).filter(|module| !linears.contains(module)).collect()
}

/// A note on each linear outside the blocks that a pattern of what to compress matches, beside others: it stays as it is.
pub(super) fn left(plan: &Plan, decoder: &dyn Decoder) -> Result<Vec<Message>> {
    let ignore: Vec<Target> = plan.ignore.iter().map(|text| target(text)).collect::<Result<_>>()?;
    let outer = decoder.outer_linears();
    let wishes = plan.overrides.iter().filter(|o| o.recipe.is_some()).flat_map(|o| &o.targets).chain(&plan.include);
    let mut notes = Vec::new();
    for text in wishes {
        let target = target(text)?;
        for name in &outer {
            if !matches_any(&ignore, name)? && target.matches(name).map_err(Error::Plan)?.is_some() {
                let note = format!(
                    "{name} stays as it is, although {text} matches it: only the layers in blocks are compressed"
                );
                notes.push(note.into());
            }
        }
    }
    notes.dedup();
    Ok(notes)
}

/// Errors unless both ways to name linears come to the same ones.
pub(crate) fn check_alike(alike: &Alike, decoder: &dyn Decoder) -> Result<()> {
    let made =
        |texts: &[String]| texts.iter().map(|t| Target::new(t).map_err(Error::Misuse)).collect::<Result<Vec<_>>>();
    let [first, second] = [&alike.first, &alike.second];
    let targets = [made(&first.targets)?, made(&first.ignore)?, made(&second.targets)?, made(&second.ignore)?];
    let names = || (0..decoder.blocks()).flat_map(|i| decoder.linears(i)).map(|linear| linear.name);
    let of = |number: usize, name: &str| -> Result<bool> {
        Ok(matches_any(&targets[number], name)? && !matches_any(&targets[number + 1], name)?)
    };
    for name in names() {
        let of_first = of(0, &name)?;
        if of_first != of(2, &name)? {
            let (one, other) = if of_first { (first, second) } else { (second, first) };
            return Err(Error::Misuse(format!(
                "{}: {} and {} have different targets ({name} belongs to {}, but not to {}); give both the same",
                alike.place, second.modifier, first.modifier, one.modifier, other.modifier
            )));
        }
    }
    Ok(())
}

/// The target that a text names. Errors when it is a pattern that is no regular expression.
fn target(text: &str) -> Result<Target> {
    Target::new(text).map_err(|reason| Error::Plan(format!("{reason}; correct the pattern")))
}

/// Tells whether one of the targets matches. Errors when a pattern of them takes too many steps to tell.
fn matches_any(targets: &[Target], name: &str) -> Result<bool> {
    Target::any(targets, name).map_err(Error::Plan)
}

/// The first of the names that the target matches. Errors as [`matches_any`].
fn first_match<'a>(target: &Target, names: &'a [String]) -> Result<Option<&'a String>> {
    for name in names {
        if target.matches(name).map_err(Error::Plan)?.is_some() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
