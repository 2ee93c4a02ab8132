// The range that a group's grid is fitted to, and the search for weights that are likely to be outliers: what lanes.rs
// says, by the eight threads of a row together.
#pragma once
#include "grid.cuh"

namespace {

// The threads of a thread's row, as the exchanges take them.
DEVICE unsigned lanes_of() { return 0xffu << (threadIdx.x % 32 / LANES * LANES); }

// The least value, the least but for that one, and the place of the first such.
struct Lowest {
    float value = INF, next = INF;
    int at = 1 << 30;
};

DEVICE void include(Lowest& lowest, float v, int at) {
    lowest.next = fminf(v < lowest.value ? lowest.value : v, lowest.next);
    if (v < lowest.value) lowest.value = v, lowest.at = at;
}

// Of what the eight threads of a row found.
DEVICE void join(Lowest& lowest, unsigned lanes) {
    for (int step = 1; step < LANES; step *= 2) {
        const float value = __shfl_xor_sync(lanes, lowest.value, step), next = __shfl_xor_sync(lanes, lowest.next, step);
        const int at = __shfl_xor_sync(lanes, lowest.at, step);
        lowest.next = fminf(fmaxf(value, lowest.value), fminf(next, lowest.next));
        if (value < lowest.value || (value == lowest.value && at < lowest.at)) lowest.value = value, lowest.at = at;
    }
}

// sum + the terms of the eight threads, one after another.
DEVICE float added(float sum, float term, unsigned lanes) {
#pragma unroll
    for (int thread = 0; thread < LANES; thread++) sum = __fadd_rn(sum, __shfl_sync(lanes, term, thread, LANES));
    return sum;
}

// A grid that leaving a weight out can give, as the search sees it: not rounded, constant ranges held exactly.
struct Trial {
    float scale, zero, max_code;
    bool constant;
};

DEVICE Trial trial_of(float lo, float hi, const SpqrRule& rule) {
    const float max_code = largest_code(rule.bits);
    const bool constant = lo == hi;
    mirror(lo, hi, rule.symmetric);
    const float scale = __fdiv_rn(__fsub_rn(hi, lo), max_code);
    const float zero = rule.symmetric ? __fdiv_rn(__fadd_rn(max_code, 1.0f), 2.0f) : __fdiv_rn(-lo, scale);
    return {scale, zero, max_code, constant};
}

// ((decode(encode(x)) − x) / d)², given 1 / d².
DEVICE float term(const Trial& t, float x, float inverse) {
    const float code = clamped(rintf(__fadd_rn(__fdiv_rn(x, fmaxf(t.scale, LEAST)), t.zero)), t.max_code);
    const float off = __fsub_rn(__fmul_rn(t.scale, __fsub_rn(code, t.zero)), x);
    return t.constant ? 0.0f : __fmul_rn(__fmul_rn(off, off), inverse);
}

// The range that the grid of a row's group is fitted to. `x(k)` gives the group's weights, d its part of the diagonal;
// the eight threads of the row take every eighth of them each. Likely outliers are left out: those without which the
// errors of the group fall by more than the threshold (lanes.rs says why three grids suffice).
template <class Group>
DEVICE SpqrRange range_of(const Group& x, const float* d, int count, float threshold, const SpqrRule& rule) {
    const unsigned lanes = lanes_of();
    const int lane = threadIdx.x % LANES;
    Lowest low, high;
    const float head = x(0);
    int other = 0;
#pragma unroll 1
    for (int k = lane; k < count; k += LANES) {
        const float v = x(k);
        other |= v != head;
        include(low, v, k);
        include(high, -v, k);
    }
    join(low, lanes);
    join(high, lanes);
    for (int step = 1; step < LANES; step *= 2) other |= __shfl_xor_sync(lanes, other, step);
    if (!rule.search) return {low.value, -high.value, !other};

    const Trial all = trial_of(low.value, -high.value, rule);
    const Trial no_lowest = trial_of(low.next, -high.value, rule), no_highest = trial_of(low.value, -high.next, rule);
    float of_all = 0.0f, of_others_than_lowest = 0.0f, of_others_than_highest = 0.0f;
#pragma unroll 1
    for (int k = lane; k - lane < count; k += LANES) {
        float whole = 0.0f, lowest = 0.0f, highest = 0.0f;
        if (k < count) {
            const float v = x(k), inverse = __fdiv_rn(1.0f, __fmul_rn(d[k], d[k]));
            whole = term(all, v, inverse);
            lowest = k == low.at ? 0.0f : term(no_lowest, v, inverse);
            highest = k == high.at ? 0.0f : term(no_highest, v, inverse);
        }
        of_all = added(of_all, whole, lanes);
        of_others_than_lowest = added(of_others_than_lowest, lowest, lanes);
        of_others_than_highest = added(of_others_than_highest, highest, lanes);
    }
    const float gain_of_lowest = __fsub_rn(of_all, of_others_than_lowest);
    const float gain_of_highest = __fsub_rn(of_all, of_others_than_highest);
    float total = 0.0f;
    int others = 0;
    Lowest bottom, top;
#pragma unroll 1
    for (int k = lane; k - lane < count; k += LANES) {
        float stays = 0.0f;
        if (k < count) {
            const float v = x(k);
            const float gain = k == high.at  ? gain_of_highest
                               : k == low.at ? gain_of_lowest
                                             : term(all, v, __fdiv_rn(1.0f, __fmul_rn(d[k], d[k])));
            if (!(gain > threshold)) {
                stays = v;
                others++;
                include(bottom, v, k);
                include(top, -v, k);
            }
        }
        total = added(total, stays, lanes);
    }
    join(bottom, lanes);
    join(top, lanes);
    for (int step = 1; step < LANES; step *= 2) others += __shfl_xor_sync(lanes, others, step);
    SpqrRange range = {bottom.value, -top.value, !other};
    // The others' mean stands in for those that are left out: it changes the range only by its rounding, or when nothing
    // else is there.
    if (others < count) {
        const float mean = __fdiv_rn(total, fmaxf((float)others, 1.0f));
        range.lo = mean < range.lo ? mean : range.lo;
        range.hi = mean > range.hi ? mean : range.hi;
    }
    return range;
}

// The weights of a group in shared memory.
struct InShared {
    const float* x;
    DEVICE float operator()(int k) const { return x[k]; }
};

// The weights of a group where they lie; those that become zero are zero already inside the slice.
struct InPlace {
    const float* x;
    const unsigned char* marked;
    int inside;
    DEVICE float operator()(int k) const { return marked && k < inside && marked[k] ? 0.0f : x[k]; }
};

}  // namespace
