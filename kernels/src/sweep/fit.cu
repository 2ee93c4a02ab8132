// Grids of the groups that begin in a slice (fit.rs), fitted to the weights as they are when it begins: a warp for each.
#include "grid.cuh"

// Which groups of which rows. Matrices are row-major.
struct FitArgs {
    int rows, cols;
    int groups;       // of a row
    int group_size;
    int first_group;  // the first that begins in the slice
    int count;        // of those
    Format format;
};

namespace {

constexpr unsigned WARP = 0xffffffffu;
constexpr int PIECE = 1 << 16;  // errors of so many values are added up by themselves

enum Way { NEAREST, DOWN, UP };

// The largest number of the type that is not above x, and the smallest that is not below, for positive finite x.
DEVICE float rounded_to(float x, int stored, int way) {
    if (way == NEAREST || stored == F32) return rounded(x, stored);
    if (stored == F16) return __half2float(way == DOWN ? __float2half_rd(x) : __float2half_ru(x));
    const unsigned below = __float_as_uint(x) & 0xffff0000u;
    return __uint_as_float(way == DOWN || __uint_as_float(below) >= x ? below : below + 0x10000u);
}

DEVICE Grid scale_and_zero(const Format& f, float lo, float hi, int way) {
    float scale = rounded_to(__fdiv_rn(__fsub_rn(hi, lo), f.max_code), f.stored, way);
    if (scale == 0.0f) scale = least_scale(f.stored);
    if (f.symmetric) return {scale, __fdiv_rn(__fadd_rn(f.max_code, 1.0f), 2.0f)};
    return {scale, clamped(rintf(__fdiv_rn(-lo, scale)), 0.0f, f.max_code)};
}

// What a scale of zero becomes.
DEVICE float epsilon(int stored) { return stored == F32 ? 1.1920929e-7f : stored == BF16 ? 0.0078125f : 0.0009765625f; }

DEVICE float scale_for(const Format& f, float amax, float global) {
    const float plain = rounded(__fdiv_rn(amax, f.max_code), f.computed);
    if (f.scales == FLOAT) {
        const float scale = rounded(plain, f.stored);
        return scale == 0.0f ? epsilon(f.stored) : scale;
    }
    if (f.scales == GLOBAL) {
        const float scale = e4m3(__fmul_rn(global, plain));
        return scale == 0.0f ? 0.125f : scale;
    }
    if (amax == 0.0f && f.computed == F16) return 1.0f;
    const unsigned largest = f.element == E4M3 ? 8 : 2, added = f.element == E2M3 ? 1u << 19 : 1u << 21;
    const unsigned exponent = (__float_as_uint(amax) + added) >> 23;
    return __uint_as_float(max((exponent > largest ? exponent - largest : 0u) << 23, 1u << 22));
}

// The range of a group's values, and which of the grids for it is meant.
struct Range {
    float lo, hi, global;
};

DEVICE Grid candidate(const Format& f, const Range& r, float share, int way) {
    if (f.element != INT) return {scale_for(f, __fmul_rn(share, fmaxf(r.hi, -r.lo)), r.global), 0.0f};
    return scale_and_zero(f, __fmul_rn(share, r.lo), __fmul_rn(share, r.hi), way);
}

DEVICE float off_by(const Format& f, float x, Grid grid) {
    return __fsub_rn(decode(f, encode(f, x, grid), grid), x);
}

DEVICE Grid as_applied(const Format& f, Grid grid, const Range& r) {
    return {applied(f, grid.scale, r.global), grid.zero};
}

// Σ error² by the sixteen threads of half a warp: thread l adds up the values at l, l + 16, .., and all of them the sums.
DEVICE float squares(const Format& f, const float* x, int length, Grid grid) {
    const int lane = threadIdx.x % 16;
    float total = 0.0f;
    for (int piece = 0; piece < length; piece += PIECE) {
        const int end = min(piece + PIECE, length);
        float sum = 0.0f, all = 0.0f;
        for (int k = piece + lane; k < end; k += 16) {
            const float off = off_by(f, x[k], grid);
            sum = __fadd_rn(sum, __fmul_rn(off, off));
        }
        for (int other = 0; other < 16; other++) all = __fadd_rn(all, __shfl_sync(WARP, sum, other, 16));
        total = __fadd_rn(total, all);
    }
    return total;
}

// Σ |error|^2.4 by one thread.
DEVICE float powers(const Format& f, const float* x, int length, Grid grid) {
    float total = 0.0f;
    for (int piece = 0; piece < length; piece += PIECE) {
        const int end = min(piece + PIECE, length);
        float sum = 0.0f;
        for (int k = piece; k < end; k++) sum = __fadd_rn(sum, powf(fabsf(off_by(f, x[k], grid)), 2.4f));
        total = __fadd_rn(total, sum);
    }
    return total;
}

DEVICE Grid fit(const Format& f, const float* x, int length, float global) {
    const int lane = threadIdx.x % 32;
    Range r = {0.0f, 0.0f, global};
    for (int k = lane; k < length; k += 32) {
        const float v = x[k];
        r.lo = v < r.lo ? v : r.lo;
        r.hi = v > r.hi ? v : r.hi;
    }
    for (int step = 1; step < 32; step *= 2) {
        r.lo = fminf(r.lo, __shfl_xor_sync(WARP, r.lo, step));
        r.hi = fmaxf(r.hi, __shfl_xor_sync(WARP, r.hi, step));
    }
    const bool integer = f.element == INT;
    if (integer && f.symmetric) {
        r.hi = fmaxf(r.hi, -r.lo);
        if (r.lo < 0.0f) r.lo = -r.hi;
    }
    const bool empty = r.lo == 0.0f && r.hi == 0.0f;
    if (integer && empty) r = {-1.0f, 1.0f, global};
    if (f.mse && (integer || !empty)) {
        // The first of 80 grids with the least error. A NaN counts as beyond every float.
        float least = __uint_as_float(0x7f800000u), share = 1.0f;
        int first = 0;
        for (int k = lane; k < 80; k += 32) {
            const float part = __fsub_rn(1.0f, __fdiv_rn((float)k, 100.0f));
            const float error = powers(f, x, length, as_applied(f, candidate(f, r, part, NEAREST), r));
            if (k == lane) first = k, share = part;
            if (error < least) least = error, first = k, share = part;
        }
        for (int step = 1; step < 32; step *= 2) {
            const float error = __shfl_xor_sync(WARP, least, step), part = __shfl_xor_sync(WARP, share, step);
            const int other = __shfl_xor_sync(WARP, first, step);
            if (error < least || (error == least && other < first)) least = error, first = other, share = part;
        }
        return candidate(f, r, share, NEAREST);
    }
    if (!integer || f.stored == F32) return candidate(f, r, 1.0f, NEAREST);
    // The scale falls between two numbers of the stored type: half a warp for each, and the better one is taken.
    const Grid mine = candidate(f, r, 1.0f, lane < 16 ? DOWN : UP);
    const float error = squares(f, x, length, mine);
    const float below = __shfl_sync(WARP, error, 0), above = __shfl_sync(WARP, error, 16);
    const bool up = above < (below < __uint_as_float(0x7f800000u) ? below : __uint_as_float(0x7f800000u));
    return {__shfl_sync(WARP, mine.scale, up ? 16 : 0), __shfl_sync(WARP, mine.zero, up ? 16 : 0)};
}

}  // namespace

KERNEL void sweep_fit(const float* weight, float* scales, float* zeros, const float* global, FitArgs a) {
    const long warps = (long)gridDim.x * blockDim.x / 32, tasks = (long)a.rows * a.count;
    for (long task = ((long)blockIdx.x * blockDim.x + threadIdx.x) / 32; task < tasks; task += warps) {
        const long row = task / a.count;
        const int group = a.first_group + (int)(task % a.count), begin = group * a.group_size;
        const int length = min(a.group_size, a.cols - begin);
        const float of_all = a.format.scales == GLOBAL ? global[row] : 1.0f;
        const Grid grid = fit(a.format, weight + row * a.cols + begin, length, of_all);
        if (threadIdx.x % 32 == 0) {
            scales[row * a.groups + group] = grid.scale;
            zeros[row * a.groups + group] = grid.zero;
        }
    }
}
