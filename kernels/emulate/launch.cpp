// Modules and launches of the driver's library. A module's PTX is not run but read: it says which kernels there are, what
// they take and how much shared memory they have, and that has to be what these libraries were built from.
#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "driver.h"
#include "threads.h"

struct CUmod_st {
    std::string text;
    std::map<std::string, std::unique_ptr<CUfunc_st>> functions;
};
struct CUfunc_st {
    std::string name;
    const emulate::Kernel* kernel;
    size_t static_shared = 0, most_dynamic_shared = 48 << 10;
    size_t most_threads = 1024;
};

namespace {

constexpr size_t SHARED = 48 << 10, SHARED_OPTIN = 99 << 10;

// The number that follows `key` in text[from..to], or 0.
size_t number_after(const std::string& text, const char* key, size_t from, size_t to) {
    const size_t at = text.find(key, from);
    return at == std::string::npos || at >= to ? 0 : strtoull(text.c_str() + at + strlen(key), nullptr, 10);
}

// The bytes of the variable that is declared at text[at..]: `.u64 name` or `.align 8 .b8 name[120]`.
size_t declared_bytes(const std::string& text, size_t at) {
    const size_t end = text.find_first_of(",;)\n", at), bracket = text.find('[', at);
    size_t type = at, bytes = 0;
    while ((type = text.find('.', type)) != std::string::npos && type < end) {
        const char kind = text[type + 1];
        const size_t bits = strtoull(text.c_str() + type + 2, nullptr, 10);
        if (bits && strchr("usbf", kind)) bytes = bits / 8;
        type++;
    }
    return bracket < end ? bytes * strtoull(text.c_str() + bracket + 1, nullptr, 10) : bytes;
}

CUresult refuse_launch(const CUfunc_st& function, CUresult code, const char* what, size_t got, size_t most) {
    fprintf(stderr, "emulated GPU: cuLaunchKernel: %s: %s: %zu; at most %zu\n", function.name.c_str(), what, got, most);
    return code;
}

}  // namespace

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    NEED_CONTEXT;
    if (!image || !strstr((const char*)image, ".version")) return REFUSE(CUDA_ERROR_INVALID_PTX, "the module is no PTX");
    *module = new CUmod_st{(const char*)image, {}};
    return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) {
    delete module;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    NEED_CONTEXT;
    const auto known = module->functions.find(name);
    if (known != module->functions.end()) return *function = known->second.get(), CUDA_SUCCESS;
    const std::string& text = module->text;
    size_t at = text.find(".entry " + std::string(name) + "(");
    if (at == std::string::npos) return REFUSE(CUDA_ERROR_NOT_FOUND, "the module has no kernel %s", name);
    const emulate::Kernel* kernel = emulate::find_kernel(name);
    if (!kernel) return REFUSE(CUDA_ERROR_NOT_FOUND, "%s is not among the kernels that are emulated", name);
    auto made = std::make_unique<CUfunc_st>();
    made->name = name;
    made->kernel = kernel;
    const size_t parameters_end = text.find("\n)", at), body = text.find("\n{", at), end = text.find(".entry ", body);
    size_t count = 0;
    while ((at = text.find(".param ", at)) < parameters_end) {
        at += strlen(".param ");
        const size_t bytes = declared_bytes(text, at);
        if (count == kernel->bytes.size() || bytes != kernel->bytes[count]) {
            return REFUSE(CUDA_ERROR_INVALID_PTX, "%s: parameter %zu has %zu bytes in the module and %zu in the emulated kernel",
                          name, count, bytes, count < kernel->bytes.size() ? kernel->bytes[count] : 0);
        }
        count++;
    }
    if (count != kernel->bytes.size()) {
        return REFUSE(CUDA_ERROR_INVALID_PTX, "%s: %zu parameters in the module and %zu in the emulated kernel", name, count,
                      kernel->bytes.size());
    }
    const size_t most = number_after(text, ".maxntid ", parameters_end, body);
    if (most) made->most_threads = most;
    for (at = text.find(".shared ", body); at < end; at = text.find(".shared ", at)) {
        at += strlen(".shared ");
        if (text[at] == '.') made->static_shared += text.compare(at, 6, ".align") == 0 ? declared_bytes(text, at) : 0;
    }
    *function = made.get();
    module->functions[name] = std::move(made);
    return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = (int)function->most_threads; break;
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = (int)function->static_shared; break;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = (int)function->most_dynamic_shared; break;
        default: return REFUSE(CUDA_ERROR_NOT_SUPPORTED, "attribute %d is not emulated", (int)attribute);
    }
    return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) return CUDA_SUCCESS;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        return REFUSE(CUDA_ERROR_NOT_SUPPORTED, "attribute %d is not emulated", (int)attribute);
    }
    const size_t most = SHARED_OPTIN - function->static_shared;
    if (value < 0 || (size_t)value > most) {
        return REFUSE(CUDA_ERROR_INVALID_VALUE, "%s: %d bytes of shared memory; at most %zu", function->name.c_str(), value, most);
    }
    function->most_dynamic_shared = (size_t)value;
    return CUDA_SUCCESS;
}

CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction function, int threads, size_t shared,
                                                              unsigned) {
    if (threads < 1 || (size_t)threads > function->most_threads) return CUDA_ERROR_INVALID_VALUE;
    const size_t by_threads = 1536 / (((size_t)threads + 31) / 32 * 32);
    const size_t by_shared = (100 << 10) / (function->static_shared + shared + 1024);
    *blocks = (int)(by_threads < by_shared ? by_threads : by_shared);
    return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function, int threads, size_t shared) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared, CUstream stream, void** parameters,
                        void** extra) {
    NEED_STREAM(stream);
    const CUfunc_st& f = *function;
    if (extra || (!parameters && !f.kernel->bytes.empty())) {
        return REFUSE(CUDA_ERROR_INVALID_VALUE, "%s: parameters are expected as an array of pointers", f.name.c_str());
    }
    const emulate::Size grid = {grid_x, grid_y, grid_z}, block = {block_x, block_y, block_z};
    if (grid.count() == 0 || block.count() == 0) {
        return REFUSE(CUDA_ERROR_INVALID_VALUE, "%s: a grid of (%u, %u, %u) blocks of (%u, %u, %u) threads", f.name.c_str(),
                      grid_x, grid_y, grid_z, block_x, block_y, block_z);
    }
    if (grid_x > 2147483647u || grid_y > 65535 || grid_z > 65535) {
        return REFUSE(CUDA_ERROR_INVALID_VALUE, "%s: a grid of (%u, %u, %u); at most (2147483647, 65535, 65535)",
                      f.name.c_str(), grid_x, grid_y, grid_z);
    }
    if (block.count() > 1024 || block_z > 64) {
        return refuse_launch(f, CUDA_ERROR_INVALID_VALUE, "threads of a block", block.count(), 1024);
    }
    if (block.count() > f.most_threads) {
        return refuse_launch(f, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "threads of a block", block.count(), f.most_threads);
    }
    if (shared > f.most_dynamic_shared) {
        return refuse_launch(f, CUDA_ERROR_INVALID_VALUE, "bytes of dynamic shared memory", shared, f.most_dynamic_shared);
    }
    const size_t most = f.most_dynamic_shared > SHARED ? SHARED_OPTIN : SHARED;
    if (shared + f.static_shared > most) {
        return refuse_launch(f, CUDA_ERROR_INVALID_VALUE, "bytes of shared memory", shared + f.static_shared, most);
    }
    // Parameters are taken now; the kernel runs when the stream gets there.
    struct Taken {
        std::string name;
        const emulate::Kernel* kernel;
        std::vector<std::vector<char>> values;
        std::vector<void*> pointers;
    };
    const auto taken = std::make_shared<Taken>();
    taken->name = f.name;
    taken->kernel = f.kernel;
    for (size_t k = 0; k < f.kernel->bytes.size(); k++) {
        const char* value = (const char*)parameters[k];
        taken->values.emplace_back(value, value + f.kernel->bytes[k]);
        taken->pointers.push_back(taken->values.back().data());
    }
    emulate::enqueue(stream, [=] {
        emulate::run_grid(taken->name.c_str(), *taken->kernel, taken->pointers.data(), grid, block, shared);
    });
    return CUDA_SUCCESS;
}
