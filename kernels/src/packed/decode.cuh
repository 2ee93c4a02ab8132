// What a packed weight is, on the device: what codes.rs, strip.rs and numbers.rs say, operation by operation.
#pragma once
#include "stored.cuh"

namespace {

enum Kind : int { CODES = 0, MASKED = 1, DENSE = 2 };
enum Element : int { INTEGER = 0, E4M3 = 1, E2M3 = 2, E2M1 = 3 };
// Of an array of numbers; the first ones are those of `Stored`. Bytes and halves of bytes choose from a table.
enum Type : int { BYTES = 3, NIBBLES = 4 };
enum StatisticKind : int { CONSTANT = 0, PLAIN = 1, CODED = 2 };

constexpr int BLOCK = 64;        // columns of a block of codes
constexpr int STEP = 16;         // columns that lie together in it, a code of each lane
constexpr int EIGHT = 8;         // lanes of half a block, which a thread takes
constexpr int STEPS = BLOCK / STEP;

// `Numbers` in args.rs: places are bytes from the beginning of the weight's memory.
struct Numbers {
    long at, table;
    int type, stride, height, filler;
};

// `Statistic` in args.rs.
struct Statistic {
    Numbers codes, scales, zeros;
    float value;
    int kind, rounding, filler;
};

// `PackedArgs` in args.rs: a negative place means that there is nothing.
struct Packed {
    long values, row_bytes;  // codes or floats, and bytes from one row of codes to the next
    long masks, starts;      // of blocks: the weights that are there, and the number of the first of them
    long index, order;       // the group of each column, and the column at each place
    long outliers, outlier_cols, differences, exact;
    Statistic scales, zeros;
    int rows, cols;
    int kind, element, width;
    float offset;               // what the numbers of integer codes are above, and 2^23
    int group, groups, steps;   // columns of a group, groups of a row, steps of a group
    int difference;             // differences from zero points are rounded as well
    int weight, product, stored;
    int wide;                   // columns of outliers take 4 bytes
};

// Its numbers of a row and group.
DEVICE float number_at(const unsigned char* memory, const Numbers& n, unsigned row, int group) {
    const size_t i = (size_t)(n.height == 1 ? row : row / (unsigned)n.height) * n.stride + group;
    const unsigned char* at = memory + n.at;
    if (n.type == F32) return __ldg((const float*)at + i);
    if (n.type == BF16) return __uint_as_float((unsigned)__ldg((const unsigned short*)at + i) << 16);
    if (n.type == F16) return __half2float(__ushort_as_half(__ldg((const unsigned short*)at + i)));
    const unsigned code = n.type == BYTES ? __ldg(at + i) : __ldg(at + i / 2) >> i % 2 * 4 & 15u;
    return __ldg((const float*)(memory + n.table) + code);
}

// A scale or zero point.
DEVICE float statistic_at(const unsigned char* memory, const Statistic& s, unsigned row, int group) {
    if (s.kind == CONSTANT) return s.value;
    const float number = number_at(memory, s.codes, row, group);
    if (s.kind == PLAIN) return number;
    const float zero = number_at(memory, s.zeros, row, group), scale = number_at(memory, s.scales, row, group);
    return rounded(__fmul_rn(scale, rounded(__fsub_rn(number, zero), s.rounding)), s.rounding);
}

// The number of a code before its scale and zero point.
template <int ELEMENT>
DEVICE float number_of(unsigned bits, float offset) {
    // An integer in the mantissa of 2^23, less that and the offset: exact.
    if (ELEMENT == INTEGER) return __fsub_rn(__uint_as_float(0x4b000000u | bits), offset);
    // Exponent and mantissa are those of an f32, but for the bias: a power of two, which is exact for subnormal numbers too.
    if (ELEMENT == E4M3) {
        const float magnitude = __fmul_rn(__uint_as_float((bits & 0x7fu) << 20), 1.329227995784916e36f);  // 2^120
        return __uint_as_float(__float_as_uint(magnitude) | (bits & 0x80u) << 24);
    }
    const float power = 8.507059173023462e37f;  // 2^126
    if (ELEMENT == E2M3) {
        const float magnitude = __fmul_rn(__uint_as_float((bits & 31u) << 20), power);
        return __uint_as_float(__float_as_uint(magnitude) | (bits & 32u) << 26);
    }
    const float magnitude = __fmul_rn(__uint_as_float((bits & 7u) << 22), power);
    return __uint_as_float(__float_as_uint(magnitude) | (bits & 8u) << 28);
}

template <int N>
DEVICE void round_all(float* v, int stored) {
    if (stored == BF16) {
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = rounded(v[k], BF16);
    } else if (stored == F16) {
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = rounded(v[k], F16);
    }
}

// Numbers to weights: `Rounding::weight` in codes.rs.
template <int N>
DEVICE void weigh(float* v, const Packed& p, float scale, float zero) {
#pragma unroll
    for (int k = 0; k < N; k++) v[k] = __fsub_rn(v[k], zero);
    if (p.difference) round_all<N>(v, p.weight);
#pragma unroll
    for (int k = 0; k < N; k++) v[k] = __fmul_rn(v[k], scale);
    round_all<N>(v, p.weight);
    if (p.product != p.weight) round_all<N>(v, p.product);
}

// The codes of half a block: as many words as a code has bits.
template <int WIDTH>
DEVICE void load_words(unsigned* words, const unsigned char* from) {
    // Rows are multiples of 8 · WIDTH bytes, and halves of 4 · WIDTH.
    if (WIDTH % 4 == 0) {
#pragma unroll
        for (int i = 0; i < WIDTH / 4; i++) {
            const uint4 v = __ldcs((const uint4*)from + i);
            words[4 * i] = v.x, words[4 * i + 1] = v.y, words[4 * i + 2] = v.z, words[4 * i + 3] = v.w;
        }
    } else if (WIDTH % 2 == 0) {
#pragma unroll
        for (int i = 0; i < WIDTH / 2; i++) {
            const uint2 v = __ldcs((const uint2*)from + i);
            words[2 * i] = v.x, words[2 * i + 1] = v.y;
        }
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH; i++) words[i] = __ldcs((const unsigned*)from + i);
    }
}

