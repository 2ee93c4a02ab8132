// What CUDA C++ has and C++ has not, so that a kernel's source compiles for the CPU: what it computes there is what the
// source says, thread by thread. Included by lanes.cuh when PARING_EMULATE is defined; compile with -ffp-contract=off,
// or products and sums are not rounded one by one as the kernels ask for. Left out on purpose: atomic sums of floats,
// whose result depends on the order of threads.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "numbers.h"
#include "threads.h"

#if defined(__FAST_MATH__) || (defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0)
#error "kernels are emulated with exact f32 arithmetic: no -ffast-math, and SSE on x86"
#endif

// As __forceinline__ there: no copy of its own, which another source of the same name could be taken for.
#define DEVICE inline __attribute__((always_inline))
#ifdef PARING_LIST_KERNELS
// For scripts/emulate-cuda, which looks for what follows in the preprocessed text.
#define KERNEL PARING_KERNEL
#else
#define KERNEL extern "C" __attribute__((visibility("hidden")))
#endif
#define DYNAMIC_SHARED(type, name) type* name = (type*)emulate::shared_memory()
// A block runs on one host thread.
#define __shared__ static __thread
#define __constant__ static const
#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

#define VECTORS(type, name)                                                        \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; };                       \
    struct name##3 { type x, y, z; };                                              \
    struct alignas(4 * sizeof(type) > 16 ? 16 : 4 * sizeof(type)) name##4 { type x, y, z, w; }; \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }               \
    inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }    \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
VECTORS(int8_t, char)
VECTORS(uint8_t, uchar)
VECTORS(int16_t, short)
VECTORS(uint16_t, ushort)
VECTORS(int, int)
VECTORS(unsigned, uint)
VECTORS(long long, longlong)
VECTORS(unsigned long long, ulonglong)
VECTORS(float, float)
VECTORS(double, double)
#undef VECTORS

struct dim3 { unsigned x, y, z; };
extern __thread uint3 threadIdx, blockIdx;
extern __thread dim3 blockDim, gridDim;
constexpr int warpSize = 32;

inline void __syncthreads() { emulate::barrier(false); }
inline int __syncthreads_count(int predicate) { return emulate::barrier(predicate != 0); }
inline int __syncthreads_or(int predicate) { return emulate::barrier(predicate != 0) > 0; }
inline int __syncthreads_and(int predicate) { return emulate::barrier(predicate == 0) == 0; }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    return (unsigned)emulate::exchange(emulate::Exchange::Ballot, mask, predicate != 0, 0);
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate == 0) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu) { __ballot_sync(mask, 0); }

namespace emulate {
template <class T>
T shuffle(unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) <= 8, "a register or two");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    bits = exchange(Exchange::Shuffle, mask, bits, from);
    memcpy(&value, &bits, sizeof(T));
    return value;
}
}  // namespace emulate
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
    return emulate::shuffle(mask, value, emulate::lane() / width * width + (unsigned)from % width);
}
// Beyond the lanes of its part of the warp a thread reads itself.
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
    const unsigned self = emulate::lane(), from = self ^ with;
    return emulate::shuffle(mask, value, from < self / width * width + width ? from : self);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const unsigned self = emulate::lane();
    return emulate::shuffle(mask, value, self % width >= by ? self - by : self);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const unsigned self = emulate::lane();
    return emulate::shuffle(mask, value, self % width + by < (unsigned)width ? self + by : self);
}

template <class T> T __ldg(const T* at) { return *at; }
template <class T> T __ldcs(const T* at) { return *at; }
template <class T> void __stcs(T* at, T value) { *at = value; }

