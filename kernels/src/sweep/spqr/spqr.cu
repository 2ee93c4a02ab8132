// SpQR's sweep over columns of one slice (mod.rs): eight neighbouring threads hold a row, as in sweep.cu, and a block
// whole tiles of the second level.
//
// `spqr_sweep` does all of it in one launch. When a group begins, its weights are put side by side in shared memory, and
// the eight threads of a row fit its grid together; then the statistics of the block's rows meet there to be coded again.
// Where rows of several blocks share statistics, or groups are wider than a slice, the same steps are launches of their
// own: `spqr_ranges`, `spqr_share`, `spqr_fit` and `spqr_visit`, for one group at a time.
//
// Sums run in the order of the columns, so that a slice gives the same bits here and on the CPU.
#include "search.cuh"

// Everything that a launch needs, passed by value. Pointers are to device memory; matrices are row-major.
struct SpqrArgs {
    float* weight;                // [rows, cols]
    const float* factor;          // U, [cols, cols]
    const float* d;               // [cols] U's diagonal
    const float* threshold;       // [rows] e² above which a weight is kept
    const unsigned char* marked;  // [rows, cols] 1: becomes zero; or null
    unsigned char* codes;         // [rows, cols]
    unsigned char* kept;          // [rows, cols] 1: an outlier
    float* scales;                // [rows, groups] as used
    float* zeros;                 // [rows, groups] as used
    unsigned char* scale_codes;   // [rows, groups]; null: scales are stored as they are
    float* scale_scales;          // [⌈rows / height⌉, groups]
    float* scale_zeros;
    unsigned char* zero_codes;    // [rows, groups]; null: zeros are stored as they are
    float* zero_scales;
    float* zero_zeros;
    SpqrRange* ranges;            // [rows] of the group that begins, for the launches of their own
    float* errors;                // [rows, error_stride] from the first of the columns
    double* loss;                 // [rows] sum of squared errors, added to
    int rows, cols;
    int first, width;             // the columns that lie in shared memory: up to 128
    int from, to;                 // those of them that `spqr_visit` visits
    int slice;                    // columns from the first to the slice's end: beyond it the CPU knows of no marks yet
    int groups, group_size;
    int height;                   // rows that share second-level grids
    int error_stride;
    SpqrRule rule;
};

