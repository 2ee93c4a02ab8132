// Streams and events of the driver's library.
#include "streams.h"

#include <time.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <set>

#include "driver.h"

struct CUstream_st {
    std::deque<std::function<void()>> queue;
    size_t given = 0, done = 0, held = 0;
};
// Where an event was recorded: after so much of the work of a stream.
struct Recorded {
    CUstream_st* stream = nullptr;
    size_t given = 0;
    double at = 0.0;
};
struct CUevent_st {
    bool timed;
    std::shared_ptr<Recorded> recorded;
};

namespace {

// So much work waits at most, and so many bytes that were freed.
constexpr size_t MOST_WORK = 4096, MOST_HELD = 256 << 20;

std::recursive_mutex lock;
typedef std::lock_guard<std::recursive_mutex> Held;

struct Streams {
    CUstream_st legacy, per_thread;
    std::set<CUstream_st*> made;
    bool eager = getenv("PARING_EMULATED_EAGER") && strcmp(getenv("PARING_EMULATED_EAGER"), "1") == 0;
};
// Never destroyed, like streams themselves: events may name them.
Streams& streams() {
    static auto* all = new Streams;
    return *all;
}

CUstream_st* known(CUstream_st* stream) {
    Streams& all = streams();
    if (stream == nullptr || stream == CU_STREAM_LEGACY) return &all.legacy;
    if (stream == CU_STREAM_PER_THREAD) return &all.per_thread;
    return all.made.count(stream) ? stream : nullptr;
}

void finish_until(CUstream_st* stream, size_t given) {
    while (stream->done < given) {
        const std::function<void()> work = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->done++;
        work();
    }
    if (stream->done == stream->given) stream->held = 0;
}

double now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

}  // namespace

namespace emulate {

void enqueue(CUstream_st* stream, std::function<void()> work) {
    const Held held(lock);
    CUstream_st* to = known(stream);
    to->queue.push_back(std::move(work));
    to->given++;
    if (streams().eager || to->given - to->done > MOST_WORK) finish_until(to, to->given);
}
void finish(CUstream_st* stream) {
    const Held held(lock);
    CUstream_st* of = known(stream);
    finish_until(of, of->given);
}
void finish_all() {
    const Held held(lock);
    Streams& all = streams();
    finish_until(&all.legacy, all.legacy.given);
    finish_until(&all.per_thread, all.per_thread.given);
    for (CUstream_st* stream : all.made) finish_until(stream, stream->given);
}
bool is_stream(CUstream_st* stream) {
    const Held held(lock);
    return known(stream) != nullptr;
}
void hold(CUstream_st* stream, size_t bytes) {
    const Held held(lock);
    CUstream_st* at = known(stream);
    at->held += bytes;
    if (at->held > MOST_HELD) finish_until(at, at->given);
}

}  // namespace emulate

void paring_emulated_enqueue(void* stream, void (*work)(void*), void* context) {
    emulate::enqueue((CUstream_st*)stream, [=] { work(context); });
}
void paring_emulated_finish(void* stream) { emulate::finish((CUstream_st*)stream); }
bool paring_emulated_is_stream(void* stream) { return emulate::is_stream((CUstream_st*)stream); }

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned, int) {
    NEED_CONTEXT;
    *stream = new CUstream_st;
    const Held held(lock);
    streams().made.insert(*stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamCreate(CUstream* stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }
CUresult cuStreamDestroy(CUstream stream) {
    const Held held(lock);
    if (!streams().made.count(stream)) return REFUSE(CUDA_ERROR_INVALID_HANDLE, "%p is no stream", (void*)stream);
    finish_until(stream, stream->given);
    streams().made.erase(stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) {
    NEED_STREAM(stream);
    emulate::finish(stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamQuery(CUstream stream) { return cuStreamSynchronize(stream); }
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    NEED_STREAM(stream);
    if (!event) return REFUSE(CUDA_ERROR_INVALID_HANDLE, "no event");
    const Recorded recorded = *event->recorded;
    if (recorded.stream) emulate::enqueue(stream, [=] { finish_until(recorded.stream, recorded.given); });
    return CUDA_SUCCESS;
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
    NEED_STREAM(stream);
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}
CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data) {
    NEED_STREAM(stream);
    emulate::enqueue(stream, [=] { function(data); });
    return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent* event, unsigned flags) {
    NEED_CONTEXT;
    *event = new CUevent_st{!(flags & CU_EVENT_DISABLE_TIMING), std::make_shared<Recorded>()};
    return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
    delete event;
    return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
    NEED_STREAM(stream);
    const Held held(lock);
    const auto recorded = std::make_shared<Recorded>();
    if (event->timed) emulate::enqueue(stream, [=] { recorded->at = now(); });
    recorded->stream = known(stream);
    recorded->given = recorded->stream->given;
    event->recorded = recorded;
    return CUDA_SUCCESS;
}
CUresult cuEventSynchronize(CUevent event) {
    const Held held(lock);
    if (event->recorded->stream) finish_until(event->recorded->stream, event->recorded->given);
    return CUDA_SUCCESS;
}
CUresult cuEventQuery(CUevent event) { return cuEventSynchronize(event); }
CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    if (!start->timed || !end->timed || !start->recorded->stream || !end->recorded->stream) {
        return REFUSE(CUDA_ERROR_INVALID_HANDLE, "both events must be recorded and made with timing");
    }
    const Held held(lock);
    for (const CUevent event : {start, end}) {
        if (event->recorded->stream->done < event->recorded->given) return CUDA_ERROR_NOT_READY;
    }
    *milliseconds = (float)(1e3 * (end->recorded->at - start->recorded->at));
    return CUDA_SUCCESS;
}
