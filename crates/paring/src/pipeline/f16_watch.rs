//! A tap that notes activations beyond the range of half precision.

use candle_core::Tensor;
use paring_kernels::quantize::range;
use paring_model::fan::Tap;

use crate::Precision;

/// Tells whether products that round to this precision hold each number of `x`, which is looked at where only the rounding may
/// lose one: in half precision. A pass over `x`.
fn held(x: &Tensor, precision: Precision) -> paring_model::Result<bool> {
    if precision != Precision::F16 {
        return Ok(true);
    }
    let ends = range(x)?;
    Ok(ends.iter().all(|&end| precision.round(end).is_finite()))
}

/// The tap that passes on what a block's fans see, and notes when products round some of it to infinity: half precision
/// ends at 65504, and its infinities may be hidden again by an activation function.
pub(crate) struct F16Watch {
    precision: Precision,
    overflowed: bool,
}

impl F16Watch {
    /// For inputs of products that round them so.
    pub fn new(precision: Precision) -> Self {
        Self { precision, overflowed: false }
    }

    /// Tells whether an input was beyond the precision so far.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Looks at the input of a fan.
    pub fn look(&mut self, x: &Tensor) -> paring_model::Result<()> {
        self.overflowed = self.overflowed || !held(x, self.precision)?;
        Ok(())
    }
}

impl Tap for F16Watch {
    fn see(&mut self, _: usize, x: &Tensor) -> paring_model::Result<()> {
        self.look(x)
    }
}
