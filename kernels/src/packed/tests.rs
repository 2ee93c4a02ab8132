//! Every kind of packed weight beside its definition: the weights bit for bit, the products within the rounding of sums.

use super::*;
use crate::cases::{flat, largest, values};
use crate::matmul::Isa;

/// The parts of a grid, owned.
struct Parts {
    code: Code,
    codes: Vec<u8>,
    group: usize,
    height: usize,
    scales: Vec<f32>,
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
    fn new(code: Code, (rows, cols): (usize, usize), group: usize, height: usize, weight: Precision) -> Self {
        let limit = 1 << code.width();
        // The last code of e4m3 is a NaN.
        let codes = integers(rows * cols, limit, 3).into_iter().map(|v| v as u8);
        let codes = codes.map(|v| if code == Code::E4m3 && v & 0x7f == 0x7f { 1 } else { v }).collect();
        let count = rows.div_ceil(height) * cols.div_ceil(group);
        let scales = values(count, 0.1, 5).iter().map(|v| weight.round(v.abs() + 0.01)).collect();
        let none = Vec::new;
        Self {
            code,
            codes,
            group,
            height,
            scales,
            zeros: Vec::new(),
            index: none(),
            order: none(),
            places: none(),
            outliers: Vec::new(),
            weight,
        }
    }

