//! What runs a scheme: transformers 5.17 with compressed-tensors 0.19, and the kernels of vLLM 0.33.
//!
//! The table was made by running the first and reading the second. It is about formats and kernels, not about models: both
//! programs must know the architecture too.

use paring_format::config::inferred;
use paring_format::{Dtype, Dynamic, Element, PRESETS, QuantArgs, ScaleType, Scheme, Strategy};

/// A program that loads checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// transformers 5.17 with compressed-tensors 0.19.
    Transformers,
    /// vLLM 0.33.
    Vllm,
}

/// Whether a program runs something.
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

/// Sizes of groups, 0 for whole rows.
enum Groups {
    Of(&'static [usize]),
    MultiplesOf(usize),
    /// These multiples, but not whole rows.
    Only(usize),
}

/// A kernel of vLLM for packed integers with activations in floats.
struct Kernel {
    name: &'static str,
    bits: &'static [u32],
    /// Whether it takes zero points.
    zeros: bool,
    groups: Groups,
    /// Whether it takes f16 and no other.
    f16: bool,
    /// What rows and columns must be multiples of.
    multiples: (usize, usize),
    /// Whether everybody with such a device has it.
    common: bool,
}

const fn kernel(name: &'static str, bits: &'static [u32], zeros: bool, groups: Groups) -> Kernel {
    Kernel { name, bits, zeros, groups, f16: false, multiples: (1, 1), common: true }
}

const KERNELS: [Kernel; 10] = [
    kernel("Marlin (sm75+)", &[4], true, Groups::Of(&[0, 32, 64, 128])),
    kernel("Marlin (sm75+)", &[8], false, Groups::Of(&[0, 32, 64, 128])),
    Kernel {
        multiples: (128, 64),
        common: false,
        ..kernel("Machete (sm90)", &[4, 8], true, Groups::Of(&[0, 64, 128]))
    },
    Kernel { multiples: (8, 1), ..kernel("Triton", &[4], true, Groups::Of(&[0, 32, 64, 128, 256])) },
    Kernel {
        multiples: (8, 1),
        f16: true,
        common: false,
        ..kernel("Exllama (f16)", &[4, 8], false, Groups::MultiplesOf(1))
    },
    Kernel { common: false, ..kernel("ROCm", &[4], true, Groups::Only(32)) },
    Kernel { multiples: (32, 32), common: false, ..kernel("CPU", &[4], true, Groups::MultiplesOf(2)) },
    Kernel { common: false, ..kernel("XPU", &[4], true, Groups::MultiplesOf(32)) },
    Kernel { common: false, ..kernel("Conch (a package)", &[4, 8], true, Groups::Of(&[0, 128])) },
    Kernel {
        common: false,
        ..kernel("Humming (a package, sm75+)", &[2, 3, 4, 5, 6, 7, 8], true, Groups::MultiplesOf(1))
    },
];

/// Linears that vLLM keeps in one, by the last part of their names: they must have the same scheme, and one global scale
/// where there is such (NVFP4).
pub const FUSED: [&[&str]; 2] = [&["q_proj", "k_proj", "v_proj"], &["gate_proj", "up_proj"]];

/// What loads everywhere.
const SAFE: &str = "--scheme W4A16, or --wbits 4 --sym with --groupsize 32, 64 or 128";

impl Kernel {
    fn takes(&self, weights: &QuantArgs, linears: &Linears) -> bool {
        let size = match weights.strategy {
            Strategy::Channel => 0,
            Strategy::Group(size) => size,
            _ => return false,
        };
        let (rows, cols) = self.multiples;
        let group = match self.groups {
            Groups::Of(sizes) => sizes.contains(&size),
            Groups::MultiplesOf(step) => size.is_multiple_of(step),
            Groups::Only(step) => size > 0 && size.is_multiple_of(step),
        };
        weights.element.int_bits().is_some_and(|bits| self.bits.contains(&bits))
            && (weights.symmetric || self.zeros)
            && group
            && (!self.f16 || linears.dtype.is_none_or(|dtype| dtype == Dtype::F16))
            && linears.shapes.iter().all(|(r, c)| r.is_multiple_of(rows) && c.is_multiple_of(cols))
    }
}

/// The layout of a scheme when nobody names one: what compressed-tensors infers, but that integers which serve only where
/// kernels unpack them are packed.
pub fn usual_format(weights: &QuantArgs, input: Option<&QuantArgs>) -> &'static str {
    match (weights.element, input.map(|input| input.element)) {
        (Element::Int(8), _) | (Element::Int(4), Some(Element::Int(8))) => inferred(Some(weights), input),
        (Element::Int(_), _) => inferred(Some(weights), None),
        _ => inferred(Some(weights), input),
    }
}

