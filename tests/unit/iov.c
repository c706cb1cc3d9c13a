/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iov - tests of vmm/iov.h: each function beside the same on one flat buffer, at every offset and size
 */
#include "vmm/iov.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

#define BYTES 12u

static uint8_t memory[BYTES];

/* Pieces of 3, 0, 1, 8 and 0 bytes of it. */
static unsigned make(struct iovec *iov)
{
    static const size_t sizes[] = {3, 0, 1, 8, 0};
    size_t at = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        iov[i] = (struct iovec){memory + at, sizes[i]};
        at += sizes[i];
    }
    g_assert_cmpuint(at, ==, BYTES);
    for (unsigned i = 0; i < BYTES; i++)
        memory[i] = (uint8_t)(i + 1);
    return G_N_ELEMENTS(sizes);
}

static size_t there(size_t offset, size_t size)
{
    return offset < BYTES ? MIN(size, BYTES - offset) : 0;
}

static void test_size(void)
{
    struct iovec iov[5];
    unsigned count = make(iov);

    g_assert_cmpuint(iov_size(iov, count), ==, BYTES);
    g_assert_cmpuint(iov_size(iov, 0), ==, 0);
}

static void test_read(void)
{
    struct iovec iov[5];
    unsigned count = make(iov);

    for (size_t offset = 0; offset < BYTES + 3; offset++)
        for (size_t size = 0; size < BYTES + 3; size++) {
            uint8_t data[BYTES + 3] = {0};

            g_assert_cmpuint(iov_read(iov, count, offset, data, size), ==, there(offset, size));
            if (there(offset, size))
                g_assert_cmpmem(data, there(offset, size), memory + offset, there(offset, size));
            g_assert_cmpuint(data[there(offset, size)], ==, 0);
        }
}

static void test_write(void)
{
    struct iovec iov[5];

    for (size_t offset = 0; offset < BYTES + 3; offset++)
        for (size_t size = 0; size < BYTES + 3; size++) {
            unsigned count = make(iov);
            uint8_t data[BYTES + 3], expected[BYTES];

            memset(data, 0xee, sizeof(data));
            memcpy(expected, memory, BYTES);
            if (there(offset, size))
                memset(expected + offset, 0xee, there(offset, size));
            g_assert_cmpuint(iov_write(iov, count, offset, data, size), ==, there(offset, size));
            g_assert_cmpmem(memory, BYTES, expected, BYTES);
        }
}

static void test_slice(void)
{
    struct iovec iov[5], out[5];
    unsigned count = make(iov);

    for (size_t offset = 0; offset < BYTES + 3; offset++)
        for (size_t size = 0; size < BYTES + 3; size++) {
            size_t covered = size;
            unsigned used = iov_slice(iov, count, offset, &covered, out, G_N_ELEMENTS(out));

            g_assert_cmpuint(covered, ==, there(offset, size));
            g_assert_cmpuint(iov_size(out, used), ==, covered);
            for (unsigned i = 0; i < used; i++)
                g_assert_cmpuint(out[i].iov_len, >, 0);
            if (used)
                g_assert_true(out[0].iov_base == memory + offset);
        }
}

static void test_slice_room(void)
{
    struct iovec iov[5], out[2];
    unsigned count = make(iov);
    size_t size = BYTES;

    g_assert_cmpuint(iov_slice(iov, count, 1, &size, out, G_N_ELEMENTS(out)), ==, 2);
    g_assert_cmpuint(size, ==, 3); /* two bytes of the first piece, and the one of the third */
}

static void test_drop(void)
{
    for (size_t size = 0; size < BYTES + 3; size++) {
        struct iovec iov[5], *left;
        unsigned count = make(iov);

        left = iov_drop(iov, &count, size);
        g_assert_cmpuint(iov_size(left, count), ==, BYTES - MIN(size, BYTES));
        if (size < BYTES)
            g_assert_true(left->iov_base == memory + size);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/iov/size/counts_every_piece", test_size);
    g_test_add_func("/iov/read/is_as_of_one_buffer", test_read);
    g_test_add_func("/iov/write/touches_those_bytes_alone", test_write);
    g_test_add_func("/iov/slice/covers_those_bytes", test_slice);
    g_test_add_func("/iov/slice/says_what_it_had_room_for", test_slice_room);
    g_test_add_func("/iov/drop/leaves_the_rest", test_drop);
    return g_test_run();
}
