// One source, two ways to run it: nvcc makes kernels of it, and a C++ compiler functions that go
// over the same grid in loops. What a kernel does to its memory is tested the second way.
#pragma once

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define SHARED static __host__ __device__ __forceinline__
#define SHARED_MEMBER __host__ __device__ __forceinline__
#define KERNEL extern "C" __global__ void
// Items lie along x, as many as there are threads in a block times blocks; layers along y.
#define EACH_LAYER(layer, layers) \
    const int layer = blockIdx.y; \
    if (layer < (layers))
#define EACH_ITEM(item, items) \
    const int item = blockIdx.x * blockDim.x + threadIdx.x; \
    if (item < (items))
#else
#define SHARED static inline
#define SHARED_MEMBER inline
#define KERNEL extern "C" void
#define EACH_LAYER(layer, layers) for (int layer = 0; layer < (layers); ++layer)
#define EACH_ITEM(item, items) for (int item = 0; item < (items); ++item)
#endif

// Four pixels are what a thread handles: a warp then reads and writes whole cache lines.
enum { GROUP = 4 };

// Of a window, in this order: where it is read from, and what is kept of it (end exclusive).
enum { READ_TOP, READ_LEFT, KEEP_TOP, KEEP_LEFT, KEEP_BOTTOM, KEEP_RIGHT, WINDOW_FIELDS };

SHARED int least(int a, int b) { return a < b ? a : b; }

SHARED int clamped(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

SHARED bool is_aligned(const void* pointer, long long pitch, int bytes) {
    return (((unsigned long long)pointer | (unsigned long long)pitch) & (bytes - 1)) == 0;
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

// Half precision as bits, so that both compilers see one type.
struct Half {
    uint16_t bits;
};

SHARED Half half_from_float(float value) {
#ifdef __CUDA_ARCH__
    return Half{__half_as_ushort(__float2half_rn(value))};
#else
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (bits >> 16) & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return Half{(uint16_t)(sign | 0x7fff)};   // not a number
    if (bits >= 0x47800000) return Half{(uint16_t)(sign | 0x7c00)};  // 65536 and more
    int shift = 13;
    uint32_t kept;
    if (bits < 0x38800000) {  // below the least normal half: mantissa with its leading one
        shift = 126 - (int)(bits >> 23);
        if (shift > 24) return Half{sign};
        bits = (bits & 0x7fffff) | 0x800000;
        kept = bits >> shift;
    } else {
        kept = (bits - 0x38000000) >> shift;
    }
    const uint32_t rest = bits & ((1u << shift) - 1), tie = 1u << (shift - 1);
    if (rest > tie || (rest == tie && (kept & 1))) ++kept;
    return Half{(uint16_t)(sign | kept)};
#endif
}

SHARED float float_from_half(Half half) {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(half.bits));
#else
    const uint32_t sign = (uint32_t)(half.bits & 0x8000) << 16, kept = half.bits & 0x7fff;
    uint32_t bits = sign | ((kept << 13) + 0x38000000);
    float value;
    if (kept >= 0x7c00) bits = sign | 0x7f800000 | (kept & 0x3ff) << 13;
    if (kept < 0x400) {  // below the least normal half: so many times 2 to the -24th
        value = (float)kept * (1.0f / 16777216.0f);
        return sign ? -value : value;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
#endif
}
