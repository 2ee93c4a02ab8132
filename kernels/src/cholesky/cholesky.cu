// Factors of inverses: what comes before and after cuSOLVER (see cuda.rs). It goes by columns: the upper triangle of a
// matrix as it sees it is the lower one of rows.
#include "lanes.cuh"

namespace {

// Block i writes row i, up to the diagonal, of H with its rows and columns in the reverse of `order` and with the new
// diagonal.
template <class T>
DEVICE void gather(const float* h, const int* order, const float* diagonal, T* out, long n) {
    const long i = blockIdx.x, row = order[n - 1 - i];
    for (long j = threadIdx.x; j < i; j += blockDim.x) out[i * n + j] = h[row * n + order[n - 1 - j]];
    if (threadIdx.x == 0) out[i * n + i] = diagonal[n - 1 - i];
}

template <class T>
DEVICE void ones(T* out, long n) {
    EACH(i, n) out[i * (n + 1)] = 1;
}

}  // namespace

KERNEL void cholesky_gather(const float* h, const int* order, const float* diagonal, float* out, long n) {
    gather(h, order, diagonal, out, n);
}

KERNEL void cholesky_gather_f64(const float* h, const int* order, const float* diagonal, double* out, long n) {
    gather(h, order, diagonal, out, n);
}

// A diagonal of ones.
KERNEL void cholesky_ones(float* out, long n) { ones(out, n); }

KERNEL void cholesky_ones_f64(double* out, long n) { ones(out, n); }

// The lower triangle with its rows and columns reversed, and zero below the diagonal that it gets so: element i of n² is
// exchanged with the one as far from the end.
KERNEL void cholesky_flip(float* values, long n) {
    EACH(i, (n * n + 1) / 2) {
        const long other = n * n - 1 - i, row = i / n, col = i % n;
        const float here = values[i], there = values[other];
        values[i] = col >= row ? there : 0.0f;
        values[other] = col <= row ? here : 0.0f;
    }
}

// The same from f64 to f32.
KERNEL void cholesky_flip_f64(const double* values, float* out, long n) {
    EACH(i, n * n) out[i] = i % n >= i / n ? (float)values[n * n - 1 - i] : 0.0f;
}
