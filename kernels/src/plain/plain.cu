// Element by element: sums, ReLU, and the search for what is not finite (see mod.rs).
#include "lanes.cuh"

KERNEL void plain_add(const float* a, const float* b, float* out, long count) {
    map(a, b, out, count, [](float a, float b) { return __fadd_rn(a, b); });
}

// y is added to each `width` elements of x.
KERNEL void plain_add_each(const float* x, const float* y, float* out, long count, long width) {
    const bool lines = width % 4 == 0 && in_lines(x, y, out);
    const long steps = lines ? count / 4 : count, size = lines ? width / 4 : width;
    // Short numbers are divided faster.
    const bool low = steps < 1L << 32;
    EACH(i, steps) {
        const long at = low ? (unsigned)i % (unsigned)size : i % size;
        if (lines) {
            const float4 v = ((const float4*)x)[i], w = ((const float4*)y)[at];
            ((float4*)out)[i] =
                make_float4(__fadd_rn(v.x, w.x), __fadd_rn(v.y, w.y), __fadd_rn(v.z, w.z), __fadd_rn(v.w, w.w));
        } else {
            out[i] = __fadd_rn(x[i], y[at]);
        }
    }
}

// What is not a number stays so.
KERNEL void plain_relu(const float* x, float* out, long count) {
    map(x, out, count, [](float x) { return x < 0.0f ? 0.0f : x; });
}

// Sets *bad where an element is infinite or not a number: its exponent is all ones.
KERNEL void plain_not_finite(const float* x, int* bad, long count) {
    EACH(i, count) {
        if ((__float_as_uint(x[i]) & 0x7f800000u) == 0x7f800000u) *bad = 1;
    }
}
