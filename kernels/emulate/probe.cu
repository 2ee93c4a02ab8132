// Kernels for scripts/emulate-cuda --self-test: barriers, exchanges, shared memory, atomics and blocks of three dimensions.
#include "lanes.cuh"

// out[block] = the sum of the block's elements, by shuffles within warps and shared memory between them.
KERNEL void probe_sum(const float* x, float* out, int count) {
    __shared__ float sums[32];
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = at < count ? x[at] : 0.0f;
    for (int step = 16; step > 0; step /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, step));
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < (int)blockDim.x / 32; warp++) sum = __fadd_rn(sum, sums[warp]);
        out[blockIdx.x] = sum;
    }
}

// Reverses each block's numbers through dynamic shared memory.
KERNEL void probe_reverse(int* x) {
    DYNAMIC_SHARED(int, kept);
    int* mine = x + (long)blockIdx.x * blockDim.x;
    kept[threadIdx.x] = mine[threadIdx.x];
    __syncthreads();
    mine[threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x];
}

// Half of the threads leave before the others meet; those count the set bits of a vote and add them up.
KERNEL void probe_vote(unsigned* total, unsigned* greatest) {
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    if (thread % 32 >= 16) return;
    const unsigned vote = __ballot_sync(0xffffu, thread % 3 == 0);
    const unsigned before = __shfl_up_sync(0xffffu, thread, 1, 16);
    if (thread % 16 != 0 && before + 1 != thread) return;
    __syncthreads();
    if (thread % 32 == 0) atomicAdd(total, (unsigned)__popc(vote));
    atomicMax(greatest, thread + 1000 * (blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z)));
}

// A thread reads one element too far.
KERNEL void probe_outside(const float* x, float* out, int count) { out[0] = x[count + threadIdx.x]; }
// A barrier that some threads wait for in a warp instead.
KERNEL void probe_stuck(int* out) {
    if (threadIdx.x == 0) __syncthreads();
    else __syncwarp();
    out[0] = 1;
}
