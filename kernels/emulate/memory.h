// The device's memory, in host memory. Every allocation lies between two pages that nothing may touch and ends at the
// second: a kernel that reads or writes past the end is stopped there, with a message.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulate {

struct MemoryUse {
    size_t total, used, peak;
};

// Null when there is not so much left. What is in it reads as NaN.
void* device_allocate(size_t bytes);
// The stream that allocates gets there: what is in it reads as NaN from now on, whatever a stream that did not wait for that
// wrote. Stops the program if it was freed meanwhile.
void device_begin(void* at);
// Gives an allocation back: from now on it does not count and must not be named. 0 if none begins there, otherwise its
// bytes. Work given before may still use it, until device_unmap.
size_t device_release(void* at);
// Ends an allocation that was released. Stops the program if the bytes around it were written to.
void device_unmap(void* at);
MemoryUse device_use();
void device_reset_peak();
// Prints how many bytes were copied each way.
void print_copied();

}  // namespace emulate

// Whether all of `bytes` from `at` on lie in one allocation of the device. Also for the emulator's other libraries.
extern "C" bool paring_emulated_on_device(const void* at, size_t bytes);
// emulate::parallel for the emulator's other libraries.
extern "C" void paring_emulated_parallel(size_t count, void (*task)(void* context, size_t index), void* context);
