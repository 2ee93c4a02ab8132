//! Attention on a GPU. For a tile of queries of one sequence at a time: the scores of all heads by cuBLAS, a softmax over
//! their rows, and the products with the values by cuBLAS.

use std::ops::Range;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, CudaViewMut, DeviceRepr, PushKernelArg};
use candle_core::{CudaDevice, Result, Tensor};
use half::bf16;

use super::cpu::Shape;
use super::gpu_tile;
use crate::cuda::blas::{Factor, Math, Operand, Target, gemm_batch};
use crate::cuda::{Source, function, rows, rows_of_blocks, tensor, with_view};
use crate::matmul::Precision;
use crate::matmul::cuda::round;

/// Parts of each of a head's numbers in the products of queries and keys: see attention_split.
const PARTS: usize = 3;

/// `Tile` in attention.cu.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tile {
    first: i64,
    start: i64,
    keys: i64,
    window: i64,
    queries: i32,
    groups: i32,
    each: i32,
    scale: f32,
    bias_width: i64,
}

// SAFETY: plain numbers, laid out as in C.
unsafe impl DeviceRepr for Tile {}

impl Tile {
    /// Heads times queries.
    fn rows(&self) -> usize {
        (self.groups * self.queries * self.each) as usize
    }
}

/// A tile, and the number of its first query among those of the sequence.
struct Piece {
    tile: Tile,
    query: usize,
}

/// The workspace of a sequence: scores that become weights, or weights of their own, and the rows' sums.
struct Scratch {
    /// Queries of a tile.
    queries: usize,
    scores: CudaSlice<f32>,
    weights: Option<CudaSlice<bf16>>,
    sums: CudaSlice<f32>,
}

impl Scratch {
    fn new(device: &CudaDevice, shape: &Shape<'_>, keys: usize, rounded: bool) -> Result<Self> {
        let (queries, most) = gpu_tile(shape.time, keys, shape.heads, shape.window);
        let rows = shape.heads * queries;
        // SAFETY: each tile writes what it reads of them.
        unsafe {
            Ok(Self {
                queries,
                scores: device.alloc(rows * most)?,
                weights: if rounded { Some(device.alloc(rows * most)?) } else { None },
                sums: device.alloc(rows)?,
            })
        }
    }
}

/// A bias and its width.
type Bias<'a> = Option<(&'a CudaView<'a, f32>, usize)>;

/// [`super::causal`] for tensors of the right shapes, with `past` keys before that of the first query; `shape` has no bias.
pub(super) fn causal(
    shape: &Shape<'_>,
    past: usize,
    [q, k, v]: [&Tensor; 3],
    bias: Option<&Tensor>,
    precision: Precision,
) -> Result<Tensor> {
    let run = |bias: Bias<'_>| {
        with_view::<f32, _>(q, |q, device| {
            with_view::<f32, _>(k, |k, _| {
                with_view::<f32, _>(v, |v, _| {
                    let out = batch(device, shape, past, [&q, &k, &v], bias, precision == Precision::Bf16)?;
                    Ok(tensor(out, device, (shape.batch, shape.time, shape.heads * shape.dim)))
                })
            })
        })
    };
    match bias {
        None => run(None),
        Some(table) => {
            let width = table.dims2()?.1;
            with_view::<f32, _>(table, |values, _| run(Some((&values, width))))
        }
    }
}