    /// Zero points of the scales' type, integers or not.
    fn with_zeros(mut self, fractional: bool) -> Self {
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

    fn with_outliers(mut self, count: usize) -> Self {
        let mut places = integers(self.codes.len() / 20 + 1, count, 4);
        places.sort_unstable();
        places.dedup();
        self.outliers = values(places.len(), 2.0, 7).iter().map(|&v| self.weight.round(v)).collect();
        self.places = places;
        self
    }

    fn grid(&self) -> Grid<'_> {
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

/// Compares weights and products of a packed weight with dense ones.
fn compare(packed: &Packed, dense: &[f32], name: &str) {
    let (rows, cols) = packed.shape();
    let product = packed.product;
    let got = flat(&packed.to_dense().unwrap()).unwrap();
    let differs = got.iter().zip(dense).position(|(got, want)| got != want);
    if let Some(at) = differs {
        panic!("{name}: weight ({}, {}) is {}, expected {}", at / cols, at % cols, got[at], dense[at]);
    }
    for tokens in [1, 2, 3, 6, 8, 9, 21] {
        let x = values(tokens * cols, 1.0, 2);
        let (mut want, mut size) = (Vec::new(), Vec::new());
        for x in x.chunks(cols) {
            for w in dense.chunks(cols) {
                let terms = x.iter().zip(w).map(|(&x, &w)| f64::from(product.round(x)) * f64::from(w));
                size.push(terms.clone().map(f64::abs).sum::<f64>());
                want.push(terms.sum::<f64>());
            }
        }
        let x = Tensor::from_vec(x, (1, tokens, cols), &Device::Cpu).unwrap();
        let got = packed.matmul(&x).unwrap();
        assert_eq!(got.dims(), [1, tokens, rows]);
        // Sums of f32: an eighth of all roundings one way is more than they ever are.
        let allowed = |i: usize, _: f64| f64::from(f32::EPSILON) * (1.0 + cols as f64 / 8.0) * size[i] + 1e-30;
        let ratio = largest(&flat(&got).unwrap(), &want, allowed);
        assert!(ratio <= 1.0, "{name}, {tokens} tokens: {ratio:.3} of what is allowed");
    }
}

fn check(parts: &Parts, (rows, cols): (usize, usize), product: Precision, name: &str) {
    let grid = parts.grid();
    let dense = reference::dense(&grid, rows, cols, product);
    compare(&Packed::codes(rows, cols, &grid, product).unwrap(), &dense, name);
}

/// All forms of instructions that this machine has.
fn on_all(f: impl Fn(&str)) {
    for isa in Isa::available() {
        isa.used_in(|| f(isa.name()));
    }
}

#[test]
fn codes_of_every_type_and_grouping_are_what_they_stand_for() {
    let types = [Code::Signed(1), Code::E4m3, Code::E2m3, Code::E2m1].into_iter();
    let types: Vec<Code> = types.chain((2..=8).flat_map(|bits| [Code::Signed(bits), Code::Unsigned(bits)])).collect();
    on_all(|isa| {
        for &code in &types {
            for (cols, group, height) in
                [(64, 64, 1), (200, 32, 1), (160, 16, 1), (300, 128, 1), (130, 130, 1), (48, 5, 1), (256, 128, 4)]
            {
                let shape = (7, cols);
                let name = format!("{code:?}, [7, {cols}], groups of {group} by {height}, {isa}");
                let parts = Parts::new(code, shape, group, height, Precision::Bf16);
                check(&parts, shape, Precision::Bf16, &name);
                let parts = Parts::new(code, shape, group, height, Precision::F32).with_zeros(false);
                check(&parts, shape, Precision::F32, &format!("{name}, zero points"));
            }
        }
    });
}

#[test]
fn fractional_zeros_orders_and_outliers_are_seen() {
    on_all(|isa| {
        for (code, group) in [(3, 16), (4, 64), (2, 32), (5, 16), (8, 96)].map(|(bits, g)| (Code::Unsigned(bits), g)) {
            for precision in [Precision::Bf16, Precision::F16, Precision::F32] {
                let shape = (9, 192);
                let parts = || Parts::new(code, shape, group, 1, precision).with_zeros(true).with_outliers(9 * 192);
                let name = format!("{code:?}, groups of {group}, {precision:?}, {isa}");
                check(&parts(), shape, precision, &name);
                check(&parts().with_order(192), shape, precision, &format!("{name}, ordered"));
            }
        }
    });
}

#[test]
fn groups_by_an_index_are_brought_together_or_looked_up() {
    on_all(|isa| {
        for (even, group) in [(true, 32), (true, 8), (false, 32)] {
            let shape = (6, 128);
            let parts = Parts::new(Code::Signed(4), shape, group, 1, Precision::Bf16).with_zeros(false);
            let parts = parts.with_index(128, even);
            check(&parts, shape, Precision::Bf16, &format!("index, groups of {group}, even {even}, {isa}"));
        }
    });
}

#[test]
fn other_statistics_are_what_they_stand_for() {
    // Ten groups of a row, and forty, which are more than are decoded at once; codes of three and four bits.
    [(160, 3), (160, 4), (640, 3), (640, 4), (576, 2)]
        .into_iter()
        .for_each(|(cols, bits)| check_statistics(cols, bits));
}

fn check_statistics(cols: usize, bits: u32) {
    let (rows, groups) = (12, cols / 16);
    let parts = Parts::new(Code::E2m1, (rows, cols), 16, 1, Precision::Bf16);
    let eight: Vec<f32> = parts.scales.iter().map(|v| crate::minifloat::e4m3(v * 30.0)).collect();
    let powers: Vec<f32> = parts.scales.iter().map(|v| 2f32.powi((v * 100.0) as i32 - 10)).collect();
    let codes: Vec<u8> = integers(rows * groups, 8, 1).iter().map(|&v| v as u8).collect();
    let (scales, zeros) = (&parts.scales[..4 * groups], &values(4 * groups, 2.0, 2));
    let zeros: Vec<f32> = zeros.iter().map(|v| Precision::Bf16.round(*v)).collect();
    on_all(|isa| {
        for scales in [Statistic::E4m3(&eight, 1.7), Statistic::Powers(&powers)] {
            let grid = Grid { scales, ..parts.grid() };
            let dense = reference::dense(&grid, rows, cols, Precision::Bf16);
            compare(&Packed::codes(rows, cols, &grid, Precision::Bf16).unwrap(), &dense, isa);
        }
        // Three rows share statistics of the second level.
        let coded = || Statistic::Coded { codes: &codes, height: 3, scales, zeros: &zeros };
        for zeros in [coded(), Statistic::Constant(4.0)] {
            let few: Vec<u8> = parts.codes.iter().map(|code| code & ((1 << bits) - 1)).collect();
            let grid = Grid { code: Code::Unsigned(bits), codes: &few, scales: coded(), ..parts.grid() };
            let grid = Grid { zeros: Some(zeros), fractional: true, ..grid };
            let dense = reference::dense(&grid, rows, cols, Precision::Bf16);
            compare(&Packed::codes(rows, cols, &grid, Precision::Bf16).unwrap(), &dense, isa);
        }
    });
}

/// A factor for some numbers, with which half precision has fewer bits for them than bfloat16.
fn tiny(v: f32) -> f32 {
    if v > 0.5 { 2f32.powi(-20) } else { 1.0 }
}

/// Types of weights and of products.
const TYPES: [Precision; 3] = [Precision::Bf16, Precision::F16, Precision::F32];

#[test]
fn products_in_another_type_than_the_weights_round_them_once_more() {
    on_all(|isa| {
        for (weight, product) in TYPES.into_iter().flat_map(|weight| TYPES.map(|product| (weight, product))) {
            for code in [Code::Signed(4), Code::Signed(8), Code::E4m3] {
                let shape = (6, 128);
                let mut parts = Parts::new(code, shape, 64, 1, weight);
                parts.scales.iter_mut().for_each(|scale| *scale = weight.round(*scale * tiny(20.0 * *scale - 1.0)));
                check(&parts, shape, product, &format!("{code:?}, {weight:?} in {product:?}, {isa}"));
            }
        }
    });
}

#[test]
fn floats_are_multiplied_as_they_are_with_and_without_zeros() {
    on_all(|isa| {
        for (weight, product) in [
            (Precision::Bf16, Precision::Bf16),
            (Precision::F16, Precision::F16),
            (Precision::F32, Precision::F32),
            (Precision::F32, Precision::Bf16),
            (Precision::Bf16, Precision::F32),
            (Precision::Bf16, Precision::F16),
            (Precision::F16, Precision::Bf16),
        ] {
            for (rows, cols) in [(5, 64), (1, 1), (6, 70), (9, 200)] {
                for zeros in [false, true] {
                    let mut w: Vec<f32> =
                        values(rows * cols, 1.0, 1).iter().map(|v| weight.round(*v * tiny(*v))).collect();
                    if zeros {
                        w.iter_mut().enumerate().filter(|(i, _)| i * 7919 % 13 < 7).for_each(|(_, v)| *v = 0.0);
                    }
                    let packed = Packed::dense(rows, cols, &w, weight, product).unwrap();
                    let dense: Vec<f32> = w.iter().map(|v| product.round(*v)).collect();
                    compare(&packed, &dense, &format!("{weight:?} {product:?} [{rows}, {cols}] {zeros} {isa}"));
                }
            }
        }
    });
}

#[test]
fn a_product_does_not_depend_on_threads_or_on_other_inputs() {
    let shape = (320, 576);
    let parts = Parts::new(Code::Signed(4), shape, 64, 1, Precision::Bf16);
    let packed = Packed::codes(shape.0, shape.1, &parts.grid(), Precision::Bf16).unwrap();
    let x = Tensor::from_vec(values(8 * 576, 1.0, 2), (8, 576), &Device::Cpu).unwrap();
    let run = |threads: usize, x: &Tensor| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| flat(&packed.matmul(x).unwrap()).unwrap())
    };
    let all = run(1, &x);
    assert!(all == run(3, &x));
    for count in [1, 2, 3, 5] {
        let some = run(2, &x.narrow(0, 0, count).unwrap());
        assert!(some == all[..count * 320], "{count} of 8 inputs");
    }
}

