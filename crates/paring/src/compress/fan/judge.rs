//! The fourth stage: each outcome held to what its baseline loses.

use paring_model::LinearInfo;

use super::super::fallback::{Judgement, Measure};
use super::prepare::Ready;
use super::read::Loaded;
use super::sweep::Swept;
use crate::Result;
use crate::methods::{Change, Outcome, Prepared, Underflow};
use crate::plan::Recipe;

/// A linear whose outcome is final. Its weight as it was read and the factor are gone.
pub(super) struct Judged<'a> {
    pub info: LinearInfo,
    pub choice: usize,
    pub recipe: &'a Recipe,
    /// Weights that were zero in the input.
    pub zeros_before: usize,
    pub preparation: Preparation,
    pub outcome: Outcome,
    pub judgement: Judgement,
}

/// The facts about a [`Prepared`] that a report has.
pub(super) struct Preparation {
    pub damp: Option<f64>,
    pub repairs: Vec<String>,
    pub dead: usize,
    pub underflow: Option<Underflow>,
}

impl Preparation {
    fn of(prepared: &Prepared, underflow: Option<Underflow>) -> Self {
        Self { damp: prepared.damp(), repairs: prepared.repairs(), dead: prepared.dead(), underflow }
    }
}

/// Judges the linears of a fan, and with `replace` puts the baseline's outcome in the place of one that lost more.
pub(super) fn judge<'a>(
    swept: Vec<Swept<'a>>,
    measure: Option<&Measure<'_>>,
    replace: bool,
) -> Result<Vec<Judged<'a>>> {
    swept.into_iter().map(|linear| judge_linear(linear, measure, replace)).collect()
}

fn judge_linear<'a>(swept: Swept<'a>, measure: Option<&Measure<'_>>, replace: bool) -> Result<Judged<'a>> {
    let Swept { ready, mut outcome } = swept;
    let judgement = match measure {
        Some(measure) if outcome.distortion.is_some() => {
            let total = measure.total(&ready.linear.weight)?;
            if let Some(removed) = ready.shifted.filter(|_| total > 0.0) {
                outcome.changes.insert(0, Change { step: "shift", before: removed / total, after: 0.0 });
            }
            let (recipe, matrix) = (ready.linear.recipe, ready.matrix());
            measure.judge(recipe, &matrix, &ready.prepared, (ready.expected, total), &mut outcome, replace)?
        }
        _ => Judgement::default(),
    };
    // Only experiments with a layer look at the marks.
    outcome.dropped = Vec::new();
    let Ready { linear: Loaded { info, choice, recipe, zeros: zeros_before, .. }, prepared, underflow, .. } = ready;
    let preparation = Preparation::of(&prepared, underflow);
    Ok(Judged { info, choice, recipe, zeros_before, preparation, outcome, judgement })
}
