//! The arguments of a quantization, those of weights, activations and caches alike.

#[cfg(test)]
mod tests;

use crate::{Compressed, Element, Grid, ScaleType, Spqr, Statistic, Values, Zeros};

/// Element, scales and zero points of a quantization.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantArgs {
    /// The type of a code.
    pub element: Element,
    /// True when all zero points are 0 (of unsigned codes: 2^(bits − 1)), and none are stored.
    pub symmetric: bool,
    /// The numbers that share a scale.
    pub strategy: Strategy,
    /// The type in which scales are stored.
    pub scale_type: ScaleType,
    /// The moment when scales are found; weights have theirs in the file.
    pub dynamic: Dynamic,
    /// `static` or `weight`: columns were visited in another order than they are stored, which changes nothing on disk;
    /// `group`: they were, and each column's group is in `weight_g_idx`.
    pub actorder: Option<String>,
    /// True when zero points are fractional, floats or coded by the second level, and not codes. SpQR layouts have it, and
    /// those that store zero points as they are.
    pub float_zeros: bool,
    /// The second level, by which scales and zeros are coded again, if there is one. Only SpQR layouts have it.
    pub second: Option<SecondLevel>,
}

/// The numbers that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The whole tensor.
    Tensor,
    /// A row of a weight.
    Channel,
    /// Consecutive columns of a row, so many.
    Group(usize),
    /// The same, with a second scale for the whole tensor.
    TensorGroup(usize),
    /// Rows and columns of a weight, so many.
    Block(usize, usize),
    /// A token of activations.
    Token,
    /// A head of the attention's cache.
    Head,
}

impl Strategy {
    /// Groups of `size` columns in rows of `cols`: whole rows when a group has them all.
    fn of_groups(size: usize, cols: usize) -> Strategy {
        if size >= cols { Strategy::Channel } else { Strategy::Group(size) }
    }
}

/// The moment when the scales of activations are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dynamic {
    /// Beforehand: they are stored.
    #[default]
    No,
    /// As the model runs.
    Yes,
    /// The scale of the tensor beforehand, those of groups as the model runs.
    Local,
}

/// The codes of scales and zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondLevel {
    /// Width of a scale's code, 1 to 8; `None` for floats.
    pub scale_bits: Option<u32>,
    /// Width of a zero's code, 1 to 8; `None` for floats, whole numbers, or the zero of a symmetric grid.
    pub zero_bits: Option<u32>,
    /// Consecutive rows that share a second-level scale and zero.
    pub rows: usize,
}

impl QuantArgs {
    /// Symmetric codes of this kind, one scale of the model's float type for each row.
    pub fn new(element: Element) -> QuantArgs {
        QuantArgs {
            element,
            symmetric: true,
            strategy: Strategy::Channel,
            scale_type: ScaleType::Float,
            dynamic: Dynamic::No,
            actorder: None,
            float_zeros: false,
            second: None,
        }
    }

    /// The quantization of the numbers of a matrix; `None` when they are dense.
    pub fn of(c: &Compressed) -> Option<QuantArgs> {
        match &c.values {
            Values::Dense(_) => None,
            Values::Codes { grid, .. } => Some(QuantArgs::of_grid(grid, c.rows, c.cols)),
            Values::Spqr(spqr) => Some(QuantArgs::of_spqr(spqr, c.cols)),
        }
    }

    fn of_grid(grid: &Grid, rows: usize, cols: usize) -> QuantArgs {
        QuantArgs {
            symmetric: grid.zeros.is_none(),
            strategy: match grid.tile {
                [1, size] if grid.global.is_some() => Strategy::TensorGroup(size),
                // Powers of two are for groups, even if a row is one group.
                [1, size] if grid.scale_type == ScaleType::Exponent => Strategy::Group(size),
                [1, size] => Strategy::of_groups(size, cols),
                [height, width] if (height, width) == (rows, cols) => Strategy::Tensor,
                [height, width] => Strategy::Block(height, width),
            },
            scale_type: grid.scale_type,
            actorder: grid.group_index.as_ref().map(|_| "group".to_string()),
            float_zeros: matches!(grid.zeros, Some(Zeros::Floats(_))),
            ..QuantArgs::new(grid.element)
        }
    }

    fn of_spqr(spqr: &Spqr, cols: usize) -> QuantArgs {
        let coded = |statistic: &Statistic| match statistic {
            Statistic::Coded { bits, rows, .. } => Some((*bits, *rows)),
            _ => None,
        };
        let (scales, zeros) = (coded(&spqr.scales), coded(&spqr.zeros));
        let bits = |coded: Option<(u32, usize)>| coded.map(|(bits, _)| bits);
        let second = |(_, rows)| SecondLevel { scale_bits: bits(scales), zero_bits: bits(zeros), rows };
        QuantArgs {
            symmetric: matches!(spqr.zeros, Statistic::Constant(_)),
            float_zeros: matches!(spqr.zeros, Statistic::Plain(_) | Statistic::Coded { .. }),
            second: scales.or(zeros).map(second),
            strategy: Strategy::of_groups(spqr.group_size, cols),
            ..QuantArgs::new(Element::Int(spqr.bits))
        }
    }

    /// Tells whether the group of each column is stored: the activation order is `group`.
    pub fn has_group_index(&self) -> bool {
        self.actorder.as_deref() == Some("group")
    }

    /// Columns that share a scale in rows of `cols`; `None` for strategies whose scales are not those of a row's groups.
    pub fn group_size(&self, cols: usize) -> Option<usize> {
        match self.strategy {
            Strategy::Channel => Some(cols),
            Strategy::Group(size) | Strategy::TensorGroup(size) => Some(size),
            Strategy::Tensor | Strategy::Block(..) | Strategy::Token | Strategy::Head => None,
        }
    }
}
