//! Cases of products with packed weights: the weights bit for bit, the products within the rounding of sums.

use candle_core::{Device, Result, Tensor, bail};

use super::{Case, Deviation, flat, largest, values};
use crate::matmul::Precision;
use crate::minifloat::e4m3;
use crate::packed::{Code, Grid, Packed, Statistic, reference};

/// The parts of a grid, owned.
pub(crate) struct Parts {
    code: Code,
    codes: Vec<u8>,
    group: usize,
    height: usize,
    pub(crate) scales: Vec<f32>,
    zeros: Vec<f32>,
    index: Vec<u32>,
    order: Vec<u32>,
    places: Vec<u32>,
    outliers: Vec<f32>,
    weight: Precision,
}

/// Pseudo-random integers below `limit`.
fn integers(count: usize, limit: usize, seed: u64) -> Vec<u32> {
    values(count, 1000.0, seed).iter().map(|v| v.abs() as u32 % limit.max(1) as u32).collect()
}

/// Numbers in another order.
fn shuffled(count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    let keys = integers(count, 1 << 20, 9);
    order.sort_by_key(|&i| keys[i as usize]);
    order
}

impl Parts {
    /// Codes in groups of `height` by `group`, with scales of the weight's type.
    pub(crate) fn new(
        code: Code,
        (rows, cols): (usize, usize),
        group: usize,
        height: usize,
        weight: Precision,
    ) -> Self {
        let limit = 1 << code.width();
        // The last code of e4m3 is a NaN.
        let codes = integers(rows * cols, limit, 3).into_iter().map(|v| v as u8);
        let codes = codes.map(|v| if code == Code::E4m3 && v & 0x7f == 0x7f { 1 } else { v }).collect();
        let count = rows.div_ceil(height) * cols.div_ceil(group);
        let scales = values(count, 0.1, 5).iter().map(|v| weight.round(v.abs() + 0.01)).collect();
        let [index, order, places] = [const { Vec::new() }; 3];
        let [zeros, outliers] = [const { Vec::new() }; 2];
        Self { code, codes, group, height, scales, zeros, index, order, places, outliers, weight }
    }

    /// Zero points of the scales' type, integers or not.
    pub(crate) fn with_zeros(mut self, fractional: bool) -> Self {
        let half = (1 << (self.code.width() - 1)) as f32;
        let zero = |v: &f32| if fractional { self.weight.round(v * half) } else { (v * half / 2.0).round() };
        self.zeros = values(self.scales.len(), 0.7, 6).iter().map(zero).collect();
        self
    }

    fn with_order(mut self, cols: usize) -> Self {
        self.order = shuffled(cols);
        self
    }

    /// Groups of columns anywhere: all of the right length, or not.
    fn with_index(mut self, cols: usize, even: bool) -> Self {
        self.index = match even {
            true => shuffled(cols).iter().map(|&place| place / self.group as u32).collect(),
            false => integers(cols, cols.div_ceil(self.group), 8),
        };
        self
    }

    /// Outliers of one weight in twenty.
    fn with_outliers(mut self) -> Self {
        let mut places = integers(self.codes.len() / 20 + 1, self.codes.len(), 4);
        // The last column and the last row have some.
        places.push(self.codes.len() as u32 - 1);
        places.sort_unstable();
        places.dedup();
        self.outliers = values(places.len(), 2.0, 7).iter().map(|&v| self.weight.round(v)).collect();
        self.places = places;
        self
    }

    /// The grid that they are.
    pub(crate) fn grid(&self) -> Grid<'_> {
        let some = |list| Some(list).filter(|list: &&[u32]| !list.is_empty());
        let is_whole = self.zeros.iter().all(|zero| zero.fract() == 0.0);
        let zeros = match is_whole {
            true => Statistic::Integers(self.zeros.iter().map(|&zero| zero as i32).collect()),
            false => Statistic::Floats(&self.zeros),
        };
        Grid {
            code: self.code,
            codes: &self.codes,
            group: self.group,
            height: self.height,
            scales: Statistic::Floats(&self.scales),
            zeros: Some(zeros).filter(|_| !self.zeros.is_empty()),
            index: some(&self.index),
            order: some(&self.order),
            outliers: (&self.places, &self.outliers),
            weight: self.weight,
            fractional: !is_whole,
        }
    }
}