namespace {

constexpr int THREADS = 256;  // at most, of a block

DEVICE int index_of_row() { return threadIdx.x / LANES; }

// The row of a thread.
DEVICE int row_of() { return (int)(blockIdx.x * (blockDim.x / LANES)) + index_of_row(); }

// What the rows of a block share in one launch: their weights of the group that begins, and their statistics.
struct Meeting {
    float* group;
    int stride;
    Level* levels;
};

// Floats from one row's weights to the next: odd multiples of 8, so that four rows lie in different banks.
DEVICE int stride_of(int group_size) { return (group_size + 15) / 16 * 16 + 8; }

// Writes down the statistics of a row's group.
DEVICE void write(const SpqrArgs& a, int row, int group, const Said& said) {
    const long at = (long)row * a.groups + group;
    a.scales[at] = said.scale;
    a.zeros[at] = said.zero;
    if (a.rule.scale_bits) a.scale_codes[at] = (unsigned char)said.scale_code;
    if (a.rule.zero_bits) a.zero_codes[at] = (unsigned char)said.zero_code;
}

// Writes down the second-level grids of a tile.
DEVICE void write(const SpqrArgs& a, int tile, int group, const Second& second) {
    const long at = (long)tile * a.groups + group;
    if (a.rule.scale_bits) a.scale_scales[at] = second.scales.scale, a.scale_zeros[at] = second.scales.zero;
    if (a.rule.zero_bits) a.zero_scales[at] = second.zeros.scale, a.zero_zeros[at] = second.zeros.zero;
}

// The grid of the group that begins at column j; all threads of the block come here.
DEVICE Said fit(const SpqrArgs& a, const Meeting& m, const float* w, unsigned marks, int j, float threshold) {
    const int local = index_of_row(), lane = threadIdx.x % LANES, row = row_of(), column = a.first + j;
    const int size = min(a.group_size, a.cols - column), inside = min(size, a.width - j), group = column / a.group_size;
    const unsigned lanes = lanes_of();
    const bool is_row = row < a.rows, is_coded = a.rule.scale_bits || a.rule.zero_bits;
    Level level = {1.0f, 0.0f, 0.0f, 0};
    if (is_row) {
        float* x = m.group + local * m.stride;
#pragma unroll
        for (int k = 0; k < PER; k++) {
            const int own = (j + k) % PER, at = lane * PER + own - j;
            if (at >= 0 && at < inside) x[at] = marks >> own & 1 ? 0.0f : w[k];
        }
        // What lies beyond the slice has not seen the errors of this slice yet.
        const float* weight = a.weight + (long)row * a.cols + column;
        for (int k = inside + lane; k < size; k += LANES) x[k] = weight[k];
        __syncwarp(lanes);
        level = first_level(range_of(InShared{x}, a.d + column, size, threshold, a.rule), a.rule);
    }
    Said said = {level.scale, level.zero, 0, 0};
    if (is_coded) {
        if (lane == 0) m.levels[local] = level;
        __syncthreads();
        if (is_row) {
            const int begin = local / a.height * a.height, end = min(begin + a.height, a.rows - row + local);
            int constant = 1, dead = a.rule.zero_bits != 0;
            for (int k = begin + lane; k < end; k += LANES) {
                constant &= m.levels[k].constant;
                dead &= m.levels[k].constant && m.levels[k].value == 0.0f;
            }
            constant = __all_sync(lanes, constant);
            dead = __all_sync(lanes, dead);
            // Constant rows are left out, unless all are.
            Tile tile = EMPTY;
            for (int k = begin + lane; k < end; k += LANES) {
                if (constant || !m.levels[k].constant) join(tile, m.levels[k]);
            }
            join(tile, lanes, LANES);
            const Second second = second_of(tile, dead, a.rule);
            said = coded(a.rule, second, level);
            if (lane == 0 && local == begin) write(a, row / a.height, group, second);
        }
        // The next group's statistics must not come while someone still reads these.
        __syncthreads();
    }
    if (is_row && lane == 0) write(a, row, group, said);
    // Nor the next group's weights.
    if (is_row) __syncwarp(lanes);
    return said;
}

// Sweeps columns of a slice. With FIT all of them, and fits the grids of the groups that begin there; otherwise those of
// one group, whose grid is known.
//
// With each column a thread's 16 numbers move on by one register: the one that is visited always is in the first.
template <bool FIT>
DEVICE void sweep(const SpqrArgs& a, float4* factor) {
    const int lane = threadIdx.x % LANES, row = row_of(), rows = blockDim.x / LANES;
    const int from = FIT ? 0 : a.from, to = FIT ? a.width : a.to;
    const unsigned lanes = lanes_of();
    const bool is_row = row < a.rows;
    float* const group = (float*)(factor + SLICE * SLICE / 4);
    const Meeting meeting = {group, stride_of(a.group_size), (Level*)(group + rows * stride_of(a.group_size))};
    load_turned((float*)factor, a.factor, a.cols, a.first, a.width, a.width);
    const long base = (long)row * a.cols + a.first, errors = (long)row * a.error_stride;
    // Rows and columns that are not there hold zeros.
    const int count = is_row ? min(a.width - lane * PER, PER) : 0;
    float w[PER];
    unsigned marks = 0;
#pragma unroll
    for (int k = 0; k < PER; k++) {
        const int own = (from + k) % PER;
        w[k] = own < count ? a.weight[base + lane * PER + own] : 0.0f;
        if (a.marked && own < count && a.marked[base + lane * PER + own]) marks |= 1u << own;
    }
    __syncthreads();
    const float threshold = is_row ? a.threshold[row] : INF;
    Line line = {1.0f, 0.0f, largest_code(a.rule.bits), a.rule.stored};
    const int begun = FIT ? a.first % a.group_size : 0;
    if (is_row && (!FIT || begun != 0)) {
        // A group that began earlier keeps its grid.
        const long at = (long)row * a.groups + (a.first + from) / a.group_size;
        line.scale = a.scales[at];
        line.zero = a.zeros[at];
    }
    double loss = 0.0;
    int next = begun ? a.group_size - begun : 0;
    for (int j = from; j < to; j++) {
        if (FIT && j == next) {
            const Said said = fit(a, meeting, w, marks, j, threshold);
            line.scale = said.scale;
            line.zero = said.zero;
            next += a.group_size;
        }
        const int owner = j / PER;
        // All eight threads do this to the column that they have; only its owner's is meant.
        const float old = w[0], d = __ldg(a.d + a.first + j);
        const bool marked = marks >> j % PER & 1;
        float code = encode(line, marked ? 0.0f : old);
        float q = decode(line, code), e = __fdiv_rn(__fsub_rn(old, q), d);
        const bool kept = lane == owner && !marked && __fmul_rn(e, e) > threshold;
        if (kept) {
            if (a.rule.adds) {
                q = rounded(__fadd_rn(q, rounded(__fsub_rn(old, q), a.rule.stored)), a.rule.stored);
            } else {
                code = encode(line, 0.0f);
                q = rounded(old, a.rule.stored);
            }
            e = __fdiv_rn(__fsub_rn(old, q), d);
        }
        if (lane == owner && is_row) {
            a.weight[base + j] = q;
            a.codes[base + j] = (unsigned char)code;
            a.kept[base + j] = kept;
            a.errors[errors + j] = e;
            loss += (double)e * (double)e;
        }
        spread_turning(w, __shfl_sync(lanes, e, owner, LANES), factor + j * (SLICE / 4) + lane);
    }
    if (!FIT) {
        // Columns that wait for their grids have seen these errors.
#pragma unroll
        for (int k = 0; k < PER; k++) {
            const int own = (to + k) % PER, j = lane * PER + own;
            if (own < count && j >= to) a.weight[base + j] = w[k];
        }
    }
    for (int step = 1; step < LANES; step *= 2) loss += __shfl_xor_sync(lanes, loss, step);
    if (lane == 0 && is_row) a.loss[row] += loss;
}

}  // namespace

