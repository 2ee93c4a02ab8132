//! One linear as it trains.

use paring_format::{Compressed, Dtype, Grid, ScaleType, Values, Zeros};
use paring_kernels::adam::{Adam, Moments};
use paring_kernels::scales::Tiles;

/// The form of a linear, which says what of it trains.
#[derive(Clone, Debug)]
pub enum Form {
    /// The weights that are not 0, where they are floats; scales, and zero points that are no codes, where they are codes with scales
    /// of the matrix's type. Nothing of other values.
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
}

/// Scales and zero points of codes.
pub(super) struct Codes {
    /// As it was given; its scales and zero points are replaced in what is stored.
    of: Compressed,
    /// The numbers of codes less zero points that are codes.
    units: Vec<f32>,
    scales: Vec<f32>,
    /// The least scales, with the signs of the scales.
    least: Vec<f32>,
    scale_moments: Moments,
    zeros: Option<(Vec<f32>, Moments)>,
}

impl Matrix {
    /// `None` where nothing of it trains.
    pub fn new(of: Compressed) -> Option<Self> {
        let Compressed { rows, cols, dtype, .. } = of;
        match of.values {
            Values::Dense(values) => {
                let kept = values.iter().map(|&v| v != 0.0).collect();
                let moments = Moments::new(values.len());
                Some(Matrix::Weights(Weights { rows, cols, dtype, values, kept, moments }))
            }
            Values::Codes { ref grid, .. } if grid.scale_type == ScaleType::Float && grid.global.is_none() => {
                Some(Matrix::Codes(Box::new(Codes::new(of))))
            }
            Values::Codes { .. } | Values::Spqr(_) => None,
        }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Matrix::Weights(weights) => (weights.rows, weights.cols),
            Matrix::Codes(codes) => (codes.of.rows, codes.of.cols),
        }
    }

    /// The dense weight as it trains, in f32.
    pub fn dense(&self) -> Vec<f32> {
        match self {
            Matrix::Weights(weights) => weights.values.clone(),
            Matrix::Codes(codes) => codes.dense(),
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
            Matrix::Weights(Weights { values, kept, moments, .. }) => {
                gradient.iter_mut().zip(&*kept).for_each(|(g, &kept)| *g = if kept { *g } else { 0.0 });
                adam.step(number, rate, 1.0, values, &gradient, moments);
            }
            Matrix::Codes(codes) => codes.step(adam, number, rate, &gradient),
        }
    }

    /// The numbers that train, for [`Matrix::restore`].
    pub fn state(&self) -> Vec<Vec<f32>> {
        match self {
            Matrix::Weights(weights) => vec![weights.values.clone()],
            Matrix::Codes(codes) => {
                let zeros = codes.zeros.iter().map(|(zeros, _)| zeros.clone());
                std::iter::once(codes.scales.clone()).chain(zeros).collect()
            }
        }
    }

    /// Takes back a state; moments are not part of it.
    pub fn restore(&mut self, state: Vec<Vec<f32>>) {
        let mut state = state.into_iter();
        let places: Vec<&mut Vec<f32>> = match self {
            Matrix::Weights(weights) => vec![&mut weights.values],
            Matrix::Codes(codes) => {
                let zeros = codes.zeros.iter_mut().map(|(zeros, _)| zeros);
                std::iter::once(&mut codes.scales).chain(zeros).collect()
            }
        };
        for place in places {
            if let Some(values) = state.next() {
                *place = values;
            }
        }
    }
}

impl Codes {
    fn new(of: Compressed) -> Self {
        let (mut units, mut scales, mut zeros) = (Vec::new(), Vec::new(), None);
        if let Values::Codes { codes, grid } = &of.values {
            scales.clone_from(&grid.scales);
            units = codes.iter().map(|&code| grid.element.value(code)).collect();
            match &grid.zeros {
                None => {}
                Some(Zeros::Codes(zeros)) => {
                    for (i, unit) in units.iter_mut().enumerate() {
                        *unit -= f32::from(zeros[tile_of(grid, of.cols, i)]);
                    }
                }
                Some(Zeros::Floats(values)) => zeros = Some((values.clone(), Moments::new(values.len()))),
            }
        }
        let least = scales.iter().map(|scale| scale * LEAST).collect();
        Self { scale_moments: Moments::new(scales.len()), of, units, scales, least, zeros }
    }

    fn grid(&self) -> Option<&Grid> {
        if let Values::Codes { grid, .. } = &self.of.values { Some(grid) } else { None }
    }

    /// Codes less all zero points.
    fn distances(&self, grid: &Grid) -> Vec<f32> {
        let mut distances = self.units.clone();
        if let Some((zeros, _)) = &self.zeros {
            for (i, distance) in distances.iter_mut().enumerate() {
                *distance -= zeros[tile_of(grid, self.of.cols, i)];
            }
        }
        distances
    }

    fn dense(&self) -> Vec<f32> {
        let Some(grid) = self.grid() else { return Vec::new() };
        let mut values = self.distances(grid);
        for (i, value) in values.iter_mut().enumerate() {
            *value *= self.scales[tile_of(grid, self.of.cols, i)];
        }
        values
    }

    fn stored(&self) -> Compressed {
        let mut of = self.of.clone();
        let dtype = of.dtype;
        if let Values::Codes { grid, .. } = &mut of.values {
            grid.scales = self.scales.iter().map(|&scale| dtype.round(scale)).collect();
            if let Some((zeros, _)) = &self.zeros {
                grid.zeros = Some(Zeros::Floats(zeros.clone()));
            }
        }
        of
    }

    fn step(&mut self, adam: &Adam, number: usize, rate: f64, gradient: &[f32]) {
        let Some(grid) = self.grid() else { return };
        let [height, width] = grid.tile;
        let tiles = Tiles { cols: self.of.cols, height, width, index: grid.group_index.as_deref() };
        let of_scales = tiles.sums(gradient, &self.distances(grid));
        let of_zeros: Option<Vec<f32>> = self.zeros.as_ref().map(|_| {
            let sums = tiles.plain_sums(gradient);
            sums.iter().zip(&self.scales).map(|(sum, scale)| -scale * sum).collect()
        });
        adam.step(number, rate, 1.0, &mut self.scales, &of_scales, &mut self.scale_moments);
        for (scale, &least) in self.scales.iter_mut().zip(&self.least) {
            *scale = if least < 0.0 { scale.min(least) } else { scale.max(least) };
        }
        if let Some(((zeros, moments), gradient)) = self.zeros.as_mut().zip(of_zeros) {
            adam.step(number, rate, 1.0, zeros, &gradient, moments);
        }
    }
}

/// The number of the scale of element `i` of a matrix of `cols` columns.
fn tile_of(grid: &Grid, cols: usize, i: usize) -> usize {
    i / cols / grid.tile[0].max(1) * grid.groups(cols) + grid.group_of(i % cols)
}
