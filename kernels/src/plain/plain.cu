// Element by element: sums, ReLU, and the search for what is not finite (see mod.rs).
#include "lanes.cuh"

// Threads go over all elements in steps of the grid's size.
#define EACH(i, count) \
    for (long i = (long)blockIdx.x * blockDim.x + threadIdx.x; i < (count); i += (long)gridDim.x * blockDim.x)

KERNEL void plain_add(const float* a, const float* b, float* out, long count) {
    EACH(i, count) out[i] = __fadd_rn(a[i], b[i]);
}

// What is not a number stays so.
KERNEL void plain_relu(const float* x, float* out, long count) {
    EACH(i, count) out[i] = x[i] < 0.0f ? 0.0f : x[i];
}

// Sets *bad where an element is infinite or not a number: its exponent is all ones.
KERNEL void plain_not_finite(const float* x, int* bad, long count) {
    EACH(i, count) {
        if ((__float_as_uint(x[i]) & 0x7f800000u) == 0x7f800000u) *bad = 1;
    }
}
