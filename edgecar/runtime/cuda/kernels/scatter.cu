// What is kept of tiles, as codes in the frame.
#include "grid.cuh"

SHARED uint8_t code_from_unit(float unit) {
    const float scaled = rounded(unit * 255.0f);
    // Written so that what is not a number becomes 0.
    return (uint8_t)(scaled >= 255.0f ? 255.0f : scaled > 0.0f ? scaled : 0.0f);
}

SHARED uint8_t code_from(float value) { return code_from_unit(value); }
SHARED uint8_t code_from(Half value) { return code_from_unit(float_from_half(value)); }

// The kept part of every slot's tile, rounded to even and clipped, into a frame (channels, height,
// pitch). Kept parts are disjoint, so nothing is written twice. Groups lie where the frame's words
// do; at the sides of a kept part they are written byte by byte.
template <typename Value>
SHARED void scatter_group(const Value* tiles, int channels, const int* windows, const int* chosen,
                          const int* found, int first, int tile_height, int tile_width, int layer,
                          int item, uint8_t* frame, int height, int pitch) {
    const int slot = layer / channels, channel = layer % channels, place = first + slot;
    if (place >= *found) return;
    const int* window = windows + (chosen ? chosen[place] : place) * WINDOW_FIELDS;
    const int groups = tile_width / GROUP + 2;  // one more at each side that is cut by the word
    const int row = window[KEEP_TOP] + item / groups;
    const int column = (window[KEEP_LEFT] & ~(GROUP - 1)) + item % groups * GROUP;
    const int right = window[KEEP_RIGHT];
    if (row >= window[KEEP_BOTTOM] || column >= right) return;
    const int inside = column - window[READ_LEFT];
    const Value* in =
        tiles + ((long long)layer * tile_height + row - window[READ_TOP]) * tile_width + inside;
    uint8_t* out = frame + ((long long)channel * height + row) * pitch + column;
    const bool whole = column >= window[KEEP_LEFT] && column + GROUP <= right;
    if (!whole || !is_aligned(frame, pitch, GROUP)) {
        for (int at = 0; at < GROUP; ++at)
            if (column + at >= window[KEEP_LEFT] && column + at < right) out[at] = code_from(in[at]);
        return;
    }
    Group<Value> group;
    if (((inside | tile_width) & (GROUP - 1)) == 0) {
        group = *(const Group<Value>*)in;
    } else {
        for (int at = 0; at < GROUP; ++at) group.values[at] = in[at];
    }
    uint32_t codes = 0;
    for (int at = 0; at < GROUP; ++at) codes |= (uint32_t)code_from(group.values[at]) << (8 * at);
    *(uint32_t*)out = codes;
}

#define SCATTER(name, Value)                                                                       \
    KERNEL name(const Value* tiles, int channels, const int* windows, const int* chosen,           \
                const int* found, int first, int batch, int tile_height, int tile_width,           \
                uint8_t* frame, int height, int pitch) {                                           \
        const int items = tile_height * (tile_width / GROUP + 2);                                  \
        EACH_LAYER(layer, batch * channels) {                                                      \
            EACH_ITEM(item, items) {                                                               \
                scatter_group(tiles, channels, windows, chosen, found, first, tile_height,         \
                              tile_width, layer, item, frame, height, pitch);                      \
            }                                                                                      \
        }                                                                                          \
    }

SCATTER(scatter_fp32, float)
SCATTER(scatter_fp16, Half)
