// Products, triangular solves and Cholesky factors in plain blocked loops, for the emulator's forms of cuBLAS and cuSOLVER.
// Matrices are views with a stride for rows and one for columns, so a transposed matrix is a view with the two exchanged.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "memory.h"
#include "numbers.h"

namespace emulate {

struct Bf16 { uint16_t bits; };
struct F16 { uint16_t bits; };
inline float wide(Bf16 x) { return bf16_to_float(x.bits); }
inline float wide(F16 x) { return f16_to_float(x.bits); }
inline float wide(float x) { return x; }
inline double wide(double x) { return x; }
inline void put(Bf16& to, float x) { to.bits = float_to_bf16(x); }
inline void put(F16& to, float x) { to.bits = float_to_f16(x); }
inline void put(float& to, float x) { to = x; }
inline void put(double& to, double x) { to = x; }

template <class T>
struct View {
    T* at;
    long rows, cols, row_stride, col_stride;
    T& operator()(long i, long j) const { return at[i * row_stride + j * col_stride]; }
    View part(long i, long j, long height, long width) const {
        return {&(*this)(i, j), height, width, row_stride, col_stride};
    }
    View transposed() const { return {at, cols, rows, col_stride, row_stride}; }
    operator View<const T>() const { return {at, rows, cols, row_stride, col_stride}; }
};
// The view of a matrix stored by columns, as the libraries take it: rows × cols before it is transposed.
template <class T>
View<T> columns(T* at, long rows, long cols, long leading, bool transposed) {
    const View<T> view = {at, rows, cols, 1, leading};
    return transposed ? view.transposed() : view;
}

// How inputs of type f32 are rounded before they are multiplied, and which part of the result is written.
enum class Rounded { No, Tf32, Bf16 };
enum class Part { All, Lower, Upper };

inline float rounded_to(float x, Rounded how) {
    if (how == Rounded::Bf16) return bf16_to_float(float_to_bf16(x));
    if (how == Rounded::No || !std::isfinite(x)) return x;
    const uint32_t bits = bits_of(x);
    return float_of((bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu);
}
inline double rounded_to(double x, Rounded) { return x; }

template <class Sum, class A, class B, class C>
struct Product {
    static constexpr long LANES = 64 / sizeof(Sum), HEIGHT = 2 * LANES, WIDTH = 8, ROWS = 8 * HEIGHT, COLS = 256, DEPTH = 256;
    typedef Sum Lane __attribute__((vector_size(64)));

    Sum alpha, beta;
    View<const A> a;
    View<const B> b;
    View<C> c;
    Rounded how;
    Part part;

    long tiles_down() const { return (c.rows + ROWS - 1) / ROWS; }
    long tiles_across() const { return (c.cols + COLS - 1) / COLS; }

    // sums[HEIGHT × WIDTH, by columns] += panels of `depth` columns of HEIGHT rows and of `depth` rows of WIDTH columns.
    static void multiply(long depth, const Lane* left, const Sum* right, Lane* sums) {
        Lane low[WIDTH] = {}, high[WIDTH] = {};
        for (long k = 0; k < depth; k++) {
            const Lane first = left[2 * k], second = left[2 * k + 1];
#pragma GCC unroll 8
            for (long j = 0; j < WIDTH; j++) {
                low[j] += first * right[k * WIDTH + j];
                high[j] += second * right[k * WIDTH + j];
            }
        }
        for (long j = 0; j < WIDTH; j++) {
            sums[2 * j] += low[j];
            sums[2 * j + 1] += high[j];
        }
    }

    // Packs rows [first, first + count) of `from` in panels of `height` rows, column by column, zero beyond the end.
    template <class T>
    void pack(View<const T> from, long first, long count, long start, long depth, long height, Sum* to) const {
        for (long panel = 0; panel * height < count; panel++) {
            Sum* out = to + panel * height * depth;
            const long top = first + panel * height, here = std::min(height, first + count - top);
            if (here < height) std::fill(out, out + height * depth, Sum(0));
            if (from.row_stride == 1) {
                for (long k = 0; k < depth; k++) {
                    for (long i = 0; i < here; i++) out[k * height + i] = wide((&from(top, start + k))[i]);
                }
            } else {
                for (long i = 0; i < here; i++) {
                    for (long k = 0; k < depth; k++) out[k * height + i] = wide(from(top + i, start + k));
                }
            }
        }
        if (how == Rounded::No) return;
        const long all = (count + height - 1) / height * height * depth;
        for (long k = 0; k < all; k++) to[k] = rounded_to(to[k], how);
    }

    void tile(long index) const {
        const long top = index % tiles_down() * ROWS, left = index / tiles_down() * COLS;
        const long rows = std::min(ROWS, c.rows - top), cols = std::min(COLS, c.cols - left);
        if (part == Part::Lower && top + rows <= left) return;
        if (part == Part::Upper && left + cols <= top) return;
        struct Buffers {
            Lane left[ROWS * DEPTH / LANES], sums[ROWS * COLS / LANES];
            Sum right[COLS * DEPTH];
        };
        static thread_local std::unique_ptr<Buffers> kept;
        if (!kept) kept.reset(new Buffers);
        Buffers& m = *kept;
        std::fill(std::begin(m.sums), std::end(m.sums), Lane{});
        for (long start = 0; start < a.cols; start += DEPTH) {
            const long depth = std::min(DEPTH, a.cols - start);
            pack(a, top, rows, start, depth, HEIGHT, (Sum*)m.left);
            pack(b.transposed(), left, cols, start, depth, WIDTH, m.right);
            for (long j = 0; j * WIDTH < cols; j++) {
                for (long i = 0; i * HEIGHT < rows; i++) {
                    multiply(depth, m.left + i * 2 * depth, m.right + j * WIDTH * depth,
                             m.sums + (j * (ROWS / HEIGHT) + i) * 2 * WIDTH);
                }
            }
        }
        for (long j = 0; j < cols; j++) {
            for (long i = 0; i < rows; i++) {
                if (part == Part::Lower ? top + i < left + j : part == Part::Upper && top + i > left + j) continue;
                const Sum* sums = (const Sum*)(m.sums + (j / WIDTH * (ROWS / HEIGHT) + i / HEIGHT) * 2 * WIDTH);
                const Sum product = alpha * sums[j % WIDTH * HEIGHT + i % HEIGHT];
                C& to = c(top + i, left + j);
                // What was there is not read where beta is 0: it may be anything.
                put(to, beta == 0 ? product : product + beta * wide(to));
            }
        }
    }
};

// c = alpha · a b + beta · c, or a triangle of it.
template <class Sum, class A, class B, class C>
void multiply(Sum alpha, View<A> a, View<B> b, Sum beta, View<C> c, Rounded how = Rounded::No, Part part = Part::All) {
    typedef Product<Sum, std::remove_const_t<A>, std::remove_const_t<B>, C> This;
    const This product = {alpha, beta, a, b, c, how, part};
    const size_t tiles = (size_t)(product.tiles_down() * product.tiles_across());
    auto task = [](void* context, size_t index) { ((const This*)context)->tile((long)index); };
    paring_emulated_parallel(tiles, task, (void*)&product);
}

constexpr long SMALL = 64;

// Solves l x = b for a lower triangular l, x in place of b.
template <class T>
void solve_lower(View<const T> l, View<T> b, bool unit) {
    const long n = l.rows;
    if (n <= SMALL) {
        for (long j = 0; j < b.cols; j++) {
            for (long i = 0; i < n; i++) {
                T sum = b(i, j);
                for (long k = 0; k < i; k++) sum -= l(i, k) * b(k, j);
                b(i, j) = unit ? sum : sum / l(i, i);
            }
        }
        return;
    }
    const long half = n / 2;
    const View<T> top = b.part(0, 0, half, b.cols), bottom = b.part(half, 0, n - half, b.cols);
    solve_lower(l.part(0, 0, half, half), top, unit);
    multiply<T>(-1, l.part(half, 0, n - half, half), top, 1, bottom);
    solve_lower(l.part(half, half, n - half, n - half), bottom, unit);
}

// The same view with the order of rows and columns turned round, which makes an upper triangle a lower one.
template <class T>
View<T> reversed(View<T> a) {
    return {&a(a.rows - 1, a.cols - 1), a.rows, a.cols, -a.row_stride, -a.col_stride};
}
template <class T>
View<T> rows_reversed(View<T> a) {
    return {&a(a.rows - 1, 0), a.rows, a.cols, -a.row_stride, a.col_stride};
}
template <class T>
void solve(View<const T> a, bool lower, View<T> b, bool unit) {
    if (b.rows == 0 || b.cols == 0) return;
    if (lower) return solve_lower(a, b, unit);
    solve_lower(reversed(a), rows_reversed(b), unit);
}

// The lower Cholesky factor in place of the lower triangle of a. Returns 0, or as LAPACK does the order of the first
// leading minor that is not positive.
template <class T>
long cholesky(View<T> a) {
    const long n = a.rows;
    if (n <= SMALL) {
        for (long j = 0; j < n; j++) {
            T sum = a(j, j);
            for (long k = 0; k < j; k++) sum -= a(j, k) * a(j, k);
            if (!(sum > 0)) return j + 1;
            a(j, j) = std::sqrt(sum);
            for (long i = j + 1; i < n; i++) {
                T other = a(i, j);
                for (long k = 0; k < j; k++) other -= a(i, k) * a(j, k);
                a(i, j) = other / a(j, j);
            }
        }
        return 0;
    }
    const long half = n / 2;
    const View<T> first = a.part(0, 0, half, half), below = a.part(half, 0, n - half, half);
    const View<T> rest = a.part(half, half, n - half, n - half);
    if (const long bad = cholesky(first)) return bad;
    solve_lower<T>(first, below.transposed(), false);
    multiply<T>(-1, below, below.transposed(), 1, rest, Rounded::No, Part::Lower);
    const long bad = cholesky(rest);
    return bad ? half + bad : 0;
}

// The inverse of a lower triangle in place. Returns 0, or one more than the place of a zero on the diagonal.
template <class T>
long invert_lower(View<T> l, bool unit) {
    const long n = l.rows;
    if (n <= SMALL) {
        for (long j = 0; j < n && !unit; j++) {
            if (l(j, j) == 0) return j + 1;
        }
        for (long j = 0; j < n; j++) {
            if (!unit) l(j, j) = 1 / l(j, j);
            for (long i = j + 1; i < n; i++) {
                T sum = l(i, j) * (unit ? 1 : l(j, j));
                for (long k = j + 1; k < i; k++) sum += l(i, k) * l(k, j);
                l(i, j) = unit ? -sum : -sum / l(i, i);
            }
        }
        return 0;
    }
    const long half = n / 2;
    const View<T> first = l.part(0, 0, half, half), below = l.part(half, 0, n - half, half);
    const View<T> rest = l.part(half, half, n - half, n - half);
    // below becomes −rest⁻¹ below first⁻¹.
    solve_lower<T>(rest, below, unit);
    solve<T>(first.transposed(), false, below.transposed(), unit);
    for (long j = 0; j < half; j++) {
        for (long i = 0; i < n - half; i++) below(i, j) = -below(i, j);
    }
    if (const long bad = invert_lower(first, unit)) return bad;
    const long bad = invert_lower(rest, unit);
    return bad ? half + bad : 0;
}

}  // namespace emulate
