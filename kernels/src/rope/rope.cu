// Rotary embeddings (see mod.rs): a block for each token.
#include "lanes.cuh"

namespace {

DEVICE float low_of(float low, float high, float cos, float sin) {
    return __fsub_rn(__fmul_rn(low, cos), __fmul_rn(high, sin));
}
DEVICE float high_of(float low, float high, float cos, float sin) {
    return __fadd_rn(__fmul_rn(low, sin), __fmul_rn(high, cos));
}

}  // namespace

KERNEL void rope(const float* x, const float* cos, const float* sin, float* out, int time, int heads, int half) {
    const size_t position = blockIdx.x % time, start = (size_t)blockIdx.x * heads * half * 2;
    const float *c = cos + position * half, *s = sin + position * half;
    const bool lines = half % 4 == 0 && in_lines(x, out) && in_lines(cos, sin);
    const int pieces = lines ? half / 4 : half;
    for (int at = threadIdx.x; at < heads * pieces; at += blockDim.x) {
        const size_t head = start + (size_t)(at / pieces) * half * 2;
        const int i = at % pieces;
        if (lines) {
            const float4 a = ((const float4*)(x + head))[i], b = ((const float4*)(x + head + half))[i];
            const float4 p = ((const float4*)c)[i], q = ((const float4*)s)[i];
            ((float4*)(out + head))[i] = make_float4(low_of(a.x, b.x, p.x, q.x), low_of(a.y, b.y, p.y, q.y),
                                                     low_of(a.z, b.z, p.z, q.z), low_of(a.w, b.w, p.w, q.w));
            ((float4*)(out + head + half))[i] = make_float4(high_of(a.x, b.x, p.x, q.x), high_of(a.y, b.y, p.y, q.y),
                                                            high_of(a.z, b.z, p.z, q.z), high_of(a.w, b.w, p.w, q.w));
        } else {
            const float a = x[head + i], b = x[head + half + i];
            out[head + i] = low_of(a, b, c[i], s[i]);
            out[head + half + i] = high_of(a, b, c[i], s[i]);
        }
    }
}
