// What a code is, on the device: what grid.rs says, operation by operation.
#pragma once
#include "row.cuh"

namespace {

enum Element : int { INT = 0, E4M3 = 1, E2M1 = 2, E2M3 = 3 };
enum Scales : int { FLOAT = 0, GLOBAL = 1, EXPONENT = 2 };

}  // namespace

// GridFormat; the numbers that differ between rows are beside it.
struct Format {
    int element;   // Element
    int symmetric;
    int mse;
    int scales;    // Scales
    int computed;  // Stored
    int stored;    // Stored
    float max_code;
};

// A scale, as it is stored or as it is applied, and a zero point.
struct Grid {
    float scale, zero;
};

namespace {

// NaN stays NaN.
DEVICE float clamped(float x, float least, float most) { return x < least ? least : x > most ? most : x; }

// minifloat.rs: the nearest number with so many bits of mantissa and exponents from `lowest` on.
DEVICE float nearest(float x, int mantissa, int lowest) {
    const int exponent = max((int)(__float_as_uint(x) >> 23 & 255), 127 + lowest);
    const float shift = __uint_as_float((unsigned)(exponent - mantissa + 23) << 23 | 0x400000u);
    return copysignf(__fsub_rn(__fadd_rn(fabsf(x), shift), shift), x);
}

DEVICE float e4m3(float x) { return nearest(clamped(x, -448.0f, 448.0f), 3, -6); }
DEVICE float e2m3(float x) { return nearest(clamped(x, -7.5f, 7.5f), 3, 0); }
DEVICE float e2m1(float x) { return nearest(clamped(x, -6.0f, 6.0f), 1, 0); }

DEVICE float applied(const Format& f, float scale, float global) {
    return f.scales == GLOBAL ? __fdiv_rn(scale, global) : scale;
}

// The code of x as a number, for a scale as it is applied.
DEVICE float encode(const Format& f, float x, Grid grid) {
    const float ratio = __fdiv_rn(x, grid.scale);
    if (f.element == INT) return clamped(__fadd_rn(rintf(ratio), grid.zero), 0.0f, f.max_code);
    if (f.element == E2M3) return e2m3(ratio);
    return f.element == E4M3 ? e4m3(ratio) : e2m1(ratio);
}

DEVICE float decode(const Format& f, float number, Grid grid) {
    return rounded(__fmul_rn(grid.scale, __fsub_rn(number, grid.zero)), f.stored);
}

// A code as the file has it, of its number.
DEVICE unsigned char code_of(const Format& f, float number) {
    if (f.element == INT) return (unsigned char)number;
    const unsigned bits = __float_as_uint(number), magnitude = bits & 0x7fffffffu;
    // Exponent and mantissa are those of the f32, but for the bias; below the normal numbers steps are of one size.
    if (f.element == E4M3) {
        const unsigned code = magnitude < 121u << 23 ? (unsigned)(fabsf(number) * 512.0f) : (magnitude >> 20) - (120u << 3);
        return (unsigned char)(code | (bits >> 24 & 0x80u));
    }
    if (f.element == E2M3) {
        const unsigned code = magnitude < 127u << 23 ? (unsigned)(fabsf(number) * 8.0f) : (magnitude >> 20) - (126u << 3);
        return (unsigned char)(code | (bits >> 26 & 0x20u));
    }
    const unsigned code = magnitude < 127u << 23 ? (unsigned)(fabsf(number) * 2.0f) : (magnitude >> 22) - (126u << 1);
    return (unsigned char)(code | (bits >> 28 & 8u));
}

}  // namespace
