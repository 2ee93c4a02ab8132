// What attention does between its two products (see cuda.rs).
#include "lanes.cuh"

namespace {

// A tile of queries of one sequence against the keys from `start` on. Its rows are ordered by group, query, and head of the
// group; a row has a score for each of `keys` keys.
struct Tile {
    long first, start, keys, window;  // positions of the first query and of the first key; keys a query sees at most
    int queries, groups, each;        // queries of the tile; groups; heads of each group
    float scale;
    long bias_width;
};

DEVICE void store(float* to, float x) { *to = x; }
DEVICE void store(__nv_bfloat16* to, float x) { *to = __float2bfloat16_rn(x); }

// Turns the scores of a row into exponentials, those of keys that the query does not see into 0, and adds them up. May be
// done in place.
template <class T>
DEVICE void softmax(const float* scores, T* weights, float* sums, const float* bias, const Tile& tile, float* parts) {
    const long row = (long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= (long)tile.groups * tile.queries * tile.each) return;
    const long position = tile.first + row / tile.each % tile.queries;
    const long head = row / tile.each / tile.queries * tile.each + row % tile.each;
    const long oldest = position + 1 - tile.window;
    const long from = oldest > tile.start ? oldest - tile.start : 0, to = position + 1 - tile.start;
    const float* own = scores + row * tile.keys;
    if (bias) bias += head * tile.bias_width + tile.start;
    auto score = [&](long i) {
        const float product = __fmul_rn(own[i], tile.scale);
        return bias ? __fadd_rn(product, bias[i]) : product;
    };
    float top = __int_as_float(0xff800000);
    for (long i = from + threadIdx.x; i < to; i += blockDim.x) {
        const float s = score(i);
        top = s > top ? s : top;
    }
    top = over_row(top, parts, [](float a, float b) { return b > a ? b : a; });
    float sum = 0.0f;
    for (long i = threadIdx.x; i < tile.keys; i += blockDim.x) {
        const float e = i >= from && i < to ? exp_of(__fsub_rn(score(i), top)) : 0.0f;
        store(weights + row * tile.keys + i, e);
        sum += e;
    }
    sum = over_row(sum, parts, [](float a, float b) { return a + b; });
    if (threadIdx.x == 0) sums[row] = sum;
}

}  // namespace

KERNEL void attention_softmax_f32(float* scores, float* sums, const float* bias, Tile tile) {
    __shared__ float parts[32];
    softmax(scores, scores, sums, bias, tile, parts);
}

KERNEL void attention_softmax_bf16(const float* scores, __nv_bfloat16* weights, float* sums, const float* bias, Tile tile) {
    __shared__ float parts[32];
    softmax(scores, weights, sums, bias, tile, parts);
}

// Divides the outputs `[queries, groups · each · dim]` of a tile by the sums of its rows, a block for each query.
KERNEL void attention_divide(float* out, const float* sums, int queries, int groups, int each, int dim) {
    float* own = out + (size_t)blockIdx.x * groups * each * dim;
    for (int i = threadIdx.x; i < groups * each * dim; i += blockDim.x) {
        const int head = i / dim;
        const size_t row = ((size_t)(head / each) * queries + blockIdx.x) * each + head % each;
        own[i] = __fmul_rn(own[i], __fdiv_rn(1.0f, sums[row]));
    }
}

// Heads of `dim` numbers as three times as many bfloat16, so that the products of queries and keys come out as if all
// but their last 16 bits were kept: x = high + low, queries as (high, low, high) and keys as (high, high, low). A block for
// each of the rows of `heads` heads.
KERNEL void attention_split(const float* x, __nv_bfloat16* out, int heads, int dim, int keys) {
    const size_t row = (size_t)blockIdx.x * heads * dim;
    for (int i = threadIdx.x; i < heads * dim; i += blockDim.x) {
        const float v = x[row + i];
        const __nv_bfloat16 high = __float2bfloat16_rn(v);
        const __nv_bfloat16 low = __float2bfloat16_rn(__fsub_rn(v, __bfloat162float(high)));
        __nv_bfloat16* to = out + 3 * row + (size_t)(i / dim) * 3 * dim + i % dim;
        to[0] = high;
        to[dim] = keys ? high : low;
        to[2 * dim] = keys ? low : high;
    }
}
