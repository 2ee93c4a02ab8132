// Norms over rows (see mod.rs): threadIdx.x goes along a row, threadIdx.y over rows.
#include "lanes.cuh"

namespace {

// A row of `dim` numbers, `fours` of them in lines of 16 bytes: dim / 4, or 0 where they do not lie so.
struct Row {
    const float* from;
    int dim, fours;
};

// Σ f(x), in each thread of the row.
template <class F>
DEVICE float total(const Row& row, float* parts, F f) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < row.fours; i += blockDim.x) {
        const float4 v = ((const float4*)row.from)[i];
        sum += (f(v.x) + f(v.y)) + (f(v.z) + f(v.w));
    }
    for (int i = 4 * row.fours + threadIdx.x; i < row.dim; i += blockDim.x) sum += f(row.from[i]);
    return over_row(sum, parts, [](float a, float b) { return a + b; });
}

}  // namespace

KERNEL void norm_rms(const float* x, const float* weight, float* out, long rows, int dim, float eps) {
    __shared__ float parts[32];
    const long at = (long)blockIdx.x * blockDim.y + threadIdx.y;
    if (at >= rows) return;
    const int fours = dim % 4 == 0 && in_lines(x, weight, out) ? dim / 4 : 0;
    const Row row = {x + at * dim, dim, fours};
    float* to = out + at * dim;
    const float factor = 1.0f / sqrtf(total(row, parts, [](float v) { return v * v; }) / dim + eps);
    for (int i = threadIdx.x; i < fours; i += blockDim.x) {
        const float4 v = ((const float4*)row.from)[i], w = ((const float4*)weight)[i];
        ((float4*)to)[i] = make_float4(v.x * factor * w.x, v.y * factor * w.y, v.z * factor * w.z, v.w * factor * w.w);
    }
    for (int i = 4 * fours + threadIdx.x; i < dim; i += blockDim.x) to[i] = row.from[i] * factor * weight[i];
}

KERNEL void norm_layer(const float* x, const float* weight, const float* bias, float* out, long rows, int dim, float eps) {
    __shared__ float parts[32];
    const long at = (long)blockIdx.x * blockDim.y + threadIdx.y;
    if (at >= rows) return;
    const int fours = dim % 4 == 0 && in_lines(x, weight, out) && in_lines(bias, out) ? dim / 4 : 0;
    const Row row = {x + at * dim, dim, fours};
    float* to = out + at * dim;
    const float mean = total(row, parts, [](float v) { return v; }) / dim;
    const float squares = total(row, parts, [mean](float v) { return (v - mean) * (v - mean); });
    const float factor = 1.0f / sqrtf(squares / dim + eps);
    for (int i = threadIdx.x; i < fours; i += blockDim.x) {
        const float4 v = ((const float4*)row.from)[i], w = ((const float4*)weight)[i], b = ((const float4*)bias)[i];
        ((float4*)to)[i] = make_float4((v.x - mean) * factor * w.x + b.x, (v.y - mean) * factor * w.y + b.y,
                                       (v.z - mean) * factor * w.z + b.z, (v.w - mean) * factor * w.w + b.w);
    }
    for (int i = 4 * fours + threadIdx.x; i < dim; i += blockDim.x) to[i] = (row.from[i] - mean) * factor * weight[i] + bias[i];
}
