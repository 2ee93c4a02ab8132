// Codes of 1 to 8 bits and rows of bits (see mod.rs). Rows are `width` bytes long; whole words are read and written
// where rows begin at words.
#include "lanes.cuh"

// Up to four bytes of a row, of which `count` are there.
DEVICE void write_bytes(unsigned char* to, unsigned value, int count, bool whole) {
    if (whole) {
        *(unsigned*)to = value;
        return;
    }
    for (int i = 0; i < count; i++) to[i] = (unsigned char)(value >> 8 * i);
}

// A thread makes four bytes.
KERNEL void pack_codes(const unsigned char* codes, unsigned char* packed, long rows, long cols, int bits, long width) {
    const long words = (width + 3) / 4;
    const unsigned most = (1u << bits) - 1;
    for (long i = (long)blockIdx.x * blockDim.x + threadIdx.x; i < rows * words; i += (long)gridDim.x * blockDim.x) {
        const long row = i / words, word = i % words, first = word * 32;
        unsigned value = 0;
        // The first code may have begun in the word before.
        for (long k = first / bits; k < cols && k * bits < first + 32; k++) {
            const int shift = (int)(k * bits - first);
            const unsigned code = codes[row * cols + k] & most;
            value |= shift < 0 ? code >> -shift : code << shift;
        }
        const long left = width - word * 4;
        write_bytes(packed + row * width + word * 4, value, left < 4 ? (int)left : 4, width % 4 == 0);
    }
}

// A thread makes four codes.
KERNEL void unpack_codes(const unsigned char* packed, unsigned char* codes, long rows, long cols, int bits, long width) {
    const long fours = (cols + 3) / 4;
    const unsigned most = (1u << bits) - 1;
    for (long i = (long)blockIdx.x * blockDim.x + threadIdx.x; i < rows * fours; i += (long)gridDim.x * blockDim.x) {
        const long row = i / fours, first = i % fours * 4;
        const unsigned char* from = packed + row * width;
        unsigned value = 0;
        const int count = cols - first < 4 ? (int)(cols - first) : 4;
        for (int k = 0; k < count; k++) {
            const long bit = (first + k) * bits;
            unsigned two = from[bit / 8];
            // No code lies in more than two bytes.
            if (bit % 8 + bits > 8) two |= (unsigned)from[bit / 8 + 1] << 8;
            value |= (two >> bit % 8 & most) << 8 * k;
        }
        write_bytes(codes + row * cols + first, value, count, cols % 4 == 0);
    }
}

// A thread makes a byte: the marks of eight elements.
KERNEL void pack_mask(const float* x, unsigned char* marks, long rows, long cols) {
    const long width = (cols + 7) / 8;
    for (long i = (long)blockIdx.x * blockDim.x + threadIdx.x; i < rows * width; i += (long)gridDim.x * blockDim.x) {
        const long row = i / width, first = i % width * 8;
        const int count = cols - first < 8 ? (int)(cols - first) : 8;
        unsigned value = 0;
        for (int k = 0; k < count; k++) value |= (x[row * cols + first + k] != 0.0f ? 1u : 0u) << k;
        marks[i] = (unsigned char)value;
    }
}
