//! Schemes by the names that compressed-tensors and llm-compressor give them.

use crate::{Dynamic, Element, QuantArgs, ScaleType, Scheme, Strategy, layouts};

/// A scheme with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// As people write it; case does not matter.
    pub name: &'static str,
    /// The quantization of the weights; `None`: they stay as they are.
    pub weights: Option<QuantArgs>,
    /// The quantization of the linears' inputs as the model runs.
    pub input: Option<QuantArgs>,
}

const fn args(element: Element, strategy: Strategy, scale_type: ScaleType, dynamic: Dynamic) -> QuantArgs {
    QuantArgs {
        element,
        symmetric: true,
        strategy,
        scale_type,
        dynamic,
        actorder: None,
        float_zeros: false,
        second: None,
    }
}

const fn stored(element: Element, strategy: Strategy) -> Option<QuantArgs> {
    Some(args(element, strategy, ScaleType::Float, Dynamic::No))
}

const fn dynamic(element: Element, strategy: Strategy) -> Option<QuantArgs> {
    Some(args(element, strategy, ScaleType::Float, Dynamic::Yes))
}

const fn mx(element: Element, dynamic: Dynamic) -> Option<QuantArgs> {
    Some(args(element, Strategy::Group(32), ScaleType::Exponent, dynamic))
}

const fn nv(dynamic: Dynamic) -> Option<QuantArgs> {
    Some(args(Element::E2m1, Strategy::TensorGroup(16), ScaleType::E4m3, dynamic))
}

const fn preset(name: &'static str, weights: Option<QuantArgs>, input: Option<QuantArgs>) -> Preset {
    Preset { name, weights, input }
}

/// Integers of `bits` bits in groups of 128, without quantized activations (16) or with such of 8 or 4 bits by token.
const fn int(name: &'static str, bits: u32, input_bits: u32) -> Preset {
    let input = if input_bits < 16 { dynamic(Element::Int(input_bits), Strategy::Token) } else { None };
    preset(name, stored(Element::Int(bits), Strategy::Group(128)), input)
}

const fn int8(name: &'static str) -> Preset {
    let weights = stored(Element::Int(8), Strategy::Channel);
    preset(name, weights, dynamic(Element::Int(8), Strategy::Token))
}

/// Integers of 4 bits with zero points, in groups of 128.
const ASYMMETRIC: QuantArgs = QuantArgs {
    element: Element::Int(4),
    symmetric: false,
    strategy: Strategy::Group(128),
    scale_type: ScaleType::Float,
    dynamic: Dynamic::No,
    actorder: None,
    float_zeros: false,
    second: None,
};

/// Every name that compressed-tensors 0.20.1 knows, with its meaning there.
pub static PRESETS: &[Preset] = &[
    int("W4A16", 4, 16),
    preset("W4A16_ASYM", Some(ASYMMETRIC), None),
    int("W8A16", 8, 16),
    int("W2A16", 2, 16),
    int("W3A16", 3, 16),
    int("W5A16", 5, 16),
    int("W6A16", 6, 16),
    int("W7A16", 7, 16),
    int8("W8A8"),
    int8("INT8"),
    int("W4A8", 4, 8),
    int("W2A8", 2, 8),
    int("W3A8", 3, 8),
    int("W5A8", 5, 8),
    int("W6A8", 6, 8),
    int("W7A8", 7, 8),
    int("W2A4", 2, 4),
    int("W3A4", 3, 4),
    int("W4A4", 4, 4),
    preset("W4AFP8", stored(Element::Int(4), Strategy::Group(128)), dynamic(Element::E4m3, Strategy::Token)),
    preset("FP8", stored(Element::E4m3, Strategy::Tensor), stored(Element::E4m3, Strategy::Tensor)),
    preset("FP8_DYNAMIC", stored(Element::E4m3, Strategy::Channel), dynamic(Element::E4m3, Strategy::Token)),
    preset("FP8_BLOCK", stored(Element::E4m3, Strategy::Block(128, 128)), dynamic(Element::E4m3, Strategy::Group(128))),
    preset("NVFP4A16", nv(Dynamic::No), None),
    preset("NVFP4", nv(Dynamic::No), nv(Dynamic::Local)),
    preset("MXFP4A16", mx(Element::E2m1, Dynamic::No), None),
    preset("MXFP4", mx(Element::E2m1, Dynamic::No), mx(Element::E2m1, Dynamic::Yes)),
    preset("MXFP4XFP8", mx(Element::E2m1, Dynamic::No), dynamic(Element::E4m3, Strategy::Group(128))),
    preset("MXFP6A16", mx(Element::E2m3, Dynamic::No), None),
    preset("MXFP6A8", mx(Element::E2m3, Dynamic::No), mx(Element::E4m3, Dynamic::Yes)),
    preset("MXFP8A16", mx(Element::E4m3, Dynamic::No), None),
    preset("MXFP8", mx(Element::E4m3, Dynamic::No), mx(Element::E4m3, Dynamic::Yes)),
    preset("UNQUANTIZED", None, None),
];

impl Preset {
    /// The preset of this name, in any case.
    pub fn find(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
    }

    /// The scheme for these targets, in the layout that compressed-tensors infers.
    pub fn scheme(&self, targets: Vec<String>) -> Scheme {
        let (weights, input) = (self.weights.clone(), self.input.clone());
        let layout = layouts::inferred(weights.as_ref(), input.as_ref());
        Scheme { targets, format: layout.name().to_string(), weights, input, ..Scheme::dense() }
    }
}
