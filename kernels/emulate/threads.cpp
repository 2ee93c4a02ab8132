// Each thread of a block is a fiber, and they take turns where they wait: at barriers and at exchanges within a warp. A
// thread that never waits is a plain call. What real hardware would leave undefined (a shuffle from a thread that is not
// there, threads of a warp at different exchanges, a barrier that some never reach) ends the program with a message.
#include "threads.h"

#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "emulate.h"
#include "fiber.h"

__thread uint3 threadIdx, blockIdx;
__thread dim3 blockDim, gridDim;

namespace emulate {
namespace {

constexpr size_t STACK = 64 << 10, GUARD = 4 << 10;
constexpr unsigned WARP = 32, MOST_THREADS = 1024;

struct Grid {
    const char* name;
    const Kernel& kernel;
    void** parameters;
    Size grid, block;
    size_t shared;
};

struct Thread {
    Fiber fiber;
    void* stack = nullptr;
    uint64_t value = 0;
    unsigned mask = 0, from = 0;
    Exchange kind = Exchange::Shuffle;
};

// A host thread that runs one block at a time.
struct Worker {
    const Grid* grid = nullptr;
    Thread threads[MOST_THREADS];
    // A bit for each lane: can go on; has ended or never was; waits for an exchange.
    unsigned ready[WARP], ended[WARP], waiting[WARP];
    unsigned current = 0, count = 0, left = 0;
    unsigned at_barrier = 0;
    int predicates = 0, result = 0;
    Fiber home;
    std::vector<void*> free_stacks;
    std::vector<float4> shared;
};

__thread Worker* worker = nullptr;

void* new_stack() {
    char* at = (char*)mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED || mprotect(at, GUARD, PROT_NONE)) fail("no memory for the stack of a thread");
    return at + GUARD;
}

void place(unsigned thread) {
    worker->current = thread;
    const Size block = worker->grid->block;
    if (block.y * block.z == 1) threadIdx = {thread, 0, 0};
    else threadIdx = {thread % block.x, thread / block.x % block.y, thread / block.x / block.y};
}

// The next thread that can go on, of this warp if there is one.
unsigned pick() {
    Worker& w = *worker;
    const unsigned warps = (w.count + WARP - 1) / WARP, first = w.current / WARP;
    for (unsigned step = 0; step < warps; step++) {
        const unsigned warp = (first + step) % warps;
        if (w.ready[warp]) {
            const unsigned lane = __builtin_ctz(w.ready[warp]);
            w.ready[warp] &= ~(1u << lane);
            return warp * WARP + lane;
        }
    }
    unsigned exchanging = 0;
    for (unsigned warp = 0; warp < warps; warp++) exchanging += __builtin_popcount(w.waiting[warp]);
    fail("of %u threads %u wait at a barrier and %u for threads of their warp, for ever", w.count, w.at_barrier, exchanging);
}

// Releases the lanes of `mask` if all of them wait; `self` continues by itself.
void release(unsigned warp, unsigned mask, unsigned self) {
    Worker& w = *worker;
    const unsigned all = mask & ~w.ended[warp];
    if (!all || (w.waiting[warp] & all) != all) return;
    Thread* lanes = &w.threads[warp * WARP];
    const Exchange kind = lanes[__builtin_ctz(all)].kind;
    uint64_t values[WARP] = {}, ballot = 0;
    for (unsigned rest = all; rest; rest &= rest - 1) {
        const unsigned lane = __builtin_ctz(rest);
        if (lanes[lane].mask != mask || lanes[lane].kind != kind) {
            fail("lanes of warp %u are at different exchanges: masks %08x and %08x", warp, mask, lanes[lane].mask);
        }
        values[lane] = lanes[lane].value;
        if (values[lane]) ballot |= 1ull << lane;
    }
    for (unsigned rest = all; rest; rest &= rest - 1) {
        const unsigned lane = __builtin_ctz(rest), from = lanes[lane].from;
        if (kind == Exchange::Shuffle && !(all >> from & 1)) {
            fail("lane %u of warp %u reads from lane %u, which is not there (mask %08x)", lane, warp, from, mask);
        }
        lanes[lane].value = kind == Exchange::Shuffle ? values[from] : ballot;
    }
    w.waiting[warp] &= ~all;
    w.ready[warp] |= all & ~(self / WARP == warp ? 1u << self % WARP : 0);
}

// Releases all threads if those left are at the barrier; `self` continues by itself.
bool release_barrier(unsigned self) {
    Worker& w = *worker;
    if (!w.left || w.at_barrier != w.left) return false;
    for (unsigned warp = 0; warp * WARP < w.count; warp++) w.ready[warp] = ~w.ended[warp];
    if (self < w.count) w.ready[self / WARP] &= ~(1u << self % WARP);
    w.result = w.predicates;
    w.at_barrier = w.predicates = 0;
    return true;
}

// Runs threads on this stack, one after the other, until one has to wait for another stack.
void body() {
    for (;;) {
        Worker& w = *worker;
        w.grid->kernel.call(w.grid->kernel.function, w.grid->parameters);
        const unsigned self = w.current, warp = self / WARP;
        w.ended[warp] |= 1u << self % WARP;
        w.left--;
        Fiber dead;
        void* stack = w.threads[self].stack;
        if (!w.left) {
            w.free_stacks.push_back(stack);
            switch_to(dead, w.home);
        }
        for (unsigned waits = w.waiting[warp]; waits; waits = w.waiting[warp] & waits & (waits - 1)) {
            release(warp, w.threads[warp * WARP + __builtin_ctz(waits)].mask, MOST_THREADS);
        }
        release_barrier(MOST_THREADS);
        place(pick());
        Thread& next = w.threads[w.current];
        if (!next.stack) {
            next.stack = stack;
            continue;
        }
        w.free_stacks.push_back(stack);
        switch_to(dead, next.fiber);
    }
}

// Starts or resumes the current thread and suspends the running one.
void resume(Fiber& from) {
    Thread& thread = worker->threads[worker->current];
    if (!thread.stack) {
        if (worker->free_stacks.empty()) worker->free_stacks.push_back(new_stack());
        thread.stack = worker->free_stacks.back();
        worker->free_stacks.pop_back();
        thread.fiber.start((char*)thread.stack, STACK, body);
    }
    switch_to(from, thread.fiber);
}

void yield() {
    Thread& self = worker->threads[worker->current];
    place(pick());
    resume(self.fiber);
}

void run_block(void* context, size_t index) {
    const Grid& grid = *(const Grid*)context;
    if (!worker) worker = new Worker;
    Worker& w = *worker;
    w.grid = &grid;
    blockDim = {grid.block.x, grid.block.y, grid.block.z};
    gridDim = {grid.grid.x, grid.grid.y, grid.grid.z};
    blockIdx = {(unsigned)(index % grid.grid.x), (unsigned)(index / grid.grid.x % grid.grid.y),
                (unsigned)(index / grid.grid.x / grid.grid.y)};
    w.count = w.left = (unsigned)grid.block.count();
    for (unsigned warp = 0; warp < WARP; warp++) {
        const unsigned first = warp * WARP, lanes = w.count <= first ? 0 : w.count - first;
        w.ready[warp] = lanes >= WARP ? ~0u : (1u << lanes) - 1;
        w.ended[warp] = ~w.ready[warp];
        w.waiting[warp] = 0;
    }
    for (unsigned t = 0; t < w.count; t++) w.threads[t].stack = nullptr;
    w.at_barrier = w.predicates = 0;
    // Shared memory that was never written reads as NaN.
    w.shared.resize(grid.shared / sizeof(float4) + 1);
    memset(w.shared.data(), 0xff, w.shared.size() * sizeof(float4));
    w.current = 0;
    place(pick());
    resume(w.home);
    w.grid = nullptr;
}

// The host threads that share work. Never destroyed: its threads may outlive main.
struct Pool {
    std::mutex turn, lock;
    std::condition_variable wake, done;
    void (*task)(void*, size_t) = nullptr;
    void* context = nullptr;
    size_t count = 0, next = 0;
    unsigned busy = 0;

