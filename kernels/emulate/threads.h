// The threads of CUDA blocks on the CPU: how kernels are known, how a grid is run, and what threads of a block wait for.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace emulate {

struct Size {
    unsigned x, y, z;
    size_t count() const { return (size_t)x * y * z; }
};

// A kernel: `call` unpacks what a launch passes and calls `function`; `bytes` are the sizes of its parameters.
struct Kernel {
    void* function;
    void (*call)(void* function, void** parameters);
    std::vector<size_t> bytes;
};

// The kernel of that name, or null.
const Kernel* find_kernel(const char* name);
void add_kernel(const char* name, Kernel kernel);

template <class... Types, size_t... At>
void call_unpacked(void* function, void** parameters, std::index_sequence<At...>) {
    ((void (*)(Types...))function)(*(Types*)parameters[At]...);
}
template <class... Types>
void call_kernel(void* function, void** parameters) {
    call_unpacked<Types...>(function, parameters, std::index_sequence_for<Types...>());
}
// Makes a kernel known before main.
struct Registered {
    template <class... Types>
    Registered(const char* name, void (*kernel)(Types...)) {
        add_kernel(name, {(void*)kernel, call_kernel<Types...>, {sizeof(Types)...}});
    }
};

// Runs all blocks of a grid, several at a time, and returns when all are done.
void run_grid(const char* name, const Kernel& kernel, void** parameters, Size grid, Size block, size_t shared);

// Prints how often each kernel was launched, and how long it ran here.
void print_spent();

// Runs task(context, 0) to task(context, count − 1) on all processors. A task must not call this itself.
void parallel(size_t count, void (*task)(void* context, size_t index), void* context);

// What is running on this host thread: the kernel's name, or null.
const char* running();
// Ends the program with a message that names the kernel, block and thread.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Called by threads of a block (emulate.h).
enum class Exchange : uint8_t { Shuffle, Ballot };
// Waits for the threads of `mask` in the warp. Shuffle: the value of lane `from`. Ballot: a bit for each value not 0.
uint64_t exchange(Exchange kind, unsigned mask, uint64_t value, unsigned from);
// Waits for all threads of the block; how many of them came with `predicate`.
int barrier(bool predicate);
unsigned lane();
void* shared_memory();

}  // namespace emulate
