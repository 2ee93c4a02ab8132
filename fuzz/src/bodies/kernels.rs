//! Operations on tensors, whose operands mostly fit together.

use candle_core::{D, DType, Device, Result, Tensor};
use paring_kernels::attention::{CacheType, KeyValues, Scores, Span, causal, ragged};
use paring_kernels::gram::{Gram, Squares};
use paring_kernels::likelihood::Likelihood;
use paring_kernels::matmul::{Matrix, Precision, gated, matmul_each};
use paring_kernels::pack::{Fill, mask, pack, unpack};
use paring_kernels::quantize::{Rounding, Scales, range, scale_rows};
use paring_kernels::{element::Element, gelu::gelu, norm, plain, rope::rope, select::nth_smallest_of, swiglu::swiglu};

use super::{Input, assert_text};

/// Elements of an operand at most.
const MOST: usize = 1 << 13;
const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::F16];
const OPERATIONS: usize = 24;

/// Tensors in the order in which an operation asks for them.
struct Operands<'a> {
    input: Input<'a>,
    /// Sizes that fit together.
    sizes: [usize; 4],
    /// True for operands that lie in memory as their shapes say.
    plain: bool,
}

/// An operation, chosen by the first byte, is called with operands of which each has the shape that it asks for unless
/// the input bends it, and lies in memory in order or not. It returns an error, or the same for both ways to lie.
pub fn operation(data: &[u8]) -> bool {
    let run = |plain: bool| {
        let mut input = Input(data);
        let operation = usize::from(input.byte()) % OPERATIONS;
        let sizes = [(); 4].map(|()| usize::from(input.byte() % 72));
        call(operation, &mut Operands { input, sizes, plain })
    };
    match (run(false), run(true)) {
        (Ok(strided), Ok(plain)) => {
            assert_eq!(strided.len(), plain.len());
            for (strided, plain) in strided.iter().zip(&plain) {
                assert_eq!(strided.dims(), plain.dims());
                assert_eq!(bits(strided), bits(plain));
            }
            true
        }
        (Err(error), Err(_)) => {
            assert_text(&error);
            false
        }
        (strided, plain) => panic!("out of order {:?}, in order {:?}", strided.is_ok(), plain.is_ok()),
    }
}

fn bits(x: &Tensor) -> Vec<u32> {
    floats(x).expect("a result on the CPU").into_iter().map(f32::to_bits).collect()
}

/// The elements as floats. candle cannot read a part of nothing.
fn floats(x: &Tensor) -> Result<Vec<f32>> {
    if x.elem_count() == 0 { Ok(Vec::new()) } else { x.flatten_all()?.to_dtype(DType::F32)?.to_vec1() }
}

