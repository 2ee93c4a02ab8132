#include "memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "threads.h"

namespace emulate {
namespace {

constexpr size_t ALIGNED = 16;
constexpr unsigned char AROUND = 0xa5, FRESH = 0xff;

// What is mapped: a page that can't be touched, room before, the bytes, less than 16 bytes after them, such a page again.
struct Allocation {
    size_t bytes;
    char* map;
    size_t map_bytes;
    bool released;
};

struct Memory {
    std::mutex lock;
    std::map<char*, Allocation> all;
    size_t total, used = 0, peak = 0, page;
    bool stats;

    Memory() : page((size_t)sysconf(_SC_PAGESIZE)) {
        const char* megabytes = getenv("PARING_EMULATED_MEMORY");
        char* end = nullptr;
        const unsigned long long wanted = megabytes ? strtoull(megabytes, &end, 10) : 4096;
        if (megabytes && (!*megabytes || *end || wanted == 0 || wanted >> 24)) {
            fail("PARING_EMULATED_MEMORY: expected MiB, a whole number from 1 to 16777215, got \"%s\"", megabytes);
        }
        total = (size_t)wanted << 20;
        const char* print = getenv("PARING_EMULATED_STATS");
        stats = print && strcmp(print, "1") == 0;
        catch_faults();
    }
    static void catch_faults();
};

// Never destroyed: tensors may be freed while the program ends.
Memory& memory() {
    static Memory* all = new Memory;
    return *all;
}

struct sigaction before;

// Says what a fault in a page around an allocation means, and passes it on to the previous handler.
void faulted(int signal, siginfo_t* info, void* context) {
    Memory& m = memory();
    char* at = (char*)info->si_addr;
    char text[256];
    int length = 0;
    const char* kernel = running();
    if (m.lock.try_lock()) {
        auto next = m.all.upper_bound(at);
        for (int back = 0; back < 2 && !length; back++) {
            if (next != m.all.end()) {
                const Allocation& a = next->second;
                if (at >= a.map && at < a.map + a.map_bytes) {
                    const bool past = at >= next->first;
                    length = snprintf(text, sizeof text,
                                      "emulated GPU: %s touches memory %zu bytes %s an allocation of %zu bytes\n",
                                      kernel ? kernel : "a copy or a library call",
                                      past ? (size_t)(at - next->first) - a.bytes : (size_t)(next->first - at),
                                      past ? "past the end of" : "before", a.bytes);
                }
            }
            if (next == m.all.begin()) break;
            --next;
        }
        m.lock.unlock();
    }
    if (!length && kernel) {
        length = snprintf(text, sizeof text, "emulated GPU: %s touches %p, which is no memory of the device\n", kernel, at);
    }
    if (length && write(2, text, (size_t)length) < 0) _exit(139);
    if (!length && before.sa_flags & SA_SIGINFO && before.sa_sigaction) return before.sa_sigaction(signal, info, context);
    // The instruction is tried again and ends the program.
    sigaction(SIGSEGV, &before, nullptr);
    if (length) ::signal(SIGSEGV, SIG_DFL);
}

void Memory::catch_faults() {
    struct sigaction action = {};
    action.sa_sigaction = faulted;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &before);
}

void check_around(const char* at, const Allocation& a, size_t page) {
    const char* first = a.map + page;
    const char* last = a.map + a.map_bytes - page;
    auto written = [](const char* from, const char* to) {
        return std::find_if(from, to, [](char byte) { return (unsigned char)byte != AROUND; });
    };
    const char* low = written(first, at);
    if (low != at) fail("something wrote %zu bytes before an allocation of %zu bytes", (size_t)(at - low), a.bytes);
    const char* high = written(at + a.bytes, last);
    if (high != last) fail("something wrote %zu bytes past an allocation of %zu bytes", (size_t)(high - at) - a.bytes, a.bytes);
}

__attribute__((destructor)) void print_stats() {
    Memory& m = memory();
    if (!m.stats) return;
    print_spent();
    print_copied();
    fprintf(stderr, "emulated GPU: at most %zu bytes of device memory in use, %zu left at the end\n", m.peak, m.used);
}

}  // namespace

void* device_allocate(size_t bytes) {
    Memory& m = memory();
    std::lock_guard<std::mutex> held(m.lock);
    if (bytes > m.total - m.used) return nullptr;
    const size_t room = (bytes + ALIGNED - 1) / ALIGNED * ALIGNED, inner = (room + m.page - 1) / m.page * m.page;
    const size_t map_bytes = inner + 2 * m.page;
    char* map = (char*)mmap(nullptr, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) fail("the host has no %zu bytes for the device's memory: %s", map_bytes, strerror(errno));
    if (mprotect(map, m.page, PROT_NONE) || mprotect(map + m.page + inner, m.page, PROT_NONE)) {
        fail("pages around an allocation can't be protected: %s", strerror(errno));
    }
    char* at = map + m.page + inner - room;
    memset(map + m.page, AROUND, (size_t)(at - map) - m.page);
    memset(at, FRESH, bytes);
    memset(at + bytes, AROUND, room - bytes);
    m.all[at] = {bytes, map, map_bytes, false};
    m.used += bytes;
    m.peak = std::max(m.peak, m.used);
    return at;
}

void device_begin(void* pointer) {
    Memory& m = memory();
    std::lock_guard<std::mutex> held(m.lock);
    const auto at = m.all.find((char*)pointer);
    if (at == m.all.end()) fail("a stream gets to an allocation that another stream, which did not wait for it, has freed");
    memset(at->first, FRESH, at->second.bytes);
}

size_t device_release(void* pointer) {
    Memory& m = memory();
    std::lock_guard<std::mutex> held(m.lock);
    const auto at = m.all.find((char*)pointer);
    if (at == m.all.end() || at->second.released) return 0;
    at->second.released = true;
    m.used -= at->second.bytes;
    return at->second.bytes;
}

void device_unmap(void* pointer) {
    Memory& m = memory();
    std::lock_guard<std::mutex> held(m.lock);
    const auto at = m.all.find((char*)pointer);
    check_around(at->first, at->second, m.page);
    munmap(at->second.map, at->second.map_bytes);
    m.all.erase(at);
}

MemoryUse device_use() {
    Memory& m = memory();
    std::lock_guard<std::mutex> held(m.lock);
    return {m.total, m.used, m.peak};
}

void device_reset_peak() {
    Memory& m = memory();
    std::lock_guard<std::mutex> held(m.lock);
    m.peak = m.used;
}

}  // namespace emulate

bool paring_emulated_on_device(const void* pointer, size_t bytes) {
    emulate::Memory& m = emulate::memory();
    std::lock_guard<std::mutex> held(m.lock);
    auto next = m.all.upper_bound((char*)pointer);
    if (next == m.all.begin()) return false;
    --next;
    const size_t offset = (size_t)((char*)pointer - next->first);
    return !next->second.released && offset <= next->second.bytes && bytes <= next->second.bytes - offset;
}

void paring_emulated_parallel(size_t count, void (*task)(void*, size_t), void* context) {
    emulate::parallel(count, task, context);
}
