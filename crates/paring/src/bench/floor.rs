//! Lower bounds of an operation: the bytes it moves and the operations it does, as formulas of its shape.
//!
//! Elements are f32 (4 bytes) unless said otherwise, a product and its sum are two operations, and data that is read several
//! times from caches or shared memory is counted once.

use super::{Arithmetic, Rates};

/// Columns of a slice of the sweep.
pub(super) const SLICE: usize = 128;

/// Work of an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Work {
    pub bytes: f64,
    pub operations: f64,
    pub arithmetic: Arithmetic,
}

impl Work {
    /// Basis of a rate: operations if there are any, otherwise bytes.
    pub fn counted(&self) -> (f64, &'static str) {
        if self.operations > 0.0 { (self.operations, "operations") } else { (self.bytes, "bytes") }
    }

    /// Seconds that the slower of the two takes at a device's rates.
    pub fn floor(&self, rates: &Rates) -> f64 {
        let rate = match self.arithmetic {
            Arithmetic::F32 => rates.f32,
            Arithmetic::Bf16 => rates.bf16,
        };
        f64::max(self.bytes / rates.copy, self.operations / rate)
    }
}

fn work(bytes: f64, operations: f64) -> Work {
    Work { bytes, operations, arithmetic: Arithmetic::F32 }
}

/// A sweep of `[rows, cols]`. Inside slices of s columns an error is spread over s/2 columns on average, beyond them over
/// (cols − s)/2: with two operations each, rows · cols · cols. The columns after a slice are read and written once for
/// it, each weight once more where it is visited, U above its diagonal once; masks and codes are a byte each.
pub(super) fn sweep(rows: usize, cols: usize, codes: bool) -> Work {
    let (r, c, s) = (rows as f64, cols as f64, SLICE.min(cols) as f64);
    let ahead = c / s * (c - s) / 2.0;
    let made = if codes { 2.0 } else { 1.0 };
    work(8.0 * r * ahead + 8.0 * r * c + 2.0 * c * c + made * r * c, r * c * c)
}

/// The upper factor of an inverse: n³/3 for the factor and n³/3 for its inverse; the matrix is read, and written.
pub(super) fn factor(n: usize) -> Work {
    let n = n as f64;
    work(8.0 * n * n, 2.0 * n * n * n / 3.0)
}

/// The half of a Gram matrix: the inputs are read once, the sums read and written.
pub(super) fn gram(tokens: usize, dim: usize) -> Work {
    let (t, n) = (tokens as f64, dim as f64);
    work(4.0 * t * n + 8.0 * n * n / 2.0, t * n * n)
}

/// tr(W H Wᵀ): one product.
pub(super) fn quadratic(rows: usize, cols: usize) -> Work {
    let (r, c) = (rows as f64, cols as f64);
    work(4.0 * (r * c + c * c), 2.0 * r * c * c)
}

/// The k-th smallest of `count` numbers: they are read once at least.
pub(super) fn select(count: usize) -> Work {
    work(4.0 * count as f64, 0.0)
}

/// A product of `[tokens, cols]` with a weight `[rows, cols]`, whose elements have `width` bytes.
pub(super) fn product(tokens: usize, rows: usize, cols: usize, width: usize, arithmetic: Arithmetic) -> Work {
    let (t, r, c) = (tokens as f64, rows as f64, cols as f64);
    Work { bytes: 4.0 * t * (r + c) + width as f64 * r * c, operations: 2.0 * t * r * c, arithmetic }
}

/// Causal attention: half of two products of t · t · head_dim for each head.
pub(super) fn attention(tokens: usize, heads: usize, groups: usize, head_dim: usize, arithmetic: Arithmetic) -> Work {
    let (t, h, g, d) = (tokens as f64, heads as f64, groups as f64, head_dim as f64);
    Work { bytes: 4.0 * t * d * (2.0 * h + 2.0 * g), operations: 2.0 * t * t * h * d, arithmetic }
}

/// An operation that passes once over memory.
pub(super) fn pass(bytes: usize) -> Work {
    work(bytes as f64, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_the_slower_of_the_two() {
        let rates = Rates { copy: 1e12, f32: 1e13, bf16: 1e14 };
        // 4096³ operations at 1e13 a second; 2.4 GB at 1e12 take a third of that.
        let work = sweep(4096, 4096, true);
        assert_eq!(work.floor(&rates), 4096f64.powi(3) / 1e13);
        assert_eq!(work.floor(&Rates { copy: 1e9, ..rates }), work.bytes / 1e9);
        let [slow, fast] = [Arithmetic::F32, Arithmetic::Bf16]
            .map(|arithmetic| product(2048, 4096, 4096, 2, arithmetic).floor(&rates));
        assert!((slow / fast - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_sweep_of_one_slice_has_nothing_ahead_of_it() {
        assert_eq!(sweep(10, 128, false).bytes, (8 * 10 * 128 + 2 * 128 * 128 + 10 * 128) as f64);
        assert_eq!(sweep(10, 256, false).bytes - sweep(10, 256, true).bytes, -2560.0);
        // The second slice comes after the first: 128 columns, read and written.
        assert_eq!(sweep(1, 256, false).bytes, (8 * 128 + 8 * 256 + 2 * 256 * 256 + 256) as f64);
    }
}