impl Operands<'_> {
    fn precision(&mut self) -> Precision {
        PRECISIONS[usize::from(self.input.byte()) % PRECISIONS.len()]
    }

    /// A number, mostly a small one.
    fn number(&mut self) -> usize {
        self.input.number()
    }

    /// The shape that is asked for, bent where the input says so, and of not too many elements.
    fn shape(&mut self, asked: &[usize]) -> Vec<usize> {
        let mut shape = asked.to_vec();
        let bend = self.input.byte();
        if bend >= 192 {
            let at = usize::from(self.input.byte()) % (shape.len() + 1);
            match bend % 4 {
                0 if at < shape.len() => drop(shape.remove(at)),
                1 if shape.len() < 5 => shape.insert(at, usize::from(self.input.byte() % 4)),
                _ if at < shape.len() => shape[at] = usize::from(self.input.byte() % 72),
                _ => {}
            }
        }
        while let Some(largest) = (0..shape.len()).max_by_key(|&i| shape[i])
            && shape.iter().product::<usize>() > MOST
        {
            shape[largest] /= 2;
        }
        shape
    }

    fn tensor(&mut self, asked: &[usize]) -> Result<Tensor> {
        self.tensor_of(DType::F32, asked)
    }

    /// Numbers of all sizes, now and then infinite or NaN, in the type that is asked for as a rule.
    fn tensor_of(&mut self, dtype: DType, asked: &[usize]) -> Result<Tensor> {
        let shape = self.shape(asked);
        let kind = self.input.byte();
        let dtype = if kind >= 240 { [DType::U8, DType::F16, DType::U32][usize::from(kind) % 3] } else { dtype };
        let mut seed = u64::from(self.input.byte()) << 8 | 1;
        let number = |_| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let plain = (seed >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
            match (kind % 8, seed >> 56) {
                (0, _) => plain.signum(),
                (1, 0) => f32::INFINITY,
                (1, 1) => f32::NAN,
                (2, size) => plain * (size as f32 - 128.0).exp2(),
                _ => plain,
            }
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(number).collect();
        let x = Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?.to_dtype(dtype)?;
        let rank = shape.len();
        match self.input.byte() % 4 {
            // Strides in another order, and a first element that is not the first in memory.
            1 if !self.plain && rank >= 2 => {
                x.transpose(D::Minus1, D::Minus2)?.contiguous()?.transpose(D::Minus1, D::Minus2)
            }
            2 if !self.plain && rank >= 1 && shape[0] > 0 => Tensor::cat(&[&x, &x], 0)?.narrow(0, shape[0], shape[0]),
            3 if !self.plain && rank >= 1 && shape[rank - 1] > 0 => {
                let last = shape[rank - 1];
                Tensor::cat(&[&x, &x, &x], rank - 1)?.narrow(rank - 1, last, last)
            }
            _ => Ok(x),
        }
    }

    /// A weight of that many rows and columns.
    fn matrix(&mut self, rows: usize, cols: usize, precision: Precision) -> Result<Matrix> {
        let values = self.tensor(&[rows, cols])?;
        let (rows, cols) = values.dims2()?;
        Ok(Matrix::new(rows, cols, floats(&values)?, precision))
    }

    fn rounding(&mut self) -> Rounding {
        let element = match self.input.byte() % 11 {
            0 => Element::E4m3,
            1 => Element::E2m1,
            10 => Element::E2m3,
            bits => Element::Int(u32::from(bits) - 1),
        };
        let symmetric = self.input.byte().is_multiple_of(2);
        let kind = self.input.byte() % 6;
        let size = self.number();
        let scales = match kind {
            0 => Scales::Given(0.25, 3.0),
            1 => Scales::Tensor,
            2 => Scales::Token,
            3 => Scales::Group(size),
            4 => Scales::Exponent(size),
            _ => Scales::Local(size, 300.0),
        };
        Rounding { element, symmetric, scales }
    }
}

fn call(operation: usize, o: &mut Operands<'_>) -> Result<Vec<Tensor>> {
    let [a, b, c, d] = o.sizes;
    Ok(match operation {
        0 => vec![norm::rms(&o.tensor(&[a, b])?, &o.tensor(&[b])?, 1e-5)?],
        1 => vec![norm::layer(&o.tensor(&[a, b])?, &o.tensor(&[b])?, &o.tensor(&[b])?, 1e-5)?],
        2 => vec![swiglu(&o.tensor(&[a, b])?, &o.tensor(&[a, b])?)?],
        3 => vec![gelu(&o.tensor(&[a, b])?)?],
        4 => vec![plain::relu(&o.tensor(&[a, b, c])?)?],
        5 => vec![plain::add(&o.tensor(&[a, b])?, &o.tensor(&[a, b])?)?],
        6 => vec![plain::add_each(&o.tensor(&[a, b, c])?, &o.tensor(&[b, c])?)?],
        7 => vec![Tensor::from_slice(&[plain::all_finite(&o.tensor(&[a, b])?)? as u8], 1, &Device::Cpu)?],
        8 => {
            let half = d / 2;
            let (x, cos, sin) = (o.tensor(&[a, b, c, 2 * half])?, o.tensor(&[b, half])?, o.tensor(&[b, half])?);
            vec![rope(&x, &cos, &sin)?]
        }
        9 => {
            let scores = o.tensor(&[a, b])?.abs()?;
            let k = o.number();
            // Scores are no NaN.
            if !plain::all_finite(&scores)? {
                return Ok(vec![]);
            }
            vec![Tensor::from_slice(&[nth_smallest_of(&scores, k)?], 1, &Device::Cpu)?]
        }
        10 => {
            let codes = o.tensor_of(DType::U8, &[a, b])?;
            let fill = if o.input.byte().is_multiple_of(2) { Fill::Bytes } else { Fill::Words };
            vec![pack(&codes, o.number() as u32, fill)?]
        }
        11 => {
            let packed = o.tensor_of(DType::U8, &[a, b])?;
            let bits = o.number() as u32;
            vec![unpack(&packed, bits, o.number())?]
        }
        12 => vec![mask(&o.tensor(&[a, b])?)?],
        13 => {
            let precision = o.precision();
            let mut gram = Gram::new(b, precision);
            for _ in 0..2 {
                gram.add(&o.tensor(&[a, b])?)?;
            }
            let matrix = gram.finish(0.5)?;
            vec![Tensor::from_slice(&matrix.to_host()?, matrix.n() * matrix.n(), &Device::Cpu)?]
        }
        14 => {
            let mut squares = Squares::on_device(&Device::Cpu, b)?;
            squares.add(&o.tensor(&[a, c, b])?)?;
            let sums = squares.finish()?;
            vec![Tensor::from_slice(&sums, sums.len(), &Device::Cpu)?]
        }
        15 => attention(o)?,
        16 => cached(o)?,
        17..=20 => product(operation, o)?,
        21 => {
            let rounding = o.rounding();
            let x = o.tensor(&[a, b])?;
            let least_and_most = Tensor::from_slice(&range(&x)?, 2, &Device::Cpu)?;
            vec![rounding.apply(&x)?, least_and_most]
        }
        22 => vec![scale_rows(o.tensor(&[a, b])?, Some(&o.tensor(&[a])?))?],
        _ => likelihood(o)?,
    })
}

