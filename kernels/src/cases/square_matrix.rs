//! Cases of square matrices.

use super::{Case, Deviation, values};
use crate::square_matrix::SquareMatrix;

pub(super) fn cases() -> Vec<Case> {
    let case = |n: usize| {
        Case::new(format!("square: {n} rows"), move |device| {
            let mut elements = values(n * n, 1.0, 1);
            let diagonal: Vec<f32> = elements.iter().step_by(n + 1).copied().collect();
            let square = SquareMatrix::on_device(device, elements.clone())?;
            let mut right = square.n() == n && square.diagonal()? == diagonal && square.first_bad()?.is_none();
            right &= *square.to_host()? == elements;
            let bad = n * n / 2;
            elements[bad] = f32::NAN;
            right &= SquareMatrix::on_device(device, elements)?.first_bad()? == Some(bad / n);
            Ok(Deviation::ratio(if right { 0.0 } else { f64::INFINITY }))
        })
    };
    [1, 2, 33, 300].map(case).into()
}
