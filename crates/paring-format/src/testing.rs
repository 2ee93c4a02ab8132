//! Helpers of the tests of this crate.

#[cfg(target_os = "linux")]
use crate::Checkpoint;
use crate::{
    Compressed, Dtype, Element, Grid, Layout, LayoutParts, Outliers, Result, ScaleType, Scheme, Spqr, Statistic,
    Values, floats,
};

/// The parts that the layout stores of `c`, under the scheme of matrices like it.
pub fn encode(layout: &dyn Layout, c: &Compressed) -> Result<LayoutParts> {
    layout.encode(&Scheme::of(c, layout.name(), Vec::new()), c)
}

/// The matrix with two weights of every four set to zero, now these and now those; codes are on a symmetric grid.
pub fn two_of_four(mut c: Compressed) -> Compressed {
    const GONE: [[usize; 2]; 6] = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]];
    let gone = |i: usize| GONE[i / 4 * 5 % 7 % 6].contains(&(i % 4));
    match &mut c.values {
        Values::Dense(values) => values.iter_mut().enumerate().filter(|(i, _)| gone(*i)).for_each(|(_, v)| *v = 0.0),
        Values::Codes { codes, .. } => codes.iter_mut().enumerate().filter(|(i, _)| gone(*i)).for_each(|(_, v)| *v = 0),
        Values::Spqr(_) => {}
    }
    c
}

/// A small generator (splitmix64): tests need numbers that look random and never change.
pub struct Rng(pub u64);

impl Rng {
    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A code of `bits` bits.
    pub fn code(&mut self, bits: u32) -> i8 {
        let (low, high) = crate::bits::range(bits);
        (i32::from(low) + self.below((i32::from(high) - i32::from(low)) as usize + 1) as i32) as i8
    }

