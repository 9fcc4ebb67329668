// Codes of a frame to a batch of tiles as the network takes them.
#include "grid.cuh"

struct ToFloat {
    typedef float Value;
    SHARED_MEMBER Value operator()(uint8_t code) const { return (float)code * CODE; }
};

struct ToHalf {
    typedef Half Value;
    SHARED_MEMBER Value operator()(uint8_t code) const { return (Half)((float)code * CODE); }
};

// What QuantizeLinear makes of it, symmetric: divided, rounded to even, clipped.
struct ToInt8 {
    typedef int8_t Value;
    float scale;
    SHARED_MEMBER Value operator()(uint8_t code) const {
        const float steps = rounded((float)code * CODE / scale);
        return (int8_t)(steps < -128.0f ? -128.0f : steps > 127.0f ? 127.0f : steps);
    }
};

// Codes of a row from a column on, as many as a group has, however they lie: two aligned words are
// read and shifted. Beyond the row's end its last code is repeated.
SHARED uint32_t codes_at(const uint8_t* row, int column, int width) {
    if (column + GROUP <= width) {
        const uint32_t* words = (const uint32_t*)(row + (column & ~3));
        const int shift = 8 * (column & 3);
        return shift ? words[0] >> shift | words[1] << (32 - shift) : words[0];
    }
    uint32_t codes = 0;
    for (int place = 0; place < GROUP; ++place)
        codes |= (uint32_t)row[least(column + place, width - 1)] << (8 * place);
    return codes;
}

// A tile (channels, tile_height, tile_width) in every slot of a batch: the one of the plan whose
// number stands at first + slot of `chosen`, or is that where `chosen` is null. Slots beyond the
// last are filled with noughts. Rows and columns beyond the frame repeat its last ones.
template <typename To>
SHARED void gather_group(To to, const uint8_t* frame, int height, int width, int pitch,
                         int channels, const int* plan, const int* chosen, const int* found,
                         int first, int tile_height, int tile_width, int layer, int item,
                         typename To::Value* tiles) {
    const int slot = layer / channels, channel = layer % channels, place = first + slot;
    const int groups = (tile_width + GROUP - 1) / GROUP;
    const int row = item / groups, column = item % groups * GROUP;
    typename To::Value* out =
        tiles + ((long long)layer * tile_height + row) * tile_width + column;
    Group<typename To::Value> group = {};
    if (place < *found) {
        const int* tile = plan + (chosen ? chosen[place] : place) * TILE_FIELDS;
        const int from = least(tile[READ_TOP] + row, height - 1);
        const uint8_t* codes_of_row = frame + ((long long)channel * height + from) * pitch;
        const uint32_t codes = codes_at(codes_of_row, tile[READ_LEFT] + column, width);
        for (int at = 0; at < GROUP; ++at) group.values[at] = to((uint8_t)(codes >> (8 * at)));
    }
    if (tile_width % GROUP == 0) {
        *(Group<typename To::Value>*)out = group;
    } else {
        for (int at = 0; at < least(GROUP, tile_width - column); ++at) out[at] = group.values[at];
    }
}

#define GATHER(name, To, Value, ...)                                                               \
    KERNEL name(const uint8_t* frame, int height, int width, int pitch, int channels,              \
                const int* plan, const int* chosen, const int* found, int first, int batch,     \
                int tile_height, int tile_width, float scale, Value* tiles) {                      \
        (void)scale;                                                                               \
        const int items = tile_height * ((tile_width + GROUP - 1) / GROUP);                        \
        EACH_LAYER(layer, batch * channels) {                                                      \
            EACH_ITEM(item, items) {                                                               \
                gather_group(To{__VA_ARGS__}, frame, height, width, pitch, channels, plan,      \
                             chosen, found, first, tile_height, tile_width, layer, item, tiles);   \
            }                                                                                      \
        }                                                                                          \
    }

GATHER(gather_fp32, ToFloat, float)
GATHER(gather_fp16, ToHalf, Half)
GATHER(gather_int8, ToInt8, int8_t, scale)
