// The library of factors (libcusolver.so.12) without a GPU: Cholesky factors, what is solved with them, and inverses of
// triangles. devInfo is set as the real one sets it.
#include <cusolverDn.h>

#include "dense.h"
#include "refuse.h"
#include "streams.h"

using namespace emulate;

struct cusolverDnContext {
    cudaStream_t stream = nullptr;
};
struct cusolverDnParams {};

#define NEED_HANDLE \
    if (!handle) return REFUSE(CUSOLVER_STATUS_NOT_INITIALIZED, "no handle")
#define NEED(condition, ...) \
    if (!(condition)) return REFUSE(CUSOLVER_STATUS_INVALID_VALUE, __VA_ARGS__)
#define NEED_MATRIX(at, height, width, leading, bytes)                                                                   \
    NEED((height) >= 0 && (width) >= 0 && (leading) >= std::max<int64_t>(1, height),                                     \
         "%s: %ld × %ld elements, columns %ld apart", #at, (long)(height), (long)(width), (long)(leading));              \
    NEED((height) == 0 || (width) == 0 ||                                                                                \
             paring_emulated_on_device(at, (size_t)(((width) - 1) * (int64_t)(leading) + (height)) * (bytes)),           \
         "%s: %ld × %ld elements, columns %ld apart, from %p on are not inside one allocation of the device", #at,       \
         (long)(height), (long)(width), (long)(leading), (const void*)(at))
#define NEED_FILL(fill) NEED(fill == CUBLAS_FILL_MODE_LOWER || fill == CUBLAS_FILL_MODE_UPPER, "fill mode %d", (int)fill)
#define NEED_INFO(info) NEED(paring_emulated_on_device(info, sizeof(int)), "devInfo %p is not on the device", (void*)info)
#define NEED_WORK(work, bytes, least)                                                                             \
    NEED((bytes) >= (least), "a workspace of %zu bytes; at least %zu", (size_t)(bytes), (size_t)(least));         \
    NEED((bytes) == 0 || paring_emulated_on_device(work, bytes), "the workspace %p of %zu bytes is not on the device", \
         (void*)work, (size_t)(bytes))

namespace {

// What a factor or an inverse of n columns is said to need, in elements. The loops here need nothing; callers do as they
// would for the real library, and too small a workspace is found.
size_t work_of(int64_t n) { return (size_t)std::max<int64_t>(1, 32 * n); }

// Does the work when the handle's stream gets there.
template <class Work>
cusolverStatus_t enqueue(cusolverDnHandle_t handle, Work work) {
    return later(handle->stream, std::move(work)), CUSOLVER_STATUS_SUCCESS;
}

// A triangle as the lower one of a view.
template <class T>
View<T> lower_view(T* a, int64_t n, int64_t lda, cublasFillMode_t fill) {
    return columns(a, n, n, lda, fill == CUBLAS_FILL_MODE_UPPER);
}

template <class T>
cusolverStatus_t potrf(cusolverDnHandle_t handle, cublasFillMode_t fill, int64_t n, T* a, int64_t lda, void* work,
                       size_t bytes, int* info) {
    NEED_HANDLE;
    NEED_FILL(fill);
    NEED_MATRIX(a, n, n, lda, sizeof(T));
    NEED_WORK(work, bytes, work_of(n) * sizeof(T));
    NEED_INFO(info);
    return enqueue(handle, [=] { *info = n == 0 ? 0 : (int)cholesky(lower_view(a, n, lda, fill)); });
}

template <class T>
cusolverStatus_t trtri(cusolverDnHandle_t handle, cublasFillMode_t fill, cublasDiagType_t diagonal, int64_t n, T* a,
                       int64_t lda, void* work, size_t bytes, int* info) {
    NEED_HANDLE;
    NEED_FILL(fill);
    NEED_MATRIX(a, n, n, lda, sizeof(T));
    NEED_WORK(work, bytes, work_of(n) * sizeof(T));
    NEED_INFO(info);
    const bool unit = diagonal == CUBLAS_DIAG_UNIT;
    return enqueue(handle, [=] { *info = n == 0 ? 0 : (int)invert_lower(lower_view(a, n, lda, fill), unit); });
}

// From the factor L of A = L Lᵀ, the triangle of A⁻¹ = L⁻ᵀ L⁻¹.
template <class T>
cusolverStatus_t potri(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, T* a, int lda, T* work, int elements,
                       int* info) {
    const cusolverStatus_t status =
        trtri(handle, fill, CUBLAS_DIAG_NON_UNIT, n, a, lda, work, (size_t)std::max(elements, 0) * sizeof(T), info);
    if (status != CUSOLVER_STATUS_SUCCESS || n == 0) return status;
    return enqueue(handle, [=] {
        if (*info) return;
        std::vector<T> inverse((size_t)n * n);
        const View<T> from = lower_view(a, n, lda, fill), kept = columns(inverse.data(), n, n, n, false);
        for (long j = 0; j < n; j++) {
            for (long i = j; i < n; i++) kept(i, j) = from(i, j);
        }
        multiply<T>(1, kept.transposed(), kept, 0, from, Rounded::No, Part::Lower);
    });
}

template <class T>
cusolverStatus_t potrs(cusolverDnHandle_t handle, cublasFillMode_t fill, int64_t n, int64_t width, const T* a, int64_t lda,
                       T* b, int64_t ldb, int* info) {
    NEED_HANDLE;
    NEED_FILL(fill);
    NEED_MATRIX(a, n, n, lda, sizeof(T));
    NEED_MATRIX(b, n, width, ldb, sizeof(T));
    NEED_INFO(info);
    const View<const T> factor = lower_view(a, n, lda, fill);
    const View<T> right = columns(b, n, width, ldb, false);
    return enqueue(handle, [=] {
        solve<T>(factor, true, right, false);
        solve<T>(factor.transposed(), false, right, false);
        *info = 0;
    });
}

size_t bytes_of(cudaDataType type) { return type == CUDA_R_32F ? 4 : type == CUDA_R_64F ? 8 : 0; }

}  // namespace

#define NEED_TYPE(type) \
    if (!bytes_of(type)) return REFUSE(CUSOLVER_STATUS_NOT_SUPPORTED, "type %d is not emulated", (int)type)

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
    *handle = new cusolverDnContext;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
    NEED_HANDLE;
    delete handle;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
    NEED_HANDLE;
    NEED(paring_emulated_is_stream(stream), "%p is no stream", (void*)stream);
    handle->stream = stream;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnSetDeterministicMode(cusolverDnHandle_t handle, cusolverDeterministicMode_t) {
    NEED_HANDLE;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t* params) {
    *params = new cusolverDnParams;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params) {
    delete params;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnSetAdvOptions(cusolverDnParams_t, cusolverDnFunction_t, cusolverAlgMode_t) {
    return CUSOLVER_STATUS_SUCCESS;
}

#define FACTORS(T, letter)                                                                                                  \
    cusolverStatus_t cusolverDn##letter##potrf_bufferSize(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, T* a,    \
                                                          int lda, int* elements) {                                         \
        NEED_HANDLE;                                                                                                        \
        NEED_FILL(fill);                                                                                                    \
        NEED_MATRIX(a, n, n, lda, sizeof(T));                                                                               \
        *elements = (int)work_of(n);                                                                                        \
        return CUSOLVER_STATUS_SUCCESS;                                                                                     \
    }                                                                                                                       \
    cusolverStatus_t cusolverDn##letter##potrf(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, T* a, int lda,      \
                                               T* work, int elements, int* info) {                                         \
        return potrf(handle, fill, n, a, lda, work, (size_t)std::max(elements, 0) * sizeof(T), info);                       \
    }                                                                                                                       \
    cusolverStatus_t cusolverDn##letter##potri_bufferSize(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, T* a,    \
                                                          int lda, int* elements) {                                         \
        return cusolverDn##letter##potrf_bufferSize(handle, fill, n, a, lda, elements);                                     \
    }                                                                                                                       \
    cusolverStatus_t cusolverDn##letter##potri(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, T* a, int lda,      \
                                               T* work, int elements, int* info) {                                         \
        return potri(handle, fill, n, a, lda, work, elements, info);                                                        \
    }                                                                                                                       \
    cusolverStatus_t cusolverDn##letter##potrs(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, int width,          \
                                               const T* a, int lda, T* b, int ldb, int* info) {                             \
        return potrs(handle, fill, n, width, a, lda, b, ldb, info);                                                         \
    }