    Pool() {
        const unsigned processors = std::max(1u, std::thread::hardware_concurrency());
        for (unsigned t = 1; t < processors; t++) {
            std::thread([this] {
                std::unique_lock<std::mutex> held(lock);
                for (;;) {
                    wake.wait(held, [this] { return next < count; });
                    work(held);
                }
            }).detach();
        }
    }
    void work(std::unique_lock<std::mutex>& held) {
        busy++;
        while (next < count) {
            const size_t index = next++;
            held.unlock();
            task(context, index);
            held.lock();
        }
        if (--busy == 0) done.notify_all();
    }
};

std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

struct Spent {
    size_t launches = 0;
    double seconds = 0.0;
};
std::map<std::string, Spent>& all_spent() {
    static auto* all = new std::map<std::string, Spent>;
    return *all;
}

}  // namespace

void add_kernel(const char* name, Kernel kernel) { kernels()[name] = std::move(kernel); }

const Kernel* find_kernel(const char* name) {
    const auto at = kernels().find(name);
    return at == kernels().end() ? nullptr : &at->second;
}

void parallel(size_t count, void (*task)(void*, size_t), void* context) {
    static Pool* pool = new Pool;
    std::lock_guard<std::mutex> turn(pool->turn);
    std::unique_lock<std::mutex> held(pool->lock);
    pool->task = task;
    pool->context = context;
    pool->next = 0;
    pool->count = count;
    if (count > 1) pool->wake.notify_all();
    pool->work(held);
    pool->done.wait(held, [] { return pool->busy == 0; });
}

