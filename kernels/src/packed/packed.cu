// Products with packed weights, and packed weights decoded (see cuda/mod.rs). Sums are made in an order that depends on the
// shapes alone.
#include "decode.cuh"

namespace {

constexpr int MOST = 8;       // rows of inputs
constexpr int TOGETHER = 4;   // rows of a weight that a thread multiplies
constexpr int THREADS = 128;  // of a block: `THREADS` in cuda/mod.rs
constexpr int CHUNK = 32;     // halves of blocks that a warp takes

// The number, among those of an input, of the one at a place. A thread of a warp takes half a block in four steps of eight
// columns: the inputs of a step and warp lie together, four for each thread and four again.
DEVICE int input_of(int place) {
    const int half = place / BLOCK * 2 + place % STEP / EIGHT, step = place % BLOCK / STEP, four = place % EIGHT / 4;
    return ((((half / CHUNK) * STEPS + step) * 2 + four) * CHUNK + half % CHUNK) * 4 + place % 4;
}

// The sums of all threads of a row, for `R` rows of the weight from `first` on. `parts` is shared memory for as many numbers as
// THREADS / 32 · R · M.
template <int M, int R>
DEVICE void finish(float (*sums)[M], float* parts, float* y, int first, int rows, int count) {
    const int warps = blockDim.x / 32;
    float* own = parts + threadIdx.y * warps * R * M;
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
        for (int m = 0; m < M; m++) {
            if (M > 1 && m >= count) continue;
            float sum = sums[r][m];
            for (int step = 16; step > 0; step /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, step));
            if (threadIdx.x % 32 == 0) own[threadIdx.x / 32 * R * M + r * M + m] = sum;
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < R * M; i += blockDim.x) {
        const int row = first + i / M, m = i % M;
        if (row >= rows || m >= count) continue;
        float sum = own[i];
        for (int warp = 1; warp < warps; warp++) sum = __fadd_rn(sum, own[warp * R * M + i]);
        y[(size_t)m * rows + row] = sum;
    }
}

// What outliers add to the sums of a row.
template <int M>
DEVICE void add_outliers(float* sums, const unsigned char* memory, const Packed& p, int row, const float* x, int width,
                         int count) {
    const unsigned* first = (const unsigned*)(memory + p.outliers) + row;
    const float* differences = (const float*)(memory + p.differences);
    for (unsigned at = first[0] + threadIdx.x; at < first[1]; at += blockDim.x) {
        const unsigned place = p.wide ? ((const unsigned*)(memory + p.outlier_cols))[at]
                                      : ((const unsigned short*)(memory + p.outlier_cols))[at];
        const float difference = differences[at];
        const float* input = x + input_of(place);
#pragma unroll
        for (int m = 0; m < M; m++) {
            if (M == 1 || m < count) sums[m] = __fmaf_rn(difference, input[(size_t)m * width], sums[m]);
        }
    }
}

// The products of `count` inputs, `width` numbers each, with the rows of a weight of even groups: a block for blockDim.y times
// TOGETHER rows.
template <int WIDTH, int ELEMENT, int M>
DEVICE void few(const unsigned char* memory, const Packed& p, const float* x, float* y, int width, int count, float* parts) {
    constexpr int R = TOGETHER;
    DYNAMIC_SHARED(float2, shared);
    const int block_first = blockIdx.x * blockDim.y * R, first = block_first + threadIdx.y * R;
    const int halves = (p.cols + BLOCK - 1) / BLOCK * 2;
    const unsigned char* rows[R];
    unsigned words[R][WIDTH];
    float sums[R][M];
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int row = first + r < p.rows ? first + r : p.rows - 1;
        rows[r] = memory + p.values + row * p.row_bytes;
        // On their way while scales are read.
        if ((int)threadIdx.x < halves) load_words<WIDTH>(words[r], rows[r] + threadIdx.x * 4 * WIDTH);
#pragma unroll
        for (int m = 0; m < M; m++) sums[r][m] = 0.0f;
    }
    statistics(shared, memory, p, block_first, blockDim.y * R);
    const float2* own = shared + threadIdx.y * R * p.groups;
    for (int half = threadIdx.x; half < halves; half += blockDim.x) {
        Walk walk(p, half / 2);
        const float4* input = (const float4*)x + half / CHUNK * STEPS * 2 * CHUNK + half % CHUNK;
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            const int group = walk.next(p);
            float w[R][EIGHT];
#pragma unroll
            for (int r = 0; r < R; r++) {
                const float2 of_group = own[r * p.groups + group];
                numbers_of<WIDTH, ELEMENT>(words[r], step, p.offset, w[r]);
                weigh<EIGHT>(w[r], p, of_group.x, of_group.y);
            }
#pragma unroll
            for (int m = 0; m < M; m++) {
                if (M > 1 && m >= count) continue;
                const float4* from = input + (size_t)m * (width / 4) + step * 2 * CHUNK;
                const float4 a = from[0], b = from[CHUNK];
#pragma unroll
                for (int r = 0; r < R; r++) {
                    float sum = sums[r][m];
                    sum = __fmaf_rn(w[r][0], a.x, sum), sum = __fmaf_rn(w[r][1], a.y, sum);
                    sum = __fmaf_rn(w[r][2], a.z, sum), sum = __fmaf_rn(w[r][3], a.w, sum);
                    sum = __fmaf_rn(w[r][4], b.x, sum), sum = __fmaf_rn(w[r][5], b.y, sum);
                    sum = __fmaf_rn(w[r][6], b.z, sum), sum = __fmaf_rn(w[r][7], b.w, sum);
                    sums[r][m] = sum;
                }
            }
        }
        const int next = half + blockDim.x;
