//! Rounding of activations as a model runs: the inputs of linears, and the keys and values that attention caches.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use paring_format::{Adapter, Dynamic, Element, QuantArgs, ScaleType, Strategy};
use paring_kernels::element;
use paring_kernels::matmul::Precision;
use paring_kernels::quantize::{Rounding, Scales};

use crate::element::kernel_element;
use crate::{Error, Result, Tap};

/// The arithmetic of a model: precision, rounding of activations, device, and an adapter.
#[derive(Clone, Debug)]
pub struct Arithmetic {
    /// Rounding of the inputs of products with linears; all else is f32.
    pub precision: Precision,
    /// True if activations and caches are rounded to codes where the config says so, as a server does.
    pub activations: bool,
    /// Device of weights and activations.
    pub device: Device,
    /// True if weights stay packed in memory, and the head is kept there: for a model that runs many times.
    pub packed: bool,
    /// The adapter of linears, which stays apart from their weights.
    pub adapter: Option<Arc<Adapter>>,
}

impl Arithmetic {
    /// Arithmetic that leaves activations as they are: the one of calibration and of `--weight-only`.
    pub fn weights_only(precision: Precision) -> Self {
        Self { activations: false, ..precision.into() }
    }

    /// The same with weights that stay packed.
    pub fn packed(self) -> Self {
        Self { packed: true, ..self }
    }

    /// The same on another device.
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// The same with an adapter, or without one.
    pub fn adapted(self, adapter: Option<Arc<Adapter>>) -> Self {
        Self { adapter, ..self }
    }
}

/// As the config says it, on the CPU.
impl From<Precision> for Arithmetic {
    fn from(precision: Precision) -> Self {
        Self { precision, activations: true, device: Device::Cpu, packed: false, adapter: None }
    }
}

/// The scales of activations that a checkpoint holds, by their names beside a linear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StoredScales {
    /// Nothing: scales are found as the model runs.
    Nothing,
    /// `input_scale`, and `input_zero_point` where the grid is asymmetric.
    Scale,
    /// `input_global_scale`.
    Global,
}

/// A lookup of numbers that a checkpoint stores for activations: above 0 for scales.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Result<f32> + 'a;

/// The scales that have to be stored for inputs that are quantized like this, `cols` features each. Errors on combinations that
/// cannot be run; `module` is for the message.
pub fn stored(args: &QuantArgs, cols: usize, module: &str) -> Result<StoredScales> {
    let fail = |what: String| {
        let format = format!("the quantization of its inputs ({what})");
        Err(Error::Format(paring_format::Error::UnsupportedFormat { module: module.to_string(), format }))
    };
    let groups = |size: usize| match size > 0 && cols.is_multiple_of(size) {
        true => Ok(StoredScales::Nothing),
        false => fail(format!("groups of {size}, which do not divide {cols} features")),
    };
    match (args.dynamic, args.strategy, args.scale_type) {
        (Dynamic::Yes, Strategy::Token | Strategy::Tensor, ScaleType::Float) => Ok(StoredScales::Nothing),
        (Dynamic::Yes, Strategy::Group(size), ScaleType::Float) => groups(size),
        (Dynamic::Yes, Strategy::Group(size), ScaleType::Exponent) if args.element.int_bits().is_none() => groups(size),
        (Dynamic::No, Strategy::Tensor, ScaleType::Float) => Ok(StoredScales::Scale),
        (Dynamic::Local, Strategy::TensorGroup(size), ScaleType::E4m3) if args.element == Element::E2m1 => {
            groups(size).map(|_| StoredScales::Global)
        }
        _ => fail(args.to_string()),
    }
}

/// The rounding of inputs that passed [`stored`]; `lookup` gives stored numbers by local name.
pub(crate) fn rounding(args: &QuantArgs, lookup: &Lookup) -> Result<Rounding> {
    let scales = match (args.strategy, args.scale_type) {
        (Strategy::Group(size), ScaleType::Exponent) => Scales::Exponent(size),
        (Strategy::Group(size), _) => Scales::Group(size),
        (Strategy::TensorGroup(size), _) => Scales::Local(size, lookup("input_global_scale")?),
        (Strategy::Token, _) => Scales::Token,
        _ if args.dynamic == Dynamic::Yes => Scales::Tensor,
        _ => {
            let zero = if args.symmetric { 0.0 } else { lookup("input_zero_point")? };
            Scales::Given(lookup("input_scale")?, zero)
        }
    };
    Ok(Rounding { element: kernel_element(args.element), symmetric: args.symmetric, scales })
}

/// Errors when caches that are quantized like this cannot be run.
pub fn check_cache(args: &QuantArgs) -> Result<()> {
    let shared = matches!(args.strategy, Strategy::Tensor | Strategy::Head);
    if shared && args.symmetric && args.dynamic == Dynamic::No && args.scale_type == ScaleType::Float {
        return Ok(());
    }
    Err(Error::Format(paring_format::Error::UnsupportedFormat {
        module: "config.json: quantization_config.kv_cache_scheme".to_string(),
        format: format!("{args} (expected symmetric codes with one stored scale, or one for each head)"),
    }))
}

/// The rounding of keys and values that an attention caches, before they are used; none by default.
#[derive(Debug, Default)]
pub struct CacheRounding(Option<CacheGrid>);

#[derive(Debug)]
struct CacheGrid {
    element: element::Element,
    /// Of keys and of values, f32 `[1]`, or `[kv_heads, 1]` for a scale for each head.
    scales: [Tensor; 2],
}

impl CacheRounding {
    /// Keys and values on `device` are rounded; the scales of both are either one number or one for each head.
    pub(crate) fn quantized(args: &QuantArgs, [keys, values]: [Vec<f32>; 2], device: &Device) -> Result<Self> {
        let tensor = |scales: Vec<f32>| {
            let shape = if args.strategy == Strategy::Head { vec![scales.len(), 1] } else { vec![scales.len()] };
            Tensor::from_vec(scales, shape, device)
        };
        Ok(Self(Some(CacheGrid { element: kernel_element(args.element), scales: [tensor(keys)?, tensor(values)?] })))
    }

    /// The scales of keys and of values in a cache of this element, one for all heads or one for each; `None` where the cache
    /// is not rounded to it.
    pub(crate) fn scales(&self, element: element::Element) -> Result<Option<[Vec<f32>; 2]>> {
        let Some(grid) = self.0.as_ref().filter(|grid| grid.element == element) else { return Ok(None) };
        let [keys, values] = &grid.scales;
        Ok(Some([keys.flatten_all()?.to_vec1()?, values.flatten_all()?.to_vec1()?]))
    }

    /// True if caches are rounded.
    pub(crate) fn rounds(&self) -> bool {
        self.0.is_some()
    }

    /// Shows `keys` (after rotation) and `values`, both f32 `[b, t, kv_heads, head_dim]`, to the tap, and returns
    /// what is read back from the cache.
    pub fn pass(&self, keys: Tensor, values: Tensor, tap: &mut dyn Tap) -> Result<[Tensor; 2]> {
        tap.cache(&keys, &values)?;
        let Some(CacheGrid { element, scales }) = &self.0 else { return Ok([keys, values]) };
        let round = Rounding { element: *element, symmetric: true, scales: Scales::Given(1.0, 0.0) };
        let read = |x: &Tensor, scale: &Tensor| -> Result<Tensor> {
            let x = round.apply(&x.broadcast_div(scale)?)?;
            Ok(x.broadcast_mul(scale)?)
        };
        Ok([read(&keys, &scales[0])?, read(&values, &scales[1])?])
    }
}
