//! Rotary position embeddings (Su et al. 2021), in the half-split convention: element i of a head rotates together
//! with element i + d/2. All tables are computed in f32, step by step as transformers does, so that long positions agree.

use std::f32::consts::PI;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Tensor};
use paring_kernels::rope::{rope, rope_backward};

use crate::{Error, Result, config::Config};

/// The scaling kinds that are understood, as `rope_type` names them.
pub const KINDS: [&str; 4] = ["default", "linear", "dynamic", "llama3"];

/// The scaling of frequencies beyond the length the model was first trained for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    Default,
    /// All by one factor.
    Linear {
        /// Positions are divided by it.
        factor: f64,
    },
    /// The base grows with the length of the sequence once that exceeds `max_position_embeddings` (NTK scaling).
    Dynamic {
        /// Growth for each multiple of the original length.
        factor: f64,
    },
    /// Long wavelengths are stretched, short ones kept, those between interpolated (Llama 3.1).
    Llama3 {
        /// Stretch of the long wavelengths.
        factor: f64,
        /// Wavelengths over `original / low` are long.
        low: f64,
        /// Wavelengths under `original / high` are short.
        high: f64,
        /// Positions of the original training.
        original: f64,
    },
}

/// Rotary embeddings of one model.
pub struct Rope {
    theta: f64,
    dim: usize,
    max_positions: usize,
    scaling: Scaling,
    tables: Mutex<Option<Tables>>,
    next: Mutex<Option<NextTables>>,
}

/// cos and sin, `[t, dim / 2]`, for sequences of `t` tokens.
#[derive(Clone)]
struct Tables {
    t: usize,
    cos: Tensor,
    sin: Tensor,
}

/// cos and sin, `[n, dim / 2]`, of the tokens of some spans.
#[derive(Clone)]
struct NextTables {
    spans: Vec<Range<usize>>,
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Heads of `dim` elements (even) and the config's `max_position_embeddings`. The parameters stand in
    /// `rope_scaling` (older files) or `rope_parameters`, `rope_theta` in the same object or beside it.
    pub fn from_config(config: &Config, dim: usize, max_positions: usize) -> Result<Self> {
        const THETA: std::ops::RangeInclusive<f64> = 1.0..=1e12;
        let section = match config.section("rope_scaling")? {
            Some(section) => Some(section),
            None => config.section("rope_parameters")?,
        };
        let outer_theta = config.number_if("rope_theta", THETA)?;
        let Some(section) = section else {
            return Ok(Self::new(outer_theta.unwrap_or(10_000.0), dim, max_positions, Scaling::Default));
        };
        let theta = section.number_if("rope_theta", THETA)?.or(outer_theta).unwrap_or(10_000.0);
        // Older files call the key `type`.
        let key = if section.get("rope_type").is_some() { "rope_type" } else { "type" };
        let factor = || section.number("factor", 1e-3..=1e6);
        let scaling = match section.text_if(key)?.unwrap_or("default") {
            "default" => Scaling::Default,
            "linear" => Scaling::Linear { factor: factor()? },
            "dynamic" => Scaling::Dynamic { factor: factor()? },
            "llama3" => {
                let key = "original_max_position_embeddings";
                let (low, high) = ("low_freq_factor", "high_freq_factor");
                let scaling = Scaling::Llama3 {
                    factor: factor()?,
                    low: section.number(low, 1e-6..=1e6)?,
                    high: section.number(high, 1e-6..=1e6)?,
                    original: section.size_if(key, 1..=1 << 30)?.unwrap_or(max_positions) as f64,
                };
                if matches!(scaling, Scaling::Llama3 { low, high, .. } if high <= low) {
                    return Err(section.bad(high, format!("greater than {low}")));
                }
                scaling
            }
            _ => return Err(section.bad(key, format!("one of {}", KINDS.join(", ")))),
        };
        if matches!(scaling, Scaling::Dynamic { .. }) && dim < 4 {
            return Err(section.bad(key, "another kind, because dynamic needs head_dim of 4 or more"));
        }
        if let Some(part) = section.number_if("partial_rotary_factor", 0.0..=1.0)?
            && part != 1.0
        {
            return Err(section.bad("partial_rotary_factor", "1 or absent"));
        }
        Ok(Self::new(theta, dim, max_positions, scaling))
    }