KERNEL void __launch_bounds__(THREADS, 1) spqr_sweep(SpqrArgs a) {
    DYNAMIC_SHARED(float4, shared);
    sweep<true>(a, shared);
}

KERNEL void __launch_bounds__(THREADS, 1) spqr_visit(SpqrArgs a) {
    DYNAMIC_SHARED(float4, shared);
    sweep<false>(a, shared);
}

// The ranges of all rows for the group that begins at column `first + from`.
KERNEL void __launch_bounds__(THREADS, 1) spqr_ranges(SpqrArgs a) {
    const int row = row_of(), column = a.first + a.from;
    if (row >= a.rows) return;
    const int size = min(a.group_size, a.cols - column);
    const long at = (long)row * a.cols + column;
    const InPlace x = {a.weight + at, a.marked ? a.marked + at : nullptr, a.slice - a.from};
    const SpqrRange range = range_of(x, a.d + column, size, a.threshold[row], a.rule);
    if (threadIdx.x % LANES == 0) a.ranges[row] = range;
}

// Gives all rows the range of all of them; one block.
KERNEL void __launch_bounds__(THREADS, 1) spqr_share(SpqrArgs a) {
    __shared__ float2 shared[THREADS];
    float lo = INF, hi = -INF;
    for (int row = threadIdx.x; row < a.rows; row += blockDim.x) {
        lo = fminf(lo, a.ranges[row].lo);
        hi = fmaxf(hi, a.ranges[row].hi);
    }
    shared[threadIdx.x] = make_float2(lo, hi);
    __syncthreads();
    for (unsigned k = 0; k < blockDim.x; k++) {
        lo = fminf(lo, shared[k].x);
        hi = fmaxf(hi, shared[k].y);
    }
    for (int row = threadIdx.x; row < a.rows; row += blockDim.x) a.ranges[row] = {lo, hi, lo == hi};
}

// Both levels of the grids of the group that begins at column `first + from`; a block for each tile of rows.
KERNEL void __launch_bounds__(THREADS, 1) spqr_fit(SpqrArgs a) {
    __shared__ Tile shared[THREADS / 32];
    const int begin = blockIdx.x * a.height, end = min(begin + a.height, a.rows), group = (a.first + a.from) / a.group_size;
    int constant = 1, dead = a.rule.zero_bits != 0;
    for (int row = begin + threadIdx.x; row < end; row += blockDim.x) {
        const Level level = first_level(a.ranges[row], a.rule);
        constant &= level.constant;
        dead &= level.constant && level.value == 0.0f;
    }
    constant = __syncthreads_and(constant);
    dead = __syncthreads_and(dead);
    Tile tile = EMPTY;
    for (int row = begin + threadIdx.x; row < end; row += blockDim.x) {
        const Level level = first_level(a.ranges[row], a.rule);
        if (constant || !level.constant) join(tile, level);
    }
    join(tile, 0xffffffffu, 32);
    shared[threadIdx.x / 32] = tile;
    __syncthreads();
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++) join(tile, shared[warp]);
    const bool is_coded = a.rule.scale_bits || a.rule.zero_bits;
    const Second second = second_of(tile, dead, a.rule);
    if (is_coded && threadIdx.x == 0) write(a, (int)blockIdx.x, group, second);
    for (int row = begin + threadIdx.x; row < end; row += blockDim.x) {
        const Level level = first_level(a.ranges[row], a.rule);
        write(a, row, group, is_coded ? coded(a.rule, second, level) : Said{level.scale, level.zero, 0, 0});
    }
}