/// All sequences, one after another; `rounded` says whether weights and values are bfloat16.
fn batch(
    device: &CudaDevice,
    shape: &Shape<'_>,
    past: usize,
    [q, k, v]: [&CudaView<'_, f32>; 3],
    bias: Bias<'_>,
    rounded: bool,
) -> Result<CudaSlice<f32>> {
    let &Shape { time, heads, groups, dim, .. } = shape;
    let keys = past + time;
    let mut scratch = Scratch::new(device, shape, keys, rounded)?;
    let (wide, narrow) = (time * heads * dim, keys * groups * dim);
    // SAFETY: the tiles of a sequence write all its outputs; the splits are written before they are read.
    let mut out = unsafe { device.alloc::<f32>(q.len())? };
    let mut parts = match rounded {
        // SAFETY: as above.
        true => unsafe {
            Some((
                device.alloc::<bf16>(PARTS * wide)?,
                device.alloc::<bf16>(PARTS * narrow)?,
                device.alloc::<bf16>(narrow)?,
            ))
        },
        false => None,
    };
    for sequence in 0..shape.batch {
        let q = q.slice(sequence * wide..(sequence + 1) * wide);
        let [k, v] = [k, v].map(|x| x.slice(sequence * narrow..(sequence + 1) * narrow));
        let mut out = out.slice_mut(sequence * wide..(sequence + 1) * wide);
        for first in (0..time).step_by(scratch.queries) {
            let piece = piece(shape, past, first..(first + scratch.queries).min(time), bias);
            match &mut parts {
                None => {
                    products(device, shape, &piece, [&q, &k], dim, &mut scratch.scores)?;
                    softmax(device, &piece.tile, &mut scratch, bias)?;
                    outputs(device, shape, &piece, &scratch.scores.as_view(), &v, &mut out)?;
                }
                Some((queries, key_parts, values)) => {
                    if first == 0 {
                        split(device, &q, queries, [time, heads, dim], false)?;
                        split(device, &k, key_parts, [keys, groups, dim], true)?;
                        round(device, &v, &mut values.as_view_mut())?;
                    }
                    let inputs = [&queries.as_view(), &key_parts.as_view()];
                    products(device, shape, &piece, inputs, PARTS * dim, &mut scratch.scores)?;
                    softmax(device, &piece.tile, &mut scratch, bias)?;
                    if let Some(weights) = &scratch.weights {
                        outputs(device, shape, &piece, &weights.as_view(), &values.as_view(), &mut out)?;
                    }
                }
            }
            divide(device, shape, &piece, &scratch.sums, &mut out)?;
        }
    }
    Ok(out)
}

/// The tile of some queries of a sequence, with `past` keys before that of the first query of all.
fn piece(shape: &Shape<'_>, past: usize, queries: Range<usize>, bias: Bias<'_>) -> Piece {
    let first = past + queries.start;
    let start = shape.start(first);
    let tile = Tile {
        first: first as i64,
        start: start as i64,
        keys: (past + queries.end - start) as i64,
        window: shape.window.min(past + shape.time) as i64,
        queries: queries.len() as i32,
        groups: shape.groups as i32,
        each: (shape.heads / shape.groups) as i32,
        scale: shape.scale,
        bias_width: bias.map_or(0, |(_, width)| width) as i64,
    };
    Piece { tile, query: queries.start }
}

/// Queries times keys, `depth` numbers each: the scores of a tile, ordered as `Tile` in attention.cu says. One product of
/// all groups for each head of a group.
fn products<T: Factor>(
    device: &CudaDevice,
    shape: &Shape<'_>,
    Piece { tile, query }: &Piece,
    [q, k]: [&CudaView<'_, T>; 2],
    depth: usize,
    scores: &mut CudaSlice<f32>,
) -> Result<()> {
    let &Shape { heads, groups, .. } = shape;
    let (each, queries, keys) = (tile.each as usize, tile.queries as usize, tile.keys as usize);
    let k = k.slice(tile.start as usize * groups * depth..);
    for head in 0..each {
        let q = q.slice((query * heads + head) * depth..);
        let q = Operand::rows(&q, heads * depth).every(each * depth);
        let k = Operand::rows(&k, groups * depth).every(depth).t();
        let values = &mut scores.slice_mut(head * keys..);
        let to = Target { values, stride: each * keys, step: queries * each * keys };
        gemm_batch(device, groups, [queries, keys, depth], (1.0, q, k), (0.0, to), Math::F32)?;
    }
    Ok(())
}

/// Weights times values: the outputs of a tile, before they are divided.
fn outputs<T: Factor>(
    device: &CudaDevice,
    shape: &Shape<'_>,
    Piece { tile, query }: &Piece,
    weights: &CudaView<'_, T>,
    v: &CudaView<'_, T>,
    out: &mut CudaViewMut<'_, f32>,
) -> Result<()> {
    let &Shape { heads, groups, dim, .. } = shape;
    let (each, queries, keys) = (tile.each as usize, tile.queries as usize, tile.keys as usize);
    let v = v.slice(tile.start as usize * groups * dim..);
    for head in 0..each {
        let weights = weights.slice(head * keys..);
        let weights = Operand::rows(&weights, each * keys).every(queries * each * keys);
        let v = Operand::rows(&v, groups * dim).every(dim);
        let values = &mut out.slice_mut((query * heads + head) * dim..);
        let to = Target { values, stride: heads * dim, step: each * dim };
        gemm_batch(device, groups, [queries, dim, keys], (1.0, weights, v), (0.0, to), Math::F32)?;
    }
    Ok(())
}

/// Scores to weights, and their sums.
fn softmax(device: &CudaDevice, tile: &Tile, scratch: &mut Scratch, bias: Bias<'_>) -> Result<()> {
    let launch = rows(tile.rows(), tile.keys as usize);
    let name = if scratch.weights.is_some() { "attention_softmax_bf16" } else { "attention_softmax_f32" };
    let kernel = function(device, Source::Attention, name)?;
    let mut arguments = kernel.builder();
    arguments.arg(&mut scratch.scores);
    if let Some(weights) = &mut scratch.weights {
        arguments.arg(weights);
    }
    arguments.arg(&mut scratch.sums);
    match &bias {
        Some((values, _)) => arguments.arg(*values),
        // The kernel's null pointer.
        None => arguments.arg(&0u64),
    };
    // SAFETY: scores, weights and sums have room for the rows of a tile; the bias has a number for each head and position.
    unsafe { arguments.arg(tile).launch(launch).w()? };
    Ok(())
}

fn divide(
    device: &CudaDevice,
    shape: &Shape<'_>,
    Piece { tile, query }: &Piece,
    sums: &CudaSlice<f32>,
    out: &mut CudaViewMut<'_, f32>,
) -> Result<()> {
    let width = shape.heads * shape.dim;
    let dim = shape.dim as i32;
    let mut out = out.slice_mut(query * width..(query + tile.queries as usize) * width);
    let kernel = function(device, Source::Attention, "attention_divide")?;
    let mut arguments = kernel.builder();
    arguments.arg(&mut out).arg(sums).arg(&tile.queries).arg(&tile.groups).arg(&tile.each).arg(&dim);
    // SAFETY: the outputs of the tile's queries, and the sums of its rows.
    unsafe { arguments.launch(rows_of_blocks(tile.queries as usize, width)).w()? };
    Ok(())
}

/// `x [tokens, heads, dim]` in [`PARTS`] parts.
fn split(
    device: &CudaDevice,
    x: &CudaView<'_, f32>,
    out: &mut CudaSlice<bf16>,
    [tokens, heads, dim]: [usize; 3],
    keys: bool,
) -> Result<()> {
    let kernel = function(device, Source::Attention, "attention_split")?;
    let (count, size, keys) = (heads as i32, dim as i32, i32::from(keys));
    let launch = rows_of_blocks(tokens, heads * dim);
    // SAFETY: a block writes the parts of its token's numbers, three for each.
    unsafe { kernel.builder().arg(x).arg(out).arg(&count).arg(&size).arg(&keys).launch(launch).w()? };
    Ok(())
}
