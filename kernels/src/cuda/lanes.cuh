// What a kernel needs from the device, so that the same source also runs on the CPU, thread by thread (emulate.h).
#pragma once
#ifdef PARING_EMULATE
#include "emulate.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__
// The shared memory that the launch asks for.
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif
