// Which tiles of a frame differ from the frame before, and the list of them.
#include "grid.cuh"

enum { WORD = 16 };  // bytes that a thread compares at a time

struct alignas(WORD) Word {
    uint64_t low, high;
};

// Bytes of eight that lie in [from, to), counted from the first; all others are nought.
SHARED uint64_t masked(uint64_t bytes, int from, int to) {
    from = clamped(from, 0, 8);
    to = clamped(to, 0, 8);
    if (from >= to) return 0;
    const uint64_t all = ~(uint64_t)0;
    return bytes & (all << (8 * from)) & (all >> (8 * (8 - to)));
}

// Whether columns [left, right) of two rows differ within a word; memory is read beyond them, up to
// the ends of the word, which is why rows begin and end at words.
SHARED int word_differs(const uint8_t* before, const uint8_t* after, int word, int left, int right) {
    const int start = word * WORD;
    const Word a = *(const Word*)(before + start), b = *(const Word*)(after + start);
    return masked(a.low ^ b.low, left - start, right - start) != 0 ||
           masked(a.high ^ b.high, left - start - 8, right - start - 8) != 0;
}

// flags[tile] = stamp where any byte that the tile reads of any channel differs; else it keeps
// what an earlier frame, of another stamp, left there: nothing has to be cleared, and threads need
// not agree on anything. Rows and columns that only repeat the frame's last ones change with them
// and are not compared.
//
// Planes (channels, height, pitch), plan (count, 6), flags (count). Tiles lie along y; a thread
// compares a word.
KERNEL changed(const uint8_t* before, const uint8_t* after, int height, int width, int pitch,
               int channels, const int* plan, int count, int tile_height, int tile_width,
               int stamp, int* flags) {
    EACH_LAYER(number, count) {
        const int* tile = plan + number * TILE_FIELDS;
        const int top = tile[READ_TOP], left = tile[READ_LEFT];
        const int rows = least(top + tile_height, height) - top;
        const int right = least(left + tile_width, width);
        const int first = left / WORD, words = (right + WORD - 1) / WORD - first;
        EACH_ITEM(item, channels * rows * words) {
            const int word = first + item % words, row = item / words;
            const long long at =
                ((long long)(row / rows) * height + top + row % rows) * (long long)pitch;
            if (word_differs(before + at, after + at, word, left, right)) flags[number] = stamp;
        }
    }
}

// chosen = the numbers of tiles whose flag is the stamp, in order; found[0] = how many there are.
// Every tile counts the flags before its own: there are few, and the order is always the same.
KERNEL listed(const int* flags, int count, int stamp, int* chosen, int* found) {
    EACH_ITEM(number, count) {
        int before = 0;
        for (int other = 0; other < number; ++other) before += flags[other] == stamp;
        if (flags[number] == stamp) chosen[before] = number;
        if (number == count - 1) found[0] = before + (flags[number] == stamp);
    }
}