/// Numbers of inputs: those that are decoded for in registers, and more.
const TOKENS: [usize; 7] = [1, 2, 3, 6, 8, 9, 21];

/// The deviation of a weight's products from those of `dense` in f64, for each number of inputs. Errors where a weight is another.
fn off(packed: &Packed, dense: &[f32], product: Precision, device: &Device) -> Result<f64> {
    let (rows, cols) = packed.shape();
    let got = flat(&packed.to_dense()?)?;
    if let Some(at) = got.iter().zip(dense).position(|(got, want)| got != want) {
        bail!("weight ({}, {}) of [{rows}, {cols}] is {}, expected {}", at / cols, at % cols, got[at], dense[at]);
    }
    let mut worst = 0f64;
    for tokens in TOKENS {
        let x = values(tokens * cols, 1.0, 2);
        let (mut want, mut size) = (Vec::new(), Vec::new());
        for x in x.chunks(cols) {
            for w in dense.chunks(cols) {
                let terms = x.iter().zip(w).map(|(&x, &w)| f64::from(product.round(x)) * f64::from(w));
                size.push(terms.clone().map(f64::abs).sum::<f64>());
                want.push(terms.sum::<f64>());
            }
        }
        let got = packed.matmul(&Tensor::from_vec(x, (1, tokens, cols), device)?)?;
        if got.dims() != [1, tokens, rows] {
            bail!("products of shape {:?}, expected [1, {tokens}, {rows}]", got.shape());
        }
        // Sums of f32: an eighth of all roundings one way is more than they ever are.
        let allowed = |i: usize, _: f64| f64::from(f32::EPSILON) * (1.0 + cols as f64 / 8.0) * size[i] + 1e-30;
        worst = worst.max(largest(&flat(&got)?, &want, allowed));
    }
    Ok(worst)
}

/// [`off`] of a grid.
fn grid_off(grid: &Grid<'_>, (rows, cols): (usize, usize), product: Precision, device: &Device) -> Result<f64> {
    let dense = reference::dense(grid, rows, cols, product);
    off(&Packed::codes(rows, cols, grid, product)?.on_device(device)?, &dense, product, device)
}

/// The worst of several.
fn worst(all: impl IntoIterator<Item = Result<f64>>) -> Result<Deviation> {
    let joined = all.into_iter().try_fold(0f64, |worst, off| Ok::<f64, candle_core::Error>(worst.max(off?)));
    joined.map(Deviation::ratio)
}

/// Every type of code, alone and with zero points: groups that are whole rows, whole blocks of 64 columns, parts of these or
/// neither, and tiles; rows and columns that fill nothing.
fn of_codes() -> Vec<Case> {
    let types = [Code::Signed(1), Code::E4m3, Code::E2m3, Code::E2m1].into_iter();
    let types = types.chain((2..=8).flat_map(|bits| [Code::Signed(bits), Code::Unsigned(bits)]));
    let grids = [
        (64, 64, 1),
        (200, 32, 1),
        (160, 16, 1),
        (300, 128, 1),
        (130, 130, 1),
        (200, 48, 1),
        (48, 5, 1),
        (256, 128, 4),
    ];
    let case = |code: Code| {
        Case::new(format!("packed: {code:?}"), move |device| {
            worst(grids.into_iter().flat_map(|(cols, group, height)| {
                [(Precision::Bf16, false), (Precision::F32, true)].map(|(precision, zeros)| {
                    let shape = (7, cols);
                    let parts = Parts::new(code, shape, group, height, precision);
                    let parts = if zeros { parts.with_zeros(false) } else { parts };
                    grid_off(&parts.grid(), shape, precision, device)
                })
            }))
        })
    };
    types.map(case).collect()
}

