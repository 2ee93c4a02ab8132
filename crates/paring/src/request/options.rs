//! Options of a recipe; what is not given has a default.

use crate::plan::allocation::SparsityBy;
use crate::plan::{ActOrder, Grouping, MaskSearch, Pattern, Permutation, Search, Spqr};

/// Options of a recipe: for all linears, or for those that a group names.
#[derive(Clone, Debug, Default)]
pub struct RecipeOptions {
    /// The method's name; by default spqr where one of its options is given, otherwise what suits the scheme.
    pub method: Option<String>,
    /// The weights to remove.
    pub pattern: Option<Pattern>,
    /// Choose the share of weights that each linear loses by measuring; all lose the same.
    pub allocate: Option<SparsityBy>,
    /// The choice of the weights to remove.
    pub mask: Option<MaskSearch>,
    /// Fit the weights that stay once more when the mask is known.
    pub refit: Option<bool>,
    /// Take the mask alone of a sweep that moves errors: weights that stay keep their values.
    pub mask_only: Option<bool>,
    /// A scheme by its name: element, groups, symmetry and quantized inputs at once.
    pub scheme: Option<String>,
    /// Bits of a weight, 2 to 8; instead of a scheme.
    pub bits: Option<u32>,
    /// Columns that share a scale: by default what the scheme says, or less where that does not divide all linears; for bits
    /// alone a row, or for few bits the largest of 128, 64 and 32 that divides all linears.
    pub grouping: Option<Grouping>,
    /// Symmetric grids, without zero points.
    pub symmetric: Option<bool>,
    /// A grid per row, not one for all rows; only spqr can do without.
    pub per_channel: Option<bool>,
    /// The choice of scales.
    pub search: Option<Search>,
    /// The order in which columns are visited.
    pub act_order: Option<ActOrder>,
    /// Fit the grids of all groups before the sweep.
    pub static_groups: Option<bool>,
    /// Damping of the Gram matrix, as a share of its mean diagonal; 0.01.
    pub percdamp: Option<f64>,
    /// Columns of a slice of the sweep; 128.
    pub blocksize: Option<usize>,
    /// Defaults of the published code, in place of those that lose less.
    pub published: bool,
    /// SpQR's options.
    pub spqr: SpqrOptions,
}

/// SpQR's options. Any of them selects its method.
#[derive(Clone, Debug, Default)]
pub struct SpqrOptions {
    /// Bits that scales are quantized to.
    pub scale_bits: Option<u32>,
    /// Bits that zeros are quantized to.
    pub zero_bits: Option<u32>,
    /// Rows whose scales and zeros share a grid; 16.
    pub second_rows: Option<usize>,
    /// Symmetric grids for the zeros.
    pub zero_symmetric: Option<bool>,
    /// Squared error, as a share of the weights' mean variance, over which a weight is kept exact; infinity keeps none.
    pub outlier_threshold: Option<f64>,
    /// Share of the weights to keep exact: the threshold that does is found on a sample of the layers.
    pub outlier_share: Option<f64>,
    /// Bits per weight on disk that bits, groups and outliers are chosen for; with gptq and rtn bits and groups of each linear,
    /// by measuring.
    pub target_bits: Option<f64>,
    /// The order in which columns are visited.
    pub permutation: Option<Permutation>,
    /// Fit grids to all weights of a group, without looking for likely outliers first.
    pub simplified_outliers: Option<bool>,
    /// Round zeros to whole numbers.
    pub round_zero: Option<bool>,
    /// Last columns visited that are corrected but not rounded.
    pub keep_last_columns: Option<usize>,
}

impl RecipeOptions {
    /// True if the grids of SpQR are searched.
    pub(super) fn searches_spqr(&self) -> bool {
        self.per_channel != Some(false) && self.search.map_or(!self.published, |search| search == Search::Weighted)
    }
}

impl SpqrOptions {
    /// True if one of them is given.
    pub(super) fn any(&self) -> bool {
        self.scale_bits.is_some()
            || self.zero_bits.is_some()
            || self.second_rows.is_some()
            || self.zero_symmetric == Some(true)
            || self.outlier_threshold.is_some()
            || self.outlier_share.is_some()
            || self.target_bits.is_some()
            || self.permutation.is_some()
            || self.simplified_outliers == Some(true)
            || self.round_zero == Some(true)
            || self.keep_last_columns.is_some()
    }

    /// These settings, with those that were not given as `base` has them.
    pub(super) fn settings(&self, per_channel: Option<bool>, base: Spqr) -> Spqr {
        let threshold = |given: f64| Some(given).filter(|given| *given != f64::INFINITY);
        Spqr {
            scale_bits: self.scale_bits.or(base.scale_bits),
            zero_bits: self.zero_bits.or(base.zero_bits),
            second_rows: self.second_rows.unwrap_or(base.second_rows),
            zero_symmetric: self.zero_symmetric.unwrap_or(base.zero_symmetric),
            outlier_threshold: self.outlier_threshold.map_or(base.outlier_threshold, threshold),
            permutation: self.permutation.clone().unwrap_or(base.permutation),
            simplified_outliers: self.simplified_outliers.unwrap_or(base.simplified_outliers),
            round_zero: self.round_zero.unwrap_or(base.round_zero),
            per_channel: per_channel.unwrap_or(base.per_channel),
            keep_last_columns: self.keep_last_columns.unwrap_or(base.keep_last_columns),
        }
    }
}

/// Options for some of the linears.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// The linears: exact names or `re:` patterns.
    pub targets: Vec<String>,
    /// Options that differ for them; `None`: they stay as they are.
    pub change: Option<Box<GroupChange>>,
    /// File and line, for messages.
    pub place: String,
}

/// Options that differ for some of the linears.
#[derive(Clone, Debug, Default)]
pub struct GroupChange {
    /// Options of their recipe.
    pub recipe: RecipeOptions,
    /// The layout that they are stored in.
    pub format: Option<String>,
}