// Blocks run on several host threads, so these are atomic here too.
#define ATOMICS(type)                                                                                            \
    inline type atomicAdd(type* at, type value) { return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST); }      \
    inline type atomicSub(type* at, type value) { return __atomic_fetch_sub(at, value, __ATOMIC_SEQ_CST); }      \
    inline type atomicOr(type* at, type value) { return __atomic_fetch_or(at, value, __ATOMIC_SEQ_CST); }        \
    inline type atomicAnd(type* at, type value) { return __atomic_fetch_and(at, value, __ATOMIC_SEQ_CST); }      \
    inline type atomicXor(type* at, type value) { return __atomic_fetch_xor(at, value, __ATOMIC_SEQ_CST); }      \
    inline type atomicExch(type* at, type value) { return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST); }    \
    inline type atomicCAS(type* at, type expected, type value) {                                                 \
        __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);            \
        return expected;                                                                                         \
    }                                                                                                            \
    inline type atomicMax(type* at, type value) {                                                                \
        type old = *at;                                                                                          \
        while (old < value && !__atomic_compare_exchange_n(at, &old, value, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {} \
        return old;                                                                                              \
    }                                                                                                            \
    inline type atomicMin(type* at, type value) {                                                                \
        type old = *at;                                                                                          \
        while (old > value && !__atomic_compare_exchange_n(at, &old, value, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {} \
        return old;                                                                                              \
    }
ATOMICS(int)
ATOMICS(unsigned)
ATOMICS(unsigned long long)
#undef ATOMICS

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return (float)(1.0 / sqrt((double)x)); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
// These are approximate on a GPU; here they are as good as the C library's.
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }

inline unsigned __float_as_uint(float x) { return emulate::bits_of(x); }
inline float __uint_as_float(unsigned x) { return emulate::float_of(x); }
inline int __float_as_int(float x) { return (int)emulate::bits_of(x); }
inline float __int_as_float(int x) { return emulate::float_of((unsigned)x); }
inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }
inline float __double2float_rn(double x) { return (float)x; }
inline int __float2int_rn(float x) { return (int)rintf(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const uint64_t bytes = (uint64_t)high << 32 | low;
    unsigned made = 0;
    for (int k = 0; k < 4; k++) {
        const unsigned which = selector >> 4 * k & 15, byte = (unsigned)(bytes >> 8 * (which & 7)) & 255;
        made |= (which & 8 ? (byte & 128 ? 255u : 0u) : byte) << 8 * k;
    }
    return made;
}

#define EXTREMES(type)                                     \
    inline type min(type a, type b) { return b < a ? b : a; } \
    inline type max(type a, type b) { return a < b ? b : a; }
EXTREMES(int)
EXTREMES(unsigned)
EXTREMES(long)
EXTREMES(unsigned long)
EXTREMES(long long)
EXTREMES(unsigned long long)
#undef EXTREMES
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

struct __nv_bfloat16 { uint16_t bits; };
struct __half { uint16_t bits; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
struct alignas(4) __half2 { __half x, y; };
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;
typedef __half half;
typedef __half2 half2;

inline float __bfloat162float(__nv_bfloat16 x) { return emulate::bf16_to_float(x.bits); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return {emulate::float_to_bf16(x)}; }
inline __nv_bfloat16 __float2bfloat16(float x) { return __float2bfloat16_rn(x); }
inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t bits) { return {bits}; }
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline float2 __bfloat1622float2(__nv_bfloat162 x) { return {__bfloat162float(x.x), __bfloat162float(x.y)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 x) { return __floats2bfloat162_rn(x.x, x.y); }
inline float __half2float(__half x) { return emulate::f16_to_float(x.bits); }
inline __half __float2half_rn(float x) { return {emulate::float_to_f16(x)}; }
inline __half __float2half_rd(float x) { return {emulate::float_to_f16_towards(x, -1)}; }
inline __half __float2half_ru(float x) { return {emulate::float_to_f16_towards(x, 1)}; }
inline __half __float2half(float x) { return __float2half_rn(x); }
inline __half __ushort_as_half(uint16_t bits) { return {bits}; }
inline uint16_t __half_as_ushort(__half x) { return x.bits; }
inline float2 __half22float2(__half2 x) { return {__half2float(x.x), __half2float(x.y)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline __half2 __float22half2_rn(float2 x) { return __floats2half2_rn(x.x, x.y); }
