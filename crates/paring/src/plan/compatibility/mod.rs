//! Loaders of a scheme: transformers with compressed-tensors, and the kernels of vLLM.
//!
//! The table was made by running the first and reading the second. It is about formats and kernels, not about models: both
//! programs must know the architecture too.

mod kernels;
mod layouts;

use std::fmt;

use paring_format::layouts::{inferred, layout};
use paring_format::message;
use paring_format::message::Message;
use paring_format::{Dtype, Element, Layout, PRESETS, Preset, QuantArgs, Scheme};

use super::Opt;
use layouts::{NO_SPQR, SUPPORT, has_packed_zeros};

/// The release of transformers that the table is about, with compressed-tensors [`paring_format::config::VERSION`].
pub const TRANSFORMERS: &str = "transformers 5.24";

/// The release of vLLM that the table is about.
pub const VLLM: &str = "vLLM 0.33";

/// A program that loads checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// [`TRANSFORMERS`].
    Transformers,
    /// [`VLLM`].
    Vllm,
}

/// The condition under which transformers runs what its kernels do not: it makes plain weights of the codes as it loads them.
pub const DEQUANTIZED: &str = "with dequantize=True";

impl Loader {
    /// All of them.
    pub const ALL: [Loader; 2] = [Loader::Transformers, Loader::Vllm];

    /// Its release, and that of what it needs.
    pub fn releases(self) -> &'static str {
        match self {
            Loader::Transformers => "transformers 5.24 with compressed-tensors 0.20.1",
            Loader::Vllm => VLLM,
        }
    }

    /// The program with the release that was looked at.
    pub fn name(self) -> &'static str {
        match self {
            Loader::Transformers => TRANSFORMERS,
            Loader::Vllm => VLLM,
        }
    }
}

/// Verdict of a loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does; on what.
    Runs(String),
    /// Only somewhere or somehow, in words that follow "only".
    Limited(String),
    /// It does not; why.
    Refused(String),
}

impl Verdict {
    /// The one of these that limits most.
    pub(crate) fn worst(verdicts: impl Iterator<Item = Verdict>) -> Option<Verdict> {
        verdicts.max_by_key(|verdict| match verdict {
            Verdict::Runs(_) => 0,
            Verdict::Limited(_) => 1,
            Verdict::Refused(_) => 2,
        })
    }
}

/// In a cell of a table.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Runs(on) => write!(f, "{on}"),
            Verdict::Limited(only) => write!(f, "only {only}"),
            Verdict::Refused(why) => write!(f, "no: {why}"),
        }
    }
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

/// Notes on programs that do not run linears with this scheme, or not everywhere; none when both run all of them.
pub fn notes(scheme: &Scheme, linears: &Linears) -> Vec<Message> {
    if layout(&scheme.format).is_some_and(|layout| layout.holds().spqr) {
        return vec![format!("{NO_SPQR}; `paring decompress` turns the result into a normal model").into()];
    }
    // What both say alike is said once.
    let mut said: Vec<(Vec<&str>, Verdict, Message)> = Vec::new();
    for loader in Loader::ALL {
        let verdict = verdict(loader, scheme, linears);
        match said.iter_mut().find(|(_, other, _)| *other == verdict) {
            _ if matches!(verdict, Verdict::Runs(_)) => {}
            Some((names, ..)) => names.push(loader.name()),
            None => said.push((vec![loader.name()], verdict, instead(loader, scheme))),
        }
    }
    // What one option mends comes last.
    said.sort_by_key(|(.., instead)| *instead == mended());
    let line = |(names, verdict, instead): (Vec<&str>, Verdict, Message)| {
        let (programs, format) = (names.join(" and "), words(scheme));
        let text = match verdict {
            Verdict::Runs(_) => return None,
            Verdict::Limited(only) if names.len() == 1 => {
                format!("{programs} runs this format ({format}) only {only}. ")
            }
            Verdict::Limited(only) => format!("{programs} run this format ({format}) only {only}. "),
            Verdict::Refused(why) => format!("{programs} cannot run this format ({format}): {why}. "),
        };
        Some(message![text].then(instead))
    };
    said.into_iter().filter_map(line).collect()
}

/// A scheme in words, with its inputs if these are quantized.
pub fn words(scheme: &Scheme) -> String {
    let weights = scheme.weights.as_ref().map_or_else(|| scheme.format.clone(), ToString::to_string);
    let input = scheme.input.as_ref().map(|input| format!("; inputs {input}")).unwrap_or_default();
    format!("{weights}{input}")
}

/// The advice where zero points are the only hindrance.
fn mended() -> Message {
    message!["To avoid this: ", Opt::Sym]
}

/// The options to choose instead, for a program that does not run the scheme everywhere.
fn instead(loader: Loader, scheme: &Scheme) -> Message {
    // Words that have no zero points are read.
    if loader == Loader::Transformers && scheme.format == "pack-quantized" && has_packed_zeros(scheme.weights.as_ref())
    {
        return mended();
    }
    let named = |name: &str| message!["For wide support: ", Opt::Scheme.with(name)];
    match &scheme.weights {
        Some(weights) if weights.element == Element::Int(8) && scheme.input.is_some() => named("W8A8"),
        Some(weights) if weights.element == Element::Int(8) => named("W8A16"),
        Some(weights) if weights.element == Element::E4m3 => named("FP8_DYNAMIC"),
        _ => named("W4A16"),
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
        let words = |loader| verdict(loader, &scheme, &Linears::ANY).to_string();
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
