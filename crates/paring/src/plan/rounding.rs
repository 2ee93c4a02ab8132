//! What weights are rounded to.

use paring_format::{Dtype, Element, QuantArgs, ScaleType, Strategy};
use serde::Serialize;
use serde::ser::SerializeMap;

use super::ActOrder;
use crate::{Error, Result};

/// The grids that weights are rounded to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    /// What a code is; integers have 2 to 8 bits.
    pub element: Element,
    /// Which weights share a scale.
    pub strategy: Strategy,
    /// How scales are stored.
    pub scale_type: ScaleType,
    /// Zero point fixed in the middle.
    pub symmetric: bool,
    /// Search for the range with the least error.
    pub mse: bool,
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
            strategy: group_size.map_or(Strategy::Channel, Strategy::Group),
            scale_type: ScaleType::Float,
            symmetric: false,
            mse: false,
            static_groups: false,
            act_order: ActOrder::None,
        }
    }

    /// The rounding that a scheme's weights have.
    pub fn of(args: &QuantArgs) -> Rounding {
        let QuantArgs { element, symmetric, strategy, scale_type, .. } = *args;
        Rounding { element, strategy, scale_type, symmetric, ..Rounding::int(element.bits(), None) }
    }

    /// Columns of a row that share a scale; `None` for a whole row or more, or for blocks.
    pub fn group_size(&self) -> Option<usize> {
        match self.strategy {
            Strategy::Group(size) | Strategy::TensorGroup(size) => Some(size),
            _ => None,
        }
    }

    /// Whether the sweep visits columns in another order than the file's.
    pub fn reorders(&self) -> bool {
        self.act_order != ActOrder::None
    }

    /// Rows and columns of a `[rows, cols]` matrix that share a scale.
    pub fn tile(&self, rows: usize, cols: usize) -> [usize; 2] {
        match self.strategy {
            Strategy::Tensor => [rows, cols],
            Strategy::Block(height, width) => [height.min(rows), width.min(cols)],
            Strategy::Group(size) | Strategy::TensorGroup(size) => [1, size.min(cols)],
            Strategy::Channel | Strategy::Token | Strategy::Head => [1, cols],
        }
    }

    /// The float type of dequantized weights, where the model has `dtype`: what compressed-tensors decompresses to.
    pub fn dequantized(&self, dtype: Dtype) -> Dtype {
        if self.element == Element::E2m1 || self.scale_type != ScaleType::Float { Dtype::Bf16 } else { dtype }
    }

    /// The same as a config says it.
    pub fn args(&self) -> QuantArgs {
        QuantArgs {
            symmetric: self.symmetric,
            strategy: self.strategy,
            scale_type: self.scale_type,
            actorder: (self.act_order == ActOrder::Static).then(|| "static".into()),
            ..QuantArgs::new(self.element)
        }
    }

    /// Whether the choices go together.
    pub(super) fn check(&self) -> Result<()> {
        let fail = |text: String| Err(Error::Misuse(text));
        let integers = self.element.int_bits();
        if let Some(bits) = integers
            && !(2..=8).contains(&bits)
        {
            return fail(format!("--wbits {bits}: must be 2 to 8"));
        }
        if self.group_size() == Some(0) {
            return fail("--groupsize 0: must be at least 1, or -1 for whole rows".into());
        }
        if let Strategy::Block(height, width) = self.strategy
            && (height == 0 || width == 0)
        {
            return fail(format!("a block of {height} rows and {width} columns holds no weight"));
        }
        let name = self.element;
        let plain = |s| matches!(s, Strategy::Tensor | Strategy::Channel | Strategy::Group(_) | Strategy::Block(..));
        let known = match (self.element, self.scale_type, self.strategy) {
            (Element::Int(_) | Element::E4m3, ScaleType::Float, strategy) => plain(strategy),
            (Element::E4m3 | Element::E2m1, ScaleType::Exponent, Strategy::Group(32)) => true,
            (Element::E2m1, ScaleType::E4m3, Strategy::TensorGroup(16)) => true,
            _ => false,
        };
        if !known {
            let ways = match self.element {
                Element::Int(_) => "as floats of the model for a matrix, a row, a group or a block",
                Element::E4m3 => {
                    "as floats of the model for a matrix, a row, a group or a block, or as powers of two for 32 columns"
                }
                Element::E2m1 => "as 8-bit floats for 16 columns and one for all, or as powers of two for 32 columns",
            };
            return fail(format!("{name} have scales {ways}; got {}", self.args()));
        }
        if integers.is_none() && !self.symmetric {
            return fail(format!("{name} have no zero points: choose a symmetric grid"));
        }
        let ordered = integers.is_some() && matches!(self.strategy, Strategy::Group(_) | Strategy::Channel);
        if self.act_order == ActOrder::Group && !ordered {
            return fail(format!(
                "--actorder group is for integers in groups of columns, not for {}; use --actorder static",
                self.args()
            ));
        }
        Ok(())
    }
}

impl Serialize for Rounding {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let Rounding { mse, static_groups, act_order, .. } = self;
        let mut map = s.serialize_map(Some(4))?;
        map.serialize_entry("weights", &self.args().to_json())?;
        map.serialize_entry("mse", mse)?;
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
        let nv = Rounding { strategy: Strategy::TensorGroup(16), scale_type: double, ..four };
        let mx = Rounding { scale_type: power, ..four };
        for good in [
            int,
            Rounding { strategy: Strategy::Block(1, 7), ..int },
            Rounding { strategy: Strategy::Tensor, symmetric: false, ..int },
            Rounding { act_order: ActOrder::Group, ..int },
            eight,
            Rounding { strategy: Strategy::Block(128, 128), act_order: ActOrder::Static, ..eight },
            Rounding { scale_type: power, ..eight },
            nv,
            mx,
        ] {
            good.check().unwrap();
        }
        for (bad, words) in [
            (Rounding { strategy: Strategy::Block(0, 4), ..int }, "0 rows"),
            (Rounding { strategy: Strategy::Token, ..int }, "symmetric, tokens"),
            (Rounding { scale_type: power, ..int }, "powers of two"),
            (Rounding { symmetric: false, ..eight }, "symmetric"),
            (Rounding { scale_type: double, strategy: Strategy::TensorGroup(16), ..eight }, "8-bit floats have scales"),
            (four, "4-bit floats have scales"),
            (Rounding { strategy: Strategy::TensorGroup(32), ..nv }, "got fp4 e2m1, groups of 32 under one scale"),
            (Rounding { strategy: Strategy::Group(16), ..mx }, "got fp4 e2m1, groups of 16"),
            (Rounding { act_order: ActOrder::Group, ..mx }, "--actorder static"),
            (Rounding { act_order: ActOrder::Group, strategy: Strategy::Tensor, ..int }, "--actorder static"),
        ] {
            let text = bad.check().unwrap_err().to_string();
            assert!(text.contains(words) && text.lines().count() == 1, "{bad:?}: {text}");
        }
    }
}
