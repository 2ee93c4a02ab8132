//! One linear as it trains.

use paring_format::{Compressed, Dtype, ScaleType, Values};
use paring_kernels::adam::{Adam, Moments};
use paring_kernels::scales::Tiles;

use super::Rate;

/// The form of a linear, which says what of it trains.
#[derive(Clone, Debug)]
pub enum Form {
    /// The weights that are not 0, where they are floats; scales, where they are codes with scales of the matrix's type. Nothing of other
    /// values. With them the linear's bias.
    Compressed(Compressed),
    /// Nothing: the linear stays as it is in the block.
    Fixed,
}

/// The least that a scale may become, as a share of what it was: it keeps its sign.
const LEAST: f32 = 1.0 / 1024.0;

/// A matrix and what trains of it.
pub(super) enum Matrix {
    Weights(Weights),
    Codes(Box<Codes>),
}

/// Weights under a mask.
pub(super) struct Weights {
    rows: usize,
    cols: usize,
    dtype: Dtype,
    values: Vec<f32>,
    /// The mask: taken once, for a weight may become 0 on the way.
    kept: Vec<bool>,
    moments: Moments,
    /// The size of a step of rate 1.
    unit: f64,
}

/// The scales of codes, whose zero points stay.
pub(super) struct Codes {
    /// As it trains: in f32, its scales not rounded.
    now: Compressed,
    /// The type of the file.
    dtype: Dtype,
    /// Codes less zero points.
    distances: Vec<f32>,
    /// The sizes of steps of rate 1.
    units: Vec<f32>,
    /// The scales, divided by these.
    factors: Vec<f32>,
    /// The least factors, with the signs of the scales.
    least: Vec<f32>,
    moments: Moments,
}

impl Matrix {
    /// `None` where nothing of it trains.
    pub fn new(of: Compressed, rate: Rate) -> Option<Self> {
        let Compressed { rows, cols, dtype, .. } = of;
        match of.values {
            Values::Dense(values) => {
                let kept = values.iter().map(|&v| v != 0.0).collect();
                let (moments, unit) = (Moments::new(values.len()), rate.unit(&values));
                Some(Matrix::Weights(Weights { rows, cols, dtype, values, kept, moments, unit }))
            }
            Values::Codes { ref grid, .. } if grid.scale_type == ScaleType::Float && grid.global.is_none() => {
                Codes::new(of, rate).map(|codes| Matrix::Codes(Box::new(codes)))
            }
            Values::Codes { .. } | Values::Spqr(_) => None,
        }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Matrix::Weights(weights) => (weights.rows, weights.cols),
            Matrix::Codes(codes) => (codes.now.rows, codes.now.cols),
        }
    }

    /// The dense weight as it trains, in f32.
    pub fn dense(&self) -> Vec<f32> {
        match self {
            Matrix::Weights(weights) => weights.values.clone(),
            Matrix::Codes(codes) => codes.now.to_dense(),
        }
    }

    /// The matrix as the file can hold it.
    pub fn stored(&self) -> Compressed {
        match self {
            Matrix::Weights(Weights { rows, cols, dtype, values, .. }) => {
                let values = values.iter().map(|&v| dtype.round(v)).collect();
                Compressed { rows: *rows, cols: *cols, dtype: *dtype, values: Values::Dense(values) }
            }
            Matrix::Codes(codes) => codes.stored(),
        }
    }

    /// A step of Adam, for the gradient of the dense weight.
    pub fn step(&mut self, adam: &Adam, number: usize, rate: f64, mut gradient: Vec<f32>) {
        match self {
            Matrix::Weights(Weights { values, kept, moments, unit, .. }) => {
                gradient.iter_mut().zip(&*kept).for_each(|(g, &kept)| *g = if kept { *g } else { 0.0 });
                adam.step(number, rate * *unit, 1.0, values, &gradient, moments);
            }
            Matrix::Codes(codes) => codes.step(adam, number, rate, &gradient),
        }
    }

    /// A copy of the numbers that train, for [`Matrix::restore`].
    pub fn state(&self) -> Vec<f32> {
        match self {
            Matrix::Weights(weights) => weights.values.clone(),
            Matrix::Codes(codes) => codes.factors.clone(),
        }
    }

    /// Takes back a state; moments are not part of it.
    pub fn restore(&mut self, state: Vec<f32>) {
        match self {
            Matrix::Weights(weights) => weights.values = state,
            Matrix::Codes(codes) => {
                codes.factors = state;
                codes.scale();
            }
        }
    }
}

impl Codes {
    fn new(of: Compressed, rate: Rate) -> Option<Self> {
        let (dtype, mut now) = (of.dtype, Compressed { dtype: Dtype::F32, ..of });
        let Values::Codes { grid, .. } = &mut now.values else { return None };
        let ones = vec![1.0; grid.scales.len()];
        let scales = std::mem::replace(&mut grid.scales, ones);
        let distances = now.to_dense();
        let units: Vec<f32> = scales.iter().map(|&scale| rate.unit(&[scale]) as f32).collect();
        let factors: Vec<f32> =
            scales.iter().zip(&units).map(|(scale, unit)| scale / unit.max(f32::MIN_POSITIVE)).collect();
        let least = factors.iter().map(|factor| factor * LEAST).collect();
        let moments = Moments::new(factors.len());
        let mut codes = Self { now, dtype, distances, units, factors, least, moments };
        codes.scale();
        Some(codes)
    }

    /// Sets the scales to what the factors say.
    fn scale(&mut self) {
        if let Values::Codes { grid, .. } = &mut self.now.values {
            grid.scales = self.factors.iter().zip(&self.units).map(|(factor, unit)| factor * unit).collect();
        }
    }

    /// Scales that the type rounds to 0 become its least.
    fn stored(&self) -> Compressed {
        let mut stored = Compressed { dtype: self.dtype, ..self.now.clone() };
        if let Values::Codes { grid, .. } = &mut stored.values {
            for scale in &mut grid.scales {
                let rounded = self.dtype.round(*scale);
                let is_lost = rounded == 0.0 && *scale != 0.0;
                *scale = if is_lost { self.dtype.least().copysign(*scale) } else { rounded };
            }
        }
        stored
    }

    fn step(&mut self, adam: &Adam, number: usize, rate: f64, gradient: &[f32]) {
        let Values::Codes { grid, .. } = &self.now.values else { return };
        let [height, width] = grid.tile;
        let tiles = Tiles { cols: self.now.cols, height, width, index: grid.group_index.as_deref() };
        let mut of_factors = tiles.sums(gradient, &self.distances);
        of_factors.iter_mut().zip(&self.units).for_each(|(gradient, unit)| *gradient *= unit);
        adam.step(number, rate, 1.0, &mut self.factors, &of_factors, &mut self.moments);
        for (factor, &least) in self.factors.iter_mut().zip(&self.least) {
            *factor = if least < 0.0 { factor.min(least) } else { factor.max(least) };
        }
        self.scale();
    }
}
