//! Workspace sizes of operations on the CPU: bytes that they take beside their operands and results, for estimates.

use crate::matmul::Precision;
use crate::matmul::panels::TASK_ROWS;
use crate::matmul::tile::{Elements, Isa, NR};

/// True if products of this precision read pairs of bfloat16.
fn is_paired(precision: Precision) -> bool {
    precision == Precision::Bf16
}

/// A right operand of `rows` rows of `cols` numbers as pairs in panels.
fn panels(rows: usize, cols: usize) -> usize {
    rows.next_multiple_of(NR) * cols.div_ceil(2) * size_of::<u32>()
}

/// Bytes that [`crate::matmul::Matrix`] holds of a weight `[rows, cols]`, and true if they lie in memory of their own and
/// not in that of the given values.
pub fn weight(rows: usize, cols: usize, precision: Precision) -> (usize, bool) {
    match is_paired(precision) {
        true => (panels(rows, cols), true),
        false => (rows * cols * size_of::<f32>(), false),
    }
}

/// Of a product of `tokens` inputs of `cols` features: for each thread, and once.
pub fn product(tokens: usize, cols: usize, precision: Precision) -> (usize, usize) {
    match precision {
        _ if is_paired(precision) => {
            let words = cols.div_ceil(2) * Isa::current().left_words(Elements::Pairs);
            (TASK_ROWS.min(tokens) * words * size_of::<u32>(), 0)
        }
        Precision::F32 => (0, 0),
        _ => (0, tokens * cols * size_of::<f32>()),
    }
}

/// Of an addition to a Gram matrix, `tokens` inputs of `cols` features.
pub fn gram(tokens: usize, cols: usize, precision: Precision) -> usize {
    match precision {
        _ if is_paired(precision) => panels(cols, tokens),
        Precision::F32 => 0,
        _ => tokens * cols * size_of::<f32>(),
    }
}

/// Of tr(W H Wᵀ) for a weight `[rows, cols]`: a form of H, and products where they are kept.
pub fn quadratic(rows: usize, cols: usize, precision: Precision) -> [usize; 2] {
    match is_paired(precision) {
        true => [panels(cols, cols), 0],
        false => [cols * cols, rows * cols].map(|count| count * size_of::<f32>()),
    }
}

/// Of the factor of a matrix of `cols` rows: a copy of it, the triangle L and the triangle L⁻¹.
pub fn factor(cols: usize) -> [usize; 3] {
    if cols <= crate::cholesky::SMALL {
        let square = cols * cols;
        return [square * size_of::<f32>(), square * size_of::<f64>(), square * size_of::<f64>()];
    }
    let [lower, inverse] = crate::cholesky::blocked_elements(cols);
    [0, lower * size_of::<f32>(), inverse * size_of::<f32>()]
}

/// Of a sweep with a factor of `cols` rows in slices of so many columns: rows of the factor as a right operand.
pub fn trailing_update(cols: usize, slice: usize) -> usize {
    cols.saturating_sub(slice).next_multiple_of(NR) * slice.min(cols) * size_of::<u32>()
}

/// Of an attention: keys and values of `tokens` tokens, `dim` numbers each, as right operands.
pub fn attention(tokens: usize, dim: usize, precision: Precision) -> usize {
    // Keys of four bytes, values of two.
    if is_paired(precision) { 6 * tokens * dim } else { 0 }
}

/// Rows of a right operand that faer's product packs at a time.
const DEPTH: usize = 512;

/// Bytes that faer's product holds for each thread that runs it, from the first time to the thread's end, and how much of it
/// products with `cols` columns touch. The first depends on the processor's caches and is found by a small product on a
/// thread of its own; it is 0 where the allocator is not [`crate::allocator::PoolingAllocator`].
pub fn slab(cols: usize) -> (usize, usize) {
    let number = if cols <= crate::cholesky::SMALL { size_of::<f64>() } else { size_of::<f32>() };
    let run = || {
        let before = crate::allocator::pool().used();
        let one = faer::Mat::<f32>::from_fn(64, 64, |i, j| (i + j) as f32);
        let mut product = faer::Mat::<f32>::zeros(64, 64);
        faer::linalg::matmul::matmul(&mut product, faer::Accum::Replace, &one, &one, 1.0, faer::Par::Seq);
        crate::allocator::pool().used().saturating_sub(before)
    };
    // A thread that cannot be started has no slab either.
    let bytes = std::thread::scope(|scope| scope.spawn(run).join().unwrap_or(0));
    (bytes, (cols * DEPTH.min(cols) * number).min(bytes / 2))
}
