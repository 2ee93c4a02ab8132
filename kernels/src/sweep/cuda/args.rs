//! Arguments of the kernels that are passed by value, laid out as in their sources.

use candle_core::cuda_backend::cudarc::driver::DeviceRepr;

use crate::matmul::stored;
use crate::sweep::{Element, GridFormat, Scales, Search};

/// `Format` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Format {
    pub element: i32,
    pub symmetric: i32,
    pub mse: i32,
    pub scales: i32,
    pub computed: i32,
    pub stored: i32,
    pub max_code: f32,
}

/// `SweepArgs` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct SweepArgs {
    pub rows: i32,
    pub cols: i32,
    pub first: i32,
    pub width: i32,
    pub aligned: i32,
    pub n: i32,
    pub m: i32,
    pub groups: i32,
    pub group_size: i32,
    pub stored: i32,
    pub format: Format,
}

/// `FitArgs` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FitArgs {
    pub rows: i32,
    pub cols: i32,
    pub groups: i32,
    pub group_size: i32,
    pub first_group: i32,
    pub count: i32,
    pub format: Format,
}

// SAFETY: plain numbers, laid out as C does.
unsafe impl DeviceRepr for SweepArgs {}
// SAFETY: plain numbers, laid out as C does.
unsafe impl DeviceRepr for FitArgs {}

impl Format {
    pub fn new(format: &GridFormat) -> Self {
        Self {
            element: match format.element {
                Element::Int(_) => 0,
                Element::E4m3 => 1,
                Element::E2m1 => 2,
                Element::E2m3 => 3,
            },
            symmetric: i32::from(format.symmetric),
            mse: i32::from(format.search == Search::Mse),
            scales: match format.scales {
                Scales::Float => 0,
                Scales::E4m3 { .. } => 1,
                Scales::Exponent => 2,
            },
            computed: stored(format.computed),
            stored: stored(format.stored),
            max_code: format.max_code(),
        }
    }
}