void run_grid(const char* name, const Kernel& kernel, void** parameters, Size grid, Size block, size_t shared) {
    const auto begun = std::chrono::steady_clock::now();
    Grid all = {name, kernel, parameters, grid, block, shared};
    parallel(grid.count(), run_block, &all);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    static std::mutex lock;
    const std::lock_guard<std::mutex> held(lock);
    Spent& spent = all_spent()[name];
    spent.launches++;
    spent.seconds += took.count();
}

void print_spent() {
    for (const auto& [name, spent] : all_spent()) {
        fprintf(stderr, "emulated GPU: %8zu launches, %8.2f s here: %s\n", spent.launches, spent.seconds, name.c_str());
    }
}

const char* running() { return worker && worker->grid ? worker->grid->name : nullptr; }

void fail(const char* format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (running()) {
        fprintf(stderr, "emulated GPU: %s, block (%u, %u, %u), thread (%u, %u, %u): %s\n", running(), blockIdx.x, blockIdx.y,
                blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, text);
    } else {
        fprintf(stderr, "emulated GPU: %s\n", text);
    }
    abort();
}

uint64_t exchange(Exchange kind, unsigned mask, uint64_t value, unsigned from) {
    Worker& w = *worker;
    const unsigned self = w.current, warp = self / WARP, bit = 1u << self % WARP;
    if (!(mask & bit)) fail("the mask %08x of an exchange leaves out the thread itself", mask);
    Thread& thread = w.threads[self];
    thread.kind = kind;
    thread.mask = mask;
    thread.value = value;
    thread.from = from;
    w.waiting[warp] |= bit;
    release(warp, mask, self);
    if (w.waiting[warp] & bit) yield();
    return thread.value;
}

int barrier(bool predicate) {
    Worker& w = *worker;
    w.at_barrier++;
    w.predicates += predicate;
    if (!release_barrier(w.current)) yield();
    return w.result;
}

unsigned lane() { return worker->current % WARP; }
void* shared_memory() { return worker->shared.data(); }

}  // namespace emulate
