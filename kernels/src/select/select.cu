// The score at one place of the ascending order of a slice's scores, without sorting, and the marks below it (mod.rs).
//
// Scores are at least 0, so they order like their bits. Three passes look at 11, 11 and 10 bits: each counts how many
// scores with the prefix found so far have which next bits, and a sum over the counts says which bits the wanted one has.
// The second index of a block is the part: rows that are compared with each other alone.
#include "lanes.cuh"

// The columns of the matrix, and the pass that is being made: 0, 1 or 2.
struct SelectArgs {
    int cols, first, width;
    int scored;  // whether a score is w² / d², or the number itself
    int pass;
};

// Some rows of the matrix, and the share of their numbers that is looked for.
struct SelectPart {
    long first_row, rows;
    double share;
};

namespace {

constexpr int THREADS = 256;
constexpr int BINS = 2048;

DEVICE unsigned score_bits(const float* values, const float* u, const SelectArgs& a, const SelectPart& part, long at) {
    const int column = a.first + (int)(at % a.width);
    const float w = values[(part.first_row + at / a.width) * a.cols + column];
    if (!a.scored) return __float_as_uint(w);
    const float d = u[(long)column * a.cols + column];
    return __float_as_uint(__fdiv_rn(__fmul_rn(w, w), __fmul_rn(d, d)));
}

// How far the bits of a pass are from the right, and how many there are.
DEVICE int shift_of(int pass) { return pass == 0 ? 21 : pass == 1 ? 10 : 0; }
DEVICE int bits_of(int pass) { return pass == 2 ? 10 : 11; }

}  // namespace

// Counts which next bits the scores have, into `counts`, [parts, 2048]; the last block of a part finds the bin that holds
// the wanted place and clears the counts for the next pass. `found` is [parts, 3]: prefix, place, and blocks that are done.
KERNEL void select_pass(const float* values, const float* u, const SelectPart* parts, unsigned* counts, unsigned* found,
                        SelectArgs a) {
    // Sums, and whether this block is the last.
    DYNAMIC_SHARED(unsigned, sums);
    constexpr int EACH = BINS / THREADS;
    const SelectPart part = parts[blockIdx.y];
    unsigned* const state = found + 3 * blockIdx.y;
    unsigned* const all = counts + blockIdx.y * BINS;
    const int bits = bits_of(a.pass), shift = shift_of(a.pass);
    const long count = part.rows * a.width;
    // ⌊share · count⌋ as the CPU computes it. Of a 32-bit number nothing is left before the first pass.
    const unsigned prefix = a.pass == 0 ? 0 : state[0];
    const unsigned place = a.pass == 0 ? (unsigned)(part.share * (double)count) : state[1];
    for (int bin = threadIdx.x; bin < BINS; bin += THREADS) sums[bin] = 0;
    __syncthreads();
    for (long at = (long)blockIdx.x * THREADS + threadIdx.x; at < count; at += (long)gridDim.x * THREADS) {
        const unsigned score = score_bits(values, u, a, part, at);
        if (a.pass == 0 || score >> (shift + bits) == prefix) atomicAdd(&sums[score >> shift & ((1u << bits) - 1)], 1u);
    }
    __syncthreads();
    for (int bin = threadIdx.x; bin < BINS; bin += THREADS) {
        if (sums[bin]) atomicAdd(&all[bin], sums[bin]);
    }
    // What all threads of the block added is there before the block counts as done.
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) sums[BINS] = atomicAdd(&state[2], 1u) == gridDim.x - 1;
    __syncthreads();
    if (!sums[BINS]) return;

    unsigned mine[EACH], before = 0, total = 0;
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        mine[k] = atomicExch(&all[threadIdx.x * EACH + k], 0u);
        total += mine[k];
    }
    sums[threadIdx.x] = total;
    __syncthreads();
    for (int t = 0; t < (int)threadIdx.x; t++) before += sums[t];
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        if (before <= place && place < before + mine[k]) {
            state[0] = prefix << bits | (threadIdx.x * EACH + k);
            state[1] = place - before;
        }
        before += mine[k];
    }
    if (threadIdx.x == 0) state[2] = 0;
}

// Marks every score up to the one that was found: `marks` is [.., cols].
KERNEL void select_mark(const float* values, const float* u, const SelectPart* parts, const unsigned* found,
                        unsigned char* marks, SelectArgs a) {
    const SelectPart part = parts[blockIdx.y];
    const unsigned cut = found[3 * blockIdx.y];
    const long count = part.rows * a.width;
    for (long at = (long)blockIdx.x * THREADS + threadIdx.x; at < count; at += (long)gridDim.x * THREADS) {
        const long to = (part.first_row + at / a.width) * a.cols + a.first + at % a.width;
        marks[to] = score_bits(values, u, a, part, at) <= cut;
    }
}
