//! The grids that are tried for a range.

use crate::minifloat::{e4m3_byte, e4m3_number};
use crate::sweep::{Element, GridFormat, Scales};

/// Parts of its range that a grid of integers, or of floats with float scales, is tried with.
pub(super) const STEPS: usize = 24;
/// The least of them.
pub(super) const LEAST: f32 = 0.4;
/// Zero points on each side of the nearest that are tried where there are more than [`FEW`].
pub(super) const NEAR: usize = 2;
/// Zero points that are all tried.
pub(super) const FEW: usize = 8;
/// 8-bit scales above and below that of the range that are tried: an octave has eight.
const CODES: (u8, u8) = (6, 9);

/// The grids that are tried for a range, in order. Among equals the first is taken.
#[derive(Clone, Copy)]
pub(super) struct Trials {
    /// Scales.
    pub scales: usize,
    /// Zero points for each of them.
    pub zeros: usize,
}

impl Trials {
    pub(super) fn of(format: &GridFormat) -> Self {
        let codes = format.max_code() as usize + 1;
        let zeros = match format.element {
            Element::Int(_) if !format.symmetric => {
                if codes <= FEW {
                    codes
                } else {
                    2 * NEAR + 1
                }
            }
            _ => 1,
        };
        let scales = match format.scales {
            Scales::Float => STEPS,
            Scales::E4m3 { .. } => usize::from(CODES.0 + CODES.1) + 1,
            Scales::Exponent => 3,
        };
        Self { scales, zeros }
    }
}

/// Part number `at` of the range that a grid spans, the whole range first. The widest of the others holds both ends of a
/// symmetric range, of whose codes one side has one less.
pub(super) fn part(format: &GridFormat, at: usize) -> f32 {
    let most = match format.element {
        Element::Int(_) => format.max_code() / (format.max_code() - 1.0).max(1.0),
        _ => 1.1,
    };
    if at == 0 { 1.0 } else { most - (most - LEAST) * (at - 1) as f32 / (STEPS - 2) as f32 }
}

/// Zero point number `at` for a range whose nearest is `near`: all, or those beside the nearest, it first.
#[inline(always)]
pub(super) fn zero_point(near: f32, at: usize, zeros: usize, max_code: f32) -> f32 {
    if zeros > max_code as usize {
        return at as f32;
    }
    let away = at.div_ceil(2) as f32;
    let zero = if at % 2 == 1 { near - away } else { near + away };
    let zero = if zero < 0.0 { 0.0 } else { zero };
    if zero > max_code { max_code } else { zero }
}

/// Scale number `at` of floats whose largest magnitude is `amax`.
pub(super) fn float_scale(format: &GridFormat, amax: f32, at: usize) -> f32 {
    match format.scales {
        Scales::Float => format.scale_for(part(format, at) * amax),
        Scales::E4m3 { .. } => {
            let code = i32::from(e4m3_byte(format.scale_for(amax)));
            let moved = if at == 0 { code } else { code + i32::from(CODES.0) + 1 - at as i32 };
            // 0 is no scale, and 127 no number.
            e4m3_number(moved.clamp(1, 126) as u8)
        }
        Scales::Exponent => {
            let scale = format.scale_for(amax);
            let moved = scale * [1.0, 2.0, 0.5][at];
            if moved.is_finite() && (moved >= f32::MIN_POSITIVE || moved == scale) { moved } else { scale }
        }
    }
}
