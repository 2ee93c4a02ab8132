// How the emulator's libraries turn a call down: they say why, since the caller's own message has only a number.
#pragma once
#include <cstdio>

// Prints the name of the function it stands in and why, and makes `code` of it.
#define REFUSE(code, ...)                                    \
    (fprintf(stderr, "emulated GPU: %s: ", __func__),        \
     fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), code)
