//! The grids that weights are rounded to.

use std::fmt;

use paring_format::message;
use paring_format::{Dtype, Element, QuantArgs, ScaleType, Strategy};
use serde::Serialize;
use serde::ser::SerializeMap;

use super::{ActOrder, Opt, SizedBy};
use crate::{Error, Result};
pub use paring_kernels::sweep::Search;

/// The weights of a matrix that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// All of them.
    Matrix,
    /// Those of a row.
    Row,
    /// So many neighbours of a row.
    Columns(usize),
    /// Those of a tile of so many rows and columns.
    Tile(usize, usize),
}

impl Grouping {
    /// A number of columns, or −1 for all, as the published scripts have it; `None` for other negative numbers.
    pub fn of_columns(columns: i64) -> Option<Self> {
        match columns {
            -1 => Some(Grouping::Row),
            _ => usize::try_from(columns).ok().map(Grouping::Columns),
        }
    }

    /// That of a config's strategy; those of activations group no weights, and are taken for rows.
    fn of(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Tensor => Grouping::Matrix,
            Strategy::Channel | Strategy::Token | Strategy::Head => Grouping::Row,
            Strategy::Group(size) | Strategy::TensorGroup(size) => Grouping::Columns(size),
            Strategy::Block(height, width) => Grouping::Tile(height, width),
        }
    }

    /// Rows and columns of a `[rows, cols]` matrix that share a scale.
    pub fn tile(self, rows: usize, cols: usize) -> [usize; 2] {
        match self {
            Grouping::Matrix => [rows, cols],
            Grouping::Row => [1, cols],
            Grouping::Columns(size) => [1, size.min(cols)],
            Grouping::Tile(height, width) => [height.min(rows), width.min(cols)],
        }
    }
}

/// As the option for columns has it, where that can say it.
impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grouping::Matrix => f.write_str("a matrix"),
            Grouping::Row => f.write_str("-1"),
            Grouping::Columns(columns) => columns.fmt(f),
            Grouping::Tile(height, width) => write!(f, "{height}x{width}"),
        }
    }
}

/// The grids that weights are rounded to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    /// The type of a code; integers have 2 to 8 bits.
    pub element: Element,
    /// The weights that share a scale.
    pub grouping: Grouping,
    /// The origin of its size.
    pub sized_by: SizedBy,
    /// The type of stored scales.
    pub scale_type: ScaleType,
    /// Zero point fixed in the middle.
    pub symmetric: bool,
    /// The choice of scales.
    pub search: Search,
    /// Fit the grids of all groups before the sweep.
    pub static_groups: bool,
    /// Visiting order.
    pub act_order: ActOrder,
}

impl Rounding {
    /// Integers of `bits` bits on asymmetric grids, one for each `group_size` columns of a row, or for a whole row.
    pub fn int(bits: u32, group_size: Option<usize>) -> Rounding {
        Rounding {
            element: Element::Int(bits),
            grouping: group_size.map_or(Grouping::Row, Grouping::Columns),
            sized_by: SizedBy::Request,
            scale_type: ScaleType::Float,
            symmetric: false,
            search: Search::MinMax,
            static_groups: false,
            act_order: ActOrder::None,
        }
    }

    /// The rounding that a scheme's weights have.
    pub fn of(args: &QuantArgs) -> Rounding {
        let QuantArgs { element, symmetric, strategy, scale_type, .. } = *args;
        let grouping = Grouping::of(strategy);
        Rounding { element, grouping, scale_type, symmetric, ..Rounding::int(element.bits(), None) }
    }

    /// Columns of a row that share a scale; `None` for a whole row or more, or for blocks.
    pub fn group_size(&self) -> Option<usize> {
        match self.grouping {
            Grouping::Columns(size) => Some(size),
            _ => None,
        }
    }

    /// Tells whether the sweep visits columns in another order than the file's.
    pub fn reorders(&self) -> bool {
        self.act_order != ActOrder::None
    }

    /// Rows and columns of a `[rows, cols]` matrix that share a scale.
    pub fn tile(&self, rows: usize, cols: usize) -> [usize; 2] {
        self.grouping.tile(rows, cols)
    }

    /// The float type of dequantized weights, where the model has `dtype`: what compressed-tensors decompresses to.
    pub fn dequantized(&self, dtype: Dtype) -> Dtype {
        if matches!(self.element, Element::E2m1 | Element::E2m3) || self.scale_type != ScaleType::Float {
            Dtype::Bf16
        } else {
            dtype
        }
    }

    /// The same as a config says it.
    pub fn args(&self) -> QuantArgs {
        QuantArgs {
            symmetric: self.symmetric,
            strategy: match self.grouping {
                Grouping::Matrix => Strategy::Tensor,
                Grouping::Row => Strategy::Channel,
                // Scales of 8 bits have one more scale, for all of them.
                Grouping::Columns(size) if self.scale_type == ScaleType::E4m3 => Strategy::TensorGroup(size),
                Grouping::Columns(size) => Strategy::Group(size),
                Grouping::Tile(height, width) => Strategy::Block(height, width),
            },
            scale_type: self.scale_type,
            actorder: (self.act_order == ActOrder::Static).then(|| "static".into()),
            ..QuantArgs::new(self.element)
        }
    }