#pragma unroll
        for (int r = 0; r < R; r++) {
            if (next < halves) load_words<WIDTH>(words[r], rows[r] + next * 4 * WIDTH);
        }
    }
    if (p.outliers >= 0) {
#pragma unroll
        for (int r = 0; r < R; r++) {
            if (first + r < p.rows) add_outliers<M>(sums[r], memory, p, first + r, x, width, count);
        }
    }
    finish<M, R>(sums, parts, y, first, p.rows, count);
}

DEVICE unsigned short bits_of(float x, int stored) {
    return stored == BF16 ? __bfloat16_as_ushort(__float2bfloat16_rn(x)) : __half_as_ushort(__float2half_rn(x));
}

// Puts a number into an array of the type of products.
DEVICE void put(void* out, size_t at, float x, int stored) {
    if (stored == F32) {
        ((float*)out)[at] = x;
    } else {
        ((unsigned short*)out)[at] = bits_of(x, stored);
    }
}

// Eight of them, of which `count` are there; `whole` where all are and lie in lines.
DEVICE void put_eight(void* out, size_t at, const float* v, int stored, int count, bool whole) {
    if (!whole) {
#pragma unroll
        for (int k = 0; k < EIGHT; k++) {
            if (k < count) put(out, at + k, v[k], stored);
        }
    } else if (stored == F32) {
        float4* to = (float4*)((float*)out + at);
        to[0] = make_float4(v[0], v[1], v[2], v[3]);
        to[1] = make_float4(v[4], v[5], v[6], v[7]);
    } else {
        unsigned words[EIGHT / 2];
#pragma unroll
        for (int k = 0; k < EIGHT / 2; k++) words[k] = bits_of(v[2 * k], stored) | (unsigned)bits_of(v[2 * k + 1], stored) << 16;
        *(uint4*)((unsigned short*)out + at) = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

// Rows from `first` on of a weight of even groups, by places: a block for each.
template <int WIDTH, int ELEMENT>
DEVICE void decode(const unsigned char* memory, const Packed& p, int first, void* out) {
    DYNAMIC_SHARED(float2, shared);
    const int halves = (p.cols + BLOCK - 1) / BLOCK * 2, row = first + blockIdx.x;
    statistics(shared, memory, p, row, 1);
    const unsigned char* from = memory + p.values + row * p.row_bytes;
    for (int half = threadIdx.x; half < halves; half += blockDim.x) {
        unsigned words[WIDTH];
        load_words<WIDTH>(words, from + half * 4 * WIDTH);
        Walk walk(p, half / 2);
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            const float2 of_group = shared[walk.next(p)];
            float w[EIGHT];
            numbers_of<WIDTH, ELEMENT>(words, step, p.offset, w);
            weigh<EIGHT>(w, p, of_group.x, of_group.y);
            const int col = half / 2 * BLOCK + step * STEP + half % 2 * EIGHT;
            if (col < p.cols) put_eight(out, (size_t)blockIdx.x * p.cols + col, w, p.product, p.cols - col, p.cols % EIGHT == 0);
        }
    }
}

}  // namespace

// Inputs `x [count, cols]` as `few` takes them: rounded, by places, in the order of `input_of`, and zero up to `width`.
KERNEL void packed_inputs(const unsigned char* memory, Packed p, const float* x, float* out, int width, int count) {
    EACH(i, (long)count * width) {
        const int m = (int)(i / width), place = (int)(i % width);
        const unsigned* order = (const unsigned*)(memory + p.order);
        const long col = p.order >= 0 && place < p.cols ? (long)order[place] : place;
        const float value = place < p.cols ? x[(long)m * p.cols + col] : 0.0f;
        out[(size_t)m * width + input_of(place)] = rounded(value, p.product);
    }
}

