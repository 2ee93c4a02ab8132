// scripts/emulate-cuda --self-test: calls the emulator's libraries as a program would and compares with plain loops.
#include <cublas_v2.h>
#include <cuda.h>
#include <cusolverDn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace {

int failures = 0, checks = 0;
void check(bool right, const char* format, ...) {
    checks++;
    if (right) return;
    failures++;
    va_list list;
    va_start(list, format);
    fprintf(stderr, "FAILED: ");
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}
// A call that must succeed for the test to go on.
void need(int status, const char* what) {
    if (status) {
        fprintf(stderr, "FAILED: %s: status %d\n", what, status);
        exit(1);
    }
}
#define NEED(call) need((int)(call), #call)

// The same numbers in every run.
unsigned state = 1;
float random_number() {
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / (float)(1 << 24) - 0.5f;
}

template <class T>
struct Array {
    CUdeviceptr at = 0;
    size_t count;
    explicit Array(const std::vector<T>& values) : count(values.size()) {
        NEED(cuMemAlloc(&at, count * sizeof(T)));
        NEED(cuMemcpyHtoD(at, values.data(), count * sizeof(T)));
    }
    ~Array() { cuMemFree(at); }
    T* pointer() const { return (T*)at; }
    std::vector<T> host() const {
        std::vector<T> values(count);
        NEED(cuMemcpyDtoH(values.data(), at, count * sizeof(T)));
        return values;
    }
};
template <class T>
std::vector<T> numbers(size_t count) {
    std::vector<T> made(count);
    for (T& x : made) x = (T)random_number();
    return made;
}

const char MODULE[] = R"(.version 9.0
.entry probe_sum(
	.param .u64 probe_sum_0,
	.param .u64 probe_sum_1,
	.param .u32 probe_sum_2
)
{
	.shared .align 4 .b8 sums[128];
}
.entry probe_reverse(
	.param .u64 probe_reverse_0
)
{
}
.entry probe_vote(
	.param .u64 probe_vote_0,
	.param .u64 probe_vote_1
)
.maxntid 512
{
}
.entry probe_outside(
	.param .u64 probe_outside_0,
	.param .u64 probe_outside_1,
	.param .u32 probe_outside_2
)
{
}
.entry probe_stuck(
	.param .u64 probe_stuck_0
)
{
}
.entry probe_missing(
)
{
}
)";

CUmodule module;
CUfunction function(const char* name) {
    CUfunction made;
    NEED(cuModuleGetFunction(&made, module, name));
    return made;
}
template <class... Types>
CUresult launch(const char* name, unsigned blocks, unsigned threads, unsigned shared, Types... values) {
    void* parameters[] = {&values...};
    return cuLaunchKernel(function(name), blocks, 1, 1, threads, 1, 1, shared, nullptr, parameters, nullptr);
}

// Whether the program ends by a signal when it does this, with a message that says so.
bool dies(const std::function<void()>& act, const char* message) {
    int pipes[2];
    NEED(pipe(pipes));
    const pid_t child = fork();
    if (child == 0) {
        dup2(pipes[1], 2);
        act();
        _exit(0);
    }
    close(pipes[1]);
    std::string said;
    char text[256];
    for (ssize_t got; (got = read(pipes[0], text, sizeof text)) > 0;) said.append(text, (size_t)got);
    close(pipes[0]);
    int status;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && said.find(message) != std::string::npos;
}

void kernels() {
    const int threads = 256, blocks = 37, count = threads * blocks - 100;
    const std::vector<float> x = numbers<float>(count);
    const Array<float> in(x), sums(numbers<float>(blocks));
    NEED(launch("probe_sum", blocks, threads, 0, in.at, sums.at, count));
    const std::vector<float> got = sums.host();
    for (int b = 0; b < blocks; b++) {
        double sum = 0;
        for (int i = b * threads; i < std::min(count, (b + 1) * threads); i++) sum += x[i];
        check(std::fabs(got[b] - sum) < 1e-4, "sum of block %d: %g, expected %g", b, got[b], sum);
    }

    std::vector<int> order(6 * 500);
    for (size_t k = 0; k < order.size(); k++) order[k] = (int)k;
    const Array<int> turned(order);
    NEED(launch("probe_reverse", 6, 500, 500 * sizeof(int), turned.at));
    const std::vector<int> back = turned.host();
    for (int k = 0; k < (int)back.size(); k++) check(back[k] == k / 500 * 500 + 499 - k % 500, "element %d is %d", k, back[k]);

    const Array<unsigned> total({0u}), greatest({0u});
    CUdeviceptr a = total.at, b = greatest.at;
    void* parameters[] = {&a, &b};
    NEED(cuLaunchKernel(function("probe_vote"), 2, 3, 2, 8, 4, 3, 0, nullptr, parameters, nullptr));
    unsigned votes = 0;
    for (unsigned t = 0; t < 96; t++) votes += t % 32 < 16 && t % 3 == 0;
    check(total.host()[0] == 12 * votes, "%u votes, expected %u", total.host()[0], 12 * votes);
    check(greatest.host()[0] == 79 + 11000, "greatest %u", greatest.host()[0]);
}

