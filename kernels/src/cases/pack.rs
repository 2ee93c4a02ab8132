//! Cases of packing, unpacking and marks: every bit is held to the definition.

use candle_core::{Result, Tensor};

use super::{Case, Deviation, flat, random};
use crate::pack::{self, Fill, reference};

/// Rows and columns: around bytes, words and blocks of threads.
const SHAPES: [(usize, usize); 6] = [(1, 1), (3, 7), (5, 32), (2, 33), (17, 100), (40, 257)];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..=8u32 {
        for fill in [Fill::Bytes, Fill::Words] {
            cases.push(Case::new(format!("pack: {bits} bits in {fill:?}"), move |device| {
                let mut right = true;
                for (rows, cols) in SHAPES {
                    // Bits above the width, which a code may bring along, are left out.
                    let codes: Vec<u8> = (0..rows * cols).map(|i| (i * 97 + i / 7 * 31) as u8).collect();
                    let on_device = Tensor::from_slice(&codes, (rows, cols), device)?;
                    let packed = pack::pack(&on_device, bits, fill)?;
                    let width = fill.row_bytes(cols, bits);
                    right &= bytes(&packed)? == reference::pack(&codes, cols, bits, width);
                    let kept: Vec<u8> = codes.iter().map(|code| code & (u8::MAX >> (8 - bits))).collect();
                    right &= bytes(&pack::unpack(&packed, bits, cols)?)? == kept;
                }
                Ok(exact(right))
            }));
        }
    }
    cases.push(Case::new("pack: mask", |device| {
        let mut right = true;
        for (rows, cols) in SHAPES {
            let mut values = flat(&random(&[rows * cols], 1.0, 1, device)?)?;
            values.iter_mut().step_by(3).for_each(|v| *v = 0.0);
            values.iter_mut().step_by(5).for_each(|v| *v = -0.0);
            values[rows * cols / 2] = f32::NAN;
            let marks: Vec<u8> = values.iter().map(|&v| u8::from(v != 0.0)).collect();
            let got = pack::mask(&Tensor::from_vec(values, (rows, cols), device)?)?;
            right &= bytes(&got)? == reference::pack(&marks, cols, 1, Fill::Bytes.row_bytes(cols, 1));
        }
        Ok(exact(right))
    }));
    cases
}

fn bytes(x: &Tensor) -> Result<Vec<u8>> {
    x.flatten_all()?.to_vec1()
}

fn exact(right: bool) -> Deviation {
    Deviation::ratio(if right { 0.0 } else { f64::INFINITY })
}
