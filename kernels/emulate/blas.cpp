// The library of products (libcublas.so.13) without a GPU: what paring and candle call of it. Arguments are checked as the
// real one does, and also that each matrix lies in one allocation of the device, which the real one does not.
#include <cublas_v2.h>

#include "dense.h"
#include "refuse.h"
#include "streams.h"

using namespace emulate;

struct cublasContext {
    cudaStream_t stream = nullptr;
    cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
    cublasMath_t math = CUBLAS_DEFAULT_MATH;
    cublasAtomicsMode_t atomics = CUBLAS_ATOMICS_NOT_ALLOWED;
};

#define NEED_HANDLE \
    if (!handle) return REFUSE(CUBLAS_STATUS_NOT_INITIALIZED, "no handle")
#define NEED(condition, ...) \
    if (!(condition)) return REFUSE(CUBLAS_STATUS_INVALID_VALUE, __VA_ARGS__)
// A matrix of `height` by `width` elements with this distance of columns lies on the device.
#define NEED_MATRIX(at, height, width, leading, bytes)                                                                  \
    NEED((leading) >= std::max<int64_t>(1, height), "%s: columns of %ld elements are %ld apart", #at, (long)(height),   \
         (long)(leading));                                                                                              \
    NEED((height) == 0 || (width) == 0 || on_device(at, height, width, leading, bytes),                                 \
         "%s: %ld × %ld elements, columns %ld apart, from %p on are not inside one allocation of the device", #at,      \
         (long)(height), (long)(width), (long)(leading), (const void*)(at))

