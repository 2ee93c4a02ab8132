//! A plan's rounding as the sweep's grid format, and the sweep's grids as the file's.

use std::collections::BTreeSet;

use paring_format::{Element, Grid, ScaleType, Values, Zeros};
use paring_kernels::sweep::{GridFormat, Grids, Scales, global_scale, largest};
use paring_model::LinearInfo;
use paring_model::element::kernel_element;

use super::Stored;
use crate::plan::{Recipe, Rounding};

/// The grid format that `weight` is rounded to.
pub(super) fn format(rounding: &Rounding, stored: &Stored, weight: &[f32]) -> GridFormat {
    let computed = stored.precision();
    GridFormat {
        element: kernel_element(rounding.element),
        symmetric: rounding.symmetric,
        search: rounding.search,
        scales: match rounding.scale_type {
            ScaleType::Float => Scales::Float,
            ScaleType::Exponent => Scales::Exponent,
            ScaleType::E4m3 => {
                let amax = stored.amax.unwrap_or_else(|| largest(weight));
                Scales::E4m3 { global: global_scale(amax, computed) }
            }
        },
        computed,
        stored: Stored { dtype: rounding.dequantized(stored.dtype), ..*stored }.precision(),
    }
}

/// Codes and grids of a sweep as the file has them: integers signed, zero points only where they differ, and once what
/// the rows of a tile share.
pub(super) fn values(
    codes: Vec<u8>,
    grids: Grids,
    element: Element,
    format: &GridFormat,
    tile: [usize; 2],
    group_index: Option<Vec<u32>>,
) -> Values {
    let half = element.int_bits().map_or(0, |bits| 1i32 << (bits - 1));
    let (scale_type, global) = match format.scales {
        Scales::Float => (ScaleType::Float, None),
        Scales::E4m3 { global } => (ScaleType::E4m3, Some(global)),
        Scales::Exponent => (ScaleType::Exponent, None),
    };
    let signed = |v: i32| (v - half) as i8;
    let once = |all: Vec<f32>| match tile[0] {
        1 => all,
        height => all.chunks_exact(grids.groups).step_by(height).flatten().copied().collect(),
    };
    let zeros = || once(grids.zeros).into_iter().map(|zero| signed(zero as i32)).collect();
    Values::Codes {
        codes: codes.into_iter().map(|code| signed(i32::from(code))).collect(),
        grid: Grid {
            element,
            tile,
            zeros: (!format.symmetric).then(zeros).map(Zeros::Codes),
            scales: once(grids.scales),
            scale_type,
            global,
            group_index,
        },
    }
}

/// The largest weight among the linears of a block that servers load as one matrix, for each of them whose recipe asks for a
/// global scale, which they then share; `None` for the others. Weights are given with their linears and recipes.
pub(crate) fn shared_amax(linears: &[(&LinearInfo, &Recipe, &[f32])]) -> Vec<Option<f32>> {
    let sets: Vec<Option<usize>> =
        linears.iter().map(|(linear, recipe, _)| linear.fused.filter(|_| recipe.shares_amax())).collect();
    let mut shared = vec![None; linears.len()];
    for number in sets.iter().flatten().copied().collect::<BTreeSet<usize>>() {
        let members: Vec<usize> = (0..sets.len()).filter(|&i| sets[i] == Some(number)).collect();
        let amax = members.iter().map(|&i| largest(linears[i].2)).fold(0f32, f32::max);
        members.into_iter().for_each(|i| shared[i] = Some(amax));
    }
    shared
}
