// SwiGLU with the bits of the CPU (see mod.rs).
#include "lanes.cuh"

KERNEL void swiglu(const float* gate, const float* up, float* out, long count) {
    map(gate, up, out, count, [](float g, float u) {
        return __fmul_rn(__fdiv_rn(g, __fadd_rn(1.0f, exp_of(-g))), u);
    });
}
