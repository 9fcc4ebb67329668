// Frames as decoders give them (NV12) to what detectors take, all in whole numbers.
#include "grid.cuh"

enum { FRACTION = 16 };  // bits of the colour matrix
enum { WEIGHT = 11 };    // bits of weights between pixels, as in OpenCV's resize

// Of YUV to RGB, in 1 / 65536: what a code above black, Cb and Cr add to red, green and blue.
struct Matrix {
    int black, luma, red_cr, green_cb, green_cr, blue_cb;
};

struct Bgr {
    int blue, green, red;
};

SHARED int code_of(int sum) {
    return clamped((sum + (1 << (FRACTION - 1))) >> FRACTION, 0, 255);
}

// A pixel of a picture (height, width) of luma and one of interleaved Cb and Cr at half its size.
SHARED Bgr pixel_at(const uint8_t* luma, int luma_pitch, const uint8_t* chroma, int chroma_pitch,
                    int row, int column, const Matrix& m) {
    const uint8_t* pair = chroma + (long long)(row / 2) * chroma_pitch + (column & ~1);
    const int y = (luma[(long long)row * luma_pitch + column] - m.black) * m.luma;
    const int cb = pair[0] - 128, cr = pair[1] - 128;
    return Bgr{code_of(y + m.blue_cb * cb),
               code_of(y + m.green_cb * cb + m.green_cr * cr),
               code_of(y + m.red_cr * cr)};
}

// Where a pixel of a resized side lies in the original, in 1 / 2048 px: centres on centres.
SHARED int source_of(int place, int side, int resized) {
    const long long twice = (2LL * place + 1) * side - resized;  // times 2 · resized
    const long long scaled = twice * (1 << WEIGHT), whole = 2LL * resized;
    return (int)(scaled >= 0 ? scaled / whole : -((-scaled + whole - 1) / whole));  // down
}

SHARED int between(int a, int b, int c, int d, int across, int down) {
    const int one = 1 << WEIGHT;
    const int upper = a * (one - across) + b * across, lower = c * (one - across) + d * across;
    return (upper * (one - down) + lower * down + (1 << (2 * WEIGHT - 1))) >> (2 * WEIGHT);
}

// tensor (3, side_height, side_width): red, green, blue in [0, 1], the picture resized to
// (resized_height, resized_width) from (top, left) on, the rest filled with a code.
#define LETTERBOX(name, Value)                                                                     \
    KERNEL name(const uint8_t* luma, int luma_pitch, const uint8_t* chroma, int chroma_pitch,      \
                int height, int width, int black, int luma_gain, int red_cr, int green_cb,         \
                int green_cr, int blue_cb, int top, int left, int resized_height,                  \
                int resized_width, int side_height, int side_width, int fill, Value* tensor) {     \
        const Matrix m = {black, luma_gain, red_cr, green_cb, green_cr, blue_cb};                  \
        const long long plane = (long long)side_height * side_width;                               \
        EACH_ITEM(item, side_height * side_width) {                                                \
            const Bgr pixel = letterboxed(luma, luma_pitch, chroma, chroma_pitch, height, width,   \
                                          m, item / side_width - top, item % side_width - left,    \
                                          resized_height, resized_width, fill);                    \
            tensor[item] = (Value)((float)pixel.red * CODE);                                       \
            tensor[plane + item] = (Value)((float)pixel.green * CODE);                             \
            tensor[2 * plane + item] = (Value)((float)pixel.blue * CODE);                          \
        }                                                                                          \
    }

SHARED Bgr letterboxed(const uint8_t* luma, int luma_pitch, const uint8_t* chroma, int chroma_pitch,
                       int height, int width, const Matrix& m, int row, int column,
                       int resized_height, int resized_width, int fill) {
    if (row < 0 || row >= resized_height || column < 0 || column >= resized_width)
        return Bgr{fill, fill, fill};
    const int y = source_of(row, height, resized_height);
    const int x = source_of(column, width, resized_width);
    const int mask = (1 << WEIGHT) - 1, down = y & mask, across = x & mask;
    const int upper = y >> WEIGHT, first = x >> WEIGHT;  // -1 at the very edge
    Bgr corner[4];
    for (int at = 0; at < 4; ++at)
        corner[at] = pixel_at(luma, luma_pitch, chroma, chroma_pitch,
                              clamped(upper + at / 2, 0, height - 1),
                              clamped(first + at % 2, 0, width - 1), m);
    return Bgr{between(corner[0].blue, corner[1].blue, corner[2].blue, corner[3].blue, across, down),
               between(corner[0].green, corner[1].green, corner[2].green, corner[3].green, across,
                       down),
               between(corner[0].red, corner[1].red, corner[2].red, corner[3].red, across, down)};
}

LETTERBOX(letterbox_fp32, float)
LETTERBOX(letterbox_fp16, Half)
