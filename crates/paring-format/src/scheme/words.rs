//! Quantization in words: the one wording of reports, tables and errors.

use std::fmt;

use crate::{Dynamic, Element, QuantArgs, ScaleType, Strategy};

/// The numbers that share a scale: `per row`, `groups of 128`.
impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strategy::Tensor => f.write_str("one scale"),
            Strategy::Channel => f.write_str("per row"),
            Strategy::Group(size) => write!(f, "groups of {size}"),
            Strategy::TensorGroup(size) => write!(f, "groups of {size} with two-level scales"),
            Strategy::Block(rows, cols) => write!(f, "blocks of {rows} by {cols}"),
            Strategy::Token => f.write_str("per token"),
            Strategy::Head => f.write_str("per head"),
        }
    }
}

/// Codes, what shares a scale, and any unusual setting: `4-bit, groups of 128, symmetric`; `fp8 e4m3, per token, dynamic`.
impl fmt::Display for QuantArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.element {
            Element::Int(bits) => write!(f, "{bits}-bit, {}", self.strategy)?,
            Element::E4m3 => write!(f, "fp8 e4m3, {}", self.strategy)?,
            Element::E2m3 => write!(f, "fp6 e2m3, {}", self.strategy)?,
            Element::E2m1 => write!(f, "fp4 e2m1, {}", self.strategy)?,
        }
        if self.element.int_bits().is_some() {
            f.write_str(if self.symmetric { ", symmetric" } else { ", asymmetric" })?;
        }
        f.write_str(match self.scale_type {
            ScaleType::Float | ScaleType::E4m3 => "",
            ScaleType::Exponent => ", power-of-two scales",
        })?;
        if self.float_zeros && self.second.is_none() {
            f.write_str(", fractional zero points")?;
        }
        if self.has_group_index() {
            f.write_str(", groups in activation order")?;
        }
        if self.second.is_some() {
            f.write_str(", scales and zero points quantized")?;
        }
        f.write_str(match self.dynamic {
            Dynamic::No => "",
            Dynamic::Yes => ", dynamic",
            Dynamic::Local => ", dynamic in groups",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecondLevel;

    #[test]
    fn each_choice_has_its_words() {
        let args = |element, strategy| QuantArgs { strategy, ..QuantArgs::new(element) };
        let int = args(Element::Int(4), Strategy::Group(128));
        let nvfp4 = QuantArgs { scale_type: ScaleType::E4m3, ..args(Element::E2m1, Strategy::TensorGroup(16)) };
        let second = Some(SecondLevel { scale_bits: Some(3), zero_bits: None, rows: 16 });
        let cases = [
            (int.clone(), "4-bit, groups of 128, symmetric"),
            (QuantArgs { symmetric: false, ..int.clone() }, "4-bit, groups of 128, asymmetric"),
            (
                QuantArgs { symmetric: false, float_zeros: true, ..int.clone() },
                "4-bit, groups of 128, asymmetric, fractional zero points",
            ),
            (
                QuantArgs { actorder: Some("group".into()), ..int.clone() },
                "4-bit, groups of 128, symmetric, groups in activation order",
            ),
            // Columns were only visited in another order, which nobody sees.
            (QuantArgs { actorder: Some("static".into()), ..int.clone() }, "4-bit, groups of 128, symmetric"),
            (
                QuantArgs { symmetric: false, float_zeros: true, second, ..int },
                "4-bit, groups of 128, asymmetric, scales and zero points quantized",
            ),
            (args(Element::E4m3, Strategy::Block(128, 64)), "fp8 e4m3, blocks of 128 by 64"),
            (nvfp4.clone(), "fp4 e2m1, groups of 16 with two-level scales"),
            (
                QuantArgs { dynamic: Dynamic::Local, ..nvfp4 },
                "fp4 e2m1, groups of 16 with two-level scales, dynamic in groups",
            ),
            (
                QuantArgs { scale_type: ScaleType::Exponent, ..args(Element::E2m1, Strategy::Group(32)) },
                "fp4 e2m1, groups of 32, power-of-two scales",
            ),
            (
                QuantArgs { scale_type: ScaleType::Exponent, ..args(Element::E2m3, Strategy::Group(32)) },
                "fp6 e2m3, groups of 32, power-of-two scales",
            ),
            (
                QuantArgs { dynamic: Dynamic::Yes, ..args(Element::E4m3, Strategy::Token) },
                "fp8 e4m3, per token, dynamic",
            ),
            (args(Element::E4m3, Strategy::Tensor), "fp8 e4m3, one scale"),
            (args(Element::E4m3, Strategy::Head), "fp8 e4m3, per head"),
            (args(Element::Int(8), Strategy::Channel), "8-bit, per row, symmetric"),
        ];
        for (args, words) in cases {
            assert_eq!(args.to_string(), words);
        }
    }

    #[test]
    fn elements_have_names_for_sentences() {
        let names = [Element::Int(4), Element::E4m3, Element::E2m3, Element::E2m1].map(|e| e.to_string());
        assert_eq!(names, ["4-bit integers", "8-bit floats", "6-bit floats", "4-bit floats"]);
    }
}
