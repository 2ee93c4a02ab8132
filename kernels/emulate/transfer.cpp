// The memory calls of the driver's library. What a GPU would do silently and wrongly is refused: copies and fills that
// leave an allocation, pointers of host and device exchanged, memory freed twice.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "driver.h"
#include "memory.h"

struct CUmemPoolHandle_st {};

namespace {

CUmemPoolHandle_st the_pool;
std::mutex lock;
std::map<void*, size_t>& pinned() {
    static auto* all = new std::map<void*, size_t>;
    return *all;
}

bool is_pinned(const void* at) {
    std::lock_guard<std::mutex> held(lock);
    auto next = pinned().upper_bound((void*)at);
    if (next == pinned().begin()) return false;
    --next;
    return (const char*)at < (const char*)next->first + next->second;
}

void* pointer(CUdeviceptr at) { return (void*)at; }
bool on_device(CUdeviceptr at, size_t bytes) { return paring_emulated_on_device(pointer(at), bytes); }

struct Copied {
    std::atomic<size_t> pinned{0}, all{0};
    void add(bool is_pinned, size_t bytes) {
        all += bytes;
        if (is_pinned) pinned += bytes;
    }
};
Copied to_device, to_host;

}  // namespace

void emulate::print_copied() {
    fprintf(stderr, "emulated GPU: %zu bytes to the device, %zu of them from page-locked memory; %zu to the host, %zu\n",
            to_device.all.load(), to_device.pinned.load(), to_host.all.load(), to_host.pinned.load());
}

#define NEED_MEMORY(at, bytes)                                                                                   \
    if (!on_device(at, bytes)) {                                                                                 \
        return REFUSE(CUDA_ERROR_INVALID_VALUE, "%zu bytes from %p on are not inside one allocation", (size_t)(bytes), \
                      pointer(at));                                                                              \
    }
#define NEED_HOST(at)                                                                           \
    if (!at || paring_emulated_on_device(at, 1)) {                                                     \
        return REFUSE(CUDA_ERROR_INVALID_VALUE, "%p is expected to be memory of the host", (void*)at); \
    }

CUresult cuMemGetInfo(size_t* free, size_t* total) {
    NEED_CONTEXT;
    const emulate::MemoryUse use = emulate::device_use();
    *free = use.total - use.used;
    *total = use.total;
    return CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr* at, size_t bytes) {
    NEED_CONTEXT;
    if (bytes == 0) return REFUSE(CUDA_ERROR_INVALID_VALUE, "0 bytes can't be allocated");
    *at = (CUdeviceptr)emulate::device_allocate(bytes);
    return *at ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemAllocAsync(CUdeviceptr* at, size_t bytes, CUstream stream) {
    NEED_STREAM(stream);
    const CUresult status = cuMemAlloc(at, bytes);
    if (status != CUDA_SUCCESS) return status;
    emulate::enqueue(stream, [at = *at] { emulate::device_begin(pointer(at)); });
    return CUDA_SUCCESS;
}
CUresult cuMemFreeAsync(CUdeviceptr at, CUstream stream) {
    NEED_STREAM(stream);
    const size_t bytes = emulate::device_release(pointer(at));
    if (!bytes) return REFUSE(CUDA_ERROR_INVALID_VALUE, "%p is no allocation, or was freed before", pointer(at));
    emulate::enqueue(stream, [=] { emulate::device_unmap(pointer(at)); });
    emulate::hold(stream, bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr at) {
    NEED_CONTEXT;
    emulate::finish_all();
    if (!emulate::device_release(pointer(at))) {
        return REFUSE(CUDA_ERROR_INVALID_VALUE, "%p is no allocation, or was freed before", pointer(at));
    }
    emulate::device_unmap(pointer(at));
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice device) {
    NEED_DEVICE(device);
    *pool = &the_pool;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice device) { return cuDeviceGetDefaultMemPool(pool, device); }
CUresult cuMemPoolTrimTo(CUmemoryPool, size_t) { return CUDA_SUCCESS; }
CUresult cuMemPoolSetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void* value) {
    const bool high = attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH || attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH;
    if (high && *(cuuint64_t*)value == 0) emulate::device_reset_peak();
    return CUDA_SUCCESS;
}
CUresult cuMemPoolGetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void* value) {
    const emulate::MemoryUse use = emulate::device_use();
    const bool high = attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH || attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH;
    const bool low = attribute == CU_MEMPOOL_ATTR_USED_MEM_CURRENT || attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT;
    if (!high && !low) return REFUSE(CUDA_ERROR_NOT_SUPPORTED, "attribute %d is not emulated", (int)attribute);
    *(cuuint64_t*)value = high ? use.peak : use.used;
    return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void** at, size_t bytes, unsigned) {
    NEED_CONTEXT;
    if (bytes == 0) return REFUSE(CUDA_ERROR_INVALID_VALUE, "0 bytes can't be allocated");
    if (posix_memalign(at, (size_t)sysconf(_SC_PAGESIZE), bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    std::lock_guard<std::mutex> held(lock);
    pinned()[*at] = bytes;
    return CUDA_SUCCESS;
}
CUresult cuMemAllocHost(void** at, size_t bytes) { return cuMemHostAlloc(at, bytes, 0); }
CUresult cuMemFreeHost(void* at) {
    NEED_CONTEXT;
    emulate::finish_all();
    std::lock_guard<std::mutex> held(lock);
    if (!pinned().erase(at)) return REFUSE(CUDA_ERROR_INVALID_VALUE, "%p is no pinned memory, or was freed before", at);
    free(at);
    return CUDA_SUCCESS;
}

// Fills and copies with a stream are done when it gets there; those without one belong to the default stream and are done
// when the call returns. The default stream does not wait for others, which is how streams are made that cudarc makes.
#define FILL(name, T)                                                                             \
    CUresult name##Async(CUdeviceptr at, T value, size_t count, CUstream stream) {                \
        NEED_STREAM(stream);                                                                      \
        if (count == 0) return CUDA_SUCCESS;                                                      \
        NEED_MEMORY(at, count * sizeof(T));                                                       \
        emulate::enqueue(stream, [=] { std::fill_n((T*)pointer(at), count, value); });            \
        return CUDA_SUCCESS;                                                                      \
    }                                                                                             \
    CUresult name##_v2(CUdeviceptr at, T value, size_t count) {                                   \
        NEED_CONTEXT;                                                                             \
        if (count == 0) return CUDA_SUCCESS;                                                      \
        NEED_MEMORY(at, count * sizeof(T));                                                       \
        emulate::finish(nullptr);                                                                 \
        std::fill_n((T*)pointer(at), count, value);                                               \
        return CUDA_SUCCESS;                                                                      \
    }
