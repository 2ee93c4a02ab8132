//! Loaders of a scheme: transformers 5.17 with compressed-tensors 0.19, and the kernels of vLLM 0.33.
//!
//! The table was made by running the first and reading the second; where transformers 5.24 with compressed-tensors 0.20.1 does
//! something else, it says so. It is about formats and kernels, not about models: both
//! programs must know the architecture too.

mod kernels;
mod layouts;

use paring_format::layouts::{inferred, layout};
use paring_format::message;
use paring_format::message::Message;
use paring_format::{Dtype, Element, Layout, PRESETS, Preset, QuantArgs, Scheme};

use super::Opt;
use layouts::{SUPPORT, has_packed_zeros};

/// A program that loads checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// transformers 5.17 with compressed-tensors 0.19.
    Transformers,
    /// vLLM 0.33.
    Vllm,
}

/// Verdict of a loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does; on what.
    Runs(String),
    /// Only in some places; in which.
    Limited(String),
    /// It does not; why.
    Refused(String),
}

/// Linears that share a scheme, as far as kernels must know.
#[derive(Clone, Copy, Debug)]
pub struct Linears<'a> {
    /// The type of the model's floats; `None`: any.
    pub dtype: Option<Dtype>,
    /// `model_type` of the model's config; `None`: any.
    pub model_type: Option<&'a str>,
    /// Rows and columns of each.
    pub shapes: &'a [(usize, usize)],
}

impl Linears<'_> {
    /// Those of no model in particular.
    pub const ANY: Linears<'static> = Linears { dtype: None, model_type: None, shapes: &[] };
}

/// The layout of a scheme when nobody names one: what compressed-tensors infers, but that integers which serve only where
/// kernels unpack them are packed.
pub fn usual_layout(weights: &QuantArgs, input: Option<&QuantArgs>) -> &'static dyn Layout {
    match (weights.element, input.map(|input| input.element)) {
        (Element::Int(8), _) | (Element::Int(4), Some(Element::Int(8))) => inferred(Some(weights), input),
        (Element::Int(_), _) => inferred(Some(weights), None),
        _ => inferred(Some(weights), input),
    }
}

/// Tells whether a program runs linears with this scheme.
pub fn verdict(loader: Loader, scheme: &Scheme, linears: &Linears) -> Verdict {
    match SUPPORT.iter().find(|support| support.layout == scheme.format) {
        Some(support) => support.verdict(loader, scheme, linears),
        None => Verdict::Refused(format!("it does not know the layout {}", scheme.format)),
    }
}

/// The options to choose instead, for a program that does not run the scheme everywhere.
pub fn instead(loader: Loader, scheme: &Scheme) -> Message {
    // Words that have no zero points are read.
    if loader == Loader::Transformers && scheme.format == "pack-quantized" && has_packed_zeros(scheme.weights.as_ref())
    {
        return Opt::Sym.into();
    }
    let integers =
        |bits: u32, sizes: &str| message![Opt::Wbits.with(bits), " ", Opt::Sym, " with ", Opt::GroupSize.with(sizes)];
    match &scheme.weights {
        _ if layout(&scheme.format).is_some_and(|layout| layout.holds().spqr) => {
            "`paring decompress`, which makes a plain model of the output".into()
        }
        Some(weights) if weights.element == Element::Int(8) && scheme.input.is_some() => {
            Opt::Scheme.with("W8A8").into()
        }
        Some(weights) if weights.element == Element::Int(8) => integers(8, "-1, 32, 64 or 128"),
        Some(weights) if weights.element == Element::E4m3 => Opt::Scheme.with("FP8_DYNAMIC").into(),
        // Loads everywhere.
        _ => message![Opt::Scheme.with("W4A16"), ", or "].then(integers(4, "32, 64 or 128")),
    }
}

/// A row of the table of schemes.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Row {
    /// The scheme.
    pub scheme: &'static str,
    /// Its weights.
    pub weights: String,
    /// The inputs of its linears.
    pub inputs: String,
    /// The layout it is written in.
    pub format: &'static str,
    /// Verdict of transformers, in words.
    pub transformers: String,
    /// Verdict of vLLM, in words.
    pub vllm: String,
}

/// Lists [`PRESETS`] with their loaders.
pub fn table() -> Vec<Row> {
    let row = |preset: &'static Preset| {
        let weights = preset.weights.as_ref()?;
        let format = usual_layout(weights, preset.input.as_ref()).name();
        let scheme = Scheme { format: format.into(), ..preset.scheme(vec!["Linear".into()]) };
        let words = |loader| match verdict(loader, &scheme, &Linears::ANY) {
            Verdict::Runs(on) => on,
            Verdict::Limited(on) => format!("only {on}"),
            Verdict::Refused(why) => format!("no: {why}"),
        };
        Some(Row {
            scheme: preset.name,
            weights: weights.to_string(),
            inputs: preset.input.as_ref().map_or_else(|| "floats".to_string(), QuantArgs::to_string),
            format,
            transformers: words(Loader::Transformers),
            vllm: words(Loader::Vllm),
        })
    };
    PRESETS.iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests;
