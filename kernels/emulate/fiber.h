// A stack of its own and a switch to it. x86-64 has a switch of a dozen instructions; elsewhere ucontext does it, slowly.
#pragma once
#include <cstddef>
#include <cstdint>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulate {

#if defined(__x86_64__)
// Pushes the registers that a call preserves, exchanges the stack pointers and pops them from the other stack.
extern "C" void paring_switch_stack(void** from, void* to);
asm(R"(
.text
.local paring_switch_stack
.type paring_switch_stack, @function
paring_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size paring_switch_stack, . - paring_switch_stack
)");

struct Fiber {
    void* at = nullptr;
    // The first switch to the fiber calls `body`, which must not return.
    void start(char* stack, size_t bytes, void (*body)()) {
        uint64_t* top = (uint64_t*)(stack + bytes);
        // A function begins 8 bytes off a multiple of 16: below the address that it would return to.
        top[-2] = (uint64_t)body;
        at = top - 8;
    }
};
inline void switch_to(Fiber& from, Fiber& to) { paring_switch_stack(&from.at, to.at); }
#else
struct Fiber {
    ucontext_t at;
    void start(char* stack, size_t bytes, void (*body)()) {
        getcontext(&at);
        at.uc_stack.ss_sp = stack;
        at.uc_stack.ss_size = bytes;
        at.uc_link = nullptr;
        makecontext(&at, body, 0);
    }
};
inline void switch_to(Fiber& from, Fiber& to) { swapcontext(&from.at, &to.at); }
#endif

}  // namespace emulate
