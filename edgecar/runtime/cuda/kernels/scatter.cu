// What is kept of tiles, as codes in the frame.
#include "grid.cuh"

template <typename Value>
SHARED uint8_t code_from(Value unit) {
    const float scaled = rounded((float)unit * 255.0f);
    // Written so that what is not a number becomes 0.
    return (uint8_t)(scaled >= 255.0f ? 255.0f : scaled > 0.0f ? scaled : 0.0f);
}

// The kept part of every slot's tile, rounded to even and clipped, into a frame (channels, height,
// pitch). Kept parts are disjoint, so nothing is written twice. Groups lie where the frame's words
// do; at the sides of a kept part they are written byte by byte.
template <typename Value>
SHARED void scatter_group(const Value* tiles, int channels, const int* plan, const int* chosen,
                          const int* found, int first, int tile_height, int tile_width, int layer,
                          int item, uint8_t* frame, int height, int pitch) {
    const int slot = layer / channels, channel = layer % channels, place = first + slot;
    if (place >= *found) return;
    const int* tile = plan + (chosen ? chosen[place] : place) * TILE_FIELDS;
    const int groups = tile_width / GROUP + 2;  // one more at each side that is cut by the word
    const int row = tile[KEEP_TOP] + item / groups;
    const int column = (tile[KEEP_LEFT] & ~(GROUP - 1)) + item % groups * GROUP;
    const int right = tile[KEEP_RIGHT];
    if (row >= tile[KEEP_BOTTOM] || column >= right) return;
    const int inside = column - tile[READ_LEFT];
    const Value* in =
        tiles + ((long long)layer * tile_height + row - tile[READ_TOP]) * tile_width + inside;
    uint8_t* out = frame + ((long long)channel * height + row) * pitch + column;
    if (column < tile[KEEP_LEFT] || column + GROUP > right) {
        for (int at = 0; at < GROUP; ++at)
            if (column + at >= tile[KEEP_LEFT] && column + at < right) out[at] = code_from(in[at]);
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
    KERNEL name(const Value* tiles, int channels, const int* plan, const int* chosen,           \
                const int* found, int first, int batch, int tile_height, int tile_width,           \
                uint8_t* frame, int height, int pitch) {                                           \
        const int items = tile_height * (tile_width / GROUP + 2);                                  \
        EACH_LAYER(layer, batch * channels) {                                                      \
            EACH_ITEM(item, items) {                                                               \
                scatter_group(tiles, channels, plan, chosen, found, first, tile_height,         \
                              tile_width, layer, item, frame, height, pitch);                      \
            }                                                                                      \
        }                                                                                          \
    }

SCATTER(scatter_fp32, float)
SCATTER(scatter_fp16, Half)