namespace {

bool on_device(const void* at, int64_t height, int64_t width, int64_t leading, size_t bytes) {
    return paring_emulated_on_device(at, (size_t)((width - 1) * leading + height) * bytes);
}

// Whether a factor lies where the handle says that factors lie.
bool well_placed(cublasHandle_t handle, const void* scalar, size_t bytes) {
    return scalar && paring_emulated_on_device(scalar, bytes) == (handle->pointers == CUBLAS_POINTER_MODE_DEVICE);
}

// A factor: as it is when the call is made, or on the device and read when the stream gets there.
template <class T>
struct Scalar {
    const T* on_device = nullptr;
    T value = 0;
    Scalar(cublasHandle_t handle, const T* at) {
        if (handle->pointers == CUBLAS_POINTER_MODE_DEVICE) on_device = at;
        else value = *at;
    }
    T get() const { return on_device ? *on_device : value; }
};

// Does the work when the handle's stream gets there.
template <class Work>
cublasStatus_t enqueue(cublasHandle_t handle, Work work) {
    return later(handle->stream, std::move(work)), CUBLAS_STATUS_SUCCESS;
}

bool transposed(cublasOperation_t operation) { return operation != CUBLAS_OP_N; }
Rounded rounding(cublasHandle_t handle) {
    return handle->math & CUBLAS_TF32_TENSOR_OP_MATH ? Rounded::Tf32 : Rounded::No;
}

size_t bytes_of(cudaDataType type) {
    switch (type) {
        case CUDA_R_16BF:
        case CUDA_R_16F: return 2;
        case CUDA_R_32F: return 4;
        case CUDA_R_64F: return 8;
        default: return 0;
    }
}

// What a product of a batch needs: C = alpha · op(A) op(B) + beta · C, of type `inputs`, `inputs` and `output`.
struct Call {
    cublasOperation_t left, right;
    int64_t m, n, k;
    const void *a, *b;
    void* c;
    cudaDataType inputs, output;
    int64_t lda, ldb, ldc;
    Rounded how;
};

template <class Sum, class In, class Out>
void run(const Call& p, Sum alpha, Sum beta) {
    multiply<Sum>(alpha,
                  transposed(p.left) ? columns((const In*)p.a, p.k, p.m, p.lda, true) : columns((const In*)p.a, p.m, p.k, p.lda, false),
                  transposed(p.right) ? columns((const In*)p.b, p.n, p.k, p.ldb, true) : columns((const In*)p.b, p.k, p.n, p.ldb, false),
                  beta, columns((Out*)p.c, p.m, p.n, p.ldc, false), p.how);
}

// The loops for these types; null if the types don't go together.
template <class Sum>
void (*loops(cudaDataType inputs, cudaDataType output))(const Call&, Sum, Sum) {
    if constexpr (std::is_same_v<Sum, double>) {
        if (inputs == CUDA_R_64F && output == CUDA_R_64F) return run<double, double, double>;
    } else {
        if (inputs == CUDA_R_32F && output == CUDA_R_32F) return run<float, float, float>;
        if (inputs == CUDA_R_16BF && output == CUDA_R_32F) return run<float, Bf16, float>;
        if (inputs == CUDA_R_16BF && output == CUDA_R_16BF) return run<float, Bf16, Bf16>;
        if (inputs == CUDA_R_16F && output == CUDA_R_32F) return run<float, F16, float>;
        if (inputs == CUDA_R_16F && output == CUDA_R_16F) return run<float, F16, F16>;
    }
    return nullptr;
}

template <class Sum>
cublasStatus_t gemm(cublasHandle_t handle, const Call& p, const Sum* alpha, const Sum* beta, int64_t stride_a,
                    int64_t stride_b, int64_t stride_c, int64_t batch) {
    NEED(well_placed(handle, alpha, sizeof(Sum)) && well_placed(handle, beta, sizeof(Sum)), "alpha and beta lie elsewhere than said");
    NEED(p.m >= 0 && p.n >= 0 && p.k >= 0 && batch >= 0, "sizes %ld, %ld, %ld, batch %ld", (long)p.m, (long)p.n, (long)p.k, (long)batch);
    if (p.m == 0 || p.n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
    const auto loop = loops<Sum>(p.inputs, p.output);
    if (!loop) {
        return REFUSE(CUBLAS_STATUS_NOT_SUPPORTED, "inputs of type %d and an output of type %d", (int)p.inputs, (int)p.output);
    }
    std::vector<Call> calls;
    for (int64_t at = 0; at < batch; at++) {
        Call one = p;
        const int64_t in = (int64_t)bytes_of(p.inputs), out = (int64_t)bytes_of(p.output);
        one.a = (const char*)p.a + at * stride_a * in;
        one.b = (const char*)p.b + at * stride_b * in;
        one.c = (char*)p.c + at * stride_c * out;
        NEED_MATRIX(one.a, transposed(p.left) ? p.k : p.m, transposed(p.left) ? p.m : p.k, p.lda, in);
        NEED_MATRIX(one.b, transposed(p.right) ? p.n : p.k, transposed(p.right) ? p.k : p.n, p.ldb, in);
        NEED_MATRIX(one.c, p.m, p.n, p.ldc, out);
        calls.push_back(one);
    }
    const Scalar<Sum> times(handle, alpha), plus(handle, beta);
    return enqueue(handle, [=] {
        for (const Call& call : calls) loop(call, times.get(), plus.get());
    });
}

template <class T>
cublasStatus_t syrk(cublasHandle_t handle, cublasFillMode_t fill, cublasOperation_t operation, int n, int k, const T* alpha,
                    const T* a, int lda, const T* beta, T* c, int ldc) {
    NEED_HANDLE;
    NEED(n >= 0 && k >= 0, "sizes %d, %d", n, k);
    NEED(well_placed(handle, alpha, sizeof(T)) && well_placed(handle, beta, sizeof(T)), "alpha and beta lie elsewhere than said");
    NEED(fill == CUBLAS_FILL_MODE_LOWER || fill == CUBLAS_FILL_MODE_UPPER, "fill mode %d", (int)fill);
    const bool turned = transposed(operation);
    NEED_MATRIX(a, turned ? k : n, turned ? n : k, lda, sizeof(T));
    NEED_MATRIX(c, n, n, ldc, sizeof(T));
    const View<const T> left = columns(a, turned ? k : n, turned ? n : k, lda, turned);
    const View<T> to = columns(c, n, n, ldc, false);
    const Part part = fill == CUBLAS_FILL_MODE_LOWER ? Part::Lower : Part::Upper;
    const Rounded how = rounding(handle);
    const Scalar<T> times(handle, alpha), plus(handle, beta);
    return enqueue(handle, [=] { multiply<T>(times.get(), left, left.transposed(), plus.get(), to, how, part); });
}

template <class T>
cublasStatus_t trsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t operation,
                    cublasDiagType_t diagonal, int m, int n, const T* alpha, const T* a, int lda, T* b, int ldb) {
    NEED_HANDLE;
    NEED(m >= 0 && n >= 0, "sizes %d, %d", m, n);
    NEED(well_placed(handle, alpha, sizeof(T)), "alpha lies elsewhere than said");
    NEED(fill == CUBLAS_FILL_MODE_LOWER || fill == CUBLAS_FILL_MODE_UPPER, "fill mode %d", (int)fill);
    const int order = side == CUBLAS_SIDE_LEFT ? m : n;
    NEED_MATRIX(a, order, order, lda, sizeof(T));
    NEED_MATRIX(b, m, n, ldb, sizeof(T));
    // x op(A) = b is op(A)ᵀ xᵀ = bᵀ.
    const bool turned = transposed(operation) != (side == CUBLAS_SIDE_RIGHT);
    const View<T> right = columns(b, m, n, ldb, side == CUBLAS_SIDE_RIGHT);
    const View<const T> triangle = columns(a, order, order, lda, turned);
    const bool lower = (fill == CUBLAS_FILL_MODE_LOWER) != turned, unit = diagonal == CUBLAS_DIAG_UNIT;
    const Scalar<T> scalar(handle, alpha);
    return enqueue(handle, [=] {
        const T times = scalar.get();
        for (long j = 0; j < n; j++) {
            for (long i = 0; i < m; i++) b[j * ldb + i] = times == 0 ? 0 : times * b[j * ldb + i];
        }
        solve<T>(triangle, lower, right, unit);
    });
}

template <class T>
cublasStatus_t geam(cublasHandle_t handle, cublasOperation_t left, cublasOperation_t right, int m, int n, const T* alpha,
                    const T* a, int lda, const T* beta, const T* b, int ldb, T* c, int ldc) {
    NEED_HANDLE;
    NEED(m >= 0 && n >= 0, "sizes %d, %d", m, n);
    NEED(well_placed(handle, alpha, sizeof(T)) && well_placed(handle, beta, sizeof(T)), "alpha and beta lie elsewhere than said");
    const bool turn_a = transposed(left), turn_b = transposed(right);
    // A matrix whose factor is 0 is not read and may be null.
    if (a) NEED_MATRIX(a, turn_a ? n : m, turn_a ? m : n, lda, sizeof(T));
    if (b) NEED_MATRIX(b, turn_b ? n : m, turn_b ? m : n, ldb, sizeof(T));
    NEED_MATRIX(c, m, n, ldc, sizeof(T));
    NEED(!(turn_a && a == c) && !(turn_b && b == c), "a matrix is transposed in its own place");
    const View<const T> x = columns(a, turn_a ? n : m, turn_a ? m : n, lda, turn_a);
    const View<const T> y = columns(b, turn_b ? n : m, turn_b ? m : n, ldb, turn_b);
    const Scalar<T> times(handle, alpha), plus(handle, beta);
    NEED((a || times.get() == 0) && (b || plus.get() == 0), "a matrix is null, and its factor is not 0");
    return enqueue(handle, [=] {
        const T p = times.get(), q = plus.get();
        for (long j = 0; j < n; j++) {
            for (long i = 0; i < m; i++) c[j * ldc + i] = (p != 0 ? p * x(i, j) : 0) + (q != 0 ? q * y(i, j) : 0);
        }
    });
}

template <class T>
cublasStatus_t dot(cublasHandle_t handle, int n, const T* x, int step_x, const T* y, int step_y, T* result) {
    NEED_HANDLE;
    NEED(well_placed(handle, result, sizeof(T)), "the result lies elsewhere than said");
    NEED(step_x > 0 && step_y > 0, "steps %d and %d", step_x, step_y);
    NEED_MATRIX(x, 1, n, step_x, sizeof(T));
    NEED_MATRIX(y, 1, n, step_y, sizeof(T));
    const cublasStatus_t status = enqueue(handle, [=] {
        T sum = 0;
        for (long k = 0; k < n; k++) sum += x[k * step_x] * y[k * step_y];
        *result = sum;
    });
    // A result on the host is there when the call returns.
    if (handle->pointers == CUBLAS_POINTER_MODE_HOST) paring_emulated_finish(handle->stream);
    return status;
}

}  // namespace

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    NEED_HANDLE;
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    NEED_HANDLE;
    NEED(paring_emulated_is_stream(stream), "%p is no stream", (void*)stream);
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream) {
    NEED_HANDLE;
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* at, size_t bytes) {
    NEED_HANDLE;
    NEED(bytes == 0 || paring_emulated_on_device(at, bytes), "%zu bytes from %p on are not on the device", bytes, at);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode) {
    NEED_HANDLE;
    handle->pointers = mode;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetPointerMode(cublasHandle_t handle, cublasPointerMode_t* mode) {
    NEED_HANDLE;
    *mode = handle->pointers;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    NEED_HANDLE;
    handle->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
    NEED_HANDLE;
    *mode = handle->math;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode) {
    NEED_HANDLE;
    handle->atomics = mode;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t* mode) {
    NEED_HANDLE;
    *mode = handle->atomics;
    return CUBLAS_STATUS_SUCCESS;
}

#define PRODUCTS(T, TYPE, letter, ROUNDED)                                                                                 \
    cublasStatus_t cublas##letter##gemmStridedBatched(                                                                     \
        cublasHandle_t handle, cublasOperation_t left, cublasOperation_t right, int m, int n, int k, const T* alpha,       \
        const T* a, int lda, long long stride_a, const T* b, int ldb, long long stride_b, const T* beta, T* c, int ldc,    \
        long long stride_c, int batch) {                                                                                   \
        NEED_HANDLE;                                                                                                       \
        return gemm(handle, {left, right, m, n, k, a, b, c, TYPE, TYPE, lda, ldb, ldc, ROUNDED}, alpha, beta, stride_a,    \
                    stride_b, stride_c, batch);                                                                            \
    }                                                                                                                      \
    cublasStatus_t cublas##letter##gemm_v2(cublasHandle_t handle, cublasOperation_t left, cublasOperation_t right, int m,  \
                                           int n, int k, const T* alpha, const T* a, int lda, const T* b, int ldb,         \
                                           const T* beta, T* c, int ldc) {                                                 \
        return cublas##letter##gemmStridedBatched(handle, left, right, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, \
                                                  0, 1);                                                                   \
    }                                                                                                                      \
    cublasStatus_t cublas##letter##syrk_v2(cublasHandle_t handle, cublasFillMode_t fill, cublasOperation_t operation,      \
                                           int n, int k, const T* alpha, const T* a, int lda, const T* beta, T* c,         \
                                           int ldc) {                                                                      \
        return syrk(handle, fill, operation, n, k, alpha, a, lda, beta, c, ldc);                                           \
    }                                                                                                                      \
    cublasStatus_t cublas##letter##trsm_v2(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,            \
                                           cublasOperation_t operation, cublasDiagType_t diagonal, int m, int n,           \
                                           const T* alpha, const T* a, int lda, T* b, int ldb) {                           \
        return trsm(handle, side, fill, operation, diagonal, m, n, alpha, a, lda, b, ldb);                                 \
    }                                                                                                                      \
    cublasStatus_t cublas##letter##geam(cublasHandle_t handle, cublasOperation_t left, cublasOperation_t right, int m,     \
                                        int n, const T* alpha, const T* a, int lda, const T* beta, const T* b, int ldb,    \
                                        T* c, int ldc) {                                                                   \
        return geam(handle, left, right, m, n, alpha, a, lda, beta, b, ldb, c, ldc);                                       \
    }                                                                                                                      \
    cublasStatus_t cublas##letter##dot_v2(cublasHandle_t handle, int n, const T* x, int step_x, const T* y, int step_y,    \
                                          T* result) {                                                                     \
        return dot(handle, n, x, step_x, y, step_y, result);                                                               \
    }