#undef cuMemsetD8
#undef cuMemsetD32
FILL(cuMemsetD8, unsigned char)
FILL(cuMemsetD32, unsigned)

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    NEED_STREAM(stream);
    if (bytes == 0) return CUDA_SUCCESS;
    NEED_MEMORY(to, bytes);
    NEED_HOST(from);
    to_device.add(is_pinned(from), bytes);
    if (is_pinned(from)) {
        emulate::enqueue(stream, [=] { memcpy(pointer(to), from, bytes); });
    } else {
        // Memory that is not pinned may be used again when the call returns.
        const auto staged = std::make_shared<std::vector<char>>((const char*)from, (const char*)from + bytes);
        emulate::enqueue(stream, [=] { memcpy(pointer(to), staged->data(), bytes); });
        emulate::hold(stream, bytes);
    }
    return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t bytes) {
    NEED_CONTEXT;
    if (bytes == 0) return CUDA_SUCCESS;
    NEED_MEMORY(to, bytes);
    NEED_HOST(from);
    to_device.add(is_pinned(from), bytes);
    emulate::finish(nullptr);
    memcpy(pointer(to), from, bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    NEED_STREAM(stream);
    if (bytes == 0) return CUDA_SUCCESS;
    NEED_MEMORY(from, bytes);
    NEED_HOST(to);
    to_host.add(is_pinned(to), bytes);
    emulate::enqueue(stream, [=] { memcpy(to, pointer(from), bytes); });
    if (!is_pinned(to)) emulate::finish(stream);
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t bytes) {
    NEED_CONTEXT;
    if (bytes == 0) return CUDA_SUCCESS;
    NEED_MEMORY(from, bytes);
    NEED_HOST(to);
    to_host.add(is_pinned(to), bytes);
    emulate::finish(nullptr);
    memcpy(to, pointer(from), bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    NEED_STREAM(stream);
    if (bytes == 0) return CUDA_SUCCESS;
    NEED_MEMORY(to, bytes);
    NEED_MEMORY(from, bytes);
    if (to < from + bytes && from < to + bytes && to != from) {
        return REFUSE(CUDA_ERROR_INVALID_VALUE, "%zu bytes at %p and %p overlap", bytes, pointer(to), pointer(from));
    }
    emulate::enqueue(stream, [=] { memmove(pointer(to), pointer(from), bytes); });
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    const CUresult status = cuMemcpyDtoDAsync(to, from, bytes, nullptr);
    if (status == CUDA_SUCCESS) emulate::finish(nullptr);
    return status;
}
