//! Learned position embeddings, read as far as a sequence reaches.

use std::ops::Range;

use candle_core::Tensor;
use paring_kernels::plain::add_each;

use crate::{Error, Result, source::Source};

/// A stored table with a row for each position.
pub struct LearnedPositions {
    name: String,
    /// Rows before that of position 0.
    offset: usize,
    count: usize,
    dim: usize,
}

impl LearnedPositions {
    /// Checks that the table `name` (a full name) is stored as `[offset + count, dim]`; reads nothing. Row `offset` is
    /// that of position 0.
    pub fn open(source: &Source, name: String, offset: usize, count: usize, dim: usize) -> Result<Self> {
        source.require(&name, &[offset + count, dim], "max_position_embeddings is right")?;
        Ok(Self { name, offset, count, dim })
    }

    /// Errors when a sequence of `t` tokens is beyond the model's positions.
    pub fn check_length(&self, t: usize) -> Result<()> {
        if t <= self.count { Ok(()) } else { Err(Error::TooLong { tokens: t, max: self.count }) }
    }

    /// Adds the rows of positions 0..t to each row of `x [b, t, dim]`. Reads those rows only. Errors when `t` is too
    /// long.
    pub fn add(&self, source: &Source, x: &Tensor) -> Result<Tensor> {
        let t = x.dim(1)?;
        self.check_length(t)?;
        let rows = source.rows(&self.name, self.offset, t, self.dim)?;
        Ok(add_each(x, &Tensor::from_vec(rows, (t, self.dim), x.device())?)?)
    }

    /// Adds to each token of `x [1, n, dim]` the row of its position; `spans` are the positions of some sequences' tokens,
    /// one sequence after another, n together.
    pub fn add_at(&self, source: &Source, x: &Tensor, spans: &[Range<usize>]) -> Result<Tensor> {
        let mut rows = Vec::with_capacity(x.elem_count());
        for span in spans {
            self.check_length(span.end)?;
            rows.extend(source.rows(&self.name, self.offset + span.start, span.len(), self.dim)?);
        }
        Ok(add_each(x, &Tensor::from_vec(rows, (x.dim(1)?, self.dim), x.device())?)?)
    }

    /// Positions that it has.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The table's full name.
    pub fn name(&self) -> &str {
        &self.name
    }
}
