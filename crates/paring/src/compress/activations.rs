//! Scales of activations and caches that calibration data gives and the output stores.

use paring_format::message;
use paring_format::writer::NamedTensor;
use paring_format::{Dtype, Dynamic, Element, QuantArgs, ScaleType, Strategy};
use paring_kernels::quantize::scale_and_zero;
use paring_kernels::sweep::global_scale;
use paring_model::element::kernel_element;

use crate::methods::Stored;
use crate::plan::Opt;
use crate::{Error, Result};

/// Tells whether scales of inputs that are quantized like this come from calibration data.
fn is_stored(args: &QuantArgs) -> bool {
    args.dynamic != Dynamic::Yes
}

/// Errors when caches that are quantized like this are for no reader: they know 8-bit floats with a scale for all keys
/// and one for all values of a layer.
pub(super) fn check_cache(args: &QuantArgs) -> Result<()> {
    let known = QuantArgs { strategy: Strategy::Tensor, ..QuantArgs::new(Element::E4m3) };
    match *args == known {
        true => Ok(()),
        false => {
            let only = ": caches can be stored as fp8 with a scale for each layer only";
            Err(Opt::KvCache.misuse(message![Opt::KvCache, only]))
        }
    }
}

/// The tensors beside a linear of type `dtype` whose inputs range over `range`, which includes 0; none where scales are
/// found as the model runs. They follow section 3 of compressed-tensors' arithmetic: each step is rounded to `dtype`.
/// Errors on a range that the type does not reach.
pub(super) fn of_input(args: &QuantArgs, module: &str, range: [f32; 2], dtype: Dtype) -> Result<Vec<NamedTensor>> {
    if !is_stored(args) {
        return Ok(Vec::new());
    }
    let range = range.map(|v| dtype.round(v));
    let name = |local: &str| format!("{module}.{local}");
    if args.scale_type == ScaleType::E4m3 {
        return Ok(vec![number(
            name("input_global_scale"),
            Dtype::F32,
            global_scale(range[1].max(-range[0]), Stored::plain(dtype).precision()),
        )?]);
    }
    let (scale, zero) = grid(args, range, dtype);
    let mut tensors = vec![number(name("input_scale"), dtype, scale)?];
    if !args.symmetric {
        let bytes = vec![zero as i8 as u8];
        tensors.push(NamedTensor { name: name("input_zero_point"), dtype: Dtype::I8, shape: vec![1], bytes });
    }
    Ok(tensors)
}

/// The tensors beside an attention whose keys and values range over these; as [`of_input`].
pub(super) fn of_cache(
    args: &QuantArgs,
    attention: &str,
    [keys, values]: [[f32; 2]; 2],
    dtype: Dtype,
) -> Result<Vec<NamedTensor>> {
    let one = |local: &str, range: [f32; 2]| {
        number(format!("{attention}.{local}"), dtype, grid(args, range.map(|v| dtype.round(v)), dtype).0)
    };
    Ok(vec![one("k_scale", keys)?, one("v_scale", values)?])
}

/// Scale and zero point, every step rounded to `dtype`.
fn grid(args: &QuantArgs, range: [f32; 2], dtype: Dtype) -> (f32, f32) {
    scale_and_zero(kernel_element(args.element), args.symmetric, range, Stored::plain(dtype).precision())
}

/// A scale as a tensor `[1]`.
fn number(name: String, dtype: Dtype, value: f32) -> Result<NamedTensor> {
    if !value.is_finite() || value <= 0.0 {
        return Err(Error::Plan(format!(
            "{name}: the calibration data need a scale of {value}, which is beyond the range of {dtype}; use other data"
        )));
    }
    Ok(NamedTensor { name, dtype, shape: vec![1], bytes: dtype.encode(&[value]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensors: &[NamedTensor]) -> Vec<(&str, Dtype, f32)> {
        let value = |t: &NamedTensor| match t.dtype {
            Dtype::I8 => f32::from(t.bytes[0] as i8),
            dtype => dtype.decode_f32(&t.bytes)[0],
        };
        tensors.iter().map(|t| (t.name.as_str(), t.dtype, value(t))).collect()
    }

    fn fixed(element: Element, symmetric: bool) -> QuantArgs {
        QuantArgs { strategy: Strategy::Tensor, symmetric, ..QuantArgs::new(element) }
    }

    /// Results of `calculate_qparams` and `generate_gparam` of compressed-tensors 0.19 for these extremes.
    #[test]
    fn scales_are_those_of_the_library() {
        let of = |args: &QuantArgs, range, dtype| values(&of_input(args, "m", range, dtype).unwrap())[0].2;
        let fp8 = fixed(Element::E4m3, true);
        assert_eq!(of(&fp8, [-3.654, 2.0], Dtype::Bf16), 0.008_178_711);
        assert_eq!(of(&fp8, [-3.654, 2.0], Dtype::F16), 0.008_155_823);
        assert_eq!(of(&fp8, [0.0, 0.0], Dtype::F16), 0.000_976_562_5);
        let int8 = fixed(Element::Int(8), false);
        let made = of_input(&int8, "m", [-3.129_154_7, 3.177_866_5], Dtype::F32).unwrap();
        assert_eq!(
            values(&made),
            [("m.input_scale", Dtype::F32, 0.024_733_416), ("m.input_zero_point", Dtype::I8, -1.0)]
        );
        let nothing = of_input(&int8, "m", [0.0, 0.0], Dtype::Bf16).unwrap();
        assert_eq!(values(&nothing).iter().map(|v| v.2).collect::<Vec<_>>(), [0.007_812_5, 0.0]);
        let nvfp4 = QuantArgs {
            strategy: Strategy::TensorGroup(16),
            scale_type: ScaleType::E4m3,
            dynamic: Dynamic::Local,
            ..QuantArgs::new(Element::E2m1)
        };
        let made = of_input(&nvfp4, "m", [-2.0, 3.93], Dtype::Bf16).unwrap();
        assert_eq!(values(&made), [("m.input_global_scale", Dtype::F32, 684.0)]);
        let dynamic = QuantArgs { dynamic: Dynamic::Yes, strategy: Strategy::Token, ..fp8.clone() };
        assert!(of_input(&dynamic, "m", [-1.0, 1.0], Dtype::Bf16).unwrap().is_empty());
        let made = of_cache(&fp8, "a", [[-1.0, 4.35], [-4.07, 0.0]], Dtype::Bf16).unwrap();
        assert_eq!(
            values(&made),
            [("a.k_scale", Dtype::Bf16, 0.009_704_59), ("a.v_scale", Dtype::Bf16, 0.009_094_238)]
        );
    }

    #[test]
    fn what_cannot_be_a_scale_is_refused() {
        let fp8 = fixed(Element::E4m3, true);
        let error = of_input(&fp8, "m", [0.0, f32::INFINITY], Dtype::F32).unwrap_err().to_string();
        assert!(error.contains("m.input_scale: the calibration data need a scale of inf"), "{error}");
        assert!(check_cache(&fp8).is_ok());
        for args in [fixed(Element::Int(8), true), QuantArgs { dynamic: Dynamic::Yes, ..fp8 }] {
            assert!(check_cache(&args).unwrap_err().to_string().contains("kv-cache: "));
        }
    }
}
