//! The programs that run each layout: a row for each, whatever its scheme says besides.

use paring_format::{Dtype, Element, QuantArgs, ScaleType, Scheme, Strategy};

use super::kernels::packed;
use super::{Linears, Loader, Verdict};

/// A loader's verdict on linears of some shapes with this quantization.
type Answer = fn(&Quantized) -> Verdict;

/// Linears in one layout, as both programs ask about them.
pub(super) struct Quantized<'a> {
    pub(super) weights: Option<&'a QuantArgs>,
    pub(super) input: Option<&'a QuantArgs>,
    pub(super) linears: &'a Linears<'a>,
}

/// A layout with the answers of transformers and of vLLM.
pub(super) struct Support {
    pub(super) layout: &'static str,
    transformers: Answer,
    vllm: Answer,
}

impl Support {
    /// The verdict of `loader` on linears in this layout.
    pub(super) fn verdict(&self, loader: Loader, scheme: &Scheme, linears: &Linears) -> Verdict {
        let asked = Quantized { weights: scheme.weights.as_ref(), input: scheme.input.as_ref(), linears };
        match loader {
            Loader::Transformers => (self.transformers)(&asked),
            Loader::Vllm => (self.vllm)(&asked),
        }
    }
}

/// Every layout of [`paring_format::LAYOUTS`], in its order.
pub(super) const SUPPORT: [Support; 13] = [
    Support { layout: "dense", transformers: plain, vllm: plain },
    Support { layout: "int-quantized", transformers: unpacked, vllm: vllm_integers },
    Support { layout: "float-quantized", transformers: unpacked, vllm: vllm_floats },
    Support { layout: "naive-quantized", transformers: unpacked, vllm: vllm_naive },
    Support { layout: "pack-quantized", transformers: unpacked_words, vllm: vllm_packed },
    Support { layout: "nvfp4-pack-quantized", transformers: unpacked_words, vllm: vllm_nvfp4 },
    Support { layout: "mxfp4-pack-quantized", transformers: unpacked_words, vllm: vllm_mxfp4 },
    Support { layout: "mxfp8-quantized", transformers: unpacked, vllm: vllm_mxfp8 },
    Support { layout: "paring-spqr", transformers: no_spqr, vllm: no_spqr },
    Support { layout: "spqr", transformers: transformers_spqr, vllm: no_spqr },
    Support { layout: "sparse-bitmask", transformers: transformers_dropped, vllm: vllm_dropped },
    Support { layout: "sparse-24-bitmask", transformers: transformers_dropped, vllm: vllm_dropped },
    Support { layout: "marlin-24", transformers: transformers_dropped, vllm: vllm_dropped },
];

fn runs(on: &str) -> Verdict {
    Verdict::Runs(on.into())
}

fn limited(on: &str) -> Verdict {
    Verdict::Limited(on.into())
}

fn refused(why: &str) -> Verdict {
    Verdict::Refused(why.into())
}

fn plain(_: &Quantized) -> Verdict {
    runs("as plain weights")
}

fn no_spqr(_: &Quantized) -> Verdict {
    refused("no kernel for SpQR")
}

fn transformers_spqr(_: &Quantized) -> Verdict {
    limited("releases that still run spqr_quant, on CUDA; 5.17 does not")
}

fn transformers_dropped(_: &Quantized) -> Verdict {
    refused("compressed-tensors dropped this layout in its release 0.15")
}

fn vllm_dropped(_: &Quantized) -> Verdict {
    refused("it dropped this layout")
}

/// transformers decompresses weights when it loads them.
fn unpacked(asked: &Quantized) -> Verdict {
    match (asked.weights, asked.linears.dtype) {
        (Some(weights), dtype) if weights.scale_type != ScaleType::Float => match dtype {
            None | Some(Dtype::Bf16) => runs("bfloat16 models, unpacked to floats"),
            Some(dtype) => refused(&format!("it unpacks such weights to BF16, and the model is {dtype}")),
        },
        _ => runs("unpacked to floats"),
    }
}