    /// A float in -1..1 that `dtype` holds.
    pub fn float(&mut self, dtype: Dtype) -> f32 {
        dtype.round((self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
    }

    /// A dense matrix, half of it zeros.
    pub fn dense(&mut self, rows: usize, cols: usize, dtype: Dtype) -> Compressed {
        let values = (0..rows * cols).map(|_| if self.next() & 1 == 0 { 0.0 } else { self.float(dtype) }).collect();
        Compressed { rows, cols, dtype, values: Values::Dense(values) }
    }

    /// A quantized matrix; `cols` must be a multiple of `group_size`.
    pub fn codes(
        &mut self,
        rows: usize,
        cols: usize,
        dtype: Dtype,
        bits: u32,
        group_size: usize,
        symmetric: bool,
    ) -> Compressed {
        let scales = rows * (cols / group_size);
        let floats = (0..scales).map(|_| self.float(dtype)).collect();
        let zeros = (!symmetric).then(|| (0..scales).map(|_| self.code(bits)).collect());
        let grid = Grid::int(bits, group_size, floats, zeros);
        let codes = (0..rows * cols).map(|_| self.code(bits)).collect();
        Compressed { rows, cols, dtype, values: Values::Codes { codes, grid } }
    }

    /// A symmetric quantized matrix of any element, with scales of any type and tiles that may be cut off at the edges.
    pub fn tiled(
        &mut self,
        [rows, cols]: [usize; 2],
        dtype: Dtype,
        element: Element,
        tile: [usize; 2],
        scale_type: ScaleType,
    ) -> Compressed {
        let global = (scale_type == ScaleType::E4m3).then(|| 100.0 + self.float(Dtype::F32));
        let mut grid = Grid { element, tile, scale_type, global, ..Grid::int(1, 1, Vec::new(), None) };
        let scale = |rng: &mut Rng| match scale_type {
            ScaleType::Float => rng.float(dtype),
            ScaleType::E4m3 => Element::E4m3.value(rng.small_float(Element::E4m3)),
            ScaleType::Exponent => floats::from_exponent(rng.below(255) as u8),
        };
        grid.scales = (0..grid.tiles(rows, cols).iter().product()).map(|_| scale(self)).collect();
        let codes = (0..rows * cols).map(|_| self.small_float(element)).collect();
        Compressed { rows, cols, dtype, values: Values::Codes { codes, grid } }
    }

    /// A code that is a number.
    fn small_float(&mut self, element: Element) -> i8 {
        match element {
            Element::Int(bits) => self.code(bits),
            Element::E4m3 => (self.below(127) | (self.below(2) << 7)) as u8 as i8,
            Element::E2m3 => self.below(64) as i8,
            Element::E2m1 => self.below(16) as i8,
        }
    }

    /// Numbers of an SpQR matrix, as `kind` asks for.
    pub fn spqr(&mut self, rows: usize, cols: usize, dtype: Dtype, kind: &SpqrKind) -> Compressed {
        let groups = cols.div_ceil(kind.group_size);
        let statistic = |coded: Option<u32>, rng: &mut Rng| match coded {
            None => Statistic::Plain((0..rows * groups).map(|_| rng.float(dtype)).collect()),
            Some(bits) => {
                let tiles = rows.div_ceil(kind.height) * groups;
                Statistic::Coded {
                    bits,
                    rows: kind.height,
                    codes: rng.unsigned(rows * groups, bits),
                    scales: (0..tiles).map(|_| rng.float(dtype)).collect(),
                    zeros: (0..tiles).map(|_| rng.float(dtype)).collect(),
                }
            }
        };
        let scales = statistic(kind.scale_bits, self);
        let zeros = match kind.zeros {
            SpqrZeros::Float => statistic(None, self),
            SpqrZeros::Coded(bits) => statistic(Some(bits), self),
            SpqrZeros::Integers => Statistic::Integers(self.unsigned(rows * groups, kind.bits)),
            SpqrZeros::Constant => Statistic::Constant((1u32 << (kind.bits - 1)) as f32),
        };
        let mut at: Vec<u32> = match kind.kept {
            Kept::Share(n) => (0..(rows * cols) as u32).filter(|_| self.below(1000) < n).collect(),
            Kept::Run => (0..(rows * cols).min(7) as u32).collect(),
            Kept::Ends => vec![0, (rows * cols - 1) as u32],
        };
        at.dedup();
        let order = kind.ordered.then(|| {
            let mut order: Vec<u32> = (0..cols as u32).collect();
            (1..cols).for_each(|i| order.swap(i, self.below(i + 1)));
            order
        });
        let spqr = Spqr {
            bits: kind.bits,
            group_size: kind.group_size,
            order: order.and_then(Spqr::order_of),
            codes: self.unsigned(rows * cols, kind.bits),
            scales,
            zeros,
            outliers: Outliers { values: at.iter().map(|_| self.float(dtype)).collect(), at },
        };
        Compressed { rows, cols, dtype, values: Values::Spqr(Box::new(spqr)) }
    }

    /// Values of `bits` bits.
    pub fn unsigned(&mut self, count: usize, bits: u32) -> Vec<u8> {
        (0..count).map(|_| self.below(1 << bits) as u8).collect()
    }
}

/// The kind of a made-up SpQR matrix.
#[derive(Clone, Debug)]
pub struct SpqrKind {
    pub bits: u32,
    pub group_size: usize,
    pub scale_bits: Option<u32>,
    pub zeros: SpqrZeros,
    /// Rows of a tile of the second level.
    pub height: usize,
    pub kept: Kept,
    pub ordered: bool,
}

/// The zeros of a made-up matrix.
#[derive(Clone, Copy, Debug)]
pub enum SpqrZeros {
    Float,
    Coded(u32),
    Integers,
    Constant,
}

/// The outliers of a made-up matrix.
#[derive(Clone, Copy, Debug)]
pub enum Kept {
    /// So many of a thousand weights.
    Share(usize),
    /// The first seven.
    Run,
    /// The first and the last one.
    Ends,
}

impl SpqrKind {
    /// 3 bits at both levels in tiles of 16 by 16, one weight of a hundred kept.
    pub fn published() -> SpqrKind {
        SpqrKind {
            bits: 3,
            group_size: 16,
            scale_bits: Some(3),
            zeros: SpqrZeros::Coded(3),
            height: 16,
            kept: Kept::Share(10),
            ordered: true,
        }
    }
}

/// Kilobytes of mapped files that stay in memory after each tensor was read.
#[cfg(target_os = "linux")]
pub fn kept_pages(checkpoint: &Checkpoint) -> usize {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let before = resident();
    for name in checkpoint.names() {
        assert_eq!(checkpoint.read(name).unwrap().len(), checkpoint.info(name).unwrap().bytes());
    }
    resident().saturating_sub(before)
}