    /// Checks that the choices go together.
    pub(super) fn check(&self) -> Result<()> {
        let fail = |text: String| Err(Error::Misuse(text));
        let integers = self.element.int_bits();
        if let Some(bits) = integers
            && !(2..=8).contains(&bits)
        {
            return Err(Opt::Wbits.wrong(bits, "must be 2 to 8"));
        }
        if self.group_size() == Some(0) {
            return Err(Opt::GroupSize.wrong(0, "must be at least 1, or -1 for whole rows"));
        }
        if let Grouping::Tile(height, width) = self.grouping
            && (height == 0 || width == 0)
        {
            return fail(format!("a block of {height} rows and {width} columns holds no weight; use at least 1 by 1"));
        }
        let name = self.element;
        let known = matches!(
            (self.element, self.scale_type, self.grouping),
            (Element::Int(_) | Element::E4m3, ScaleType::Float, _)
                | (Element::E4m3 | Element::E2m3 | Element::E2m1, ScaleType::Exponent, Grouping::Columns(32))
                | (Element::E2m1, ScaleType::E4m3, Grouping::Columns(16))
        );
        if !known {
            let ways = match self.element {
                Element::Int(_) => "as floats of the model for a matrix, a row, a group or a block",
                Element::E4m3 => {
                    "as floats of the model for a matrix, a row, a group or a block, or as powers of two for 32 columns"
                }
                Element::E2m3 => "as powers of two for 32 columns",
                Element::E2m1 => "as 8-bit floats for 16 columns and one for all, or as powers of two for 32 columns",
            };
            return fail(format!("{name} have scales {ways}; got {}", self.args()));
        }
        if integers.is_none() && !self.symmetric {
            return fail(format!("{name} have no zero points; choose a symmetric grid"));
        }
        let ordered = integers.is_some() && self.in_rows();
        if self.act_order == ActOrder::Group && !ordered {
            let problem = format!(" is for integers in groups of columns, not for {}", self.args());
            let hint = message!["use ", Opt::ActOrder.with("static")];
            return Err(Opt::ActOrder.misuse(message![Opt::ActOrder.with("group"), problem]).hint(hint));
        }
        Ok(())
    }

    /// True if columns of one row share a scale, or the whole row does.
    pub(crate) fn in_rows(&self) -> bool {
        matches!(self.grouping, Grouping::Row | Grouping::Columns(_))
    }
}

impl Serialize for Rounding {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let Rounding { search, static_groups, act_order, .. } = self;
        let mut map = s.serialize_map(Some(4))?;
        map.serialize_entry("weights", &self.args().to_json())?;
        map.serialize_entry("search", search.name())?;
        map.serialize_entry("static_groups", static_groups)?;
        map.serialize_entry("act_order", act_order)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_together_is_said() {
        let int = Rounding { symmetric: true, ..Rounding::int(4, Some(32)) };
        let eight = Rounding { element: Element::E4m3, ..int };
        let four = Rounding { element: Element::E2m1, ..int };
        let [power, double] = [ScaleType::Exponent, ScaleType::E4m3];
        let nv = Rounding { grouping: Grouping::Columns(16), scale_type: double, ..four };
        let mx = Rounding { scale_type: power, ..four };
        for good in [
            int,
            Rounding { grouping: Grouping::Tile(1, 7), ..int },
            Rounding { grouping: Grouping::Matrix, symmetric: false, ..int },
            Rounding { act_order: ActOrder::Group, ..int },
            eight,
            Rounding { grouping: Grouping::Tile(128, 128), act_order: ActOrder::Static, ..eight },
            Rounding { scale_type: power, ..eight },
            nv,
            mx,
            Rounding { element: Element::E2m3, ..mx },
        ] {
            good.check().unwrap();
        }
        for (bad, words) in [
            (Rounding { grouping: Grouping::Tile(0, 4), ..int }, "0 rows"),
            (Rounding { scale_type: power, ..int }, "power-of-two"),
            (Rounding { symmetric: false, ..eight }, "symmetric"),
            (Rounding { scale_type: double, grouping: Grouping::Columns(16), ..eight }, "8-bit floats have scales"),
            (four, "4-bit floats have scales"),
            (
                Rounding { element: Element::E2m3, ..nv },
                "6-bit floats have scales as powers of two for 32 columns; got",
            ),
            (Rounding { grouping: Grouping::Columns(32), ..nv }, "got fp4 e2m1, groups of 32 with two-level scales"),
            (Rounding { grouping: Grouping::Columns(16), ..mx }, "got fp4 e2m1, groups of 16"),
            (Rounding { act_order: ActOrder::Group, ..mx }, "use actorder static"),
            (Rounding { act_order: ActOrder::Group, grouping: Grouping::Matrix, ..int }, "use actorder static"),
        ] {
            let text = bad.check().unwrap_err().to_string();
            assert!(text.contains(words) && text.lines().count() == 1, "{bad:?}: {text}");
        }
    }
}
