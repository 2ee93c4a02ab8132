//! Bytes of a compressed linear on disk: its layout encodes a matrix of the same shape.

use paring_format::{Compressed, Dtype, Grid, Outliers, ScaleType, Spqr, Statistic, Values, Zeros};
use paring_format::{Scheme, layouts};

use super::Kind;
use crate::Result;
use crate::plan::{ActOrder, Pattern, Permutation, Recipe};

/// Rows after which all layouts repeat themselves, with blocks and second levels that divide it.
const PERIOD: usize = 256;

/// Bytes of the tensors of a linear `[rows, cols]`, one by one. `dtype` is the type of its floats, `outliers` the share of
/// weights that SpQR keeps exact.
pub(crate) fn parts(
    kind: &Kind,
    recipe: &Recipe,
    [rows, cols]: [usize; 2],
    dtype: Dtype,
    outliers: f64,
) -> Result<Vec<usize>> {
    let of = |rows: usize| encoded(kind, recipe, [rows, cols], dtype, outliers);
    let divides = |height: usize| PERIOD.is_multiple_of(height.max(1));
    let repeats = recipe.spqr.as_ref().is_none_or(|s| divides(s.second_rows))
        && recipe.rounding.is_none_or(|r| divides(r.tile(PERIOD, cols)[0]) || r.tile(rows, cols)[0] == rows);
    if rows <= 3 * PERIOD || !repeats {
        return of(rows);
    }
    // The matrix itself may be larger than memory.
    let least = PERIOD + rows % PERIOD;
    let (one, two) = (of(least)?, of(least + PERIOD)?);
    let times = (rows - least) / PERIOD;
    Ok(one.iter().zip(&two).map(|(one, two)| one + times * two.saturating_sub(*one)).collect())
}

pub(crate) fn encoded(
    kind: &Kind,
    recipe: &Recipe,
    shape: [usize; 2],
    dtype: Dtype,
    outliers: f64,
) -> Result<Vec<usize>> {
    let c = sample(recipe, shape, dtype, outliers, kind);
    let scheme = kind.scheme.clone().unwrap_or_else(Scheme::dense);
    let parts = kind.layout.encode(&scheme, &c)?;
    Ok(parts.into_values().map(|part| part.bytes.len()).collect())
}

/// A matrix as the recipe makes them, with numbers that every type has.
pub(crate) fn sample(
    recipe: &Recipe,
    [rows, cols]: [usize; 2],
    dtype: Dtype,
    outliers: f64,
    kind: &Kind,
) -> Compressed {
    let count = rows * cols;
    // Layouts of sparse weights take two of four where nothing says otherwise.
    let keep = |i: usize| match recipe.pattern {
        Some(Pattern::NofM { keep, of }) => i % of < keep,
        Some(Pattern::Unstructured(share)) => i % cols >= crate::methods::share_of(share, cols),
        Some(Pattern::Given) | None => kind.layout.instead().is_none() || i % 4 < 2,
    };
    let dense = |dtype| {
        let values = (0..count).map(|i| f32::from(u8::from(keep(i)))).collect();
        Compressed { rows, cols, dtype, values: Values::Dense(values) }
    };
    let Some(rounding) = recipe.rounding else { return dense(dtype) };
    let dtype = rounding.dequantized(dtype);
    if kind.layout.name() == layouts::DENSE.name() {
        return dense(dtype);
    }
    let Some(spqr) = &recipe.spqr else {
        let tile = rounding.tile(rows, cols);
        let scales = rows.div_ceil(tile[0]) * cols.div_ceil(tile[1]);
        let grid = Grid {
            element: rounding.element,
            tile,
            scales: vec![1.0; scales],
            scale_type: rounding.scale_type,
            global: (rounding.scale_type == ScaleType::E4m3).then_some(1.0),
            zeros: (!rounding.symmetric).then(|| Zeros::Codes(vec![0; scales])),
            group_index: (rounding.act_order == ActOrder::Group)
                .then(|| (0..cols).map(|j| (j / tile[1]) as u32).collect()),
        };
        let codes = (0..count).map(|i| i8::from(keep(i))).collect();
        return Compressed { rows, cols, dtype, values: Values::Codes { codes, grid } };
    };
    let bits = rounding.element.bits();
    let group_size = rounding.group_size().unwrap_or(cols).min(cols);
    let groups = cols.div_ceil(group_size);
    let statistic = |bits: Option<u32>| match bits {
        None => Statistic::Plain(vec![0.5; rows * groups]),
        Some(bits) => {
            let tiles = rows.div_ceil(spqr.second_rows) * groups;
            let (codes, scales, zeros) = (vec![0; rows * groups], vec![1.0; tiles], vec![0.5; tiles]);
            Statistic::Coded { bits, rows: spqr.second_rows, codes, scales, zeros }
        }
    };
    let zeros = match spqr.zero_bits_used(&rounding) {
        Some(bits) => statistic(Some(bits)),
        None if rounding.symmetric => Statistic::Constant((1u32 << (bits - 1)) as f32),
        None if spqr.round_zero => Statistic::Integers(vec![0; rows * groups]),
        None => statistic(None),
    };
    let step = if outliers > 0.0 { (1.0 / outliers) as usize } else { usize::MAX };
    let exact = |i: &usize| (i + 1).is_multiple_of(step) || i % cols + spqr.keep_last_columns >= cols;
    let at: Vec<u32> = (0..count).filter(exact).map(|i| i as u32).collect();
    let spqr = Spqr {
        bits,
        group_size,
        // An order that the data chose is never that of the file.
        order: (spqr.permutation != Permutation::Identity).then(|| (0..cols as u32).rev().collect()),
        codes: vec![0; count],
        scales: statistic(spqr.scale_bits),
        zeros,
        outliers: Outliers { values: vec![1.0; at.len()], at },
    };
    Compressed { rows, cols, dtype, values: Values::Spqr(Box::new(spqr)) }
}