void refusals() {
    const Array<float> x(numbers<float>(100));
    std::vector<float> host(100);
    CUfunction made;
    CUdeviceptr at;
    const int count = 1;
    fprintf(stderr, "The lines that follow are refusals that are tested:\n");
    check(launch("probe_reverse", 0, 32, 0, x.at) == CUDA_ERROR_INVALID_VALUE, "no blocks");
    check(launch("probe_reverse", 1, 1025, 0, x.at) == CUDA_ERROR_INVALID_VALUE, "1025 threads");
    check(launch("probe_vote", 1, 513, 0, x.at, x.at) == CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "more threads than .maxntid");
    check(launch("probe_sum", 1, 32, 48 << 10, x.at, x.at, count) == CUDA_ERROR_INVALID_VALUE, "48 KiB and 128 bytes");
    check(launch("probe_reverse", 1, 32, (48 << 10) + 1, x.at) == CUDA_ERROR_INVALID_VALUE, "dynamic shared memory unasked for");
    NEED(cuFuncSetAttribute(function("probe_reverse"), CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 64 << 10));
    const Array<int> many(std::vector<int>(32));
    check(launch("probe_reverse", 1, 32, 64 << 10, many.at) == CUDA_SUCCESS, "dynamic shared memory asked for");
    check(cuModuleGetFunction(&made, module, "probe_missing") == CUDA_ERROR_NOT_FOUND, "a kernel that is not emulated");
    check(cuModuleGetFunction(&made, module, "nothing") == CUDA_ERROR_NOT_FOUND, "a kernel that is not in the module");
    check(cuMemcpyDtoH(host.data(), x.at + 4, 400) == CUDA_ERROR_INVALID_VALUE, "a copy past the end");
    check(cuMemcpyHtoD(x.at - 4, host.data(), 8) == CUDA_ERROR_INVALID_VALUE, "a copy before the start");
    check(cuMemcpyHtoD(x.at, (void*)x.at, 8) == CUDA_ERROR_INVALID_VALUE, "memory of the device as the host's");
    check(cuMemFree(x.at + 16) == CUDA_ERROR_INVALID_VALUE, "freeing what was not allocated");
    size_t free_bytes, all_bytes;
    NEED(cuMemGetInfo(&free_bytes, &all_bytes));
    check(cuMemAlloc(&at, free_bytes + 1) == CUDA_ERROR_OUT_OF_MEMORY, "more memory than there is");
    check(dies([&] { launch("probe_outside", 1, 1, 0, x.at, x.at, 100), cuCtxSynchronize(); }, "0 bytes past the end"), "reading past the end");
    check(dies([&] { launch("probe_outside", 1, 1, 0, x.at, x.at, -100 - (1 << 20)), cuCtxSynchronize(); }, "probe_outside"), "reading far away");
    check(dies([&] { launch("probe_stuck", 1, 64, 0, x.at), cuCtxSynchronize(); }, "for ever"), "threads that wait for ever");
}

