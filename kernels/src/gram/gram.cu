// Gram matrices: what comes before and after the products (see mod.rs).
#include "lanes.cuh"

namespace {

constexpr int TILE = 32;  // rows and columns that a block mirrors or sums at once
constexpr int DEEP = 8;   // rows of threads

// The sum over a block of 256 threads, always in the same order.
DEVICE double block_sum(double value) {
    __shared__ double parts[32];
    return over_row(value, parts, [](double a, double b) { return a + b; });
}

}  // namespace

// x = high + low, up to 2^-17 of x.
KERNEL void gram_split(const float* x, __nv_bfloat16* high, __nv_bfloat16* low, long count) {
    EACH(i, count) {
        high[i] = __float2bfloat16_rn(x[i]);
        low[i] = __float2bfloat16_rn(__fsub_rn(x[i], __bfloat162float(high[i])));
    }
}

// The lower triangle times `factor`, on both sides of the diagonal. Block (c, r) has the tile of rows r and columns c,
// and the one across the diagonal, which it writes by rows too.
KERNEL void gram_mirror(float* sums, long n, float factor) {
    __shared__ float tile[TILE][TILE + 1];
    const long top = (long)blockIdx.y * TILE, left = (long)blockIdx.x * TILE;
    if (left > top) return;
    const int col = threadIdx.x;
    for (int row = threadIdx.y; row < TILE; row += DEEP) {
        const long i = top + row, j = left + col;
        if (i < n && j <= i) {
            tile[row][col] = __fmul_rn(sums[i * n + j], factor);
            sums[i * n + j] = tile[row][col];
        }
    }
    __syncthreads();
    for (int row = threadIdx.y; row < TILE; row += DEEP) {
        const long i = left + row, j = top + col;
        if (j < n && j > i) sums[i * n + j] = tile[col][row];
    }
}

// Σ x² of 32 features over `piece` tokens: partial is [pieces, dim]. Each row of threads takes every eighth token.
KERNEL void gram_squares(const float* x, double* partial, long tokens, long dim, long piece) {
    __shared__ double sums[DEEP][TILE];
    const long j = (long)blockIdx.x * TILE + threadIdx.x;
    const long first = blockIdx.y * piece, last = min(first + piece, tokens);
    double sum = 0;
    if (j < dim) {
        for (long t = first + threadIdx.y; t < last; t += DEEP) {
            const double v = x[t * dim + j];
            sum += v * v;
        }
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && j < dim) {
        for (int k = 1; k < DEEP; k++) sum += sums[k][threadIdx.x];
        partial[blockIdx.y * dim + j] = sum;
    }
}

KERNEL void gram_add_squares(const double* partial, double* sums, long pieces, long dim) {
    EACH(j, dim) {
        double sum = 0;
        for (long k = 0; k < pieces; k++) sum += partial[k * dim + j];
        sums[j] += sum;
    }
}

// H without its diagonal.
KERNEL void gram_off_diagonal(const float* h, __nv_bfloat16* out, long n) {
    EACH(i, n * n) out[i] = __float2bfloat16_rn(i % (n + 1) == 0 ? 0.0f : h[i]);
}

// Σ w · product, a part for each block of 256 threads.
KERNEL void gram_dot(const float* product, const float* w, double* parts, long count) {
    double sum = 0;
    EACH(i, count) sum += (double)product[i] * w[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// Σ w · (product + w · diagonal), likewise, for rows of n.
KERNEL void gram_weigh(const float* product, const float* w, const float* diagonal, double* parts, long n, long count) {
    double sum = 0;
    EACH(i, count) sum += w[i] * ((double)product[i] + (double)w[i] * diagonal[i % n]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}
