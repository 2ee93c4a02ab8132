//! The baseline of a method that knows the inputs: the same rule with a flat curvature.

use paring_format::ScaleType;

use super::{Matrix, Outcome, Prepared, spqr, sweep};
use crate::plan::method::{Baseline, MAGNITUDE, RTN};
use crate::plan::{ActOrder, Pattern, Recipe, Rounding};
use crate::{Error, Result};

/// The baseline of what is removed where masks are given.
const MASKS_ALONE: &str = "the masks alone";

impl Recipe {
    /// The methods that [`Recipe::compress_baseline`] applies, one after the other.
    fn baselines(&self) -> impl Iterator<Item = &'static Baseline> {
        let (drops, rounds) = (self.pattern.is_some(), self.rounding.is_some());
        self.method.baselines.iter().filter(move |b| (drops && b.method.drops) || (rounds && b.method.rounds))
    }

    /// The baseline that [`Recipe::compress_baseline`] makes, in words; `None` where it makes nothing.
    pub fn baseline(&self) -> Option<String> {
        let given = self.pattern == Some(Pattern::Given);
        let of =
            |baseline: &'static Baseline| if given && baseline.method.drops { MASKS_ALONE } else { baseline.words };
        let words: Vec<&str> = self.baselines().map(of).collect();
        (!words.is_empty()).then(|| words.join(" and "))
    }

    /// The number of consecutive rows of a `[rows, cols]` matrix that share numbers of its baseline; `None` where all may.
    pub(crate) fn rows_apart(&self, rows: usize, cols: usize) -> Option<usize> {
        match (&self.spqr, self.rounding) {
            (Some(spqr), _) => spqr.per_channel.then_some(spqr.second_rows.max(1)),
            (None, Some(rounding)) => Some(rounding.tile(rows, cols)[0]).filter(|&height| height == 1),
            (None, None) => Some(1),
        }
    }

    /// Tells whether the largest weight of a matrix decides about the grids of all others.
    pub(crate) fn shares_amax(&self) -> bool {
        self.rounding.is_some_and(|r| r.scale_type == ScaleType::E4m3)
    }

    /// The outcome for a matrix of `cols` columns if every input cost the same and no error moved to other
    /// columns, for the same layout: as the baselines of its method make it in the groups of the file and with the same
    /// pattern, one after the other; for SpQR on grids of both levels in the groups of `prepared`, which came from the
    /// Gram matrix, without outliers. [`Outcome::distortion`] is `None`.
    ///
    /// `None` for a method without a baseline. Some 60 operations per weight, on the CPU. Errors as
    /// [`Recipe::compress_all`] does.
    pub fn compress_baseline(&self, matrix: &Matrix<'_>, cols: usize, prepared: &Prepared) -> Result<Option<Outcome>> {
        match self.baselines().next() {
            Some(_) => self.compress_plain(matrix, cols, prepared).map(Some),
            None => Ok(None),
        }
    }

    /// The same for every recipe: one that is no more than its own baseline makes what it always makes.
    pub(crate) fn compress_plain(&self, matrix: &Matrix<'_>, cols: usize, prepared: &Prepared) -> Result<Outcome> {
        if let (Some(settings), Some(rounding)) = (&self.spqr, self.rounding) {
            return spqr::compress_flat(self, settings, rounding, matrix, cols, prepared);
        }
        let own = if self.pattern.is_some() { &MAGNITUDE } else { &RTN };
        let flat = Recipe {
            method: self.baselines().next().map_or(own, |baseline| baseline.method),
            rounding: self.rounding.map(|r| Rounding { act_order: ActOrder::None, ..r }),
            ..self.clone()
        };
        // A share of the matrix is ranked at once; all else is the same in slices of any width, for less memory.
        let slice = if matches!(self.pattern, Some(Pattern::Unstructured(_))) { cols } else { self.blocksize };
        let prepared = prepared.flattened();
        let made = sweep::compress(&flat, vec![matrix.by_ref()], cols, slice, &prepared)?.pop();
        made.ok_or_else(|| Error::Plan(format!("{}: nothing came out", matrix.module)))
    }
}
