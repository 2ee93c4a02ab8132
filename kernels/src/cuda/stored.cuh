// The types that numbers are rounded to (`stored` in mod.rs).
#pragma once
#include "lanes.cuh"

namespace {

enum Stored : int { F32 = 0, BF16 = 1, F16 = 2 };

DEVICE float rounded(float x, int stored) {
    if (stored == BF16) return __bfloat162float(__float2bfloat16_rn(x));
    if (stored == F16) return __half2float(__float2half_rn(x));
    return x;
}

}  // namespace
