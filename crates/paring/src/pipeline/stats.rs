//! The tap that collects the statistics of a fan's inputs which methods need.

use std::time::Instant;

use candle_core::{Device, Tensor};
use paring_kernels::gram::{Gram, GramPrecision, Squares};
use paring_kernels::matmul::Precision;
use paring_kernels::quantize::range;
use paring_kernels::square_matrix::SquareMatrix;
use paring_model::fan::Tap;

use super::f16_watch::F16Watch;
use crate::Result;
use crate::plan::Curvature;
use crate::report::{Clock, Stage};

/// Statistics of one fan's inputs, as the published codes scale them.
#[derive(Clone, Debug)]
pub enum Stats {
    /// (1/n) Σ x² over all tokens, `[cols]`, n = windows.
    Norms(Vec<f32>),
    /// (2/n) Σ x xᵀ over all tokens, `[cols, cols]`, n = windows.
    Gram(SquareMatrix),
}

impl Stats {
    /// The first feature whose squares add up to no finite number. Errors when the device does.
    pub(crate) fn first_bad(&self) -> Result<Option<usize>> {
        // No other sum of a Gram matrix is larger than the largest of its diagonal.
        let bad = |sums: &[f32]| sums.iter().position(|sum| !sum.is_finite());
        Ok(match self {
            Stats::Norms(sums) => bad(sums),
            Stats::Gram(h) => bad(&h.diagonal()?),
        })
    }
}

enum Sum {
    Norms(Squares),
    Gram(Gram),
}

/// The least and the largest numbers of what scales will be stored for, 0 among them; `None` where they are not needed.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    /// Of each fan's inputs.
    pub fans: Vec<Option<[f32; 2]>>,
    /// Of the keys and of the values that the attention caches.
    pub cache: Option<[[f32; 2]; 2]>,
    /// The fan that reads the attention: keys and values are seen on the way to it.
    pub output_fan: usize,
}

impl Ranges {
    /// The fan whose input a pass has to reach.
    pub(crate) fn last(&self) -> Option<usize> {
        self.fans.iter().rposition(Option::is_some).max(self.cache.map(|_| self.output_fan))
    }
}

/// Takes in the numbers of `x`.
fn widen(seen: &mut [f32; 2], x: &Tensor) -> paring_model::Result<()> {
    let [least, most] = range(x)?;
    *seen = [seen[0].min(least), seen[1].max(most)];
    Ok(())
}

/// Collects the statistics of some of a block's fans.
pub struct Collector<'a> {
    /// One per fan of the block; `None` where nothing is collected.
    sums: Vec<Option<Sum>>,
    ranges: &'a mut Ranges,
    watch: F16Watch,
    clock: &'a mut Clock,
}

impl<'a> Collector<'a> {
    /// Collects what is needed of each fan, given with its number of features, of inputs on `device`, and widens those
    /// `ranges` that are asked for.
    pub fn new(
        fans: &[Option<(Curvature, usize)>],
        ranges: &'a mut Ranges,
        (precision, products): (Precision, GramPrecision),
        device: &Device,
        clock: &'a mut Clock,
    ) -> Result<Self> {
        let make = |fan: &Option<(Curvature, usize)>| match *fan {
            None | Some((Curvature::Flat, _)) => Ok(None),
            Some((Curvature::Diagonal, cols)) => Ok(Some(Sum::Norms(Squares::on_device(device, cols)?))),
            Some((Curvature::Full, cols)) => {
                Ok(Some(Sum::Gram(Gram::on_device(device, cols, precision)?.multiplied(products)?)))
            }
        };
        Ok(Self { sums: fans.iter().map(make).collect::<Result<_>>()?, ranges, watch: F16Watch::new(precision), clock })
    }

    /// Tells whether products round some of the inputs to infinity.
    pub(crate) fn overflowed(&self) -> bool {
        self.watch.overflowed()
    }

    /// The statistics of `windows` windows, one entry per fan. Errors when the device does.
    pub fn finish(self, windows: usize) -> Result<Vec<Option<Stats>>> {
        let scale = |sum| match sum {
            Sum::Norms(sums) => Ok(Stats::Norms(sums.finish()?.iter().map(|s| (s / windows as f64) as f32).collect())),
            Sum::Gram(gram) => Ok(Stats::Gram(gram.finish(2.0 / windows as f32)?)),
        };
        let start = Instant::now();
        let stats = self.sums.into_iter().map(|sum| sum.map(scale).transpose()).collect();
        self.clock.add(Stage::Gram, start, 0.0);
        stats
    }
}

impl Tap for Collector<'_> {
    fn see(&mut self, fan: usize, x: &Tensor) -> paring_model::Result<()> {
        self.watch.look(x)?;
        if let Some(Some(seen)) = self.ranges.fans.get_mut(fan) {
            widen(seen, x)?;
        }
        let Some(Some(sum)) = self.sums.get_mut(fan) else { return Ok(()) };
        // A GPU works asynchronously: what it still does is not to be counted here, and what it does here is.
        x.device().synchronize()?;
        let start = Instant::now();
        let operations = match sum {
            Sum::Norms(sums) => {
                sums.add(x)?;
                0.0
            }
            Sum::Gram(gram) => {
                let before = gram.tokens();
                gram.add(x)?;
                let cols = x.dims().last().copied().unwrap_or(0) as f64;
                cols * cols * (gram.tokens() - before) as f64
            }
        };
        x.device().synchronize()?;
        self.clock.add(Stage::Gram, start, operations);
        Ok(())
    }

    fn cache(&mut self, keys: &Tensor, values: &Tensor) -> paring_model::Result<()> {
        match &mut self.ranges.cache {
            None => Ok(()),
            Some([of_keys, of_values]) => widen(of_keys, keys).and_then(|()| widen(of_values, values)),
        }
    }
}
