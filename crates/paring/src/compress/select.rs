//! Which linears a plan compresses.

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
        let outer = decoder.outer_linears();
        let targets = |texts: &[String], option: Opt, named: &Message| -> Result<Vec<Target>> {
            let made = texts.iter().map(|t| Target::new(t).map_err(Error::Plan)).collect::<Result<Vec<_>>>()?;
            for (text, target) in texts.iter().zip(&made) {
                // Linears outside the blocks are never among a block's; naming them is harmless.
                if !outer.iter().chain(&names).any(|n| target.matches(n).is_some()) {
                    let example = names.first().map(String::as_str).unwrap_or_default();
                    let problem = named.clone().then(format!(" {text}: no linear of this name"));
                    let hint = format!("they are called like {example}, and a pattern begins with re:");
                    return Err(option.misfit(problem).hint(hint));
                }
            }
            Ok(made)
        };
        let include = targets(&plan.include, Opt::Include, &message![Opt::Include])?;
        let ignore = targets(&plan.ignore, Opt::Ignore, &message![Opt::Ignore])?;
        let overridden = Message::from("the override of");
        let of_override = |o: &Override| Ok((targets(&o.targets, Opt::Include, &overridden)?, o.recipe.is_some()));
        let overrides = plan.overrides.iter().map(of_override).collect::<Result<Vec<_>>>()?;
        let choice = |name: &str| match overrides.iter().rposition(|(m, _)| m.iter().any(|m| m.matches(name).is_some()))
        {
            None => Some(0),
            Some(i) => overrides[i].1.then_some(i + 1),
        };
        let wanted = names.into_iter().filter(|name| {
            (include.is_empty() || include.iter().any(|m| m.matches(name).is_some()))
                && !ignore.iter().any(|m| m.matches(name).is_some())
        });
        let chosen = wanted.filter_map(|name| choice(&name).map(|number| (name, number)));
        let selection = Self(chosen.collect());
        let used = selection.used();
        let idle = |(i, (_, recipe)): &(usize, &(Vec<Target>, bool))| *recipe && !used.contains(&(i + 1));
        if let Some((i, _)) = overrides.iter().enumerate().find(idle).filter(|_| !used.is_empty()) {
            return Err(Error::Plan(format!(
                "the override of {}: no linear is compressed by it; those that it names are ignored, or another override \
                 further down names them too",
                plan.overrides[i].targets.join(", ")
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
