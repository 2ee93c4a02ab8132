// The memory calls of the driver's library. What a GPU would do silently and wrongly is refused: copies and fills that
// leave an allocation, pointers of host and device exchanged, memory freed twice.
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

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


void* pointer(CUdeviceptr at) { return (void*)at; }
bool on_device(CUdeviceptr at, size_t bytes) { return paring_emulated_on_device(pointer(at), bytes); }

}  // namespace

#define NEED_MEMORY(at, bytes)                                                                                   \
    if (!on_device(at, bytes)) {                                                                                 \
        return REFUSE(CUDA_ERROR_INVALID_VALUE, "%zu bytes from %p on are not inside one allocation", (size_t)(bytes), \
                      pointer(at));                                                                              \
    }
#define NEED_HOST(at, bytes)                                                                           \
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
    return cuMemAlloc(at, bytes);
}
CUresult cuMemFree(CUdeviceptr at) {
    NEED_CONTEXT;
    if (emulate::device_free(pointer(at))) return CUDA_SUCCESS;
    return REFUSE(CUDA_ERROR_INVALID_VALUE, "%p is no allocation, or was freed before", pointer(at));
}
CUresult cuMemFreeAsync(CUdeviceptr at, CUstream stream) {
    NEED_STREAM(stream);
    return cuMemFree(at);
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
    std::lock_guard<std::mutex> held(lock);
    if (!pinned().erase(at)) return REFUSE(CUDA_ERROR_INVALID_VALUE, "%p is no pinned memory, or was freed before", at);
    free(at);
    return CUDA_SUCCESS;
}

CUresult cuMemsetD8(CUdeviceptr at, unsigned char value, size_t count) {
    NEED_CONTEXT;
    if (count == 0) return CUDA_SUCCESS;
    NEED_MEMORY(at, count);
    memset(pointer(at), value, count);
    return CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t count, CUstream stream) {
    NEED_STREAM(stream);
    return cuMemsetD8(at, value, count);
}
CUresult cuMemsetD32(CUdeviceptr at, unsigned value, size_t count) {
    NEED_CONTEXT;
    if (count == 0) return CUDA_SUCCESS;
    NEED_MEMORY(at, 4 * count);
    for (size_t k = 0; k < count; k++) ((unsigned*)pointer(at))[k] = value;
    return CUDA_SUCCESS;
}
CUresult cuMemsetD32Async(CUdeviceptr at, unsigned value, size_t count, CUstream stream) {
    NEED_STREAM(stream);
    return cuMemsetD32(at, value, count);
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t bytes) {
    NEED_CONTEXT;
    if (bytes == 0) return CUDA_SUCCESS;
    NEED_MEMORY(to, bytes);
    NEED_HOST(from, bytes);
    memcpy(pointer(to), from, bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    NEED_STREAM(stream);
    return cuMemcpyHtoD(to, from, bytes);
}
CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t bytes) {
    NEED_CONTEXT;
    if (bytes == 0) return CUDA_SUCCESS;
    NEED_MEMORY(from, bytes);
    NEED_HOST(to, bytes);
    memcpy(to, pointer(from), bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    NEED_STREAM(stream);
    return cuMemcpyDtoH(to, from, bytes);
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    NEED_CONTEXT;
    if (bytes == 0) return CUDA_SUCCESS;
    NEED_MEMORY(to, bytes);
    NEED_MEMORY(from, bytes);
    if (to < from + bytes && from < to + bytes && to != from) {
        return REFUSE(CUDA_ERROR_INVALID_VALUE, "%zu bytes at %p and %p overlap", bytes, pointer(to), pointer(from));
    }
    memmove(pointer(to), pointer(from), bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    NEED_STREAM(stream);
    return cuMemcpyDtoD(to, from, bytes);
}
