// How a row of a slice is held: shared by the sweeps (sweep.cu, spqr.cu).
#pragma once
#include "stored.cuh"

namespace {

constexpr int PER = 16;             // columns of a thread
constexpr int LANES = 8;            // threads of a row
constexpr int SLICE = PER * LANES;  // columns of a slice

// The smallest positive number that a scale may be.
DEVICE float least_scale(int stored) { return stored == F16 ? 5.9604645e-8f : 1.17549435e-38f; }

// Puts `count` rows of U from row and column `first` on into shared memory, zero up to and including the diagonal and
// beyond the slice. In a row the numbers of a thread lie 8 · 16 bytes apart, so that the eight threads of a row read 128
// bytes in a line; they begin with the column after the one that is visited, which is where the registers are then.
DEVICE void load_turned(float* to, const float* u, int cols, int first, int width, int count) {
    for (int at = threadIdx.x; at < count * SLICE; at += blockDim.x) {
        const int j = at / SLICE, k = at % SLICE, place = (k - j - 1) & (PER - 1);
        const float value = k > j && k < width ? u[(long)(first + j) * cols + first + k] : 0.0f;
        to[j * SLICE + (place / 4 * LANES + k / PER) * 4 + place % 4] = value;
    }
}

// w −= e · U[j, ..], and every number moves on by one register.
DEVICE void spread_turning(float* w, float e, const float4* u) {
    const float first = w[0];
#pragma unroll
    for (int k = 0; k < PER; k += 4) {
        const float4 v = u[k / 4 * LANES];
        w[k + 0] = __fsub_rn(w[k + 1], __fmul_rn(e, v.x));
        w[k + 1] = __fsub_rn(w[k + 2], __fmul_rn(e, v.y));
        w[k + 2] = __fsub_rn(w[k + 3], __fmul_rn(e, v.z));
        w[k + 3] = __fsub_rn(k + 4 < PER ? w[k + 4] : first, __fmul_rn(e, v.w));
    }
}

}  // namespace
