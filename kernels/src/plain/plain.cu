// Element by element: sums, ReLU, and the search for what is not finite (see mod.rs).
#include "lanes.cuh"

KERNEL void plain_add(const float* a, const float* b, float* out, long count) {
    map(a, b, out, count, [](float a, float b) { return __fadd_rn(a, b); });
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
