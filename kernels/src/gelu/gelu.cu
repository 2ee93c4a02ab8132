// GELU with the bits of the CPU: the steps are those of mod.rs.
#include "lanes.cuh"

namespace {

DEVICE float tail(float t) {
    const float u = __fdiv_rn(1.0f, __fadd_rn(1.0f, __fmul_rn(0.35f, t)));
    float p = -0.029165285f;
    p = __fadd_rn(__fmul_rn(p, u), 0.14406756f);
    p = __fadd_rn(__fmul_rn(p, u), -0.25591612f);
    p = __fadd_rn(__fmul_rn(p, u), 0.15940961f);
    p = __fadd_rn(__fmul_rn(p, u), -0.023275653f);
    p = __fadd_rn(__fmul_rn(p, u), 0.10557996f);
    p = __fadd_rn(__fmul_rn(p, u), 0.11981415f);
    p = __fadd_rn(__fmul_rn(p, u), 0.13986453f);
    p = __fadd_rn(__fmul_rn(p, u), 0.13962124f);
    return __fmul_rn(__fmul_rn(p, u), exp_of(__fmul_rn(__fmul_rn(-0.5f, t), t)));
}

}  // namespace

KERNEL void gelu(const float* x, float* out, long count) {
    map(x, out, count, [](float x) {
        const float size = fabsf(x), t = size > 16.0f ? 16.0f : size;
        return __fsub_rn(x > 0.0f ? x : 0.0f, __fmul_rn(t, tail(t)));
    });
}
