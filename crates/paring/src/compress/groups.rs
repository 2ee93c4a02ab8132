//! Sizes of groups that give way to the widths of a model, before the run.

use paring_format::message;
use paring_format::message::Message;
use paring_model::{Decoder, LinearInfo};

use super::select::Selection;
use crate::Result;
use crate::plan::{ActOrder, Grouping, Opt, Plan, Rounding, SizedBy};

/// A plan whose groups divide all linears that it compresses.
pub struct Fitted {
    /// The plan.
    pub plan: Plan,
    /// Sizes that are not those of schemes which were asked for.
    pub changed: Vec<Message>,
    /// Choices that the run was left to make.
    pub made: Vec<Message>,
}

/// Gives the groups of a plan sizes that divide the columns of all linears that it compresses, where their sizes were not
/// asked for; with `strict` those of schemes that were named stay.
///
/// # Errors
/// Groups that stay and do not fit, and names of linears that lead nowhere.
pub fn fit_groups(plan: Plan, decoder: &dyn Decoder, strict: bool) -> Result<Fitted> {
    let selection = Selection::new(&plan, decoder)?;
    let mut fitted = Fitted { plan, changed: Vec::new(), made: Vec::new() };
    for number in selection.used() {
        fitted.fit(number, &columns(&selection.linears(decoder, number)), strict);
    }
    check(&fitted.plan, &selection, decoder)?;
    Ok(fitted)
}

/// Errors unless the groups of a plan divide all linears that it compresses.
pub(super) fn check(plan: &Plan, selection: &Selection, decoder: &dyn Decoder) -> Result<()> {
    for number in selection.used() {
        if let Some(choice) = plan.choice(number) {
            choice.recipe.check_groups(&columns(&selection.linears(decoder, number)))?;
        }
    }
    Ok(())
}

/// The names of linears, and their columns.
fn columns(linears: &[LinearInfo]) -> Vec<(&str, usize)> {
    linears.iter().map(|linear| (linear.name.as_str(), linear.cols)).collect()
}

/// The scheme of a run that was left to choose one, with what it sets.
pub fn using(scheme: &str, rounding: &Rounding) -> Message {
    let using = message!["using ", Opt::Scheme.with(scheme)];
    let using = match rounding.act_order {
        ActOrder::Static => using.then(message![" ", Opt::ActOrder.with("static")]),
        _ => using,
    };
    using.then(grouped(rounding))
}

/// The weights that share a scale, in words.
fn grouped(rounding: &Rounding) -> String {
    match rounding.group_size() {
        Some(size) => format!(" in groups of {size}"),
        None => " with one scale per row".into(),
    }
}

impl Fitted {
    /// Fits the groups of one choice to its linears, unless they stay.
    fn fit(&mut self, number: usize, linears: &[(&str, usize)], strict: bool) {
        let place = self.plan.place(number);
        let Some(recipe) = self.plan.recipe_mut(number) else { return };
        let size = recipe.fitting(linears);
        let Some(rounding) = recipe.rounding.as_mut() else { return };
        let (scheme, is_usual) = match rounding.sized_by {
            SizedBy::Usual(scheme) => (scheme, number == 0),
            SizedBy::Scheme(scheme) if !strict => (scheme, false),
            SizedBy::Scheme(_) | SizedBy::Request => return,
        };
        let why = size.map(|(size, why)| {
            rounding.grouping = Grouping::Columns(size);
            format!(": {why}")
        });
        match (is_usual, why) {
            (true, why) => self.made.push(using(scheme, rounding).then(why.unwrap_or_default())),
            (false, Some(why)) => self.changed.push(format!("{place}{scheme}{}{why}", grouped(rounding)).into()),
            (false, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden, recipe};
    use super::*;
    use crate::plan::Override;

    fn plan(grouping: Grouping, sized_by: SizedBy) -> Plan {
        let rounding = Rounding { grouping, sized_by, symmetric: true, ..Rounding::int(4, None) };
        Plan::new("model", recipe("gptq", None, Some(rounding), None))
    }

    fn size(plan: &Plan) -> Option<usize> {
        plan.recipe.rounding.unwrap().group_size()
    }

    /// Widths are 32, and 48 for `down_proj`.
    #[test]
    fn groups_fit_the_linears_that_are_compressed() {
        let decoder = golden();
        let scheme = plan(Grouping::Columns(128), SizedBy::Scheme("W4A16"));
        let error = fit_groups(scheme.clone(), decoder.as_ref(), false).err().unwrap().to_string();
        assert!(error.contains("128 does not divide 32 (model.layers.0.self_attn.q_proj and 13 more)"), "{error}");
        let some = Plan { ignore: vec!["re:.*down_proj".into()], ..scheme.clone() };
        let fitted = fit_groups(some.clone(), decoder.as_ref(), false).unwrap();
        assert_eq!((size(&fitted.plan), fitted.made.len()), (Some(32), 0));
        assert_eq!(
            fitted.changed[0].to_string(),
            "W4A16 in groups of 32: 128 does not divide 32 (model.layers.0.self_attn.q_proj and 11 more)"
        );
        let error = fit_groups(some, decoder.as_ref(), true).err().unwrap().to_string();
        assert!(error.contains("Add groupsize 32: vLLM and transformers run that too."), "{error}");
        // An override counts by itself.
        let eight = recipe("rtn", None, Some(Rounding::int(8, Some(16))), None);
        let own =
            Override { targets: vec!["re:.*down_proj".into()], recipe: Some(eight), outlier_share: None, format: None };
        let mixed = Plan { overrides: vec![own], ..scheme };
        assert_eq!(size(&fit_groups(mixed, decoder.as_ref(), false).unwrap().plan), Some(32));
    }

    #[test]
    fn what_a_run_chooses_is_said() {
        let decoder = golden();
        let fitted = |plan: Plan| {
            let plan = Plan { ignore: vec!["re:.*down_proj".into()], ..plan };
            fit_groups(plan, decoder.as_ref(), true).unwrap()
        };
        let mut usual = plan(Grouping::Columns(128), SizedBy::Usual("W4A16"));
        usual.recipe.rounding.as_mut().unwrap().act_order = ActOrder::Static;
        let said = fitted(usual).made[0].to_string();
        assert!(
            said.starts_with("using scheme W4A16 actorder static in groups of 32: 128 does not divide 32"),
            "{said}"
        );
        let rows = fit_groups(plan(Grouping::Row, SizedBy::Request), decoder.as_ref(), false).unwrap();
        assert!(size(&rows.plan).is_none() && rows.made.is_empty());
    }
}
