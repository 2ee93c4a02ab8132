// Activations rounded to the type of a product.
#include "lanes.cuh"

namespace {

template <class To, class F>
DEVICE void convert(const float* x, To* out, long count, F round) {
    struct alignas(8) Four { To x, y, z, w; };
    const long fours = in_lines(x, out) ? count / 4 : 0;
    EACH(i, fours) {
        const float4 v = ((const float4*)x)[i];
        ((Four*)out)[i] = Four{round(v.x), round(v.y), round(v.z), round(v.w)};
    }
    EACH(i, count - 4 * fours) out[4 * fours + i] = round(x[4 * fours + i]);
}

}  // namespace

KERNEL void matmul_to_bf16(const float* x, __nv_bfloat16* out, long count) {
    convert(x, out, count, [](float v) { return __float2bfloat16_rn(v); });
}

KERNEL void matmul_to_f16(const float* x, __half* out, long count) {
    convert(x, out, count, [](float v) { return __float2half_rn(v); });
}