/// Whether a program runs linears with this scheme.
pub fn verdict(loader: Loader, scheme: &Scheme, linears: &Linears) -> Verdict {
    match loader {
        Loader::Transformers => transformers(scheme, linears),
        Loader::Vllm => vllm(scheme, linears),
    }
}

/// What to choose instead, in words.
pub fn instead(scheme: &Scheme) -> &'static str {
    match &scheme.weights {
        _ if scheme.format.ends_with("spqr") => "`paring decompress`, which makes a plain model of the output",
        Some(weights) if weights.element == Element::Int(8) && scheme.input.is_some() => "--scheme W8A8",
        Some(weights) if weights.element == Element::Int(8) => "--wbits 8 --sym with --groupsize -1, 32, 64 or 128",
        Some(weights) if weights.element == Element::E4m3 => "--scheme FP8_DYNAMIC",
        _ => SAFE,
    }
}

fn transformers(scheme: &Scheme, linears: &Linears) -> Verdict {
    let refused = |text: &str| Verdict::Refused(text.into());
    let is_packed =
        ["pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized"].contains(&scheme.format.as_str());
    match (scheme.format.as_str(), &scheme.weights) {
        ("dense", _) => Verdict::Runs("as plain weights".into()),
        ("paring-spqr", _) => refused("no kernel for SpQR"),
        ("spqr", _) => Verdict::Limited("releases that still run spqr_quant, on CUDA; 5.17 does not".into()),
        ("sparse-bitmask" | "sparse-24-bitmask" | "marlin-24", _) => {
            refused("compressed-tensors dropped this layout in its release 0.15")
        }
        _ if is_packed && linears.model_type == Some("falcon") => {
            refused("its Falcon sets up weights that packed linears do not have")
        }
        (_, Some(weights)) if weights.scale_type != ScaleType::Float => match linears.dtype {
            None | Some(Dtype::Bf16) => Verdict::Runs("bfloat16 models, unpacked to floats".into()),
            Some(dtype) => Verdict::Refused(format!("it unpacks such weights to BF16, and the model is {dtype}")),
        },
        _ => Verdict::Runs("unpacked to floats".into()),
    }
}

fn vllm(scheme: &Scheme, linears: &Linears) -> Verdict {
    let refused = |text: &str| Verdict::Refused(text.into());
    let runs = |text: &str| Verdict::Runs(text.into());
    let limited = |text: &str| Verdict::Limited(text.into());
    let Some(weights) = &scheme.weights else {
        return match scheme.format.as_str() {
            "dense" => runs("as plain weights"),
            _ => refused("it dropped this layout"),
        };
    };
    let input = scheme.input.as_ref();
    match (scheme.format.as_str(), input) {
        ("dense", _) => runs("as plain weights"),
        ("paring-spqr" | "spqr", _) => refused("no kernel for SpQR"),
        ("sparse-bitmask" | "sparse-24-bitmask" | "marlin-24", _) => refused("it dropped this layout"),
        ("pack-quantized", None) => packed(weights, linears),
        ("pack-quantized", Some(input)) if input.element == Element::E4m3 => {
            let group =
                weights.element == Element::Int(4) && weights.symmetric && weights.strategy == Strategy::Group(128);
            let fits = linears.shapes.iter().all(|(r, c)| r.is_multiple_of(128) && c.is_multiple_of(128));
            let bf16 = linears.dtype.is_none_or(|dtype| dtype == Dtype::Bf16);
            match group && fits && bf16 {
                true => limited("sm90"),
                false => refused(
                    "4-bit integers with 8-bit floats need symmetric groups of 128, sizes in multiples of 128 and BF16",
                ),
            }
        }
        ("pack-quantized", Some(_)) => limited("Humming (a package, sm75+)"),
        ("int-quantized" | "naive-quantized", None) if weights.element.int_bits().is_some() => {
            refused("it reads integers without quantized inputs in pack-quantized only")
        }
        ("int-quantized", Some(input)) if weights.element == Element::Int(8) && input.element == Element::Int(8) => {
            match (weights.symmetric, weights.strategy) {
                (false, _) => refused("8-bit weights with 8-bit inputs must be symmetric"),
                (true, Strategy::Channel | Strategy::Tensor) => runs("sm75+ (Cutlass, Triton), CPU"),
                (true, _) => refused("8-bit weights with 8-bit inputs have one scale a row or tensor"),
            }
        }
        ("int-quantized", Some(_)) => match weights.symmetric && weights.element == Element::Int(4) {
            true => limited("CPU and XPU; on CUDA Humming (a package)"),
            false => refused("it has no kernel for such integers with quantized inputs"),
        },
        ("float-quantized" | "naive-quantized", input) => match (weights.strategy, input) {
            (Strategy::Group(_), _) => refused("8-bit floats in groups are for the MX formats"),
            (Strategy::Block(128, 128) | Strategy::Tensor | Strategy::Channel, None) => runs("sm75+ (Marlin)"),
            (Strategy::Block(128, 128) | Strategy::Tensor | Strategy::Channel, Some(_)) => {
                runs("sm89+; without quantized inputs sm75+ (Marlin)")
            }
            _ => limited("blocks of 128 by 128 are what its kernels have"),
        },
        ("nvfp4-pack-quantized", None) => runs("sm75+ (Marlin)"),
        ("nvfp4-pack-quantized", Some(_)) => runs("sm100+; without quantized inputs sm75+ (Marlin)"),
        ("mxfp4-pack-quantized", None) => runs("sm80+"),
        ("mxfp4-pack-quantized", Some(_)) => runs("sm100+; without quantized inputs sm80+"),
        ("mxfp8-quantized", None) => runs("sm75+ (Marlin or emulation)"),
        ("mxfp8-quantized", Some(_)) => runs("sm100+; emulation sm75+"),
        (other, _) => Verdict::Refused(format!("it does not know the layout {other}")),
    }
}