/// The products of all rows with some inputs, by these instructions.
#[cfg(target_arch = "x86_64")]
fn products_on(on: Instructions, packed: &Packed, x: &[f32]) -> Vec<f32> {
    let inputs = Inputs::new(x, packed.cols, packed.order.as_deref(), |x| packed.product.round(x));
    let inputs = inputs.arranged(packed.arrangement(on));
    let mut out = vec![0f32; packed.rows * inputs.count];
    packed.few(on, 0..packed.rows, &inputs, &mut out);
    out
}

/// Processors without permutations of bytes compute the same.
#[cfg(target_arch = "x86_64")]
#[test]
fn permutations_of_bytes_change_no_bit() {
    // Where the processor has none there is nothing to compare: both are the same.
    let here = Isa::available().iter().any(|isa| isa.used_in(Instructions::current) == Instructions::Avx512Vbmi);
    let pairs = if here { [Instructions::Avx512Vbmi, Instructions::Avx512Bf16] } else { [Instructions::current(); 2] };
    let compare = |packed: &Packed, name: &str| {
        for tokens in [1, 3] {
            let x = values(tokens * packed.cols, 1.0, 2);
            let [a, b] = pairs.map(|on| products_on(on, packed, &x));
            assert!(a == b, "{name}, {tokens} tokens");
        }
    };
    let shape = (9, 320);
    let types = [Code::E4m3, Code::E2m3, Code::E2m1].into_iter().chain((2..=8).map(Code::Signed));
    for code in types {
        for (group, fractional) in [(16, true), (16, false), (32, true), (64, false), (320, true)] {
            let parts = Parts::new(code, shape, group, 1, Precision::Bf16).with_zeros(fractional);
            let packed = Packed::codes(shape.0, shape.1, &parts.grid(), Precision::Bf16).unwrap();
            compare(&packed, &format!("{code:?}, groups of {group}, fractional {fractional}"));
            let grid = Grid { zeros: None, fractional: false, ..parts.grid() };
            compare(&Packed::codes(shape.0, shape.1, &grid, Precision::Bf16).unwrap(), "no zeros");
        }
    }
    let mut w: Vec<f32> = values(9 * 320, 1.0, 1).iter().map(|&v| Precision::Bf16.round(v)).collect();
    w.iter_mut().enumerate().filter(|(i, _)| i * 7919 % 13 < 7).for_each(|(_, v)| *v = 0.0);
    compare(&Packed::dense(9, 320, &w, Precision::Bf16, Precision::Bf16).unwrap(), "half of them zero");
}

