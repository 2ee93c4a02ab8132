//! The sweep on a GPU: the matrices of a fan whose rules are of a kind lie one below the other and are swept as one.

mod args;
mod kind;
mod mask;
mod stack;

use candle_core::Result;

use self::kind::Kind;
use super::*;
use crate::cholesky::Factor;
use crate::cuda::with_view;
use crate::square_matrix::Place;

/// [`super::fan`] with a factor on a GPU. The results are in host memory.
pub(super) fn fan(parts: Vec<Part<'_>>, cols: usize, slice: usize, factor: &Factor) -> Result<Vec<Swept>> {
    let Place::Gpu(u) = &factor.u.place else { candle_core::bail!("a factor on a GPU is needed") };
    if u.dims() != [cols, cols] {
        candle_core::bail!("a factor of {:?} for {cols} columns", u.shape());
    }
    let is_searched = |part: &Part<'_>| {
        let at_slice = |round: &Round<'_>| matches!(round.fit, Fit::AtSlice { .. });
        part.rule.round.is_some_and(|round| at_slice(&round) && round.format.search == Search::Weighted)
    };
    if parts.iter().any(is_searched) {
        candle_core::bail!("weighted scales of groups that begin in a slice are searched on the CPU only");
    }
    let mut rest: Vec<_> = parts.into_iter().enumerate().map(|(at, part)| (at, Kind::new(part.rule), part)).collect();
    let mut done: Vec<(usize, Swept)> = Vec::with_capacity(rest.len());
    while let Some(&(_, kind, _)) = rest.first() {
        let (alike, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, other, _)| *other == kind);
        let (places, alike): (Vec<usize>, Vec<Part<'_>>) = alike.into_iter().map(|(at, _, part)| (at, part)).unzip();
        let swept = with_view::<f32, _>(u, |u, device| stack::sweep(device, u, alike, cols, slice, kind))?;
        done.extend(places.into_iter().zip(swept));
        rest = others;
    }
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, swept)| swept).collect())
}