    /// Heads of `dim` elements (even), frequencies `theta^(-2i / dim)` before scaling.
    pub fn new(theta: f64, dim: usize, max_positions: usize, scaling: Scaling) -> Self {
        Self { theta, dim, max_positions, scaling, tables: Mutex::new(None), next: Mutex::new(None) }
    }

    /// Tokens of the longest sequence that has positions. Dynamic scaling has no limit.
    pub fn longest(&self) -> Option<usize> {
        match self.scaling {
            Scaling::Dynamic { .. } => None,
            Scaling::Default | Scaling::Linear { .. } | Scaling::Llama3 { .. } => Some(self.max_positions),
        }
    }

    /// Errors when a sequence of `t` tokens is beyond the model's positions.
    pub fn check_length(&self, t: usize) -> Result<()> {
        match self.longest() {
            Some(max) if t > max => Err(Error::TooLong { tokens: t, max }),
            _ => Ok(()),
        }
    }

    /// Rotates each head of `x [b, t, heads, dim]` by its position 0..t. Errors when `t` is too long.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let tables = self.tables(x.dim(1)?, x.device())?;
        Ok(rope(x, &tables.cos, &tables.sin)?)
    }

    /// Rotates each head of `x [1, n, heads, dim]` by its position; `spans` are the positions of the next tokens of some
    /// sequences, one sequence after another, n together. Errors when a sequence becomes too long.
    ///
    /// Under dynamic scaling the frequencies are those of the sequence's length with these tokens, as in transformers: keys
    /// that were rotated when it was shorter stay as they are, so that a text in pieces that grows beyond the model's
    /// positions is not what it is in one pass.
    pub fn forward_next(&self, x: &Tensor, spans: &[Range<usize>]) -> Result<Tensor> {
        let tables = self.next_tables(spans, x.device())?;
        Ok(rope(x, &tables.cos, &tables.sin)?)
    }

    /// The gradient of the input of [`Rope::forward`] for that of its output, of the same shape.
    pub fn backward(&self, dy: &Tensor) -> Result<Tensor> {
        let tables = self.tables(dy.dim(1)?, dy.device())?;
        Ok(rope_backward(dy, &tables.cos, &tables.sin)?)
    }

    /// All blocks of a pass ask for the same spans, so the last tables are kept.
    fn next_tables(&self, spans: &[Range<usize>], device: &Device) -> Result<NextTables> {
        let mut kept = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = kept.as_ref()
            && tables.spans == spans
            && tables.cos.device().same_device(device)
        {
            return Ok(tables.clone());
        }
        let mut angles = Vec::new();
        for span in spans {
            self.check_length(span.end)?;
            let frequencies = self.frequencies(span.end);
            angles.extend(span.clone().flat_map(|position| frequencies.iter().map(move |f| f * position as f32)));
        }
        let [cos, sin] = self.cos_and_sin(&angles, device)?;
        let tables = NextTables { spans: spans.to_vec(), cos, sin };
        *kept = Some(tables.clone());
        Ok(tables)
    }

    /// Of `angles [n, dim / 2]`.
    fn cos_and_sin(&self, angles: &[f32], device: &Device) -> Result<[Tensor; 2]> {
        let half = self.dim / 2;
        let of = |f: fn(f32) -> f32| {
            Tensor::from_vec(angles.iter().map(|&a| f(a)).collect::<Vec<f32>>(), (angles.len() / half, half), device)
        };
        Ok([of(f32::cos)?, of(f32::sin)?])
    }

    /// Frequencies in radians per token for a sequence of `t` tokens, `dim / 2` values.
    pub fn frequencies(&self, t: usize) -> Vec<f32> {
        let plain = |theta: f32| -> Vec<f32> {
            (0..self.dim / 2).map(|i| 1.0 / theta.powf((2 * i) as f32 / self.dim as f32)).collect()
        };
        let theta = self.theta as f32;
        match self.scaling {
            Scaling::Default => plain(theta),
            Scaling::Linear { factor } => plain(theta).iter().map(|f| f / factor as f32).collect(),
            Scaling::Dynamic { .. } if t <= self.max_positions => plain(theta),
            Scaling::Dynamic { factor } => {
                let (factor, dim) = (factor as f32, self.dim as f64);
                let stretch = factor * t as f32 / self.max_positions as f32 - (factor - 1.0);
                plain(theta * stretch.powf((dim / (dim - 2.0)) as f32))
            }
            Scaling::Llama3 { factor, low, high, original } => {
                let (factor, original) = (factor as f32, original as f32);
                let (long, short) = (original / low as f32, original / high as f32);
                let stretch = |frequency: f32| {
                    let wavelength = 2.0 * PI / frequency;
                    if wavelength > long {
                        frequency / factor
                    } else if wavelength < short {
                        frequency
                    } else {
                        let smooth = (original / wavelength - low as f32) / (high - low) as f32;
                        (1.0 - smooth) * frequency / factor + smooth * frequency
                    }
                };
                plain(theta).into_iter().map(stretch).collect()
            }
        }
    }

    /// All blocks of a pass ask for the same length, so the last tables are kept. A longer table serves a shorter
    /// sequence too, except where the frequencies themselves depend on the length.
    fn tables(&self, t: usize, device: &Device) -> Result<Tables> {
        self.check_length(t)?;
        let mut kept = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |have: usize| match self.scaling {
            Scaling::Dynamic { .. } => have == t,
            _ => have >= t,
        };
        if let Some(tables) = kept.as_ref()
            && fits(tables.t)
            && tables.cos.device().same_device(device)
        {
            return Ok(tables.clone());
        }
        let frequencies = self.frequencies(t);
        let angles: Vec<f32> =
            (0..t).flat_map(|position| frequencies.iter().map(move |f| f * position as f32)).collect();
        let [cos, sin] = self.cos_and_sin(&angles, device)?;
        let tables = Tables { t, cos, sin };
        *kept = Some(tables.clone());
        Ok(tables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(config: serde_json::Value) -> Result<Rope> {
        Rope::from_config(&Config::new("config.json", &config), 8, 16)
    }

    #[test]
    fn reads_both_spellings() {
        let check = |config: serde_json::Value, theta: f64, scaling: Scaling| {
            let rope = parse(config).unwrap();
            assert_eq!((rope.theta, rope.scaling), (theta, scaling));
        };
        check(serde_json::json!({}), 1e4, Scaling::Default);
        check(serde_json::json!({"rope_theta": 5e5, "rope_scaling": null}), 5e5, Scaling::Default);
        let old = serde_json::json!({"rope_theta": 7.0, "rope_scaling": {"type": "linear", "factor": 2}});
        check(old, 7.0, Scaling::Linear { factor: 2.0 });
        let new = serde_json::json!({"rope_theta": 7.0,
            "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 9.0}});
        check(new, 9.0, Scaling::Dynamic { factor: 4.0 });
    }

    #[test]
    fn errors_name_key_value_and_choices() {
        let check = |config: serde_json::Value, expected: &str| {
            assert_eq!(parse(config).err().unwrap().to_string(), expected);
        };
        check(
            serde_json::json!({"rope_scaling": {"type": "yarn", "factor": 2}}),
            "config.json: rope_scaling.type should be one of default, linear, dynamic, llama3, got \"yarn\"",
        );
        check(
            serde_json::json!({"rope_parameters": {"rope_type": "linear"}}),
            "config.json: rope_parameters.factor is missing; add it as it is in the original model's config",
        );
        check(
            serde_json::json!({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
                "high_freq_factor": 1}}),
            "config.json: rope_scaling.high_freq_factor should be greater than low_freq_factor, got 1",
        );
        check(serde_json::json!({"rope_scaling": 3}), "config.json: rope_scaling should be an object or null, got 3");
    }

    #[test]
    fn only_dynamic_goes_beyond_the_positions() {
        assert!(matches!(
            Rope::new(1e4, 8, 16, Scaling::Default).check_length(17),
            Err(Error::TooLong { tokens: 17, max: 16 })
        ));
        let dynamic = Rope::new(1e4, 8, 16, Scaling::Dynamic { factor: 2.0 });
        dynamic.check_length(17).unwrap();
        assert_eq!(dynamic.frequencies(16), Rope::new(1e4, 8, 16, Scaling::Default).frequencies(16));
        assert!(dynamic.frequencies(64)[1] < dynamic.frequencies(32)[1]);
    }
}
