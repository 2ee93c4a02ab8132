// What the parts of the driver's library share: the checks that come first in most calls.
#pragma once
#include <cuda.h>

#include "refuse.h"
#include "streams.h"

namespace emulate {
// The context of this thread.
extern thread_local CUcontext current;
}  // namespace emulate

#define NEED_CONTEXT \
    if (!emulate::current) return REFUSE(CUDA_ERROR_INVALID_CONTEXT, "the thread has no context")
#define NEED_STREAM(stream) \
    NEED_CONTEXT;           \
    if (!emulate::is_stream(stream)) return REFUSE(CUDA_ERROR_INVALID_HANDLE, "%p is no stream", (void*)stream)
#define NEED_DEVICE(device) \
    if (device != 0) return REFUSE(CUDA_ERROR_INVALID_DEVICE, "there is one device, 0; asked for %d", device)
