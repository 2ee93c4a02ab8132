//! The errors that a search saw, and what they are shares of.

use rayon::prelude::*;

/// Σ h (q − w)² of tiles on the grids of their whole ranges, and on those that were found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// On grids that span their weights.
    pub usual: f64,
    /// On those of the search.
    pub found: f64,
}

impl Errors {
    pub(super) fn add(&mut self, unit: f32, usual: f32, found: f32) {
        self.usual += f64::from(unit) * f64::from(usual);
        self.found += f64::from(unit) * f64::from(found);
    }
}

/// Σ h·w², of which an error is a share; without an importance all columns count the same.
pub fn weighted_squares(weight: &[f32], cols: usize, h: Option<&[f32]>) -> f64 {
    let of_row = |row: &[f32]| -> f64 {
        let square = |&w: &f32| f64::from(w) * f64::from(w);
        match h {
            Some(h) => row.iter().zip(h).map(|(w, &h)| f64::from(h) * square(w)).sum(),
            None => row.iter().map(square).sum(),
        }
    };
    let rows: Vec<f64> = weight.par_chunks(cols).map(of_row).collect();
    rows.iter().sum()
}