// Inputs by places in the type of products: a block for each row of them.
KERNEL void packed_ordered(const unsigned char* memory, Packed p, const float* x, void* out) {
    const unsigned* order = (const unsigned*)(memory + p.order);
    const size_t first = (size_t)blockIdx.x * p.cols;
    for (int i = threadIdx.x; i < p.cols; i += blockDim.x) {
        put(out, first + i, x[first + (p.order >= 0 ? (int)order[i] : i)], p.product);
    }
}

// As `few`, for weights of every other kind.
KERNEL void packed_few_any(const unsigned char* memory, Packed p, const float* x, float* y, int width, int count) {
    __shared__ float parts[THREADS / 32 * MOST];
    float sums[1][MOST];
#pragma unroll
    for (int m = 0; m < MOST; m++) sums[0][m] = 0.0f;
    const int first = blockIdx.x * blockDim.y + threadIdx.y, row = first < p.rows ? first : p.rows - 1;
    for (int place = threadIdx.x; place < p.cols; place += blockDim.x) {
        const float weight = weight_at(memory, p, row, place);
        const float* input = x + input_of(place);
#pragma unroll
        for (int m = 0; m < MOST; m++) {
            if (m < count) sums[0][m] = __fmaf_rn(weight, input[(size_t)m * width], sums[0][m]);
        }
    }
    if (p.outliers >= 0) add_outliers<MOST>(sums[0], memory, p, row, x, width, count);
    finish<MOST, 1>(sums, parts, y, first, p.rows, count);
}

// As `decode`, for weights of every kind.
KERNEL void packed_decode_any(const unsigned char* memory, Packed p, int first, void* out) {
    for (int place = threadIdx.x; place < p.cols; place += blockDim.x) {
        put(out, (size_t)blockIdx.x * p.cols + place, weight_at(memory, p, first + blockIdx.x, place), p.product);
    }
}

// Puts the outliers of rows from `first` on in place of what their codes say: `Outliers::put` in outliers.rs.
KERNEL void packed_outliers(const unsigned char* memory, Packed p, int first, void* out) {
    const unsigned* of_row = (const unsigned*)(memory + p.outliers) + first + blockIdx.x;
    const float* differences = (const float*)(memory + p.differences);
    for (unsigned i = of_row[0] + threadIdx.x; i < of_row[1]; i += blockDim.x) {
        const unsigned place = p.wide ? ((const unsigned*)(memory + p.outlier_cols))[i]
                                      : ((const unsigned short*)(memory + p.outlier_cols))[i];
        const size_t at = (size_t)blockIdx.x * p.cols + place;
        const unsigned char* exact = memory + p.exact;
        if (p.product == F32) {
            float* to = (float*)out + at;
            *to = p.exact >= 0 ? ((const float*)exact)[i] : __fadd_rn(*to, differences[i]);
            continue;
        }
        unsigned short* to = (unsigned short*)out + at;
        const float coded = p.product == BF16 ? __uint_as_float((unsigned)*to << 16) : __half2float(__ushort_as_half(*to));
        *to = p.exact >= 0 ? ((const unsigned short*)exact)[i] : bits_of(__fadd_rn(coded, differences[i]), p.product);
    }
}

// Kernels of each type of codes: products with one input and with up to MOST, and decoding.
#define CODES_OF(name, width, element)                                                                                         \
    KERNEL void packed_few_##name##_1(const unsigned char* memory, Packed p, const float* x, float* y, int stride, int count) { \
        __shared__ float parts[THREADS / 32 * TOGETHER];                                                                       \
        few<width, element, 1>(memory, p, x, y, stride, count, parts);                                                         \
    }                                                                                                                          \
    KERNEL void packed_few_##name##_8(const unsigned char* memory, Packed p, const float* x, float* y, int stride, int count) { \
        __shared__ float parts[THREADS / 32 * TOGETHER * MOST];                                                                \
        few<width, element, MOST>(memory, p, x, y, stride, count, parts);                                                      \
    }                                                                                                                          \
    KERNEL void packed_decode_##name(const unsigned char* memory, Packed p, int first, void* out) {                            \
        decode<width, element>(memory, p, first, out);                                                                         \
    }

CODES_OF(int2, 2, INTEGER)
CODES_OF(int3, 3, INTEGER)
CODES_OF(int4, 4, INTEGER)
CODES_OF(int5, 5, INTEGER)
CODES_OF(int6, 6, INTEGER)
CODES_OF(int7, 7, INTEGER)
CODES_OF(int8, 8, INTEGER)
CODES_OF(e4m3, 8, E4M3)
CODES_OF(e2m3, 6, E2M3)
CODES_OF(e2m1, 4, E2M1)