PRODUCTS(float, CUDA_R_32F, S, rounding(handle))
PRODUCTS(double, CUDA_R_64F, D, Rounded::No)

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t left, cublasOperation_t right, int m,
                                          int n, int k, const void* alpha, const void* a, cudaDataType type_a, int lda,
                                          long long stride_a, const void* b, cudaDataType type_b, int ldb,
                                          long long stride_b, const void* beta, void* c, cudaDataType type_c, int ldc,
                                          long long stride_c, int batch, cublasComputeType_t compute, cublasGemmAlgo_t) {
    NEED_HANDLE;
    if (type_a != type_b) return REFUSE(CUBLAS_STATUS_NOT_SUPPORTED, "inputs of types %d and %d", (int)type_a, (int)type_b);
    Rounded how = rounding(handle);
    const bool doubles = compute == CUBLAS_COMPUTE_64F || compute == CUBLAS_COMPUTE_64F_PEDANTIC;
    switch (compute) {
        case CUBLAS_COMPUTE_32F_PEDANTIC: how = Rounded::No; break;
        case CUBLAS_COMPUTE_32F_FAST_TF32: how = Rounded::Tf32; break;
        case CUBLAS_COMPUTE_32F_FAST_16BF: how = Rounded::Bf16; break;
        case CUBLAS_COMPUTE_32F:
        case CUBLAS_COMPUTE_64F:
        case CUBLAS_COMPUTE_64F_PEDANTIC: break;
        default: return REFUSE(CUBLAS_STATUS_NOT_SUPPORTED, "compute type %d is not emulated", (int)compute);
    }
    if (doubles != (type_a == CUDA_R_64F)) {
        return REFUSE(CUBLAS_STATUS_NOT_SUPPORTED, "inputs of type %d with compute type %d", (int)type_a, (int)compute);
    }
    // What is 16 bits wide is multiplied as it is.
    if (type_a != CUDA_R_32F) how = Rounded::No;
    const Call call = {left, right, m, n, k, a, b, c, type_a, type_c, lda, ldb, ldc, how};
    if (doubles) return gemm(handle, call, (const double*)alpha, (const double*)beta, stride_a, stride_b, stride_c, batch);
    return gemm(handle, call, (const float*)alpha, (const float*)beta, stride_a, stride_b, stride_c, batch);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t left, cublasOperation_t right, int m, int n, int k,
                            const void* alpha, const void* a, cudaDataType type_a, int lda, const void* b,
                            cudaDataType type_b, int ldb, const void* beta, void* c, cudaDataType type_c, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
    return cublasGemmStridedBatchedEx(handle, left, right, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c,
                                      type_c, ldc, 0, 1, compute, algorithm);
}
