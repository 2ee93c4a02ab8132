//! The sweep on a GPU: the matrices of a fan whose rules are of a kind lie one below the other and are swept as one.

mod args;
mod stack;

use candle_core::Result;

use super::*;
use crate::cuda::with_view;
use crate::square::Place;

/// [`super::fan`] with a factor on a GPU. The results are in host memory.
pub(super) fn fan(parts: Vec<Part<'_>>, cols: usize, slice: usize, factor: &Factor) -> Result<Vec<Swept>> {
    let Place::Gpu(u) = &factor.u.place else { candle_core::bail!("a factor on a GPU is needed") };
    if u.dims() != [cols, cols] {
        candle_core::bail!("a factor of {:?} for {cols} columns", u.shape());
    }
    let mut rest = Vec::with_capacity(parts.len());
    for (at, part) in parts.into_iter().enumerate() {
        rest.push((at, Kind::of(part.rule)?, part));
    }
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

/// What rules have in common that are swept at once.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kind<'a> {
    drop: Dropped,
    /// Without the global scale, which a row may have of its own.
    round: Option<(GridFormat, When<'a>)>,
    stored: Precision,
}

/// [`Drop`], without what a matrix has of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dropped {
    Nothing,
    Given,
    Threshold,
    NofM { n: usize, m: usize },
}

/// [`Fit`], without the grids.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When<'a> {
    Before { groups: usize, group_of: &'a [u32] },
    AtSlice { group_size: usize },
}

impl<'a> Kind<'a> {
    fn of(rule: Rule<'a>) -> Result<Self> {
        let drop = match rule.drop {
            None => Dropped::Nothing,
            Some(Drop::Given(_)) => Dropped::Given,
            Some(Drop::Threshold { .. }) => Dropped::Threshold,
            Some(Drop::NofM { n, m }) => Dropped::NofM { n, m },
            Some(Drop::PerRow { .. }) => candle_core::bail!("weights dropped per row are swept on the CPU"),
        };
        let round = rule.round.map(|Round { format, fit }| {
            let scales = match format.scales {
                Scales::E4m3 { .. } => Scales::E4m3 { global: 1.0 },
                other => other,
            };
            let when = match fit {
                Fit::Before { grids, group_of } => When::Before { groups: grids.groups, group_of },
                Fit::AtSlice { group_size } => When::AtSlice { group_size },
            };
            (GridFormat { scales, ..format }, when)
        });
        Ok(Self { drop, round, stored: rule.stored })
    }
}
