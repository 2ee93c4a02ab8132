// Work that waits for its turn. A GPU does what a stream was given some time later; here it is done as late as can be, when
// something waits for it. A result that is used without waiting, on the host or on another stream, is what was there before.
#pragma once
#include <cstddef>

#include <functional>
#include <memory>

struct CUstream_st;

namespace emulate {
// Does the work when the stream gets there. The lock of all streams is held while work is done.
void enqueue(CUstream_st* stream, std::function<void()> work);
// Does all that the stream, or any stream, was given.
void finish(CUstream_st* stream);
void finish_all();
bool is_stream(CUstream_st* stream);
// Memory of the device that can't be given back before the stream gets there; when it is much, the work is done.
void hold(CUstream_st* stream, size_t bytes);
}  // namespace emulate

// The same for the emulator's other libraries; work(context) is called once.
extern "C" void paring_emulated_enqueue(void* stream, void (*work)(void* context), void* context);
extern "C" void paring_emulated_finish(void* stream);
extern "C" bool paring_emulated_is_stream(void* stream);

namespace emulate {
// Does the work of a library when the stream gets there.
template <class Work>
void later(void* stream, Work work) {
    auto run = [](void* context) {
        const std::unique_ptr<Work> kept((Work*)context);
        (*kept)();
    };
    paring_emulated_enqueue(stream, run, new Work(std::move(work)));
}
}  // namespace emulate
