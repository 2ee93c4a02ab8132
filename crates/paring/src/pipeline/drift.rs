//! The distance of the compressed path's activations from the dense path's, where linears see it.

use candle_core::{D, Tensor};
use paring_kernels::gram::Cross;
use paring_kernels::matmul::Precision;
use paring_model::fan::Tap;

use crate::Result;

/// The drift of a fan's input x from that of the dense path, and of the sum that its output joins, over all tokens; n = windows.
#[derive(Clone, Debug)]
pub(crate) struct Drift {
    /// (2/n) Σ (x' − x) xᵀ with x' the dense path's input of the same token, `[cols, cols]`.
    pub inputs: Vec<f32>,
    /// (2/n) Σ (s' − s) xᵀ with s what the output is added to, `[rows, cols]`; `None` where it is added to nothing.
    pub sums: Option<Vec<f32>>,
}

/// Tensors of a fan in one pass of some windows.
#[derive(Default)]
pub(crate) struct Seen {
    input: Option<Tensor>,
    sum: Option<Tensor>,
}

/// The tap that keeps what it sees of some fans, and shows all of it to another one.
pub(crate) struct Record<'a> {
    inner: &'a mut dyn Tap,
    fans: Vec<Option<Seen>>,
}

impl<'a> Record<'a> {
    /// Keeps what is `wanted` of the fans, by number.
    pub fn new(inner: &'a mut dyn Tap, wanted: &[bool]) -> Self {
        Self { inner, fans: wanted.iter().map(|wanted| wanted.then(Seen::default)).collect() }
    }

    /// The tensors that were seen, one entry per fan.
    pub fn finish(self) -> Vec<Option<Seen>> {
        self.fans
    }
}

impl Tap for Record<'_> {
    fn see(&mut self, fan: usize, x: &Tensor) -> paring_model::Result<()> {
        if let Some(Some(seen)) = self.fans.get_mut(fan) {
            seen.input = Some(x.clone());
        }
        self.inner.see(fan, x)
    }

    fn adds_to(&mut self, fan: usize, sum: &Tensor) -> paring_model::Result<()> {
        if let Some(Some(seen)) = self.fans.get_mut(fan) {
            seen.sum = Some(sum.clone());
        }
        self.inner.adds_to(fan, sum)
    }

    fn cache(&mut self, keys: &Tensor, values: &Tensor) -> paring_model::Result<()> {
        self.inner.cache(keys, values)
    }
}

/// The running sums of a fan.
struct Sums {
    inputs: Cross,
    sums: Option<Cross>,
}

/// Collects the drift of some of a block's fans.
pub(crate) struct DriftCollector {
    /// One per fan; `None` where nothing was seen yet.
    fans: Vec<Option<Sums>>,
    precision: Precision,
}

impl DriftCollector {
    /// For so many fans, of inputs that products round to `precision`.
    pub fn new(fans: usize, precision: Precision) -> Self {
        Self { fans: (0..fans).map(|_| None).collect(), precision }
    }

    /// Adds what passes of the same windows through both models saw. 2·cols² operations a token, and 2·rows·cols for sums.
    /// Returns their number.
    pub fn add(&mut self, compressed: Vec<Option<Seen>>, dense: Vec<Option<Seen>>) -> Result<f64> {
        let mut operations = 0.0;
        for ((sums, ours), theirs) in self.fans.iter_mut().zip(compressed).zip(dense) {
            let (Some(ours), Some(theirs)) = (ours, theirs) else { continue };
            let (Some(x), Some(dense)) = (ours.input, theirs.input) else { continue };
            let ends = ours.sum.zip(theirs.sum);
            let cols = x.dim(D::Minus1)?;
            let sums = match sums {
                Some(sums) => sums,
                None => {
                    let rows = ends.as_ref().map(|(sum, _)| sum.dim(D::Minus1)).transpose()?;
                    let cross = |rows| Cross::new(rows, cols, self.precision);
                    sums.insert(Sums { inputs: cross(cols), sums: rows.map(cross) })
                }
            };
            // Differences in f32 of what neither side has rounded yet: they are small beside both.
            sums.inputs.add_difference(&dense, &x, &x)?;
            operations += 2.0 * x.elem_count() as f64 * cols as f64;
            if let Some((cross, (sum, dense))) = sums.sums.as_mut().zip(ends) {
                let rows = sum.dim(D::Minus1)? as f64;
                cross.add_difference(&dense, &sum, &x)?;
                operations += 2.0 * x.elem_count() as f64 * rows;
            }
        }
        Ok(operations)
    }

    /// The drift over `windows` windows, one entry per fan.
    pub fn finish(self, windows: usize) -> Vec<Option<Drift>> {
        let factor = 2.0 / windows as f32;
        let scaled = |Sums { inputs, sums }: Sums| Drift {
            inputs: inputs.finish(factor),
            sums: sums.map(|sums| sums.finish(factor)),
        };
        self.fans.into_iter().map(|fan| fan.map(scaled)).collect()
    }
}
