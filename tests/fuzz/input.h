/* SPDX-License-Identifier: GPL-2.0-or-later */
/* input - a fuzzer's bytes, taken as little-endian numbers from the front; zeroes when there are no more */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct input {
    const uint8_t *data;
    size_t left;
};

static inline uint64_t take(struct input *input, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes && input->left; i++, input->left--)
        value |= (uint64_t)*input->data++ << (8 * i);
    return value;
}

static inline uint8_t take8(struct input *input)
{
    return take(input, 1);
}

static inline uint16_t take16(struct input *input)
{
    return take(input, 2);
}

static inline uint32_t take32(struct input *input)
{
    return take(input, 4);
}

#endif
