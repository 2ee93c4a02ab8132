// Activations rounded to codes with the bits of the CPU (see mod.rs).
#include "lanes.cuh"

namespace {

enum Element : int { INTEGER = 0, E4M3 = 1, E2M1 = 2, E2M3 = 3 };
enum Kind : int { FLOAT = 0, EXPONENT = 1, LOCAL = 2 };

// The type of codes and the source of scales: `QuantizeParams` in cuda.rs.
struct QuantizeParams {
    int element, symmetric, kind;
    float least, largest, half_range, epsilon, global;
};

struct Grid {
    float scale, zero;
};

struct Extremes {
    float least, most;
};

// What is not a number is passed over.
DEVICE Extremes both(Extremes a, Extremes b) {
    return {b.least < a.least ? b.least : a.least, b.most > a.most ? b.most : a.most};
}

DEVICE Extremes with(Extremes a, float x) { return both(a, {x, x}); }

// What is not a number stays so.
DEVICE float within(float x, float least, float largest) { return x < least ? least : x > largest ? largest : x; }

// See minifloat.rs.
DEVICE float nearest(float x, int mantissa, int lowest) {
    const int own = __float_as_uint(x) >> 23 & 0xff, exponent = own > lowest ? own : lowest;
    const float shift = __uint_as_float((unsigned)(exponent - mantissa + 23) << 23 | 0x400000u);
    return copysignf(__fsub_rn(__fadd_rn(fabsf(x), shift), shift), x);
}

DEVICE float e4m3(float x) { return nearest(within(x, -448.0f, 448.0f), 3, 121); }
DEVICE float e2m3(float x) { return nearest(within(x, -7.5f, 7.5f), 3, 127); }
DEVICE float e2m1(float x) { return nearest(within(x, -6.0f, 6.0f), 1, 127); }

// The code less the zero point.
DEVICE float code(const QuantizeParams& params, float x, Grid grid) {
    const float at = __fadd_rn(__fdiv_rn(x, grid.scale), grid.zero);
    if (params.element == E4M3) return __fsub_rn(e4m3(at), grid.zero);
    if (params.element == E2M1) return __fsub_rn(e2m1(at), grid.zero);
    if (params.element == E2M3) return __fsub_rn(e2m3(at), grid.zero);
    const float round = 12582912.0f;
    return __fsub_rn(__fsub_rn(__fadd_rn(within(at, params.least, params.largest), round), round), grid.zero);
}

DEVICE Grid grid_for(const QuantizeParams& params, Extremes seen) {
    // The sign of zero counts: the bits of `above` are read.
    const float below = -seen.least, above = below > seen.most ? below : seen.most;
    if (params.kind == EXPONENT) {
        // See element.rs.
        const unsigned own = params.element == E4M3 ? 8 : 2, added = params.element == E2M3 ? 1u << 19 : 1u << 21;
        const unsigned raw = (__float_as_uint(above) + added) >> 23;
        const unsigned exponent = raw > own ? raw - own : 0;
        return {__uint_as_float(exponent == 0 ? 1u << 22 : exponent << 23), 0.0f};
    }
    if (params.kind == LOCAL) {
        const float scale = e4m3(__fmul_rn(params.global, __fdiv_rn(above, params.half_range)));
        return {scale == 0.0f ? 0.125f : scale, 0.0f};
    }
    if (params.symmetric) {
        const float scale = __fdiv_rn(above, params.half_range);
        return {scale == 0.0f ? params.epsilon : scale, 0.0f};
    }
    const float scale = __fdiv_rn(__fsub_rn(seen.most, seen.least), __fsub_rn(params.largest, params.least));
    const float nearest = __fsub_rn(params.least, __fdiv_rn(seen.least, scale));
    const float zero = rintf(within(nearest, params.least, params.largest));
    // Nothing but zeros: 0/0.
    return {scale == 0.0f ? params.epsilon : scale, zero != zero ? 0.0f : zero};
}

// The extremes over the threads of a row, in every one of them; `parts` is shared memory for 32 numbers.
DEVICE Extremes of_row(Extremes seen, float* parts) {
    const float least = over_row(seen.least, parts, [](float a, float b) { return b < a ? b : a; });
    return {least, over_row(seen.most, parts, [](float a, float b) { return b > a ? b : a; })};
}

}  // namespace

// Groups of `size`, each with a grid of its own. With `factors` (one a group) scales go there, otherwise into the numbers.
KERNEL void quantize_groups(const float* x, float* out, float* factors, long groups, int size, QuantizeParams params) {
    __shared__ float parts[32];
    const long group = (long)blockIdx.x * blockDim.y + threadIdx.y;
    if (group >= groups) return;
    const float* from = x + group * size;
    Extremes seen = {0.0f, 0.0f};
    for (int i = threadIdx.x; i < size; i += blockDim.x) seen = with(seen, from[i]);
    Grid grid = grid_for(params, of_row(seen, parts));
    const float after = factors ? 1.0f : grid.scale;
    if (factors && threadIdx.x == 0) factors[group] = grid.scale;
    if (params.kind == LOCAL) grid.scale = __fdiv_rn(grid.scale, params.global);
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
        out[group * size + i] = __fmul_rn(code(params, from[i], grid), after);
    }
}

// The extremes of what each block sees, 0 included: `parts [blocks, 2]`.
KERNEL void quantize_extremes(const float* x, float* parts, long count) {
    __shared__ float shared[32];
    Extremes seen = {0.0f, 0.0f};
    const long fours = in_lines(x, x) ? count / 4 : 0;
    EACH(i, fours) {
        const float4 v = ((const float4*)x)[i];
        seen = with(with(with(with(seen, v.x), v.y), v.z), v.w);
    }
    EACH(i, count - 4 * fours) seen = with(seen, x[4 * fours + i]);
    seen = of_row(seen, shared);
    if (threadIdx.x == 0) {
        parts[2 * blockIdx.x] = seen.least;
        parts[2 * blockIdx.x + 1] = seen.most;
    }
}

// The grid for `count` such parts, by one block: scale and zero point.
KERNEL void quantize_grid(const float* parts, float* grid, int count, QuantizeParams params) {
    __shared__ float shared[32];
    Extremes seen = {0.0f, 0.0f};
    for (int i = threadIdx.x; i < count; i += blockDim.x) seen = both(seen, {parts[2 * i], parts[2 * i + 1]});
    const Grid found = grid_for(params, of_row(seen, shared));
    if (threadIdx.x == 0) {
        grid[0] = found.scale;
        grid[1] = found.zero;
    }
}

// All numbers on one grid.
KERNEL void quantize_codes(const float* x, const float* grid, float* out, long count, QuantizeParams params) {
    const Grid on = {grid[0], grid[1]};
    map(x, out, count, [&](float x) { return code(params, x, on); });
}

// Each row times its factor; with `one` they all have the same.
KERNEL void quantize_scale_rows(const float* y, const float* factors, float* out, int width, int one) {
    const float factor = factors[one ? 0 : blockIdx.x];
    const size_t start = (size_t)blockIdx.x * width;
    const int fours = width % 4 == 0 && in_lines(y, out) ? width / 4 : 0;
    for (int i = threadIdx.x; i < fours; i += blockDim.x) {
        const float4 v = ((const float4*)(y + start))[i];
        ((float4*)(out + start))[i] =
            make_float4(__fmul_rn(v.x, factor), __fmul_rn(v.y, factor), __fmul_rn(v.z, factor), __fmul_rn(v.w, factor));
    }
    for (int i = 4 * fours + threadIdx.x; i < width; i += blockDim.x) out[start + i] = __fmul_rn(y[start + i], factor);
}
