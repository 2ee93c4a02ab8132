//! The parts after the last block, for passes that train.

use std::sync::Arc;

use candle_core::Tensor;
use paring_kernels::matmul::InputGradient;

use crate::parts::head::HeadRows;
use crate::parts::norm::Norm;
use crate::source::Source;
use crate::{Result, Weight};

/// The norm before the head, what leads from the blocks' width to the head's, and the rows of the head.
pub struct Ending<'a> {
    /// The norm, whose tensors may be replaced.
    pub norm: Option<Norm>,
    pub(crate) projection: Option<Arc<dyn Weight>>,
    pub(crate) head: HeadRows,
    pub(crate) source: &'a Source,
}

impl Ending<'_> {
    /// True if the head is a matrix of its own, and not the embedding.
    pub fn has_own_head(&self) -> bool {
        self.head.own
    }

    /// Entries of the vocabulary, and features of the head's input.
    pub fn sizes(&self) -> (usize, usize) {
        (self.head.vocab, self.head.dim)
    }

    /// The last block's output `h [n, dim]` → the head's input `[n, width]`.
    ///
    /// # Errors
    /// On other shapes.
    pub fn forward(&self, h: &Tensor) -> Result<Tensor> {
        let x = match &self.norm {
            Some(norm) => norm.forward(h)?,
            None => h.clone(),
        };
        match &self.projection {
            Some(projection) => projection.matmul(&x),
            None => Ok(x),
        }
    }

    /// The gradient of `h` for that of the head's input, `dx [n, width]` f32; those of the norm's tensors are added to `sums`, as many as
    /// [`Ending::sums`] has. On the CPU.
    ///
    /// # Errors
    /// On other shapes and devices.
    pub fn backward(&self, dx: &Tensor, h: &Tensor, sums: &mut [Vec<f32>]) -> Result<Tensor> {
        let dx = match &self.projection {
            Some(projection) => {
                let mut sum = InputGradient::new(h.dims());
                projection.add_input_gradient(dx, &mut sum)?;
                sum.finish()?
            }
            None => dx.clone(),
        };
        match &self.norm {
            Some(norm) => norm.backward(&dx, h, sums),
            None => Ok(dx),
        }
    }

    /// Gradients of the norm's stored tensors, all 0.
    pub fn sums(&self) -> Vec<Vec<f32>> {
        let (dim, tensors) = self.norm.as_ref().map_or((0, 0), Norm::sizes);
        vec![vec![0.0; dim]; tensors]
    }

    /// Rows `first .. first + count` of the head, row-major `[count, width]`, f32.
    ///
    /// # Errors
    /// On values that are not finite.
    pub fn rows(&self, first: usize, count: usize) -> Result<Vec<f32>> {
        self.head.read(self.source, first, count)
    }
}
