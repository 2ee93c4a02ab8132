//! SpQR's choices.

use paring_format::message;
use paring_kernels::sweep::spqr::coded_zero_bits;
use serde::Serialize;

use super::{ActOrder, Opt, Rounding, Search};
use crate::Result;

/// The order in which SpQR visits columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Permutation {
    /// File order.
    #[default]
    Identity,
    /// By falling Gram diagonal.
    ActOrder,
    /// Each next to the column whose weights rank most alike, greedily; of each linear by itself.
    Spearman,
    /// The column at each position.
    Given(Vec<u32>),
}

/// Settings that SpQR adds to [`Rounding`] (arXiv 2306.03078).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spqr {
    /// Bits of a scale's code, 1 to 8; `None`: scales are stored as they are.
    pub scale_bits: Option<u32>,
    /// Bits of a zero's code, 1 to 8; `None`: zeros are stored as they are.
    pub zero_bits: Option<u32>,
    /// Consecutive rows whose statistics share a second-level grid; the last ones may be fewer.
    pub second_rows: usize,
    /// Symmetric second-level grids for the zeros.
    pub zero_symmetric: bool,
    /// Threshold on the squared error of a weight, relative to the mean of its column's variance over d²; `None` keeps
    /// no outliers.
    pub outlier_threshold: Option<f64>,
    /// Order of visit.
    pub permutation: Permutation,
    /// Fit grids to all weights, not only to those that are unlikely to be outliers.
    pub simplified_outliers: bool,
    /// Round zeros to whole numbers.
    pub round_zero: bool,
    /// One grid per row; otherwise all rows of a group share one.
    pub per_channel: bool,
    /// Last columns in the order of visit that are corrected but kept as they are.
    pub keep_last_columns: usize,
}

impl Default for Spqr {
    fn default() -> Self {
        Self {
            scale_bits: None,
            zero_bits: None,
            second_rows: 16,
            zero_symmetric: false,
            outlier_threshold: None,
            permutation: Permutation::Identity,
            simplified_outliers: false,
            round_zero: false,
            per_channel: true,
            keep_last_columns: 0,
        }
    }
}

impl Spqr {
    /// Bits of a zero's code, where the rounding leaves zeros that are coded again.
    pub fn zero_bits_used(&self, rounding: &Rounding) -> Option<u32> {
        coded_zero_bits(self.zero_bits, rounding.element.bits(), rounding.symmetric, self.round_zero)
    }

