//! Attention with linear biases (Press et al. 2021): each head adds to its scores a slope times the position of the
//! key, and needs no other positions.

use candle_core::{Device, Result, Tensor};
use paring_kernels::matmul::Precision;

/// The slopes of a model's heads.
pub struct Alibi {
    slopes: Vec<f32>,
    times: f32,
}

impl Alibi {
    /// For `heads` heads, 1 or more: with n the largest power of two up to `heads`, a geometric series of n slopes that
    /// ends at 2^-8, then every other slope of the series for 2n. The bias is added `times` times.
    pub fn new(heads: usize, times: f32) -> Self {
        let n = 1 << heads.ilog2();
        let base = |heads: usize| (-(2f64.powf(3.0 - (heads as f64).log2()))).exp2() as f32;
        let series = |heads: usize, count: usize, step: usize| {
            let base = base(heads);
            (0..count).map(move |i| base.powf((1 + i * step) as f32))
        };
        Self { slopes: series(n, n, 1).chain(series(2 * n, heads - n, 2)).collect(), times }
    }

    /// The number of times that the bias is added to the scores.
    pub fn times(&self) -> f32 {
        self.times
    }

    /// The bias of the keys at 0..`t` for scores that are divided by `root`: slope times position, as often as it is added,
    /// divided by `root`; f32 `[heads, t]`. Slopes, positions and their
    /// products are rounded to bfloat16, as transformers' Falcon has them in any precision: from position 256 on that
    /// is a coarse grid, and the models were trained on it.
    pub fn bias(&self, t: usize, root: f32, device: &Device) -> Result<Tensor> {
        let divisor = root / self.times;
        let round = |x: f32| Precision::Bf16.round(x);
        let values =
            self.slopes.iter().flat_map(|&slope| (0..t).map(move |j| round(round(slope) * round(j as f32)) / divisor));
        Tensor::from_vec(values.collect(), (self.slopes.len(), t), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Head, position, bias.
    type Value = (usize, usize, f32);

    /// Values of transformers' `build_alibi_tensor` for numbers of heads.
    const WANTED: [(usize, [Value; 4]); 6] = [
        (1, [(0, 1, 0.003_906_25), (0, 255, 0.996_093_75), (0, 1000, 3.906_25), (0, 2047, 8.0)]),
        (2, [(0, 1, 0.0625), (0, 1000, 62.5), (1, 3, 0.011_718_75), (1, 2047, 8.0)]),
        (8, [(0, 1, 0.5), (0, 255, 127.5), (7, 777, 3.031_25), (4, 2047, 64.0)]),
        (12, [(0, 1000, 500.0), (11, 3, 0.265_625), (11, 777, 68.5), (6, 2047, 16.0)]),
        (32, [(0, 1, 0.839_843_75), (0, 255, 214.0), (0, 1000, 840.0), (16, 2047, 107.5)]),
        (71, [(0, 1, 0.917_968_75), (70, 3, 1.710_937_5), (70, 777, 442.0), (35, 2047, 90.5)]),
    ];

    #[test]
    fn agrees_with_transformers() {
        for (heads, wanted) in WANTED {
            let alibi = Alibi::new(heads, 1.0);
            for divisor in [1.0, 4.0] {
                let bias = alibi.bias(2048, divisor, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
                assert_eq!((bias.len(), bias[0][0]), (heads, 0.0));
                for (head, position, want) in wanted {
                    assert_eq!(bias[head][position] * divisor, want, "{heads} heads, {head}, {position}");
                }
            }
        }
    }
}
