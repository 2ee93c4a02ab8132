//! The unit in plain loops: the definition that the fast one is held to, in its order of sums.

use std::mem::MaybeUninit;

use super::{BLOCK, From, NR, Operands, SIDE, TILE};

/// The sums of a block, in rows of `stride`.
pub(super) fn block(operands: &Operands<'_>, sums: &mut [MaybeUninit<f32>], stride: usize, from: From) {
    let whole = operands.whole();
    for (half, left) in [operands.top, operands.bottom].into_iter().enumerate() {
        for (row, to) in sums[half * SIDE * stride..].chunks_mut(stride).take(SIDE).enumerate() {
            let mut sums = [0f32; BLOCK];
            if from == From::There {
                // SAFETY: what is there is initialised.
                sums.iter_mut().zip(&to[..BLOCK]).for_each(|(sum, to)| *sum = unsafe { to.assume_init() });
            }
            for tile in 0..whole {
                add(&mut sums, &left[tile * TILE + row * SIDE..], &operands.right[tile * SIDE * NR..]);
            }
            if let Some(tail) = operands.tail {
                add(&mut sums, &left[whole * TILE + row * SIDE..], tail);
            }
            to[..BLOCK].iter_mut().zip(sums).for_each(|(to, sum)| _ = to.write(sum));
        }
    }
}

/// Adds the products of one row of a tile: those of the first elements of the pairs in one sum, those of the second in another, and
/// both to what is there. A product of two bfloat16 is exact.
fn add(sums: &mut [f32], left: &[u32], right: &[u32]) {
    for (col, sum) in sums.iter_mut().enumerate() {
        let mut halves = [0f32; 2];
        for (k, &left) in left[..SIDE].iter().enumerate() {
            let right = right[k * NR + col];
            for (half, part) in halves.iter_mut().zip([|word| word << 16, |word| word & 0xffff_0000]) {
                *half += f32::from_bits(part(left)) * f32::from_bits(part(right));
            }
        }
        *sum += halves[0] + halves[1];
    }
}
