// Square matrices (see mod.rs).
#include "lanes.cuh"

namespace {

template <class T>
DEVICE void diagonal(const T* values, float* out, long n) {
    EACH(i, n) out[i] = (float)values[i * (n + 1)];
}

}  // namespace

KERNEL void square_diagonal(const float* values, float* out, long n) { diagonal(values, out, n); }

KERNEL void square_diagonal_f64(const double* values, float* out, long n) { diagonal(values, out, n); }
