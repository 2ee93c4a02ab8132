// The two 16-bit floats as their bits.
#pragma once
#include <cstdint>
#include <cstring>

namespace emulate {

inline uint32_t bits_of(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }
inline float float_of(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }

inline float bf16_to_float(uint16_t bits) { return float_of((uint32_t)bits << 16); }
inline uint16_t float_to_bf16(float x) {
    const uint32_t bits = bits_of(x);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float f16_to_float(uint16_t bits) { _Float16 x; memcpy(&x, &bits, 2); return (float)x; }
inline uint16_t float_to_f16(float x) { _Float16 half = (_Float16)x; uint16_t bits; memcpy(&bits, &half, 2); return bits; }
// The nearest that is not above x (direction −1) or not below it (direction 1).
inline uint16_t float_to_f16_towards(float x, int direction) {
    const uint16_t near = float_to_f16(x);
    const float value = f16_to_float(near);
    if (x != x || value == x || (value > x) != (direction < 0)) return near;
    if (value == 0) return direction < 0 ? 0x8001 : 0x0001;
    return (uint16_t)((value > 0) == (direction > 0) ? near + 1 : near - 1);
}

}  // namespace emulate