    fn check_search(&self, search: Search) -> Result<()> {
        let asked = Opt::Scales.with(search.name());
        match search {
            Search::Mse => {
                let hint = message!["use ", Opt::Scales.with(Search::Weighted.name())];
                Err(Opt::Scales.misuse(message![asked, " is not for spqr"]).hint(hint))
            }
            Search::Weighted if !self.per_channel => {
                let shared = message![asked, " needs a grid per row; leave out "];
                Err(Opt::Scales.misuse(shared.then(Opt::PerChannel.switched(false))))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check(&self, rounding: Option<&Rounding>) -> Result<()> {
        for (option, bits) in [(Opt::QqScaleBits, self.scale_bits), (Opt::QqZeroBits, self.zero_bits)] {
            if let Some(bits) = bits.filter(|bits| !(1..=8).contains(bits)) {
                return Err(option.wrong(bits, "must be 1 to 8"));
            }
        }
        if self.second_rows == 0 {
            return Err(Opt::QqGroupSize.wrong(0, "must be at least 1"));
        }
        if let Some(threshold) = self.outlier_threshold {
            if threshold.is_nan() || threshold < 0.0 {
                return Err(Opt::OutlierThreshold.wrong(threshold, "must be 0 or more"));
            }
            if !self.per_channel && !self.simplified_outliers {
                let problem = message![": grids that all rows share need ", Opt::SimplifiedOutliers];
                let shared = message![Opt::PerChannel.switched(false)].then(problem);
                return Err(Opt::PerChannel.misuse(shared));
            }
        }
        if let Some(r) = rounding {
            if r.static_groups || r.act_order != ActOrder::None {
                let refused = message![Opt::StaticGroups, " and ", Opt::ActOrder, " are not for spqr"];
                return Err(Opt::ActOrder
                    .misuse(refused)
                    .hint(message!["leave them out, or use ", Opt::PermutationOrder]));
            }
            self.check_search(r.search)?;
            if (self.scale_bits.is_some() || self.zero_bits.is_some()) && r.group_size().is_none() {
                let needs = message![Opt::QqScaleBits, " and ", Opt::QqZeroBits, " need ", Opt::GroupSize];
                return Err(Opt::QqScaleBits.misuse(needs));
            }
        }
        Ok(())
    }
}

/// The size of groups and of their statistics: columns of a group, rows of a second-level group, bits of a scale's code and of a
/// zero's.
type Shape = (usize, usize, u32, u32);

/// Those of the paper's configurations: of its near-lossless rows, and of its rows of about four bits.
const SHAPES: [Shape; 2] = [(16, 16, 3, 3), (8, 64, 3, 3)];

/// Those with which searched grids lose least. A search makes more of codes than of second-level grids for fewer rows; rows are
/// whole tiles of the sweep.
const SEARCHED_SHAPES: [Shape; 3] = [(16, 192, 3, 3), (12, 192, 3, 4), (8, 192, 3, 4)];

/// Fewest and most outliers that are worth their bits.
const SHARES: (f64, f64) = (0.002, 0.1);

/// Bits of an outlier: its value, and a gap of about the logarithm of the mean one.
fn outlier_bits(share: f64) -> f64 {
    16.0 + (1.0 / share).log2() + 1.2
}

/// The configuration with the most bits that leaves room for outliers within `target` bits per weight, and the share of
/// outliers that fills the budget: of the paper's configurations, or, where grids are `searched`, of those that are best then.
/// Errors below the smallest and above 8 bits.
pub fn for_target_bits(target: f64, searched: bool) -> Result<(Rounding, Spqr, f64)> {
    let shapes: &[Shape] = if searched { &SEARCHED_SHAPES } else { &SHAPES };
    let all = (2..=8u32).flat_map(|bits| shapes.iter().map(move |&shape| (bits, shape)));
    let of = |(bits, (group_size, second_rows, scale_bits, zero_bits)): (u32, Shape)| {
        let codes = f64::from(scale_bits + zero_bits) / group_size as f64;
        f64::from(bits) + codes + 64.0 / (group_size * second_rows) as f64
    };
    let least = SHARES.0 * outlier_bits(SHARES.0);
    let chosen = all.filter(|&c| of(c) + least <= target).max_by(|&a, &b| of(a).total_cmp(&of(b)));
    let Some((bits, shape)) = chosen.filter(|_| target <= 8.0) else {
        let smallest = of((2, shapes[0])) + least;
        return Err(Opt::TargetBits.wrong(target, format!("must be {smallest:.2} to 8")));
    };
    let budget = target - of((bits, shape));
    let mut share = SHARES.0;
    for _ in 0..20 {
        share = (budget / outlier_bits(share)).clamp(SHARES.0, SHARES.1);
    }
    let (group_size, second_rows, scale_bits, zero_bits) = shape;
    let rounding = Rounding::int(bits, Some(group_size));
    let spqr = Spqr {
        scale_bits: Some(scale_bits),
        zero_bits: Some(zero_bits),
        second_rows,
        permutation: Permutation::ActOrder,
        ..Spqr::default()
    };
    Ok((rounding, spqr, share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_filled_with_outliers() {
        for (target, searched, bits, group_size) in [
            (2.7, false, 2, 16),
            (3.0, false, 2, 8),
            (3.7, false, 3, 16),
            (4.0, false, 3, 8),
            (4.7, false, 4, 16),
            (5.0, false, 4, 8),
            (2.5, true, 2, 16),
            (3.0, true, 2, 8),
            (3.5, true, 3, 16),
            (4.0, true, 3, 8),
        ] {
            let (rounding, spqr, share) = for_target_bits(target, searched).unwrap();
            assert_eq!((rounding.element.bits(), rounding.group_size()), (bits, Some(group_size)), "{target}");
            let codes = f64::from(spqr.scale_bits.unwrap() + spqr.zero_bits.unwrap()) / group_size as f64;
            let second = 64.0 / (group_size * spqr.second_rows) as f64;
            let sum = f64::from(bits) + codes + second + share * outlier_bits(share);
            assert!((sum - target).abs() < 0.001, "{target}: {sum}");
        }
        for searched in [false, true] {
            for target in [2.4, 8.5, f64::NAN] {
                assert!(for_target_bits(target, searched).is_err());
            }
        }
    }
}