FACTORS(float, S)
FACTORS(double, D)

cusolverStatus_t cusolverDnXpotrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, cublasFillMode_t fill,
                                             int64_t n, cudaDataType type, const void* a, int64_t lda, cudaDataType compute,
                                             size_t* device, size_t* host) {
    NEED_HANDLE;
    NEED(params, "no params");
    NEED_FILL(fill);
    NEED_TYPE(type);
    NEED(type == compute, "types %d and %d", (int)type, (int)compute);
    NEED_MATRIX(a, n, n, lda, bytes_of(type));
    *device = work_of(n) * bytes_of(type);
    *host = 0;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t handle, cusolverDnParams_t params, cublasFillMode_t fill, int64_t n,
                                  cudaDataType type, void* a, int64_t lda, cudaDataType compute, void* work, size_t bytes,
                                  void*, size_t, int* info) {
    NEED(params, "no params");
    NEED_TYPE(type);
    NEED(type == compute, "types %d and %d", (int)type, (int)compute);
    if (type == CUDA_R_32F) return potrf(handle, fill, n, (float*)a, lda, work, bytes, info);
    return potrf(handle, fill, n, (double*)a, lda, work, bytes, info);
}
cusolverStatus_t cusolverDnXpotrs(cusolverDnHandle_t handle, cusolverDnParams_t params, cublasFillMode_t fill, int64_t n,
                                  int64_t width, cudaDataType type, const void* a, int64_t lda, cudaDataType type_b, void* b,
                                  int64_t ldb, int* info) {
    NEED(params, "no params");
    NEED_TYPE(type);
    NEED(type == type_b, "types %d and %d", (int)type, (int)type_b);
    if (type == CUDA_R_32F) return potrs(handle, fill, n, width, (const float*)a, lda, (float*)b, ldb, info);
    return potrs(handle, fill, n, width, (const double*)a, lda, (double*)b, ldb, info);
}

cusolverStatus_t cusolverDnXtrtri_bufferSize(cusolverDnHandle_t handle, cublasFillMode_t fill, cublasDiagType_t, int64_t n,
                                             cudaDataType type, void* a, int64_t lda, size_t* device, size_t* host) {
    NEED_HANDLE;
    NEED_FILL(fill);
    NEED_TYPE(type);
    NEED_MATRIX(a, n, n, lda, bytes_of(type));
    *device = work_of(n) * bytes_of(type);
    *host = 0;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnXtrtri(cusolverDnHandle_t handle, cublasFillMode_t fill, cublasDiagType_t diagonal, int64_t n,
                                  cudaDataType type, void* a, int64_t lda, void* work, size_t bytes, void*, size_t,
                                  int* info) {
    NEED_TYPE(type);
    if (type == CUDA_R_32F) return trtri(handle, fill, diagonal, n, (float*)a, lda, work, bytes, info);
    return trtri(handle, fill, diagonal, n, (double*)a, lda, work, bytes, info);
}
