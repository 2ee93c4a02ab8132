//! Cases of sums, ReLU and the search for what is not finite.

use candle_core::{Result, Tensor};

use super::{Case, Deviation, flat, largest, random};
use crate::plain;

/// Sizes around those of vectors, blocks and tasks.
const SIZES: [usize; 4] = [1, 255, 257, 40_003];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in SIZES {
        cases.push(Case::new(format!("plain: add {size}"), move |device| {
            let (a, b) = (random(&[size], 1.0, 1, device)?, random(&[size], 1.0, 2, device)?);
            let want: Vec<f64> = flat(&a)?.iter().zip(flat(&b)?).map(|(a, b)| f64::from(a + b)).collect();
            // One rounding, the same everywhere.
            Ok(Deviation::ratio(largest(&flat(&plain::add(&a, &b)?)?, &want, |_, _| f64::MIN_POSITIVE)))
        }));
        cases.push(Case::new(format!("plain: relu {size}"), move |device| {
            let mut values = flat(&random(&[size], 1.0, 3, device)?)?;
            values[size / 2] = f32::NAN;
            let want: Vec<f64> = values.iter().map(|&v| f64::from(if v < 0.0 { 0.0 } else { v })).collect();
            let x = Tensor::from_vec(values, size, device)?;
            Ok(Deviation::ratio(largest(&flat(&plain::relu(&x)?)?, &want, |_, _| f64::MIN_POSITIVE)))
        }));
        cases.push(Case::new(format!("plain: all_finite {size}"), move |device| {
            let values = flat(&random(&[size], 1.0, 4, device)?)?;
            let seen = |at: Option<(usize, f32)>| -> Result<bool> {
                let mut values = values.clone();
                at.into_iter().for_each(|(i, v)| values[i] = v);
                plain::all_finite(&Tensor::from_vec(values, size, device)?)
            };
            let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            let mut right = seen(None)?;
            for at in [0, size / 2, size - 1] {
                for value in bad {
                    right &= !seen(Some((at, value)))?;
                }
            }
            Ok(Deviation::ratio(if right { 0.0 } else { f64::INFINITY }))
        }));
    }
    for (rows, width) in [(1, 1), (3, 7), (40, 256), (2, 40_003)] {
        cases.push(Case::new(format!("plain: add {width} to each of {rows}"), move |device| {
            let (x, y) = (random(&[rows, width], 1.0, 5, device)?, random(&[width], 1.0, 6, device)?);
            let each = flat(&y)?;
            let want: Vec<f64> = flat(&x)?.iter().enumerate().map(|(i, x)| f64::from(x + each[i % width])).collect();
            Ok(Deviation::ratio(largest(&flat(&plain::add_each(&x, &y)?)?, &want, |_, _| f64::MIN_POSITIVE)))
        }));
    }
    cases
}