/// Packed integers, activations in floats.
fn packed(weights: &QuantArgs, linears: &Linears) -> Verdict {
    if weights.strategy == Strategy::Tensor {
        return Verdict::Refused("packed integers have a scale a row or a group there".into());
    }
    let taking: Vec<&Kernel> = KERNELS.iter().filter(|kernel| kernel.takes(weights, linears)).collect();
    let names = taking.iter().map(|kernel| kernel.name).collect::<Vec<_>>().join(", ");
    match taking.iter().any(|kernel| kernel.common) {
        true => Verdict::Runs(names),
        false => Verdict::Limited(names),
    }
}

/// Quantization in a few words.
pub fn describe(args: &QuantArgs) -> String {
    let element = match (args.element, args.scale_type) {
        (Element::Int(bits), _) => format!("int{bits}"),
        (Element::E4m3, _) => "fp8".to_string(),
        (Element::E2m1, _) => "fp4".to_string(),
    };
    let shared = match args.strategy {
        Strategy::Tensor => "tensor".to_string(),
        Strategy::Channel => "row".to_string(),
        Strategy::Group(size) | Strategy::TensorGroup(size) => format!("group of {size}"),
        Strategy::Block(rows, cols) => format!("block of {rows} x {cols}"),
        Strategy::Token => "token".to_string(),
        Strategy::Head => "head".to_string(),
    };
    let zeros = if args.symmetric { "" } else { ", zero points" };
    let scales = match args.scale_type {
        ScaleType::Float => "",
        ScaleType::E4m3 => ", fp8 scales",
        ScaleType::Exponent => ", powers of two",
    };
    let dynamic = match args.dynamic {
        Dynamic::No => "",
        Dynamic::Yes | Dynamic::Local => ", dynamic",
    };
    format!("{element}, a {shared}{zeros}{scales}{dynamic}")
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
    /// Where transformers runs it.
    pub transformers: String,
    /// Where vLLM does.
    pub vllm: String,
}

/// What [`PRESETS`] are and what runs them.
pub fn table() -> Vec<Row> {
    let row = |preset: &'static paring_format::Preset| {
        let weights = preset.weights.as_ref()?;
        let format = usual_format(weights, preset.input.as_ref());
        let scheme = Scheme { format: format.into(), ..preset.scheme(vec!["Linear".into()]) };
        let words = |loader| match verdict(loader, &scheme, &Linears::ANY) {
            Verdict::Runs(on) => on,
            Verdict::Limited(on) => format!("only {on}"),
            Verdict::Refused(why) => format!("no: {why}"),
        };
        Some(Row {
            scheme: preset.name,
            weights: describe(weights),
            inputs: preset.input.as_ref().map_or_else(|| "floats".to_string(), describe),
            format,
            transformers: words(Loader::Transformers),
            vllm: words(Loader::Vllm),
        })
    };
    PRESETS.iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests;