#[test]
fn packed_weights_take_what_their_bits_say() {
    let shape = (64, 1024);
    for (bits, expected) in [(2, 2.25), (3, 3.25), (4, 4.25), (8, 8.25)] {
        let parts = Parts::new(Code::Signed(bits), shape, 64, 1, Precision::Bf16);
        let packed = Packed::codes(shape.0, shape.1, &parts.grid(), Precision::Bf16).unwrap();
        let got = packed.bytes() as f64 * 8.0 / (64.0 * 1024.0);
        assert!((expected..expected * 1.02).contains(&got), "{bits} bits: {got}");
    }
}

#[test]
fn parts_that_do_not_fit_are_errors() {
    let parts = Parts::new(Code::Signed(4), (4, 64), 32, 1, Precision::Bf16);
    let fails = |grid: &Grid, shape: (usize, usize)| Packed::codes(shape.0, shape.1, grid, Precision::Bf16).is_err();
    let grid = parts.grid();
    assert!(!fails(&grid, (4, 64)));
    assert!(fails(&grid, (4, 65)) && fails(&Grid { group: 16, ..parts.grid() }, (4, 64)));
    assert!(fails(&Grid { group: 0, ..parts.grid() }, (4, 64)) && fails(&Grid { height: 0, ..parts.grid() }, (4, 64)));
    assert!(fails(&Grid { index: Some(&[0; 3]), ..parts.grid() }, (4, 64)));
    assert!(fails(&Grid { order: Some(&[64; 64]), ..parts.grid() }, (4, 64)));
    assert!(fails(&Grid { outliers: (&[256], &[1.0]), ..parts.grid() }, (4, 64)));
    assert!(Packed::dense(2, 2, &[1.0; 3], Precision::F32, Precision::F32).is_err());
    let packed = Packed::codes(4, 64, &grid, Precision::Bf16).unwrap();
    let x = Tensor::zeros((1, 63), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(packed.matmul(&x).is_err());
}