// The numbers of the eight columns that the lanes of half a block have in a step.
template <int WIDTH, int ELEMENT>
DEVICE void numbers_of(const unsigned* words, int step, float offset, float* v) {
#pragma unroll
    for (int lane = 0; lane < EIGHT; lane++) {
        const int first = 4 * WIDTH * lane + WIDTH * step, word = first / 32, shift = first % 32;
        unsigned bits = words[word] >> shift;
        if (shift + WIDTH > 32) bits |= words[word + 1] << (32 - shift);
        v[lane] = number_of<ELEMENT>(bits & ((1u << WIDTH) - 1), offset);
    }
}

// The group of a step, as a thread goes from step to step of a block.
struct Walk {
    int group, left;

    DEVICE Walk(const Packed& p, int block) {
        group = p.groups == 1 ? 0 : STEPS * block / p.steps;
        left = p.groups == 1 ? STEPS : p.steps - (STEPS * block - group * p.steps);
    }
    // Columns beyond the last one have the last group.
    DEVICE int next(const Packed& p) {
        if (left == 0) group++, left = p.steps;
        left--;
        return group < p.groups ? group : p.groups - 1;
    }
};

// Scales and zero points of `count` rows from `first` on, to shared memory `[count, groups]`; the last row's for those beyond it.
DEVICE void statistics(float2* to, const unsigned char* memory, const Packed& p, int first, int count) {
    const int thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
    for (int i = thread; i < count * p.groups; i += threads) {
        const int own = first + i / p.groups, row = own < p.rows ? own : p.rows - 1, group = i % p.groups;
        to[i] = make_float2(statistic_at(memory, p.scales, row, group), statistic_at(memory, p.zeros, row, group));
    }
    __syncthreads();
}

// The number of a code whose element is known as the kernel runs.
DEVICE float any_number(const Packed& p, unsigned bits) {
    if (p.element == INTEGER) return number_of<INTEGER>(bits, p.offset);
    if (p.element == E4M3) return number_of<E4M3>(bits, 0.0f);
    return p.element == E2M3 ? number_of<E2M3>(bits, 0.0f) : number_of<E2M1>(bits, 0.0f);
}

// A float among those of the weight.
DEVICE float float_at(const unsigned char* memory, const Packed& p, size_t i) {
    const unsigned char* at = memory + p.values;
    const float value = p.stored == F32 ? __ldg((const float*)at + i)
                      : p.stored == BF16 ? __uint_as_float((unsigned)__ldg((const unsigned short*)at + i) << 16)
                                         : __half2float(__ushort_as_half(__ldg((const unsigned short*)at + i)));
    return rounded(value, p.product);
}

// One weight of any kind, without outliers.
DEVICE float weight_at(const unsigned char* memory, const Packed& p, int row, int col) {
    if (p.kind == DENSE) return float_at(memory, p, (size_t)row * p.cols + col);
    const int block = col / BLOCK, blocks = (p.cols + BLOCK - 1) / BLOCK;
    if (p.kind == MASKED) {
        const size_t at = (size_t)row * blocks + block;
        const unsigned long long mask = __ldg((const unsigned long long*)(memory + p.masks) + at);
        const unsigned long long below = mask & ((1ull << col % BLOCK) - 1);
        if ((mask >> col % BLOCK & 1) == 0) return 0.0f;
        return float_at(memory, p, (size_t)__ldg((const unsigned*)(memory + p.starts) + at) + __popcll(below));
    }
    const int first = p.width * (STEPS * (col % STEP) + col % BLOCK / STEP);
    const unsigned char* at = memory + p.values + row * p.row_bytes + (long)block * 8 * p.width + first / 8;
    // No code lies in more than two bytes, and there are some after the last.
    const unsigned bits = (__ldg(at) | (unsigned)__ldg(at + 1) << 8) >> first % 8 & ((1u << p.width) - 1);
    const int group = p.index < 0 ? col / p.group : (int)__ldg((const unsigned*)(memory + p.index) + col);
    float v[1] = {any_number(p, bits)};
    weigh<1>(v, p, statistic_at(memory, p.scales, row, group), statistic_at(memory, p.zeros, row, group));
    return v[0];
}

}  // namespace
