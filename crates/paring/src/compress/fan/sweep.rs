//! The third stage: the sweeps, each of which uses all threads.

use std::sync::Arc;

use super::prepare::Ready;
use crate::Result;
use crate::methods::{Matrix, Outcome, refining_products};

/// A linear after its sweep.
pub(super) struct Swept<'a> {
    pub ready: Ready<'a>,
    pub outcome: Outcome,
}

/// Sweeps the linears of a fan; `begins` is called with the first linear of those that are swept together.
pub(super) fn sweep<'a>(mut ready: Vec<Ready<'a>>, mut begins: impl FnMut(&str)) -> Result<Vec<Swept<'a>>> {
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(ready.len());
    for together in ready.chunk_by_mut(|a, b| a.is_swept_with(b)) {
        let Ready { linear: first, prepared, .. } = &together[0];
        begins(&first.info.name);
        let (recipe, cols, prepared) = (first.recipe, first.info.cols, Arc::clone(prepared));
        let matrices: Vec<Matrix<'_>> = together.iter_mut().map(Ready::take_matrix).collect();
        outcomes.extend(recipe.compress_all(matrices, cols, &prepared)?);
    }
    Ok(ready.into_iter().zip(outcomes).map(|(ready, outcome)| Swept { ready, outcome }).collect())
}

/// Operations of [`sweep`]: those that spread errors, and products with the Gram matrix after that.
pub(super) fn work(ready: &[Ready<'_>]) -> f64 {
    let work = |linear: &Ready<'_>| {
        let products = 2 * refining_products(linear.linear.recipe) + usize::from(linear.prepared.damp().is_some());
        let info = &linear.linear.info;
        (products * info.rows * info.cols * info.cols) as f64
    };
    ready.iter().map(work).sum()
}