// Work on a stream is not done before something waits for it, and then in order.
void streams() {
    CUstream a, b;
    CUevent event;
    NEED(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    NEED(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    NEED(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    const Array<int> x({1, 2}), y({0, 0});
    int *pinned, pageable[2] = {3, 4}, got[2];
    NEED(cuMemAllocHost((void**)&pinned, 2 * sizeof(int)));
    NEED(cuMemcpyHtoDAsync(x.at, pageable, 2 * sizeof(int), a));
    pageable[0] = 5;
    NEED(cuMemcpyDtoDAsync(y.at, x.at, 2 * sizeof(int), b));
    NEED(cuStreamSynchronize(b));
    check(y.host()[0] == 1, "a copy that did not wait got %d", y.host()[0]);
    NEED(cuEventRecord(event, a));
    NEED(cuStreamWaitEvent(b, event, 0));
    NEED(cuMemcpyDtoDAsync(y.at, x.at, 2 * sizeof(int), b));
    pinned[0] = 0;
    NEED(cuMemcpyDtoHAsync(pinned, y.at, 2 * sizeof(int), b));
    check(pinned[0] == 0, "a copy to pinned memory was done at once");
    NEED(cuMemcpyDtoHAsync(got, y.at, 2 * sizeof(int), b));
    check(got[0] == 3 && pinned[0] == 3, "a copy that waited got %d and %d", got[0], pinned[0]);

    CUdeviceptr kept;
    size_t before, during, total;
    NEED(cuMemGetInfo(&before, &total));
    NEED(cuMemAllocAsync(&kept, 1 << 20, a));
    NEED(cuMemsetD8Async(kept, 7, 1 << 20, a));
    NEED(cuMemcpyDtoDAsync(x.at, kept, 4, a));
    NEED(cuMemFreeAsync(kept, a));
    NEED(cuMemGetInfo(&during, &total));
    check(before == during, "%zu bytes free, then %zu", before, during);
    NEED(cuStreamSynchronize(a));
    check(x.host()[0] == 0x07070707, "what was freed later was used before: %x", x.host()[0]);

    // Memory begins when the stream that allocates it gets there: a stream that does not wait writes into what is another's.
    for (const bool waits : {false, true}) {
        CUdeviceptr fresh;
        float* const mark = (float*)pinned;
        NEED(cuMemAllocAsync(&fresh, sizeof(float), a));
        if (waits) NEED(cuEventRecord(event, a)), NEED(cuStreamWaitEvent(b, event, 0));
        *mark = 2.0f;
        NEED(cuMemcpyHtoDAsync(fresh, mark, sizeof(float), b));
        NEED(cuStreamSynchronize(b));
        NEED(cuStreamSynchronize(a));
        NEED(cuMemcpyDtoHAsync(mark, fresh, sizeof(float), a));
        NEED(cuStreamSynchronize(a));
        check(waits ? *mark == 2.0f : std::isnan(*mark), "a copy into new memory that %s left %f",
              waits ? "waited" : "did not wait", (double)*mark);
        NEED(cuMemFreeAsync(fresh, a));
        NEED(cuStreamSynchronize(a));
    }
    check(dies([&] {
        CUdeviceptr early;
        NEED(cuMemAllocAsync(&early, 4, a));
        NEED(cuMemFreeAsync(early, b));
        NEED(cuStreamSynchronize(b));
        NEED(cuStreamSynchronize(a));
    }, "did not wait"), "freeing on a stream that did not wait for the allocation");
    NEED(cuMemFreeHost(pinned));
    NEED(cuEventDestroy(event));
    NEED(cuStreamDestroy(a));
    NEED(cuStreamDestroy(b));
}

// C = 0.5 op(A) op(B) − 2 C, and alike for triangles and solves, against loops in f64.
template <class T>
double at(const std::vector<T>& a, int lead, bool turned, int i, int j) {
    return turned ? a[(size_t)i * lead + j] : a[(size_t)j * lead + i];
}

void products(cublasHandle_t blas) {
    const int sizes[][3] = {{1, 1, 1}, {5, 7, 3}, {70, 33, 300}, {300, 280, 65}};
    for (const auto& size : sizes) {
        for (int turn = 0; turn < 4; turn++) {
            const int m = size[0], n = size[1], k = size[2];
            const bool ta = turn & 1, tb = turn & 2;
            const int lda = (ta ? k : m) + 2, ldb = (tb ? n : k) + 1, ldc = m + 3;
            const auto a = numbers<float>((size_t)lda * (ta ? m : k)), b = numbers<float>((size_t)ldb * (tb ? k : n));
            const auto c = numbers<float>((size_t)ldc * n);
            const Array<float> da(a), db(b), dc(c);
            const float alpha = 0.5f, beta = -2.0f;
            NEED(cublasSgemm(blas, ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k, &alpha,
                             da.pointer(), lda, db.pointer(), ldb, &beta, dc.pointer(), ldc));
            const auto got = dc.host();
            double worst = 0;
            for (int j = 0; j < n; j++) {
                for (int i = 0; i < ldc; i++) {
                    double sum = 0;
                    for (int l = 0; l < k && i < m; l++) sum += at(a, lda, ta, i, l) * at(b, ldb, tb, l, j);
                    const double expected = i < m ? 0.5 * sum - 2.0 * c[(size_t)j * ldc + i] : c[(size_t)j * ldc + i];
                    worst = std::fmax(worst, std::fabs(expected - got[(size_t)j * ldc + i]));
                }
            }
            check(worst < 1e-4, "gemm %d × %d × %d, %d: off by %g", m, n, k, turn, worst);
        }
    }
}

void factors(cublasHandle_t blas, cusolverDnHandle_t solver) {
    for (const int n : {1, 30, 150, 300}) {
        for (const cublasFillMode_t fill : {CUBLAS_FILL_MODE_LOWER, CUBLAS_FILL_MODE_UPPER}) {
            const bool upper = fill == CUBLAS_FILL_MODE_UPPER;
            const auto x = numbers<double>((size_t)n * (n + 10));
            const Array<double> dx(x), da(std::vector<double>((size_t)n * n));
            const double one = 1, zero = 0;
            NEED(cublasDsyrk(blas, fill, CUBLAS_OP_N, n, n + 10, &one, dx.pointer(), n, &zero, da.pointer(), n));
            const auto a = da.host();
            int elements;
            NEED(cusolverDnDpotrf_bufferSize(solver, fill, n, da.pointer(), n, &elements));
            const Array<double> work(std::vector<double>((size_t)elements));
            const Array<int> info({-1});
            NEED(cusolverDnDpotrf(solver, fill, n, da.pointer(), n, work.pointer(), elements, info.pointer()));
            check(info.host()[0] == 0, "devInfo %d", info.host()[0]);
            const auto l = da.host();
            const Array<double> inverse(l);
            size_t device, host;
            NEED(cusolverDnXtrtri_bufferSize(solver, fill, CUBLAS_DIAG_NON_UNIT, n, CUDA_R_64F, inverse.pointer(), n, &device, &host));
            NEED(cusolverDnXtrtri(solver, fill, CUBLAS_DIAG_NON_UNIT, n, CUDA_R_64F, inverse.pointer(), n, work.pointer(),
                                  device, nullptr, host, info.pointer()));
            const auto inv = inverse.host();
            // Solving with the inverse as right side gives the inverse of the square.
            const auto b = numbers<double>((size_t)n * 5);
            const Array<double> db(b);
            NEED(cublasDtrsm(blas, CUBLAS_SIDE_LEFT, fill, CUBLAS_OP_T, CUBLAS_DIAG_NON_UNIT, n, 5, &one, da.pointer(), n, db.pointer(), n));
            NEED(cublasDtrsm(blas, CUBLAS_SIDE_RIGHT, fill, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, 5, n, &one, da.pointer(), n, dx.pointer(), 5));
            const auto solved = db.host(), right = dx.host();
            double of_square = 0, of_inverse = 0, of_left = 0, of_right = 0;
            auto factor = [&](const std::vector<double>& f, int i, int j) { return upper == (i > j) && i != j ? 0.0 : f[(size_t)j * n + i]; };
            for (int i = 0; i < n; i++) {
                for (int j = 0; j < n; j++) {
                    double square = 0, product = 0;
                    for (int k = 0; k < n; k++) {
                        square += upper ? factor(l, k, i) * factor(l, k, j) : factor(l, i, k) * factor(l, j, k);
                        product += factor(l, i, k) * factor(inv, k, j);
                    }
                    if (upper ? i <= j : i >= j) of_square = std::fmax(of_square, std::fabs(square - a[(size_t)j * n + i]));
                    of_inverse = std::fmax(of_inverse, std::fabs(product - (i == j)));
                }
                for (int j = 0; j < 5; j++) {
                    double left = 0, across = 0;
                    for (int k = 0; k < n; k++) left += factor(l, k, i) * solved[(size_t)j * n + k];
                    for (int k = 0; k < n; k++) across += right[(size_t)k * 5 + j] * factor(l, k, i);
                    of_left = std::fmax(of_left, std::fabs(left - b[(size_t)j * n + i]));
                    of_right = std::fmax(of_right, std::fabs(across - x[(size_t)i * 5 + j]));
                }
            }
            check(of_square < 1e-10 * n, "potrf %d: off by %g", n, of_square);
            check(of_inverse < 1e-7, "trtri %d: off by %g", n, of_inverse);
            check(of_left < 1e-8, "trsm left %d: off by %g", n, of_left);
            check(of_right < 1e-8, "trsm right %d: off by %g", n, of_right);

            auto bad = a;
            bad[(size_t)(n / 2) * n + n / 2] = -1;
            const Array<double> indefinite(bad);
            NEED(cusolverDnDpotrf(solver, fill, n, indefinite.pointer(), n, work.pointer(), elements, info.pointer()));
            check(info.host()[0] == n / 2 + 1, "devInfo %d, expected %d", info.host()[0], n / 2 + 1);
        }
    }
}

}  // namespace

int main() {
    NEED(cuInit(0));
    CUcontext context;
    NEED(cuDevicePrimaryCtxRetain(&context, 0));
    NEED(cuCtxSetCurrent(context));
    NEED(cuModuleLoadData(&module, MODULE));
    kernels();
    streams();
    cublasHandle_t blas;
    cusolverDnHandle_t solver;
    NEED(cublasCreate(&blas));
    NEED(cusolverDnCreate(&solver));
    products(blas);
    factors(blas, solver);
    refusals();
    printf("%d checks, %d failed\n", checks, failures);
    return failures != 0;
}
