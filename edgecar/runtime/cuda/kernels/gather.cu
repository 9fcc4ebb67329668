// Codes of a frame to a batch of tiles as the network takes them.
#include "grid.cuh"

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
// last are filled with noughts. Rows and columns beyond the frame repeat its last ones. Every slot
// is told the frame's quantiser.
template <typename Value>
SHARED void gather_group(const uint8_t* frame, int height, int width, int pitch, int channels,
                         const int* plan, const int* chosen, const int* found, int first,
                         int tile_height, int tile_width, int layer, int item, Value* tiles) {
    const int slot = layer / channels, channel = layer % channels, place = first + slot;
    const int groups = (tile_width + GROUP - 1) / GROUP;
    const int row = item / groups, column = item % groups * GROUP;
    Value* out = tiles + ((long long)layer * tile_height + row) * tile_width + column;
    Group<Value> group = {};
    if (place < *found) {
        const int* tile = plan + (chosen ? chosen[place] : place) * TILE_FIELDS;
        const int from = least(tile[READ_TOP] + row, height - 1);
        const uint8_t* codes_of_row = frame + ((long long)channel * height + from) * pitch;
        const uint32_t codes = codes_at(codes_of_row, tile[READ_LEFT] + column, width);
        for (int at = 0; at < GROUP; ++at)
            group.values[at] = (Value)((float)(uint8_t)(codes >> (8 * at)) * CODE);
    }
    if (tile_width % GROUP == 0) {
        *(Group<Value>*)out = group;
    } else {
        for (int at = 0; at < least(GROUP, tile_width - column); ++at) out[at] = group.values[at];
    }
}

#define GATHER(name, Value)                                                                        \
    KERNEL name(const uint8_t* frame, int height, int width, int pitch, int channels,              \
                const int* plan, const int* chosen, const int* found, int first, int batch,        \
                int tile_height, int tile_width, Value* tiles, float quantiser, float* told) {     \
        const int items = tile_height * ((tile_width + GROUP - 1) / GROUP);                        \
        EACH_LAYER(layer, batch * channels) {                                                      \
            EACH_ITEM(item, items) {                                                               \
                if (item == 0 && layer % channels == 0) told[layer / channels] = quantiser;        \
                gather_group(frame, height, width, pitch, channels, plan, chosen, found, first,    \
                             tile_height, tile_width, layer, item, tiles);                         \
            }                                                                                      \
        }                                                                                          \
    }

GATHER(gather_fp32, float)
GATHER(gather_fp16, Half)
