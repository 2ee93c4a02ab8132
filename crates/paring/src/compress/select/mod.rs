//! The linears that a plan compresses.

use std::collections::{BTreeMap, BTreeSet};

use paring_format::config::Target;
use paring_format::message;
use paring_format::message::Message;
use paring_model::decoder::Decoder;

use crate::plan::{Opt, Override, Plan};
use crate::{Error, Result};

/// The linears to compress, by module path: the number of each one's [`crate::plan::Choice`].
pub(crate) struct Selection(BTreeMap<String, usize>);

impl Selection {
    /// Errors when a pattern is no regular expression or matches nothing, when nothing is left to do, and when an override
    /// decides about nothing. Overrides choose
    /// among the linears that are compressed at all; the last one that matches decides.
    pub(crate) fn new(plan: &Plan, decoder: &dyn Decoder) -> Result<Self> {
        let blocks = decoder.blocks();
        let (first, end) = plan.layers.unwrap_or((0, blocks));
        if first >= end || end > blocks {
            let there = format!("the model has blocks 0..{blocks}");
            return Err(Opt::Layers.unfit(format!("{first}..{end}"), there));
        }
        let names: Vec<String> = (first..end).flat_map(|i| decoder.linears(i)).map(|l| l.name).collect();
        let known = Known { names: &names, outer: decoder.outer_linears() };
        let include = known.targets(&plan.include, Opt::Include, &message![Opt::Include])?;
        let ignore = known.targets(&plan.ignore, Opt::Ignore, &message![Opt::Ignore])?;
        let overridden = Message::from("the override of");
        let overrides = plan.overrides.iter().map(|o| known.targets(&o.targets, Opt::Include, &overridden));
        let overrides: Vec<Vec<Target>> = overrides.collect::<Result<_>>()?;
        // The number of a linear's choice; `None` where an override without a recipe leaves it alone.
        let choice = |name: &str| match overrides.iter().rposition(|targets| matches_any(targets, name)) {
            None => Some(0),
            Some(i) => plan.overrides[i].recipe.as_ref().map(|_| i + 1),
        };
        let chosen = names
            .iter()
            .filter(|name| (include.is_empty() || matches_any(&include, name)) && !matches_any(&ignore, name));
        let chosen = chosen.filter_map(|name| choice(name).map(|number| (name.clone(), number)));
        let selection = Self(chosen.collect());
        let used = selection.used();
        let idle = |&(i, o): &(usize, &Override)| o.recipe.is_some() && !used.contains(&(i + 1));
        if let Some((_, idle)) = plan.overrides.iter().enumerate().find(idle).filter(|_| !used.is_empty()) {
            return Err(Error::Plan(format!(
                "the override of {}: no linear is compressed by it; those that it names are ignored, or another override \
                 further down names them too",
                idle.targets.join(", ")
            )));
        }
        if selection.0.is_empty() {
            let see = message!["see ", Opt::Include, ", ", Opt::Ignore, ", ", Opt::Layers, " and overrides"];
            return Err(Opt::Include.misfit("no linear is left to compress").hint(see));
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
    /// Linears outside the blocks. They are never among a block's; naming them is harmless.
    outer: Vec<String>,
}

impl Known<'_> {
    /// The patterns of an option, which messages call `named`. Errors when one is no regular expression or matches nothing.
    fn targets(&self, texts: &[String], option: Opt, named: &Message) -> Result<Vec<Target>> {
        let made = texts.iter().map(|t| Target::new(t).map_err(Error::Plan)).collect::<Result<Vec<_>>>()?;
        for (text, target) in texts.iter().zip(&made) {
            if !self.outer.iter().chain(self.names).any(|name| target.matches(name).is_some()) {
                let example = self.names.first().map(String::as_str).unwrap_or_default();
                let problem = named.clone().then(format!(" {text}: no linear of this name"));
                let hint = format!("they are called like {example}, and a pattern begins with re:");
                return Err(option.misfit(problem).hint(hint));
            }
        }
        Ok(made)
    }
}

fn matches_any(targets: &[Target], name: &str) -> bool {
    targets.iter().any(|target| target.matches(name).is_some())
}
#[cfg(test)]
mod tests;
