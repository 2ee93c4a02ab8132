// How a row of a slice is held, and what rounding means: shared by the sweeps (sweep.cu, spqr.cu).
#pragma once
#include "lanes.cuh"

namespace {

constexpr int PER = 16;             // columns of a thread
constexpr int LANES = 8;            // threads of a row
constexpr int SLICE = PER * LANES;  // columns of a slice

enum Stored : int { F32 = 0, BF16 = 1, F16 = 2 };

DEVICE float rounded(float x, int stored) {
    if (stored == BF16) return __bfloat162float(__float2bfloat16_rn(x));
    if (stored == F16) return __half2float(__float2half_rn(x));
    return x;
}

// The smallest positive number that a scale may be.
DEVICE float least_scale(int stored) { return stored == F16 ? 5.9604645e-8f : 1.17549435e-38f; }

// Puts `width` rows of U from row and column `first` on into shared memory, zero up to and including the diagonal. In a
// row the numbers of a thread lie 8 · 16 bytes apart, so that the eight threads of a row read 128 bytes in a line.
DEVICE void load_factor(float4* to, const float* u, int cols, int first, int width) {
    for (int at = threadIdx.x; at < width * SLICE; at += blockDim.x) {
        const int j = at / SLICE, k = at % SLICE;
        const float value = k > j && k < width ? u[(long)(first + j) * cols + first + k] : 0.0f;
        ((float*)to)[j * SLICE + (k % PER / 4 * LANES + k / PER) * 4 + k % 4] = value;
    }
    __syncthreads();
}

// w −= e · U[j, ..]: products and differences are rounded separately, as on the CPU.
DEVICE void spread(float* w, float e, const float4* factor, int j, int lane) {
    const float4* u = factor + j * (SLICE / 4) + lane;
#pragma unroll
    for (int k = 0; k < PER / 4; k++) {
        const float4 v = u[k * LANES];
        w[4 * k + 0] = __fsub_rn(w[4 * k + 0], __fmul_rn(e, v.x));
        w[4 * k + 1] = __fsub_rn(w[4 * k + 1], __fmul_rn(e, v.y));
        w[4 * k + 2] = __fsub_rn(w[4 * k + 2], __fmul_rn(e, v.z));
        w[4 * k + 3] = __fsub_rn(w[4 * k + 3], __fmul_rn(e, v.w));
    }
}

}  // namespace