/// Rows that several warps share, and go over more than once, and such as have more groups than a block has room for.
fn of_long_rows() -> Vec<Case> {
    let shapes = [
        (Code::Signed(4), (19, 1100), 64),
        (Code::Unsigned(3), (9, 2304), 16),
        (Code::E2m1, (5, 4160), 32),
        (Code::Signed(8), (3, 8500), 8500),
        (Code::Unsigned(3), (3, 21_000), 16),
        (Code::Unsigned(4), (2, 82_000), 16),
    ];
    let case = |(code, (rows, cols), group): (Code, (usize, usize), usize)| {
        Case::new(format!("packed: {code:?}, {rows} rows of {cols} in groups of {group}"), move |device| {
            let parts = Parts::new(code, (rows, cols), group, 1, Precision::Bf16);
            let parts = if matches!(code, Code::Unsigned(_)) { parts.with_zeros(true).with_outliers() } else { parts };
            worst([grid_off(&parts.grid(), (rows, cols), Precision::Bf16, device)])
        })
    };
    shapes.into_iter().map(case).collect()
}

/// Grids of SpQR: zero points that are no integers, outliers, and an order of columns.
fn of_outliers() -> Vec<Case> {
    let case = |(bits, group): (u32, usize)| {
        let code = Code::Unsigned(bits);
        Case::new(format!("packed: {code:?} in groups of {group} with outliers, in order or not"), move |device| {
            worst(TYPES.into_iter().flat_map(|precision| {
                let shape = (9, 192);
                let parts = || Parts::new(code, shape, group, 1, precision).with_zeros(true).with_outliers();
                [parts(), parts().with_order(192)].map(|parts| grid_off(&parts.grid(), shape, precision, device))
            }))
        })
    };
    [(3, 16), (4, 64), (2, 32), (5, 16), (8, 96), (3, 24)].into_iter().map(case).collect()
}

fn of_indices() -> Vec<Case> {
    let case = |(even, group)| {
        let name = if even { "even" } else { "uneven" };
        Case::new(format!("packed: {name} groups of {group} by an index"), move |device| {
            let shape = (6, 128);
            let parts = Parts::new(Code::Signed(4), shape, group, 1, Precision::Bf16).with_zeros(false);
            worst([grid_off(&parts.with_index(128, even).grid(), shape, Precision::Bf16, device)])
        })
    };
    [(true, 32), (true, 8), (false, 32)].into_iter().map(case).collect()
}

/// Scales of 8 bits and powers of two, and statistics that are codes themselves, of which three rows share some.
fn of_statistics(device: &Device) -> Result<Deviation> {
    let (rows, cols) = (12, 160);
    let parts = Parts::new(Code::E2m1, (rows, cols), 16, 1, Precision::Bf16);
    let eight: Vec<f32> = parts.scales.iter().map(|v| e4m3(v * 30.0)).collect();
    let powers: Vec<f32> = parts.scales.iter().map(|v| 2f32.powi((v * 100.0) as i32 - 10)).collect();
    let (scales, zeros) = (&parts.scales[..40], &values(40, 2.0, 2));
    let zeros: Vec<f32> = zeros.iter().map(|v| Precision::Bf16.round(*v)).collect();
    let run = |grid: Grid<'_>| grid_off(&grid, (rows, cols), Precision::Bf16, device);
    let mut all = Vec::new();
    for scales in [Statistic::E4m3(&eight, 1.7), Statistic::Powers(&powers)] {
        all.push(run(Grid { scales, ..parts.grid() }));
    }
    // In halves of bytes, and in bytes.
    for limit in [8, 200] {
        let codes: Vec<u8> = integers(rows * 10, limit, 1).iter().map(|&v| v as u8).collect();
        let coded = || Statistic::Coded { codes: &codes, height: 3, scales, zeros: &zeros };
        for zeros in [coded(), Statistic::Constant(4.0), Statistic::Integers(vec![-100; rows * 10])] {
            let grid = Grid { code: Code::Unsigned(4), scales: coded(), zeros: Some(zeros), ..parts.grid() };
            all.push(run(Grid { fractional: true, ..grid }));
        }
    }
    let far: Vec<i32> = integers(rows * 10, 120, 3).iter().map(|&v| v as i32 - 60).collect();
    all.push(run(Grid { zeros: Some(Statistic::Integers(far)), code: Code::Signed(8), ..parts.grid() }));
    worst(all)
}

