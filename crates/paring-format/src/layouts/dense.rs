//! `dense`: the weight as it is, zeros included.

use super::{floats, take};
use crate::{Compressed, Dtype, Error, Layout, Parts, Result, Scheme, Values};

/// `weight` `[rows, cols]` in f32, f16 or bf16.
pub struct Dense;

impl Layout for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn encode(&self, _scheme: &Scheme, c: &Compressed) -> Result<Parts> {
        match &c.values {
            Values::Dense(values) if c.rows.checked_mul(c.cols) == Some(values.len()) && !values.is_empty() => {
                Ok(Parts::from([("weight", floats("weight", c.dtype, vec![c.rows, c.cols], values)?)]))
            }
            _ => Err(Error::parts("the dense layout holds whole dense matrices only")),
        }
    }

    fn decode(&self, _scheme: &Scheme, parts: &Parts) -> Result<Compressed> {
        let weight = take(parts, "weight", &[Dtype::F32, Dtype::F16, Dtype::Bf16])?;
        let (rows, cols) = weight.matrix("weight")?;
        let values = weight.finite("weight")?;
        Ok(Compressed { rows, cols, dtype: weight.dtype, values: Values::Dense(values) })
    }
}
