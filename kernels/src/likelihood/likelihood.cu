// The running log-sum-exp of rows of logits (see mod.rs): a block for each row.
#include "lanes.cuh"

// Takes in `logits [rows, width]`, those of the vocabulary's entries from `first` on.
KERNEL void likelihood_add(const float* logits, const unsigned* targets, float* tops, unsigned* likeliest, double* sums,
                           float* found, int width, unsigned first) {
    __shared__ float parts[32];
    __shared__ unsigned places[32];
    __shared__ double wide[32];
    const float* row = logits + (size_t)blockIdx.x * width;
    const float before = tops[blockIdx.x];
    float top = before;
    for (int i = threadIdx.x; i < width; i += blockDim.x) top = row[i] > top ? row[i] : top;
    top = over_row(top, parts, [](float a, float b) { return b > a ? b : a; });
    unsigned place = 0xffffffffu;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        if (row[i] == top && place == 0xffffffffu) place = first + (unsigned)i;
    }
    place = over_row(place, places, [](unsigned a, unsigned b) { return b < a ? b : a; });
    float own = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) own += exp_of(__fsub_rn(row[i], top));
    const double sum = over_row((double)own, wide, [](double a, double b) { return a + b; });
    if (threadIdx.x != 0) return;
    sums[blockIdx.x] = (top > before ? sums[blockIdx.x] * exp((double)before - (double)top) : sums[blockIdx.x]) + sum;
    tops[blockIdx.x] = top;
    if (top > before || place < likeliest[blockIdx.x]) likeliest[blockIdx.x] = place;
    const unsigned at = targets[blockIdx.x] - first;
    if (at < (unsigned)width) found[blockIdx.x] = row[at];
}
