//! The second stage: the fan's statistics turned into what its sweeps need.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::fallback::{Expected, Measure};
use super::read::Loaded;
use crate::Result;
use crate::methods::{Matrix, Prepared, Underflow};
use crate::pipeline::stats::Stats;

/// A linear that can be swept.
pub(super) struct Ready<'a> {
    pub linear: Loaded<'a>,
    /// Shared by all linears of the fan that are treated alike, unless their recipe looks at their weights.
    pub prepared: Arc<Prepared>,
    /// The estimated loss of its recipe's baseline; `None` where that is not measured.
    pub expected: Option<Expected>,
    /// The error that a shift of its weights takes back, as tr(ΔW·H·ΔWᵀ); `None` where they were not shifted.
    pub shifted: Option<f64>,
    /// The loss of weights whose scales are too small for the file.
    pub underflow: Option<Underflow>,
}

impl Ready<'_> {
    pub fn matrix(&self) -> Matrix<'_> {
        self.linear.matrix()
    }

    /// The matrix for its sweep, which gets the weight itself where nothing is compared with it afterwards.
    pub fn take_matrix(&mut self) -> Matrix<'_> {
        let Loaded { info, weight, stored, given, .. } = &mut self.linear;
        let weight = match self.prepared.needs_original() {
            true => Cow::Borrowed(weight.as_slice()),
            false => Cow::Owned(std::mem::take(weight)),
        };
        Matrix { weight, stored: *stored, module: &info.name, given: given.as_deref() }
    }

    /// Tells whether a sweep can take both linears as one matrix, and is faster for it.
    pub fn is_swept_with(&self, other: &Self) -> bool {
        self.prepared.prefers_many() && self.is_prepared_with(other) && self.linear.choice == other.linear.choice
    }

    fn is_prepared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.prepared, &other.prepared)
    }
}

/// Prepares the sweeps of a fan. 2·cols³/3 operations for each preparation from a Gram matrix.
pub(super) fn prepare<'a>(linears: Vec<Loaded<'a>>, stats: Option<&Stats>) -> Result<Vec<Ready<'a>>> {
    let mut ready: Vec<Ready<'a>> = Vec::with_capacity(linears.len());
    for linear in linears {
        let alike = ready.iter().find(|other| other.linear.recipe.prepares_like(linear.recipe));
        let prepared = match alike {
            Some(other) => Arc::clone(&other.prepared),
            None => {
                let weight = linear.recipe.prepares_each().then_some(linear.weight.as_slice());
                Arc::new(linear.recipe.prepare(stats, weight, &linear.info.name)?)
            }
        };
        ready.push(Ready { linear, prepared, expected: None, shifted: None, underflow: None });
    }
    Ok(ready)
}

/// Looks for weights whose scales are too small for the file.
pub(super) fn foresee_underflow(ready: &mut [Ready<'_>]) {
    for linear in ready {
        let Loaded { info, recipe, .. } = &linear.linear;
        linear.underflow = recipe.underflow(&linear.matrix(), info.cols, &linear.prepared);
    }
}

/// Measures what the baselines lose. Before the sweep, which takes more memory.
pub(super) fn expect(ready: &mut [Ready<'_>], measure: Option<&Measure<'_>>) -> Result<()> {
    let Some(measure) = measure else { return Ok(()) };
    for linear in ready {
        let cols = linear.linear.info.cols;
        linear.expected = measure.expected(linear.linear.recipe, &linear.matrix(), cols, &linear.prepared)?;
    }
    Ok(())
}

/// Operations of [`prepare`].
pub(super) fn work(ready: &[Ready<'_>], stats: Option<&Stats>) -> f64 {
    let cols = ready.first().map_or(0, |linear| linear.linear.info.cols) as f64;
    match stats {
        Some(Stats::Gram(_)) => 2.0 / 3.0 * cols * cols * cols * preparations(ready).count() as f64,
        _ => 0.0,
    }
}

/// Operations of [`expect`].
pub(super) fn expected_work(ready: &[Ready<'_>]) -> f64 {
    let work = |linear: &Ready<'_>| {
        let cols = linear.linear.info.cols;
        linear.expected.map_or(0, |expected| expected.rows) * cols * cols
    };
    ready.iter().map(work).sum::<usize>() as f64
}

/// Repairs of the factors, in words, each with the linears that it concerns.
pub(super) fn repairs(ready: &[Ready<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    for first in preparations(ready) {
        for text in first.prepared.repairs() {
            let names: Vec<&str> = (ready.iter().filter(|linear| linear.is_prepared_with(first)))
                .map(|linear| linear.linear.info.name.as_str())
                .collect();
            notes.push(format!("{}: {text}", names.join(", ")));
        }
    }
    notes
}

/// The first linear of each preparation.
fn preparations<'r, 'a>(ready: &'r [Ready<'a>]) -> impl Iterator<Item = &'r Ready<'a>> {
    let is_first =
        |&(i, linear): &(usize, &'r Ready<'a>)| !ready[..i].iter().any(|other| linear.is_prepared_with(other));
    ready.iter().enumerate().filter(is_first).map(|(_, linear)| linear)
}
