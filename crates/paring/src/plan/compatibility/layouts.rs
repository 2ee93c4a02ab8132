//! The programs that run each layout: a row for each, whatever its scheme says besides.

use paring_format::{Dtype, Element, QuantArgs, ScaleType, Scheme, Strategy};

use super::kernels::{HUMMING_ALONE, humming_takes, packed};
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
        if scheme.weights.as_ref().is_some_and(QuantArgs::has_group_index) {
            return refused("groups in the order of visit were dropped by both programs");
        }
        let asked = Quantized { weights: scheme.weights.as_ref(), input: scheme.input.as_ref(), linears };
        match loader {
            Loader::Transformers => (self.transformers)(&asked),
            Loader::Vllm => (self.vllm)(&asked),
        }
    }
}

/// Every layout of [`paring_format::LAYOUTS`], in its order.
pub(super) const SUPPORT: [Support; 14] = [
    Support { layout: "dense", transformers: plain, vllm: plain },
    Support { layout: "int-quantized", transformers: decompressed, vllm: vllm_integers },
    Support { layout: "float-quantized", transformers: decompressed, vllm: vllm_floats },
    Support { layout: "naive-quantized", transformers: decompressed, vllm: vllm_naive },
    Support { layout: "pack-quantized", transformers: decompressed_words, vllm: vllm_packed },
    Support { layout: "nvfp4-pack-quantized", transformers: decompressed_words, vllm: vllm_nvfp4 },
    Support { layout: "mxfp4-pack-quantized", transformers: decompressed_words, vllm: vllm_mxfp4 },
    Support { layout: "mxfp6-pack-quantized", transformers: decompressed_words, vllm: no_mxfp6 },
    Support { layout: "mxfp8-quantized", transformers: decompressed, vllm: vllm_mxfp8 },
    Support { layout: "paring-spqr", transformers: no_spqr, vllm: no_spqr },
    Support { layout: "spqr", transformers: no_spqr, vllm: no_spqr },
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
    runs("as ordinary weights")
}

/// The verdict of every program but this one: the releases of transformers that ran the package spqr_quant are old.
pub(super) const NO_SPQR: &str = "only paring can run SpQR files";

fn no_spqr(_: &Quantized) -> Verdict {
    refused(NO_SPQR)
}

fn transformers_dropped(_: &Quantized) -> Verdict {
    refused("compressed-tensors dropped this layout in release 0.15")
}

fn vllm_dropped(_: &Quantized) -> Verdict {
    refused("vLLM dropped this layout")
}

/// transformers decompresses weights before it first runs them.
fn decompressed(asked: &Quantized) -> Verdict {
    match (asked.weights, asked.linears.dtype) {
        (Some(weights), dtype) if weights.scale_type != ScaleType::Float => match dtype {
            None | Some(Dtype::Bf16) => runs("bfloat16 models, decompressed to floats"),
            Some(dtype) => refused(&format!("it decompresses these weights to BF16, but the model is {dtype}")),
        },
        _ => runs("decompressed to floats"),
    }
}

/// Tells whether weights in words have zero points, which are packed too.
pub(super) fn has_packed_zeros(weights: Option<&QuantArgs>) -> bool {
    weights.is_some_and(|weights| weights.element.int_bits().is_some() && !weights.symmetric)
}

/// The same of codes that share words or bytes.
fn decompressed_words(asked: &Quantized) -> Verdict {
    match asked.linears.model_type {
        Some("falcon") => refused("its Falcon cannot set up packed linears"),
        _ if has_packed_zeros(asked.weights) => limited(super::DEQUANTIZED),
        _ => decompressed(asked),
    }
}

fn vllm_integers(asked: &Quantized) -> Verdict {
    let (Some(weights), Some(input)) = (asked.weights, asked.input) else {
        return refused("integers without quantized inputs must be pack-quantized");
    };
    if weights.element == Element::Int(8) && input.element == Element::Int(8) {
        return match (weights.symmetric, weights.strategy) {
            (false, _) => refused("8-bit weights with 8-bit inputs must be symmetric"),
            (true, Strategy::Channel | Strategy::Tensor) => runs("NVIDIA GPUs from sm75, AMD GPUs, Intel GPUs, CPUs"),
            (true, _) => refused("8-bit weights with 8-bit inputs need one scale for each row or tensor"),
        };
    }
    match weights.symmetric && weights.element == Element::Int(4) {
        true if humming_takes(weights, 8) => runs(&format!("{HUMMING_ALONE}, Intel GPUs, CPUs")),
        true => limited("on CPUs"),
        false => refused("it has no kernel for such integers with quantized inputs"),
    }
}

fn vllm_floats(asked: &Quantized) -> Verdict {
    let Some(weights) = asked.weights else { return vllm_dropped(asked) };
    match (weights.strategy, asked.input) {
        (Strategy::Group(_), _) => refused("8-bit floats in groups must have the scales of MXFP8"),
        (Strategy::Block(128, 128) | Strategy::Tensor | Strategy::Channel, None) => {
            runs("NVIDIA GPUs from sm75 (Marlin), Intel GPUs")
        }
        (Strategy::Block(128, 128) | Strategy::Tensor | Strategy::Channel, Some(_)) => {
            runs("NVIDIA GPUs from sm89 (from sm75 with inputs in floats), AMD GPUs, Intel GPUs, CPUs")
        }
        _ => refused("its kernels need blocks of 128 by 128"),
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
                true => limited("on NVIDIA GPUs with sm90"),
                false => refused(
                    "4-bit integers with 8-bit floats need symmetric groups of 128, sizes in multiples of 128 and BF16",
                ),
            }
        }
        Some(input) if humming_takes(weights, input.element.bits()) => limited(&format!("on {HUMMING_ALONE}")),
        Some(_) => refused("Humming needs groups of at least 32 with 8-bit inputs, and of at least 64 with 4-bit ones"),
    }
}

fn vllm_nvfp4(asked: &Quantized) -> Verdict {
    match asked.input {
        None => runs("NVIDIA GPUs from sm75 (Marlin)"),
        Some(_) => runs("NVIDIA GPUs from sm100 (from sm75 with inputs in floats)"),
    }
}

fn vllm_mxfp4(asked: &Quantized) -> Verdict {
    match asked.input {
        None => runs("NVIDIA GPUs from sm80, AMD GPUs, Intel GPUs"),
        Some(_) => runs("NVIDIA GPUs from sm100 (from sm80 with inputs in floats), AMD GPUs, Intel GPUs"),
    }
}

fn no_mxfp6(_: &Quantized) -> Verdict {
    refused("the compressed-tensors that it pins, 0.17.0, does not know 6-bit floats")
}

fn vllm_mxfp8(asked: &Quantized) -> Verdict {
    match asked.input {
        None => runs("NVIDIA GPUs from sm75, AMD GPUs, Intel GPUs"),
        Some(_) => runs("NVIDIA GPUs from sm100 (from sm75 emulated), AMD GPUs, Intel GPUs"),
    }
}
