//! Arguments of the kernels that are passed by value, laid out as in decode.cuh. Places are bytes from the beginning of a weight's
//! memory, and negative where there is nothing.

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::DeviceRepr;

use super::super::codes::{Code, Codes};
use super::super::host::{Host, Stored};
use super::super::numbers::{self, Floats, LANES};
use super::super::outliers::{Columns, Outliers};
use super::super::strip::{Plain, Strip};
use super::parts::Parts;
use crate::cuda::int;
use crate::matmul::stored;
use crate::minifloat::e4m3_number;

/// There is nothing.
const NOTHING: i64 = -1;

/// `Numbers` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
struct Numbers {
    at: i64,
    table: i64,
    kind: i32,
    stride: i32,
    height: i32,
    filler: i32,
}

/// `Statistic` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
struct Statistic {
    codes: Numbers,
    scales: Numbers,
    zeros: Numbers,
    value: f32,
    kind: i32,
    rounding: i32,
    filler: i32,
}

/// `Packed` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct PackedArgs {
    pub values: i64,
    row_bytes: i64,
    masks: i64,
    starts: i64,
    index: i64,
    pub order: i64,
    pub outliers: i64,
    outlier_cols: i64,
    differences: i64,
    exact: i64,
    scales: Statistic,
    zeros: Statistic,
    rows: i32,
    cols: i32,
    kind: i32,
    element: i32,
    width: i32,
    offset: f32,
    group: i32,
    pub groups: i32,
    steps: i32,
    difference: i32,
    weight: i32,
    product: i32,
    stored: i32,
    wide: i32,
}

// SAFETY: plain numbers, laid out as C does.
unsafe impl DeviceRepr for PackedArgs {}

impl Numbers {
    const NONE: Self = Self { at: NOTHING, table: NOTHING, kind: 0, stride: 0, height: 1, filler: 0 };

    /// Puts the numbers among the parts, and beside bytes a table of what they stand for.
    fn new<'a>(parts: &mut Parts<'a>, plain: &'a Plain) -> Result<Self> {
        let mut coded = |bytes: &'a [u8], kind: i32, count: usize, number: &dyn Fn(u8) -> f32| {
            let table: Vec<f32> = (0..count).map(|byte| number(byte as u8)).collect();
            (parts.add(bytes), parts.add_copy(&table), kind)
        };
        let (at, table, kind) = match &plain.numbers {
            numbers::Numbers::E4m3(bytes, global) => coded(bytes, 3, 256, &|byte| e4m3_number(byte) / global),
            numbers::Numbers::Exponents(bytes) => coded(bytes, 3, 256, &numbers::power),
            numbers::Numbers::Bytes(bytes, low) => coded(bytes, 3, 256, &|byte| f32::from(byte) + *low as f32),
            numbers::Numbers::Nibbles(bytes, low) => coded(bytes, 4, 16, &|half| f32::from(half) + *low as f32),
            numbers::Numbers::Floats(floats) => (floats_of(parts, floats), NOTHING, stored(floats.precision())),
        };
        Ok(Self { at, table, kind, stride: int(plain.stride)?, height: int(plain.height)?, filler: 0 })
    }
}

impl Statistic {
    const NONE: Self = Self::constant(0.0);

    const fn constant(value: f32) -> Self {
        let [codes, scales, zeros] = [Numbers::NONE; 3];
        Self { codes, scales, zeros, value, kind: 0, rounding: 0, filler: 0 }
    }

    fn new<'a>(parts: &mut Parts<'a>, strip: &'a Strip) -> Result<Self> {
        Ok(match strip {
            Strip::Constant(value) => Self::constant(*value),
            Strip::Plain(plain) => Self { codes: Numbers::new(parts, plain)?, kind: 1, ..Self::NONE },
            Strip::Coded { codes, scales, zeros, round } => Self {
                codes: Numbers::new(parts, codes)?,
                scales: Numbers::new(parts, scales)?,
                zeros: Numbers::new(parts, zeros)?,
                kind: 2,
                rounding: stored(*round),
                ..Self::NONE
            },
        })
    }
}

