// The column sweep over one slice of columns (mod.rs): eight neighbouring threads hold a row.
//
// A slice has up to 128 columns; thread t of a row has columns 16t .. 16t + 15 in registers. Columns are visited left to
// right: all eight threads receive the weight from the one that holds it, apply the rule alike, and subtract
// error · U[j, ..] from what they hold. The slice's rows of the factor are in shared memory, zero up to and including the
// diagonal, so that columns already visited stay as they are without a branch. Products and differences are rounded
// separately, as on the CPU: a slice gives the same bits there and here.
//
// With each column a thread's 16 numbers move on by one register, so that the column that is visited always is in the
// first one: the loop needs no copy for each register, and the kernel stays short enough for the instruction cache.
#include "grid.cuh"

// Which columns of which rows, and what happens to them. Matrices are row-major.
struct SweepArgs {
    int rows, cols, first, width;
    int aligned;     // whether rows and the slice begin at multiples of four columns
    int n, m;        // of every m columns the n with the smallest scores are dropped
    int groups;      // of a row
    int group_size;  // columns of a group; 0: group_of has the group of each column
    int stored;      // what weights without a grid are rounded to
    Format format;
};

namespace {

constexpr int ROWS = 16;  // rows of a block
constexpr int THREADS = ROWS * LANES;
constexpr unsigned WARP = 0xffffffffu;

enum Drop { KEEP, MARKED, GROUPS };

// Floats in shared memory, one after the other: the factor, its diagonal, grids where weights are rounded, and scores,
// [ROWS, SLICE], where groups may reach over threads.
constexpr int FACTOR = SLICE * SLICE;
constexpr int DIAGONAL = SLICE;
constexpr int GRIDS = 2 * PER * THREADS;

DEVICE float score_of(float w, float d) { return __fdiv_rn(__fmul_rn(w, w), __fmul_rn(d, d)); }

// The n smallest scores of the M columns from w[0] on, of which `count` are there; a bit for each.
template <int M>
DEVICE unsigned smallest_of(const float* w, const float* d, int count, int n) {
    float score[M];
#pragma unroll
    for (int k = 0; k < M; k++) score[k] = k < count ? score_of(w[k], d[k]) : __uint_as_float(0x7f800000u);
    unsigned bits = 0;
#pragma unroll
    for (int k = 0; k < M; k++) {
        // A weight goes when fewer than n come before it; among equals the first column does.
        int before = 0;
#pragma unroll
        for (int other = 0; other < M; other++) {
            if (other < k) before += score[other] <= score[k];
            if (other > k) before += score[other] < score[k];
        }
        bits |= (unsigned)(before < n) << k;
    }
    return bits;
}

// The same for a group of any length, from column j of the slice to `last`; the bits are those of the thread's columns.
DEVICE unsigned smallest_in_row(const float* w, const float* d, float* scores, int j, int last, int n) {
    const int lane = threadIdx.x % LANES, begin = lane * PER;
#pragma unroll
    for (int k = 0; k < PER; k++) {
        const int c = begin + ((j + k) & (PER - 1));
        if (c >= j && c < last) scores[c] = score_of(w[k], d[c]);
    }
    __syncwarp();
    unsigned bits = 0;
    for (int c = max(j, begin); c < min(last, begin + PER); c++) {
        const float mine = scores[c];
        int before = 0;
        for (int other = j; other < last; other++) {
            before += other < c ? scores[other] <= mine : other > c && scores[other] < mine;
        }
        bits |= (unsigned)(before < n) << (c - begin);
    }
    __syncwarp();
    return bits;
}

// DROP and ROUND say what happens to a column; groups of M columns lie inside a thread's, those of M = 0 anywhere.
template <int DROP, int M, bool ROUND>
DEVICE void sweep(float* weight, const float* u, unsigned char* dropped, unsigned char* codes, const float* scales,
                  const float* zeros, const float* global, const unsigned* group_of, float* errors, double* loss,
                  const SweepArgs& a) {
    DYNAMIC_SHARED(float4, factor);
    float* const diagonal = (float*)factor + FACTOR;
    float2* const grids = (float2*)(diagonal + DIAGONAL);
    const int lane = threadIdx.x % LANES, row = blockIdx.x * ROWS + threadIdx.x / LANES;
    float* const scores = diagonal + DIAGONAL + (ROUND ? GRIDS : 0) + threadIdx.x / LANES * SLICE;
    // Rows and columns that are not there hold zeros, which stay zeros and change nothing.
    const int count = row < a.rows ? min(max(a.width - lane * PER, 0), PER) : 0;
    const int padded = (a.width + PER - 1) / PER * PER;
    const bool whole = a.aligned && count == PER;
    const long base = (long)row * a.cols + a.first + lane * PER;

    load_turned((float*)factor, u, a.cols, a.first, a.width, padded);
    for (int k = threadIdx.x; k < SLICE; k += THREADS) {
        diagonal[k] = k < a.width ? u[(long)(a.first + k) * a.cols + a.first + k] : 1.0f;
    }
    float w[PER];
    unsigned marks = 0, zeroed = 0;
#pragma unroll
    for (int k = 0; k < PER; k += 4) {
        float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
        if (whole) {
            v = *(const float4*)(weight + base + k);
        } else {
            if (k + 0 < count) v.x = weight[base + k + 0];
            if (k + 1 < count) v.y = weight[base + k + 1];
            if (k + 2 < count) v.z = weight[base + k + 2];
            if (k + 3 < count) v.w = weight[base + k + 3];
        }
        w[k] = v.x, w[k + 1] = v.y, w[k + 2] = v.z, w[k + 3] = v.w;
        if (DROP == MARKED && whole) {
            // The lowest bits of four bytes, side by side.
            const unsigned four = *(const unsigned*)(dropped + base + k) & 0x01010101u;
            marks |= (four * 0x01020408u >> 24 & 15u) << k;
        } else if (DROP == MARKED) {
            for (int i = k; i < min(k + 4, count); i++) marks |= (unsigned)(dropped[base + i] & 1) << i;
        }
    }
    if (ROUND) {
        for (int k = 0; k < PER; k++) {
            Grid grid = {1.0f, 0.0f};
            if (k < count) {
                const int column = a.first + lane * PER + k;
                const long at = (long)row * a.groups + (a.group_size ? column / a.group_size : (int)group_of[column]);
                const float scale = scales[at];
                grid = {applied(a.format, scale, a.format.scales == GLOBAL ? global[row] : 1.0f), zeros[at]};
            }
            grids[k * THREADS + threadIdx.x] = make_float2(grid.scale, grid.zero);
        }
    }
    __syncthreads();

    int group = 0;
    for (int j = 0; j < padded; j++) {
        const int i = j % PER, owner = j / PER;
        if constexpr (DROP == GROUPS && M > 0) {
            if (i % M == 0 && lane == owner) marks |= smallest_of<M>(w, diagonal + j, count - i, a.n) << i;
        } else if constexpr (DROP == GROUPS) {
            if (j == group && j < a.width) {
                group = min(j + a.m, a.width);
                marks |= smallest_in_row(w, diagonal, scores, j, group, a.n);
            }
        }
        const float old = __shfl_sync(WARP, w[0], owner, LANES);
        float q = DROP != KEEP && (__shfl_sync(WARP, marks, owner, LANES) >> i & 1) ? 0.0f : old;
        const bool mine = lane == owner && i < count;
        if (mine && q == 0.0f) zeroed |= 1u << i;
        if (ROUND) {
            const float2 both = grids[i * THREADS + threadIdx.x - lane + owner];
            const Grid grid = {both.x, both.y};
            const float number = encode(a.format, q, grid);
            q = decode(a.format, number, grid);
            if (mine) codes[base + i] = code_of(a.format, number);
        } else {
            q = rounded(q, a.stored);
        }
        const float e = __fdiv_rn(__fsub_rn(old, q), diagonal[j]);
        if (mine) errors[(long)row * SLICE + j] = e;
        if (lane == owner) w[0] = q;
        spread_turning(w, e, factor + j * (SLICE / 4) + lane);
    }

    double sum = 0.0;
    for (int k = 0; k < count; k++) {
        const double e = errors[(long)row * SLICE + lane * PER + k];
        sum += e * e;
    }
#pragma unroll
    for (int k = 0; k < PER; k += 4) {
        if (whole) {
            *(float4*)(weight + base + k) = make_float4(w[k], w[k + 1], w[k + 2], w[k + 3]);
            // Four bits, each into a byte of its own.
            *(unsigned*)(dropped + base + k) = (zeroed >> k & 15u) * 0x00204081u & 0x01010101u;
        } else {
#pragma unroll
            for (int i = k; i < k + 4; i++) {
                if (i < count) weight[base + i] = w[i], dropped[base + i] = zeroed >> i & 1;
            }
        }
    }
    // Sums of the eight threads in an order that is always the same.
    for (int step = 1; step < LANES; step *= 2) sum += __shfl_xor_sync(WARP, sum, step);
    if (lane == 0 && row < a.rows) loss[row] += sum;
}

}  // namespace

#define SWEEP(name, drop, m, round)                                                                               \
    KERNEL void name(float* weight, const float* u, unsigned char* dropped, unsigned char* codes,                 \
                     const float* scales, const float* zeros, const float* global, const unsigned* group_of,      \
                     float* errors, double* loss, SweepArgs a) {                                                  \
        sweep<drop, m, round>(weight, u, dropped, codes, scales, zeros, global, group_of, errors, loss, a);       \
    }

SWEEP(sweep_store, KEEP, 0, false)
SWEEP(sweep_round, KEEP, 0, true)
SWEEP(sweep_marked, MARKED, 0, false)
SWEEP(sweep_marked_round, MARKED, 0, true)
SWEEP(sweep_of4, GROUPS, 4, false)
SWEEP(sweep_of4_round, GROUPS, 4, true)
SWEEP(sweep_of8, GROUPS, 8, false)
SWEEP(sweep_of8_round, GROUPS, 8, true)
SWEEP(sweep_groups, GROUPS, 0, false)
SWEEP(sweep_groups_round, GROUPS, 0, true)
