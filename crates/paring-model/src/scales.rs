//! Scales and zero points of activations and caches, under the names and in the shapes that programs store them.
//!
//! Zero points of symmetric schemes are stored by some releases and read by none: they are part of the model and mean nothing.
//! A single number may have any shape of one element, and a number for each head any with one long dimension.

use paring_format::layouts::{ACTIVATION_NAMES, same_numbers};
use paring_format::{Dtype, QuantArgs, Strategy};

use crate::activations::{self, CacheRounding};
use crate::source::{Source, wrong_type};
use crate::{Error, Result};

/// Names of the scales of keys and of values beside an attention: the current ones; those of ModelOpt and of releases of
/// compressed-tensors of 2024 beside its linears; and one for both, which AutoFP8 wrote.
const CACHE_NAMES: [[&str; 2]; 4] = [
    ["k_scale", "v_scale"],
    ["k_proj.k_scale", "v_proj.v_scale"],
    ["k_proj.output_scale", "v_proj.output_scale"],
    ["kv_scale", "kv_scale"],
];

/// Zero points that may be stored beside them. Caches are symmetric.
const CACHE_ZEROS: [&str; 5] =
    ["k_zero_point", "v_zero_point", "q_zero_point", "k_proj.output_zero_point", "v_proj.output_zero_point"];

/// Most bytes of zero points that are looked at: one number, or one for each head.
const MOST: usize = 1 << 16;

impl Source {
    /// Requires float scales, as many as this shape has; if they are not there, [`Source::complete`] says so.
    pub(crate) fn require_scales(&self, name: &str, shape: &[usize], hint: &str) -> Result<()> {
        self.require_number(name, shape, &Dtype::FLOATS, hint)
    }

    /// As [`Source::require_scales`], of one of these types.
    pub(crate) fn require_number(&self, name: &str, shape: &[usize], dtypes: &[Dtype], hint: &str) -> Result<()> {
        let check = || {
            let info = self.checkpoint().info(name).ok_or_else(|| self.missing(name, hint))?;
            if !same_numbers(&info.shape, shape) {
                let (file, name) = (info.file.clone(), name.to_string());
                return Err(Error::TensorShape { file, name, expected: shape.to_vec(), got: info.shape.clone() });
            }
            if dtypes.contains(&info.dtype) { Ok(()) } else { Err(wrong_type(name, info, dtypes)) }
        };
        self.note(&[name.to_string()], check())
    }

    /// A stored number: a zero point of bytes, or a scale. Errors on scales that are not above 0.
    pub(crate) fn activation_number(&self, name: &str) -> Result<f32> {
        let first = match self.checkpoint().info(name).map(|info| info.dtype) {
            Some(Dtype::I8) => self.checkpoint().read(name)?.first().map(|&byte| f32::from(byte as i8)),
            _ => self.scales(name)?.first().copied(),
        };
        first.ok_or_else(|| self.missing(name, "it is whole"))
    }

    /// True if a zero point is stored that is not 0.
    pub(crate) fn has_offset(&self, name: &str) -> Result<bool> {
        Ok(self.has(name) && self.checkpoint().read(name)?.iter().any(|&byte| byte != 0))
    }

    /// True for a tensor of zero points of activations that are all 0: no scheme needs it, and releases stored it for all.
    pub(crate) fn is_zero_point_of_zeros(&self, name: &str) -> Result<bool> {
        let local = name.rsplit_once('.').map_or(name, |(_, local)| local);
        if !local.ends_with("_zero_point") || !ACTIVATION_NAMES.contains(&local) {
            return Ok(false);
        }
        let small = self.checkpoint().info(name).is_some_and(|info| info.bytes() <= MOST);
        Ok(small && self.checkpoint().read(name)?.iter().all(|&byte| byte == 0))
    }

    /// Stored scales, each above 0.
    fn scales(&self, name: &str) -> Result<Vec<f32>> {
        self.complete()?;
        let info = self.checkpoint().info(name).ok_or_else(|| self.missing(name, "it is whole"))?;
        let scales = self.checkpoint().read_f32(name, &info.shape)?;
        match scales.iter().find(|&&scale| scale <= 0.0) {
            None => Ok(scales),
            Some(&got) => Err(Error::Scale { file: info.file.clone(), name: name.to_string(), got }),
        }
    }

    /// Requires the scales of the keys and values that the attention at this path caches, `groups` heads of them, where
    /// the config has caches quantized; if they are not there, [`Source::complete`] says so. Errors at once when they are
    /// quantized in a way that cannot be run.
    pub fn require_cache(&self, attention: &str, groups: usize) -> Result<()> {
        let Some(args) = self.checkpoint().quant_config()?.and_then(|quant| quant.kv_cache) else { return Ok(()) };
        activations::check_cache(&args)?;
        self.allow(&CACHE_ZEROS.map(|local| format!("{attention}.{local}")));
        let hint = "kv_cache_scheme of the quantization_config is right";
        let shape = cache_shape(&args, groups);
        self.cache_names(attention).iter().try_for_each(|name| self.require_scales(name, &shape, hint))
    }

    /// The rounding of the keys and values that the attention at this path caches; see [`Source::require_cache`].
    pub fn cache(&self, attention: &str, groups: usize) -> Result<CacheRounding> {
        let args = self.checkpoint().quant_config()?.and_then(|quant| quant.kv_cache);
        let Some(args) = args.filter(|_| self.arithmetic().activations) else { return Ok(CacheRounding::default()) };
        let [keys, values] = self.cache_names(attention);
        let scales = [self.scales(&keys)?, self.scales(&values)?];
        let count = cache_shape(&args, groups).iter().product::<usize>();
        if scales.iter().any(|scales| scales.len() != count) {
            return Err(Error::WeightSize { rows: count, cols: 1, got: scales[0].len() });
        }
        CacheRounding::quantized(&args, scales, self.device())
    }

    /// The names under which the scales of an attention's keys and values are stored; the current ones if none are.
    fn cache_names(&self, attention: &str) -> [String; 2] {
        let full = |names: [&str; 2]| names.map(|local| format!("{attention}.{local}"));
        let stored = CACHE_NAMES.map(full).into_iter().find(|names| names.iter().any(|name| self.has(name)));
        stored.unwrap_or_else(|| full(CACHE_NAMES[0]))
    }
}

fn cache_shape(args: &QuantArgs, groups: usize) -> Vec<usize> {
    if args.strategy == Strategy::Head { vec![groups, 1, 1] } else { vec![1] }
}
