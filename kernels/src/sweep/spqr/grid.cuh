// SpQR's grids, and statistics coded on such grids: grid.rs, operation by operation.
#pragma once
#include "row.cuh"

// What the rule says of grids (cuda.rs fills it in).
struct SpqrRule {
    int bits;
    int scale_bits, zero_bits;  // 0: stored as they are
    int symmetric, round_zero, zero_symmetric;
    int search;                 // whether likely outliers are looked for
    int adds;                   // an outlier's value is added to that of its code
    int stored;                 // the type that weights and statistics are rounded to
};

// What a row's group is fitted to: its range, and whether all its weights were the same.
struct SpqrRange {
    float lo, hi;
    int same;
};

namespace {

constexpr float LEAST = 1e-9f;
constexpr float INF = __builtin_huge_valf();

// A grid on which a value is scale · (code − zero).
struct Line {
    float scale, zero, max_code;
    int stored;
};

DEVICE float largest_code(int bits) { return (float)((1u << bits) - 1); }

DEVICE float clamped(float x, float most) { return fminf(fmaxf(x, 0.0f), most); }

// The zero is added before rounding. Adding 0 makes the code that is -0 the one that is read back.
DEVICE float encode(const Line& line, float x) {
    return clamped(rintf(__fadd_rn(__fdiv_rn(x, fmaxf(line.scale, LEAST)), line.zero)), line.max_code) + 0.0f;
}

DEVICE float decode(const Line& line, float code) {
    return rounded(__fmul_rn(line.scale, rounded(__fsub_rn(code, line.zero), line.stored)), line.stored);
}

// Whether a range has no width, or none that 16-bit floats could tell.
DEVICE bool is_constant(float lo, float hi, int stored) {
    const float reach = fmaxf(fabsf(lo), fabsf(hi));
    return lo == hi || (stored != F32 && __fsub_rn(hi, lo) <= __fdiv_rn(reach, 1024.0f));
}

DEVICE float middle(float lo, float hi) { return __fadd_rn(lo, __fdiv_rn(__fsub_rn(hi, lo), 2.0f)); }

// The range of a symmetric grid; any other is left as it is.
DEVICE void mirror(float& lo, float& hi, bool symmetric) {
    if (!symmetric) return;
    hi = -lo > hi ? -lo : hi;
    lo = lo < 0.0f ? -hi : lo;
}

// The grid from lo to hi; where all values are the same it holds that value exactly.
DEVICE Line line_of(float lo, float hi, int bits, bool symmetric, int stored) {
    const float max_code = largest_code(bits), half = __fdiv_rn(__fadd_rn(max_code, 1.0f), 2.0f);
    if (is_constant(lo, hi, stored)) {
        const float value = middle(lo, hi);
        const float scale = value == 0.0f ? 1.0f : rounded(fabsf(value), stored);
        return {scale, symmetric ? half : value < 0.0f ? 1.0f : 0.0f, max_code, stored};
    }
    mirror(lo, hi, symmetric);
    float scale = rounded(__fdiv_rn(__fsub_rn(hi, lo), max_code), stored);
    if (scale == 0.0f) scale = least_scale(stored);
    return {scale, symmetric ? half : rounded(__fdiv_rn(-lo, scale), stored), max_code, stored};
}

// The scale and zero of one row's group before the second level; `value` is the group's if it is `constant`.
struct Level {
    float scale, zero, value;
    int constant;
};

DEVICE Level first_level(const SpqrRange& range, const SpqrRule& rule) {
    // What is coded again is rounded only there.
    const int stored = rule.scale_bits ? F32 : rule.stored;
    const bool emptied = range.lo == range.hi && !range.same;
    const bool constant = !emptied && is_constant(range.lo, range.hi, rule.stored);
    float lo = emptied ? -1.0f : range.lo, hi = emptied ? 1.0f : range.hi;
    const float value = constant ? middle(lo, hi) : 0.0f;
    if (constant) lo = hi = value;
    Line line = line_of(lo, hi, rule.bits, rule.symmetric, stored);
    if (rule.round_zero && !rule.symmetric) line.zero = rintf(line.zero);
    if (!rule.zero_bits) line.zero = rounded(line.zero, rule.stored);
    return {line.scale, line.zero, value, constant};
}

// The ranges of the statistics of a tile's rows.
struct Tile {
    float scale_lo, scale_hi, zero_lo, zero_hi;
};

constexpr Tile EMPTY = {INF, -INF, INF, -INF};

DEVICE void join(Tile& tile, const Tile& other) {
    tile.scale_lo = fminf(tile.scale_lo, other.scale_lo);
    tile.scale_hi = fmaxf(tile.scale_hi, other.scale_hi);
    tile.zero_lo = fminf(tile.zero_lo, other.zero_lo);
    tile.zero_hi = fmaxf(tile.zero_hi, other.zero_hi);
}

// Includes one row's statistics.
DEVICE void join(Tile& tile, const Level& level) {
    join(tile, Tile{level.scale, level.scale, level.zero, level.zero});
}

// Joins the ranges of as many neighbouring threads as `count` says, a power of two.
DEVICE void join(Tile& tile, unsigned lanes, int count) {
    for (int step = 1; step < count; step *= 2) {
        Tile other;
        other.scale_lo = __shfl_xor_sync(lanes, tile.scale_lo, step);
        other.scale_hi = __shfl_xor_sync(lanes, tile.scale_hi, step);
        other.zero_lo = __shfl_xor_sync(lanes, tile.zero_lo, step);
        other.zero_hi = __shfl_xor_sync(lanes, tile.zero_hi, step);
        join(tile, other);
    }
}

// The grids that a tile's statistics are coded on. `dead`: all its rows are zero, as where an input always is.
struct Second {
    Line scales, zeros;
    bool dead;
};

// The scale of dead rows, as in the published codes; their zeros are 1, so that they decode to exactly 0.
DEVICE float dead_scale(const SpqrRule& rule) {
    return rounded(__fdiv_rn(2.0f, largest_code(rule.bits)), rule.stored);
}

DEVICE Second second_of(const Tile& tile, bool dead, const SpqrRule& rule) {
    Second second = {{}, {}, dead};
    if (rule.scale_bits) {
        const float lo = dead ? -1.0f : tile.scale_lo, hi = dead ? 1.0f : tile.scale_hi;
        second.scales = line_of(lo, hi, rule.scale_bits, false, rule.stored);
    }
    if (rule.zero_bits) {
        const float max_code = largest_code(rule.zero_bits);
        second.zeros = dead ? Line{1.0f, max_code - 1.0f, max_code, rule.stored}
                            : line_of(tile.zero_lo, tile.zero_hi, rule.zero_bits, rule.zero_symmetric, rule.stored);
    }
    return second;
}

// A scale and a zero as they are used, and their codes.
struct Said {
    float scale, zero;
    int scale_code, zero_code;
};

DEVICE float miss(const SpqrRule& rule, float value, const Said& said) {
    const Line line = {said.scale, said.zero, largest_code(rule.bits), rule.stored};
    return fabsf(__fsub_rn(decode(line, encode(line, value)), value));
}

// Offers a scale and a zero for a constant row, and keeps them if they hold its value better than what was kept.
DEVICE void offer(const SpqrRule& rule, float value, const Said& said, float& least, Said& best) {
    // Not finite, or not a scale.
    if (!(fabsf(said.scale) < INF) || !(fabsf(said.zero) < INF) || said.scale < 0.0f) return;
    const float off = miss(rule, value, said);
    if (off < least) least = off, best = said;
}

// The scale and zero that hold a constant row best, of those that the second level can say.
DEVICE Said settle(const SpqrRule& rule, float value, const Second& second, const Said& now) {
    const bool coded_scales = rule.scale_bits, coded_zeros = rule.zero_bits;
    float least = miss(rule, value, now);
    Said best = now;
    const int zero_count = coded_zeros ? 1 << rule.zero_bits : 1, scale_count = coded_scales ? 1 << rule.scale_bits : 2;
    // Nothing is better than exact.
#pragma unroll 1
    for (int z = 0; z < zero_count && least != 0.0f; z++) {
        const float zero = coded_zeros ? decode(second.zeros, (float)z) : now.zero;
#pragma unroll 1
        for (int s = 0; s < scale_count; s++) {
            const float scale = coded_scales ? decode(second.scales, (float)s) : s == 0 ? now.scale : 0.0f;
            const int code = coded_scales ? s : 0;
            offer(rule, value, {scale, zero, code, z}, least, best);
            if (!coded_zeros && !rule.symmetric && !rule.round_zero && scale > 0.0f) {
                const float exact = rounded(__fdiv_rn(-value, scale), rule.stored);
                offer(rule, value, {scale, exact, code, 0}, least, best);
            }
        }
        if (!coded_scales) {
            // A scale of its own reaches the value from the zero at either end of the codes.
            const float reach = value > 0.0f ? __fsub_rn(largest_code(rule.bits), zero) : -zero;
            offer(rule, value, {rounded(__fdiv_rn(value, reach), rule.stored), zero, 0, z}, least, best);
        }
    }
    return best;
}

// What the second level makes of a row's scale and zero.
DEVICE Said coded(const SpqrRule& rule, const Second& second, const Level& level) {
    Said said = {level.scale, level.zero, 0, 0};
    if (second.dead) said.scale = dead_scale(rule), said.zero = 1.0f;
    if (rule.scale_bits) {
        said.scale_code = (int)encode(second.scales, said.scale);
        said.scale = decode(second.scales, (float)said.scale_code);
    }
    if (rule.zero_bits) {
        said.zero_code = (int)encode(second.zeros, said.zero);
        said.zero = decode(second.zeros, (float)said.zero_code);
    }
    return level.constant ? settle(rule, level.value, second, said) : said;
}

}  // namespace
