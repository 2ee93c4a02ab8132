// What a kernel needs from the device, so that the same source also runs on the CPU, thread by thread (emulate.h).
#pragma once
#ifdef PARING_EMULATE
#include "emulate.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__
// The shared memory that the launch asks for.
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

// Threads go over elements 0 to `count` in steps of the grid's size.
#define EACH(i, count) \
    for (long i = (long)blockIdx.x * blockDim.x + threadIdx.x; i < (count); i += (long)gridDim.x * blockDim.x)

// Whether all of them may be read and written 16 bytes at a time.
DEVICE bool in_lines(const void* a, const void* b, const void* c = nullptr) {
    return (((size_t)a | (size_t)b | (size_t)c) & 15) == 0;
}

// out[i] = f(x[i]), four at a time where possible.
template <class F>
DEVICE void map(const float* x, float* out, long count, F f) {
    const long fours = in_lines(x, out) ? count / 4 : 0;
    EACH(i, fours) {
        const float4 v = ((const float4*)x)[i];
        ((float4*)out)[i] = make_float4(f(v.x), f(v.y), f(v.z), f(v.w));
    }
    EACH(i, count - 4 * fours) out[4 * fours + i] = f(x[4 * fours + i]);
}

// out[i] = f(a[i], b[i]), four at a time where possible.
template <class F>
DEVICE void map(const float* a, const float* b, float* out, long count, F f) {
    const long fours = in_lines(a, b, out) ? count / 4 : 0;
    EACH(i, fours) {
        const float4 v = ((const float4*)a)[i], w = ((const float4*)b)[i];
        ((float4*)out)[i] = make_float4(f(v.x, w.x), f(v.y, w.y), f(v.z, w.z), f(v.w, w.w));
    }
    EACH(i, count - 4 * fours) out[4 * fours + i] = f(a[4 * fours + i], b[4 * fours + i]);
}

// e^x as simd.rs computes it, bit for bit; the steps are explained there. NaN stays NaN.
DEVICE float exp_of(float x) {
    const float round = 12582912.0f;
    const float clamped = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float shifted = __fadd_rn(__fmul_rn(clamped, 1.4426950408889634f), round);
    const float n = __fsub_rn(shifted, round);
    const float r = __fsub_rn(__fsub_rn(clamped, __fmul_rn(n, 0.6933594f)), __fmul_rn(n, -2.1219444e-4f));
    float p = 1.3888889e-3f;
    p = __fadd_rn(__fmul_rn(p, r), 8.333334e-3f);
    p = __fadd_rn(__fmul_rn(p, r), 4.1666666e-2f);
    p = __fadd_rn(__fmul_rn(p, r), 1.6666667e-1f);
    p = __fadd_rn(__fmul_rn(p, r), 0.5f);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f);
    const float power = __uint_as_float((__float_as_uint(shifted) << 23) + __float_as_uint(p));
    return x != x ? x : x < -87.0f ? 0.0f : power;
}

// The sum over the threads of a row (threadIdx.x, 32 or a multiple of it), in every one of them. `parts` is shared memory
// for 32 numbers of the block's only row when a row has more than 32 threads; it may be used again at once.
template <class T, class F>
DEVICE T over_row(T value, T* parts, F join) {
    for (int step = 16; step > 0; step /= 2) value = join(value, __shfl_xor_sync(0xffffffffu, value, step));
    if (blockDim.x == 32) return value;
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    value = parts[0];
    for (int i = 1; i < (int)blockDim.x / 32; i++) value = join(value, parts[i]);
    __syncthreads();
    return value;
}
