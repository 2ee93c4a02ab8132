//! The instructions of products: each step of them, compiled for each set.

use std::ops::Range;

use super::few::{FEW, Inputs, TOGETHER, decode_rows, products};
use super::kind::{Arrangement, Kind};
use super::wide::Loops;
use crate::matmul::Isa;

/// The instructions of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instructions {
    /// With products of pairs of bfloat16, and with permutations of bytes. The same numbers as without these.
    #[cfg(target_arch = "x86_64")]
    Avx512Vbmi,
    /// With products of pairs of bfloat16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Loops,
}

impl Instructions {
    /// Those that go with the version of the tile that this thread uses.
    pub(super) fn current() -> Self {
        match Isa::current() {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Isa::Amx if super::x86::detected() => match is_x86_feature_detected!("avx512bf16") {
                true => Self::in_pairs(),
                false => Self::Avx512,
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 if super::x86::detected() => Self::in_pairs(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if super::x86::detected() => Self::Avx512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Avx2 if is_x86_feature_detected!("f16c") => Self::Avx2,
            _ => Self::Loops,
        }
    }

    /// The best of those with products of pairs.
    #[cfg(target_arch = "x86_64")]
    fn in_pairs() -> Self {
        match is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("avx512vbmi2") {
            true => Self::Avx512Vbmi,
            false => Self::Avx512Bf16,
        }
    }

    /// The arrangement that inputs of a weight of this kind need.
    pub(super) fn arrangement<K: Kind>(self, kind: &K) -> Option<Arrangement> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vbmi | Self::Avx512Bf16 => kind.arrangement(),
            _ => None,
        }
    }
}

/// The products of rows `rows` of a weight with all inputs: `out [rows, inputs]`, of `x.count` inputs each.
pub(super) fn multiply<K: Kind>(on: Instructions, kind: &K, rows: Range<usize>, x: &Inputs, out: &mut [f32]) {
    assert!(out.len() == rows.len() * x.count && x.values.len() == x.count * x.width);
    let is_arranged = x.arrangement.is_some() && x.arrangement == kind.arrangement();
    let done = match on {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has these instructions, or they would not be chosen.
        Instructions::Avx512Vbmi if is_arranged => unsafe {
            match x.count {
                1 => vbmi::in_pairs::<K, 1, TOGETHER>(kind, rows.start, x, out),
                _ => vbmi::in_pairs::<K, FEW, 2>(kind, rows.start, x, out),
            }
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: see above.
        Instructions::Avx512Bf16 if is_arranged => unsafe {
            match x.count {
                1 => bf16::in_pairs::<K, 1, TOGETHER>(kind, rows.start, x, out),
                _ => bf16::in_pairs::<K, FEW, 2>(kind, rows.start, x, out),
            }
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: see above.
        Instructions::Avx512 | Instructions::Avx512Bf16 | Instructions::Avx512Vbmi if K::IN_REGISTERS => unsafe {
            match x.count {
                1 => avx512::together::<K, 1, TOGETHER>(kind, rows.start, x, out),
                _ => avx512::together::<K, FEW, 2>(kind, rows.start, x, out),
            }
        },
        _ => 0,
    };
    if done == rows.len() {
        return;
    }
    // What is left is decoded into memory first. Sums have the order of those in registers, which products of pairs do not keep.
    let mut weights = vec![0f32; x.width];
    for (row, sums) in rows.zip(out.chunks_exact_mut(x.count)).skip(done) {
        decode(on, kind, row, x.width, &mut weights);
        match on {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: see above.
            Instructions::Avx512 | Instructions::Avx512Bf16 | Instructions::Avx512Vbmi => unsafe {
                avx512::products(&weights, x, sums)
            },
            // SAFETY: see above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { avx2::products(&weights, x, sums) },
            // SAFETY: loops need no instructions.
            Instructions::Loops => unsafe { products::<Loops>(&weights, x, sums) },
        }
    }
}

/// Decodes rows of a weight from `first` on to `[.., cols]`. Where `cols` is rounded up to whole blocks, the numbers after the last
/// column mean nothing.
pub(super) fn decode<K: Kind>(on: Instructions, kind: &K, first: usize, cols: usize, out: &mut [f32]) {
    match on {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions, or they would not be chosen.
        Instructions::Avx512 | Instructions::Avx512Bf16 | Instructions::Avx512Vbmi => unsafe {
            avx512::decode(kind, first, cols, out)
        },
        // SAFETY: likewise.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => unsafe { avx2::decode(kind, first, cols, out) },
        // SAFETY: loops need none.
        Instructions::Loops => unsafe { decode_rows::<K, Loops>(kind, first, cols, out) },
    }
}

/// [`super::few::in_pairs`] with these instructions.
#[cfg(target_arch = "x86_64")]
macro_rules! in_pairs {
    ($features:literal, $vbmi:literal) => {
        use super::super::few;
        use super::super::x86::Zmm;
        use super::{Inputs, Kind};

        #[target_feature(enable = $features)]
        pub(super) unsafe fn in_pairs<K: Kind, const M: usize, const R: usize>(
            kind: &K,
            first: usize,
            x: &Inputs,
            out: &mut [f32],
        ) -> usize {
            // SAFETY: the instructions are those of this function.
            unsafe { few::in_pairs::<K, Zmm<$vbmi>, M, R>(kind, first, x, out) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod vbmi {
    in_pairs!("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx512vbmi2", true);
}

#[cfg(target_arch = "x86_64")]
mod bf16 {
    in_pairs!("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16", false);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::super::few;
    use super::super::x86::Zmm;
    use super::{Inputs, Kind};

    /// [`few::together`] with these instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn together<K: Kind, const M: usize, const R: usize>(
        kind: &K,
        first: usize,
        x: &Inputs,
        out: &mut [f32],
    ) -> usize {
        // SAFETY: the instructions are those of this function.
        unsafe { few::together::<K, Zmm<false>, M, R>(kind, first, x, out) }
    }

    /// [`few::products`] with these instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn products(weights: &[f32], x: &Inputs, sums: &mut [f32]) {
        // SAFETY: the instructions are those of this function.
        unsafe { few::products::<Zmm<false>>(weights, x, sums) }
    }

    /// [`few::decode_rows`] with these instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn decode<K: Kind>(kind: &K, first: usize, cols: usize, out: &mut [f32]) {
        // SAFETY: the instructions are those of this function.
        unsafe { few::decode_rows::<K, Zmm<false>>(kind, first, cols, out) }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::super::few;
    use super::{Inputs, Kind, Loops};

    /// [`few::products`] with these instructions.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn products(weights: &[f32], x: &Inputs, sums: &mut [f32]) {
        // SAFETY: the instructions are those of this function.
        unsafe { few::products::<Loops>(weights, x, sums) }
    }

    /// [`few::decode_rows`] with these instructions.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn decode<K: Kind>(kind: &K, first: usize, cols: usize, out: &mut [f32]) {
        // SAFETY: the instructions are those of this function.
        unsafe { few::decode_rows::<K, Loops>(kind, first, cols, out) }
    }
}