/// Tells whether weights in words have zero points, which are packed too.
pub(super) fn has_packed_zeros(weights: Option<&QuantArgs>) -> bool {
    weights.is_some_and(|weights| weights.element.int_bits().is_some() && !weights.symmetric)
}

/// The same of codes that share words or bytes.
fn unpacked_words(asked: &Quantized) -> Verdict {
    match asked.linears.model_type {
        Some("falcon") => refused("its Falcon sets up weights that packed linears do not have"),
        _ if has_packed_zeros(asked.weights) => limited(
            "this release, with compressed-tensors 0.19; 5.24 with compressed-tensors 0.20.1 stops at MISMATCH weight_zero_point, unless it is \
             loaded with dequantize=True",
        ),
        _ => unpacked(asked),
    }
}

fn vllm_integers(asked: &Quantized) -> Verdict {
    let (Some(weights), Some(input)) = (asked.weights, asked.input) else {
        return refused("it reads integers without quantized inputs in pack-quantized only");
    };
    if weights.element == Element::Int(8) && input.element == Element::Int(8) {
        return match (weights.symmetric, weights.strategy) {
            (false, _) => refused("8-bit weights with 8-bit inputs must be symmetric"),
            (true, Strategy::Channel | Strategy::Tensor) => runs("sm75+ (Cutlass, Triton), CPU"),
            (true, _) => refused("8-bit weights with 8-bit inputs have one scale a row or tensor"),
        };
    }
    match weights.symmetric && weights.element == Element::Int(4) {
        true => limited("CPU and XPU; on CUDA Humming (a package)"),
        false => refused("it has no kernel for such integers with quantized inputs"),
    }
}

fn vllm_floats(asked: &Quantized) -> Verdict {
    let Some(weights) = asked.weights else { return vllm_dropped(asked) };
    match (weights.strategy, asked.input) {
        (Strategy::Group(_), _) => refused("8-bit floats in groups are for the MX formats"),
        (Strategy::Block(128, 128) | Strategy::Tensor | Strategy::Channel, None) => runs("sm75+ (Marlin)"),
        (Strategy::Block(128, 128) | Strategy::Tensor | Strategy::Channel, Some(_)) => {
            runs("sm89+; without quantized inputs sm75+ (Marlin)")
        }
        _ => limited("blocks of 128 by 128 are what its kernels have"),
    }
}

fn vllm_naive(asked: &Quantized) -> Verdict {
    let integers = asked.weights.is_some_and(|weights| weights.element.int_bits().is_some());
    if integers && asked.input.is_none() { vllm_integers(asked) } else { vllm_floats(asked) }
}

fn vllm_packed(asked: &Quantized) -> Verdict {
    let Some(weights) = asked.weights else { return vllm_dropped(asked) };
    match asked.input {
        None => packed(weights, asked.linears),
        Some(input) if input.element == Element::E4m3 => {
            let group =
                weights.element == Element::Int(4) && weights.symmetric && weights.strategy == Strategy::Group(128);
            let fits = asked.linears.shapes.iter().all(|(r, c)| r.is_multiple_of(128) && c.is_multiple_of(128));
            let bf16 = asked.linears.dtype.is_none_or(|dtype| dtype == Dtype::Bf16);
            match group && fits && bf16 {
                true => limited("sm90"),
                false => refused(
                    "4-bit integers with 8-bit floats need symmetric groups of 128, sizes in multiples of 128 and BF16",
                ),
            }
        }
        Some(_) => limited("Humming (a package, sm75+)"),
    }
}

fn vllm_nvfp4(asked: &Quantized) -> Verdict {
    match asked.input {
        None => runs("sm75+ (Marlin)"),
        Some(_) => runs("sm100+; without quantized inputs sm75+ (Marlin)"),
    }
}

fn vllm_mxfp4(asked: &Quantized) -> Verdict {
    match asked.input {
        None => runs("sm80+"),
        Some(_) => runs("sm100+; without quantized inputs sm80+"),
    }
}

fn vllm_mxfp8(asked: &Quantized) -> Verdict {
    match asked.input {
        None => runs("sm75+ (Marlin or emulation)"),
        Some(_) => runs("sm100+; emulation sm75+"),
    }
}
