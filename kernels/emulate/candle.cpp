// The few of candle's own kernels that are launched on a GPU, by their names and parameters, in plain loops: copies,
// fills, casts, sums and products of elements, rows by index. `info` has the dimensions and then the strides of each
// input, in elements; null means that all is contiguous.
#include "emulate.h"

namespace {

typedef uint8_t u8;
typedef uint32_t u32;
typedef int64_t i64;
typedef float f32;
typedef double f64;
typedef __nv_bfloat16 bf16;
typedef __half f16;

template <class T> struct Is16 { static constexpr bool value = false; };
template <> struct Is16<bf16> { static constexpr bool value = true; };
template <> struct Is16<f16> { static constexpr bool value = true; };

template <class T> T wide(T x) { return x; }
float wide(bf16 x) { return __bfloat162float(x); }
float wide(f16 x) { return __half2float(x); }
template <class To> To narrow(float x, std::true_type) {
    if constexpr (std::is_same_v<To, bf16>) return __float2bfloat16_rn(x);
    else return __float2half_rn(x);
}
template <class To, class From> To converted(From x) {
    if constexpr (Is16<To>::value) return narrow<To>((float)wide(x), std::true_type());
    else return (To)wide(x);
}

// Where element `at`, counted in row-major order, lies in an input with these strides.
size_t offset(size_t at, size_t dims, const size_t* info, const size_t* strides) {
    if (!info) return at;
    size_t found = 0;
    for (size_t d = dims; d-- > 0;) {
        found += at % info[d] * strides[d];
        at /= info[d];
    }
    return found;
}

template <class Body> void each(size_t count, Body body) {
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (size_t)blockDim.x * gridDim.x) body(at);
}

template <class From, class To>
void cast(size_t count, size_t dims, const size_t* info, const From* from, To* to) {
    each(count, [&](size_t at) { to[at] = converted<To>(from[offset(at, dims, info, info + dims)]); });
}

template <class T, class Operation>
void binary(size_t count, size_t dims, const size_t* info, const T* a, const T* b, T* to, Operation operation) {
    each(count, [&](size_t at) {
        const auto x = wide(a[offset(at, dims, info, info + dims)]), y = wide(b[offset(at, dims, info, info + 2 * dims)]);
        to[at] = converted<T>(operation(x, y));
    });
}

}  // namespace

#define COPIES(T)                                                                                              \
    KERNEL void ucopy_##T(size_t count, size_t dims, const size_t* info, const T* from, T* to) {               \
        each(count, [&](size_t at) { to[at] = from[offset(at, dims, info, info + dims)]; });                   \
    }                                                                                                          \
    KERNEL void copy2d_##T(const T* from, T* to, u32 rows, u32 cols, u32 from_stride, u32 to_stride) {         \
        each((size_t)rows * cols, [&](size_t at) {                                                             \
            to[at / cols * to_stride + at % cols] = from[at / cols * from_stride + at % cols];                 \
        });                                                                                                    \
    }                                                                                                          \
    KERNEL void const_set_##T(size_t count, size_t dims, const size_t* info, T value, T* to) {                 \
        each(count, [&](size_t at) { to[offset(at, dims, info, info + dims)] = value; });                      \
    }                                                                                                          \
    KERNEL void is_u32_##T(size_t count, size_t, const size_t*, const u32* ids, const T* from, T* to, size_t,  \
                           size_t of, size_t chosen, size_t width) {                                           \
        each(count, [&](size_t at) {                                                                           \
            const size_t id = ids[at / width % chosen], left = at / width / chosen;                            \
            if (id >= of) emulate::fail("index %zu of %zu", id, of);                                           \
            to[at] = from[(left * of + id) * width + at % width];                                              \
        });                                                                                                    \
    }
COPIES(u8)
COPIES(u32)
COPIES(i64)
COPIES(f32)
COPIES(f64)
COPIES(bf16)
COPIES(f16)

#define BINARY(name, T, operation)                                                                                \
    KERNEL void name##_##T(size_t count, size_t dims, const size_t* info, const T* a, const T* b, T* to) {        \
        binary(count, dims, info, a, b, to, [](auto x, auto y) { return x operation y; });                        \
    }
#define ARITHMETIC(T)                                                                                             \
    BINARY(badd, T, +)                                                                                            \
    BINARY(bsub, T, -)                                                                                            \
    BINARY(bmul, T, *)                                                                                            \
    BINARY(bdiv, T, /)                                                                                            \
    KERNEL void affine_##T(size_t count, size_t dims, const size_t* info, const T* from, T* to, T times, T plus) { \
        each(count, [&](size_t at) {                                                                              \
            const auto x = wide(from ? from[offset(at, dims, info, info + dims)] : to[at]);                       \
            to[at] = converted<T>(x * wide(times) + wide(plus));                                                  \
        });                                                                                                       \
    }
ARITHMETIC(u32)
ARITHMETIC(f32)
ARITHMETIC(f64)
ARITHMETIC(bf16)
ARITHMETIC(f16)

#define CAST(From, To)                                                                                         \
    KERNEL void cast_##From##_##To(size_t count, size_t dims, const size_t* info, const From* from, To* to) {  \
        cast(count, dims, info, from, to);                                                                     \
    }
CAST(f32, bf16)
CAST(f32, f16)
CAST(f32, f64)
CAST(f32, u8)
CAST(f32, u32)
CAST(f64, f32)
CAST(f64, bf16)
CAST(f64, f16)
CAST(bf16, f32)
CAST(bf16, f16)
CAST(bf16, f64)
CAST(f16, f32)
CAST(f16, bf16)
CAST(f16, f64)
CAST(u8, f32)
CAST(u8, u32)
CAST(u32, f32)
CAST(u32, u8)
CAST(u32, i64)
CAST(i64, u32)
CAST(i64, f32)
