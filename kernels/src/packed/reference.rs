//! The definition: weights one by one.

use super::codes::{Code, Rounding};
use super::grid::{Grid, Statistic};
use crate::matmul::Precision;
use crate::minifloat::{e2m1_number, e2m3_number, e4m3_number};

/// The number of a statistic for a row and group.
fn statistic(statistic: &Statistic, row: usize, group: usize, groups: usize, height: usize, round: Precision) -> f32 {
    let at = row / height * groups + group;
    match statistic {
        Statistic::Floats(values) | Statistic::Powers(values) => values[at],
        Statistic::E4m3(values, global) => values[at] / global,
        Statistic::Integers(values) => values[at] as f32,
        Statistic::Constant(value) => *value,
        Statistic::Coded { codes, height, scales, zeros } => {
            let tile = row / height * groups + group;
            round.round(scales[tile] * round.round(f32::from(codes[row * groups + group]) - zeros[tile]))
        }
    }
}

/// The weights of a grid, row-major `[rows, cols]`, in the order of columns of the matrix, as a product in this precision sees
/// them.
pub fn dense(grid: &Grid, rows: usize, cols: usize, product: Precision) -> Vec<f32> {
    let groups = grid.groups(cols);
    let rounding = Rounding { difference: grid.fractional, weight: grid.weight, product };
    let mut weights = vec![0f32; rows * cols];
    for row in 0..rows {
        for place in 0..cols {
            let group = grid.index.map_or(place / grid.group, |index| index[place] as usize);
            let find = |s: &Statistic| statistic(s, row, group, groups, grid.height, grid.weight);
            let code = grid.codes[row * cols + place];
            let number = match grid.code {
                Code::Signed(bits) => f32::from(((code << (8 - bits)) as i8) >> (8 - bits)),
                Code::Unsigned(_) => f32::from(code),
                Code::E4m3 => e4m3_number(code),
                Code::E2m3 => e2m3_number(code & 63),
                Code::E2m1 => e2m1_number(code & 15),
            };
            let coded = rounding.weight(number, find(&grid.scales), grid.zeros.as_ref().map_or(0.0, find));
            let outlier = grid.outliers.0.binary_search(&((row * cols + place) as u32));
            let weight = outlier.map_or(coded, |at| product.round(grid.outliers.1[at]));
            weights[row * cols + grid.order.map_or(place, |order| order[place] as usize)] = weight;
        }
    }
    weights
}
