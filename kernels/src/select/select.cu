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

// The prefix of the wanted score's bits, and its place among the scores that have it.
struct Found {
    unsigned prefix, place;
};

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

// Adds to `counts`, [parts, 2048], how many scores have which bits.
KERNEL void select_count(const float* values, const float* u, const SelectPart* parts, unsigned* counts,
                         const unsigned* found, SelectArgs a) {
    DYNAMIC_SHARED(unsigned, sums);
    const SelectPart part = parts[blockIdx.y];
    const int bits = bits_of(a.pass), shift = shift_of(a.pass);
    for (int bin = threadIdx.x; bin < BINS; bin += THREADS) sums[bin] = 0;
    __syncthreads();
    const unsigned prefix = found[2 * blockIdx.y];
    const long count = part.rows * a.width;
    for (long at = (long)blockIdx.x * THREADS + threadIdx.x; at < count; at += (long)gridDim.x * THREADS) {
        const unsigned score = score_bits(values, u, a, part, at);
        // Of a 32-bit number nothing is left before the first pass.
        if (a.pass == 0 || score >> (shift + bits) == prefix) atomicAdd(&sums[score >> shift & ((1u << bits) - 1)], 1u);
    }
    __syncthreads();
    for (int bin = threadIdx.x; bin < BINS; bin += THREADS) {
        if (sums[bin]) atomicAdd(&counts[blockIdx.y * BINS + bin], sums[bin]);
    }
}

// One block a part: finds the bin that holds the wanted place, and clears the counts for the next pass. `found` is
// [parts, 2]: prefix and place.
KERNEL void select_find(const SelectPart* parts, unsigned* all_counts, unsigned* found, SelectArgs a) {
    DYNAMIC_SHARED(unsigned, sums);
    constexpr int EACH = BINS / THREADS;
    unsigned* const counts = all_counts + blockIdx.y * BINS + threadIdx.x * EACH;
    unsigned* const state = found + 2 * blockIdx.y;
    const SelectPart part = parts[blockIdx.y];
    // ⌊share · count⌋ as the CPU computes it.
    const unsigned asked = (unsigned)(part.share * (double)(part.rows * a.width));
    const Found sought = a.pass == 0 ? Found{0, asked} : Found{state[0], state[1]};
    unsigned mine = 0;
    for (int k = 0; k < EACH; k++) mine += counts[k];
    sums[threadIdx.x] = mine;
    __syncthreads();
    unsigned before = 0;
    for (int t = 0; t < (int)threadIdx.x; t++) before += sums[t];
    for (int k = 0; k < EACH; k++) {
        const unsigned count = counts[k];
        if (before <= sought.place && sought.place < before + count) {
            state[0] = sought.prefix << bits_of(a.pass) | (threadIdx.x * EACH + k);
            state[1] = sought.place - before;
        }
        before += count;
        counts[k] = 0;
    }
}

// Marks every score up to the one that was found: `marks` is [.., cols].
KERNEL void select_mark(const float* values, const float* u, const SelectPart* parts, const unsigned* found,
                        unsigned char* marks, SelectArgs a) {
    const SelectPart part = parts[blockIdx.y];
    const unsigned cut = found[2 * blockIdx.y];
    const long count = part.rows * a.width;
    for (long at = (long)blockIdx.x * THREADS + threadIdx.x; at < count; at += (long)gridDim.x * THREADS) {
        const long to = (part.first_row + at / a.width) * a.cols + a.first + at % a.width;
        marks[to] = score_bits(values, u, a, part, at) <= cut;
    }
}