fn scores<'a>(o: &mut Operands<'_>, bias: Option<&'a Tensor>) -> Scores<'a> {
    Scores { scale: 0.3, window: o.number().checked_sub(1), bias }
}

fn attention(o: &mut Operands<'_>) -> Result<Vec<Tensor>> {
    let [time, groups, many, dim] = o.sizes;
    let (groups, many) = (groups % 5, many % 5);
    let shape = [2, time, groups, dim];
    let (q, k, v) = (o.tensor(&[2, time, groups * many, dim])?, o.tensor(&shape)?, o.tensor(&shape)?);
    let bias = o.tensor(&[groups * many, time])?;
    let biased = o.input.byte().is_multiple_of(2);
    let precision = o.precision();
    Ok(vec![causal(&q, &k, &v, &scores(o, biased.then_some(&bias)), precision)?])
}

/// Queries of two sequences over their caches.
fn cached(o: &mut Operands<'_>) -> Result<Vec<Tensor>> {
    let [first, second, groups, dim] = o.sizes;
    let (groups, many) = (groups % 5, 2);
    let cache_type = [CacheType::F32, CacheType::Bf16, CacheType::E4m3][usize::from(o.input.byte()) % 3];
    let scales = vec![0.5; o.number().min(100)];
    let mut caches = Vec::new();
    for len in [first, second] {
        let mut cache = KeyValues::new(cache_type, groups, dim, [&scales, &scales], &Device::Cpu)?;
        cache.append(&o.tensor(&[len, groups, dim])?, &o.tensor(&[len, groups, dim])?)?;
        cache.truncate(len.saturating_sub(o.number()))?;
        caches.push(cache);
    }
    // As many as there are positions, fewer or more.
    let queries = [0, 1].map(|i| match o.number() {
        less @ ..200 => caches[i].len().saturating_sub(less),
        more => caches[i].len() + more.min(239) - 199,
    });
    let spans: Vec<Span<'_>> = queries.iter().zip(&caches).map(|(&queries, cache)| Span { queries, cache }).collect();
    let q = o.tensor(&[1, queries[0] + queries[1], groups * many, dim])?;
    let precision = o.precision();
    Ok(vec![ragged(&q, &spans, &scores(o, None), precision)?])
}

fn product(operation: usize, o: &mut Operands<'_>) -> Result<Vec<Tensor>> {
    let [tokens, rows, cols, more] = o.sizes;
    let precision = o.precision();
    let w = o.matrix(rows, cols, precision)?;
    let x = o.tensor(&[tokens, cols])?;
    Ok(match operation {
        17 => vec![w.matmul(&x)?, w.dense()?],
        18 => vec![w.matmul_onto(&x, &o.tensor(&[tokens, rows])?)?],
        19 => {
            let other = o.matrix(more, cols, precision)?;
            matmul_each(&[&w, &other], &x)?
        }
        _ => {
            let up = o.matrix(rows, cols, precision)?;
            vec![gated(&w, &up, &x)?]
        }
    })
}

fn likelihood(o: &mut Operands<'_>) -> Result<Vec<Tensor>> {
    let [count, width, more, _] = o.sizes;
    let targets: Vec<u32> = (0..count).map(|_| u32::from(o.input.byte())).collect();
    let mut likelihood = Likelihood::new(&Device::Cpu, &targets)?;
    likelihood.add(0, 0, &o.tensor(&[count, width])?)?;
    likelihood.add(o.number(), o.number(), &o.tensor(&[1, more])?)?;
    let found = likelihood.finish()?;
    let nll: Vec<f32> = found.iter().map(|likely| likely.nll).collect();
    Ok(vec![Tensor::from_slice(&nll, nll.len(), &Device::Cpu)?])
}