/// A factor for some numbers, with which half precision has fewer bits for them than bfloat16.
fn tiny(v: f32) -> f32 {
    if v > 0.5 { 2f32.powi(-20) } else { 1.0 }
}

/// Types of weights and of products.
const TYPES: [Precision; 3] = [Precision::Bf16, Precision::F16, Precision::F32];

/// Codes and floats, all of them or with a bitmask, that products in each type round once more.
fn of_types() -> Vec<Case> {
    let case = |(weight, product): (Precision, Precision)| {
        Case::new(format!("packed: weights of {weight:?} in products of {product:?}"), move |device| {
            let codes = [Code::Signed(4), Code::Signed(8), Code::E4m3].map(|code| {
                let shape = (6, 128);
                let mut parts = Parts::new(code, shape, 64, 1, weight);
                parts.scales.iter_mut().for_each(|scale| *scale = weight.round(*scale * tiny(20.0 * *scale - 1.0)));
                grid_off(&parts.grid(), shape, product, device)
            });
            let shapes = [(5, 64), (1, 1), (6, 70), (9, 200)];
            let floats = shapes.into_iter().flat_map(|shape| {
                [false, true].map(|zeros| {
                    let (rows, cols) = shape;
                    let w = values(rows * cols, 1.0, 1);
                    let mut w: Vec<f32> = w.iter().map(|v| weight.round(*v * tiny(*v))).collect();
                    if zeros {
                        w.iter_mut().enumerate().filter(|(i, _)| i * 7919 % 13 < 7).for_each(|(_, v)| *v = 0.0);
                    }
                    let packed = Packed::dense(rows, cols, &w, weight, product)?.on_device(device)?;
                    let dense: Vec<f32> = w.iter().map(|v| product.round(*v)).collect();
                    off(&packed, &dense, product, device)
                })
            });
            worst(codes.into_iter().chain(floats))
        })
    };
    TYPES.into_iter().flat_map(|weight| TYPES.map(|product| (weight, product))).map(case).collect()
}

/// Several weights at once, which share inputs or do not, and no inputs at all.
fn together(device: &Device) -> Result<Deviation> {
    let (shape, cols) = ((9, 192), 192);
    let plain = Parts::new(Code::Signed(4), shape, 64, 1, Precision::Bf16);
    let ordered = Parts::new(Code::Unsigned(3), shape, 16, 1, Precision::Bf16).with_order(cols);
    let mut weights = Vec::new();
    for grid in [plain.grid(), ordered.grid(), plain.grid(), ordered.grid()] {
        weights.push(Packed::codes(9, cols, &grid, Precision::Bf16)?.on_device(device)?);
    }
    let dense = values(9 * cols, 1.0, 3);
    weights.push(Packed::dense(9, cols, &dense, Precision::F32, Precision::F32)?.on_device(device)?);
    let all: Vec<&Packed> = weights.iter().collect();
    let mut same = true;
    // A GPU has no tensors without elements.
    let counts: &[usize] = if device.is_cpu() { &[0, 1, 5, 12] } else { &[1, 5, 12] };
    for &tokens in counts {
        let x = Tensor::from_vec(values(tokens * cols, 1.0, 2), (tokens, cols), device)?;
        for (made, weight) in crate::packed::matmul_each(&all, &x)?.iter().zip(&all) {
            same &= made.dims() == [tokens, 9] && flat(made)? == flat(&weight.matmul(&x)?)?;
        }
    }
    Ok(Deviation::ratio(if same { 0.0 } else { f64::INFINITY }))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = of_codes();
    cases.extend(of_long_rows());
    cases.extend(of_outliers());
    cases.extend(of_indices());
    cases.push(Case::new("packed: scales and zero points of every kind", of_statistics));
    cases.extend(of_types());
    cases.push(Case::new("packed: several weights at once", together));
    cases
}