impl PackedArgs {
    /// Puts all that a weight has among the parts. Errors on a matrix of more rows or columns than kernels count.
    pub fn new<'a>(parts: &mut Parts<'a>, host: &'a Host) -> Result<Self> {
        let none = Self {
            values: NOTHING,
            row_bytes: 0,
            masks: NOTHING,
            starts: NOTHING,
            index: NOTHING,
            order: host.order.as_ref().map_or(NOTHING, |order| parts.add(order)),
            outliers: NOTHING,
            outlier_cols: NOTHING,
            differences: NOTHING,
            exact: NOTHING,
            scales: Statistic::NONE,
            zeros: Statistic::NONE,
            rows: int(host.rows)?,
            cols: int(host.cols)?,
            kind: 0,
            element: 0,
            width: 0,
            offset: 0.0,
            group: 1,
            groups: 1,
            steps: 1,
            difference: 0,
            weight: 0,
            product: stored(host.product),
            stored: 0,
            wide: 0,
        };
        let args = match &host.store {
            Stored::Dense(floats) => {
                Self { kind: 2, values: floats_of(parts, floats), stored: stored(floats.precision()), ..none }
            }
            Stored::Masked(mask) => Self {
                kind: 1,
                masks: parts.add(&mask.masks),
                starts: match mask.starts() {
                    Some(starts) => parts.add_copy(&starts),
                    None => candle_core::bail!("a weight of more than {} values on a GPU", u32::MAX),
                },
                values: floats_of(parts, &mask.values),
                stored: stored(mask.values.precision()),
                ..none
            },
            Stored::Codes(codes) => none.with_codes(parts, codes)?,
            Stored::Uneven(codes, index) => {
                let index = index.as_ref().map_or(NOTHING, |index| parts.add(index));
                Self { index, ..none.with_codes(parts, codes)? }
            }
        };
        Ok(match &host.outliers {
            None => args,
            Some(outliers) => args.with_outliers(parts, outliers),
        })
    }

    fn with_codes<'a>(self, parts: &mut Parts<'a>, codes: &'a Codes) -> Result<Self> {
        Ok(Self {
            values: parts.add(&codes.packed),
            row_bytes: codes.stride() as i64,
            scales: Statistic::new(parts, &codes.scales)?,
            zeros: Statistic::new(parts, &codes.zeros)?,
            element: match codes.code {
                Code::Signed(_) | Code::Unsigned(_) => 0,
                Code::E4m3 => 1,
                Code::E2m3 => 2,
                Code::E2m1 => 3,
            },
            width: codes.code.width() as i32,
            offset: (1u32 << 23) as f32 + codes.code.offset() as f32,
            group: int(codes.group)?,
            groups: int(codes.groups)?,
            steps: int(codes.group.div_ceil(LANES))?,
            difference: i32::from(codes.rounding.difference),
            weight: stored(codes.rounding.weight),
            ..self
        })
    }

    fn with_outliers<'a>(self, parts: &mut Parts<'a>, outliers: &'a Outliers) -> Self {
        let (outlier_cols, wide) = match &outliers.cols {
            Columns::Narrow(cols) => (parts.add(cols), 0),
            Columns::Wide(cols) => (parts.add(cols), 1),
        };
        Self {
            outliers: parts.add(&outliers.first),
            outlier_cols,
            wide,
            differences: parts.add(&outliers.differences),
            exact: outliers.exact.as_ref().map_or(NOTHING, |exact| floats_of(parts, exact)),
            ..self
        }
    }
}

fn floats_of<'a>(parts: &mut Parts<'a>, floats: &'a Floats) -> i64 {
    match floats {
        Floats::Bf16(words) | Floats::F16(words) => parts.add(words),
        Floats::F32(values) => parts.add(values),
    }
}

/// The name of a code's kernels.
pub(super) fn kernels_of(code: Code) -> &'static str {
    match (code, code.width()) {
        (Code::E4m3, _) => "e4m3",
        (Code::E2m3, _) => "e2m3",
        (Code::E2m1, _) => "e2m1",
        (_, 2) => "int2",
        (_, 3) => "int3",
        (_, 4) => "int4",
        (_, 5) => "int5",
        (_, 6) => "int6",
        (_, 7) => "int7",
        _ => "int8",
    }
}
