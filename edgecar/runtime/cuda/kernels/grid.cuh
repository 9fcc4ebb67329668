// One source, two ways to run it: nvcc makes kernels of it, and a C++ compiler functions that go
// over the same grid in loops. What a kernel does to its memory is tested the second way.
#pragma once

#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define SHARED static __host__ __device__ __forceinline__
#define KERNEL extern "C" __global__ void
// Items lie along x, as many as there are threads in a block times blocks; layers along y.
#define EACH_LAYER(layer, layers) \
    const int layer = blockIdx.y; \
    if (layer < (layers))
#define EACH_ITEM(item, items) \
    const int item = blockIdx.x * blockDim.x + threadIdx.x; \
    if (item < (items))
typedef __half Half;
#else
#define SHARED static inline
#define KERNEL extern "C" void
#define EACH_LAYER(layer, layers) for (int layer = 0; layer < (layers); ++layer)
#define EACH_ITEM(item, items) for (int item = 0; item < (items); ++item)
#ifdef __aarch64__
typedef __fp16 Half;
#else
typedef _Float16 Half;
#endif
#endif

// One code; multiplied, not divided by 255, as everywhere else.
#define CODE ((float)(1.0 / 255.0))

// Four pixels are what a thread handles: a warp then reads and writes whole cache lines. Rows of
// frames begin at multiples of them (and of the words that `changed` compares).
enum { GROUP = 4 };

// Of a tile, in this order: where it is read from, and what is kept of it (end exclusive).
enum { READ_TOP, READ_LEFT, KEEP_TOP, KEEP_LEFT, KEEP_BOTTOM, KEEP_RIGHT, TILE_FIELDS };

SHARED int least(int a, int b) { return a < b ? a : b; }

SHARED int clamped(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

// Pixels that are loaded or stored as one.
template <typename Value>
struct alignas(sizeof(Value) * GROUP) Group {
    Value values[GROUP];
};

// Round to nearest, ties to even, as rintf() does wherever the mode was not changed.
SHARED float rounded(float value) {
#ifdef __CUDA_ARCH__
    return rintf(value);
#else
    return __builtin_rintf(value);
#endif
}
