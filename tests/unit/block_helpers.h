/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the tests of block devices: opening them by options, one request and its result, images. */
#ifndef TESTS_UNIT_BLOCK_HELPERS_H
#define TESTS_UNIT_BLOCK_HELPERS_H

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "backends/block/block.h"

#define TIMEOUT_S 20

struct request {
    struct block_request request; /* first */
    struct iovec iov[8];
    int result;
    unsigned times_done;
};

static inline void on_done(struct block_request *block_request, int result)
{
    struct request *request = (struct request *)block_request;

    request->result = result;
    request->times_done++;
}

static inline void fill(struct request *request, enum block_operation operation, uint64_t offset,
                        void *buffer, uint64_t length)
{
    memset(request, 0, sizeof(*request));
    request->request.operation = operation;
    request->request.offset = offset;
    request->request.length = length;
    request->request.done = on_done;
    request->request.iov = request->iov;
    if (buffer) {
        request->iov[0] = (struct iovec){buffer, length};
        request->request.iov_count = 1;
    }
}

static inline void wait_for(struct block *block)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT_S * G_USEC_PER_SEC;

    while (block->in_flight) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        loop_iterate(block->loop, true);
    }
}

static inline int run(struct block *block, struct request *request)
{
    block_submit(block, &request->request);
    g_assert_cmpuint(request->times_done, ==, 0);
    block_kick(block);
    wait_for(block);
    g_assert_cmpuint(request->times_done, ==, 1);
    return request->result;
}

static inline int operate(struct block *block, enum block_operation operation, uint64_t offset,
                          void *buffer, uint64_t length)
{
    struct request request;

    fill(&request, operation, offset, buffer, length);
    return run(block, &request);
}

static inline struct options *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct options *options = options_parse(block_options, "--disk", text, &error);

    g_assert_no_error(error);
    return options;
}

static inline struct block *open_disk(const char *text)
{
    g_autoptr(options_t) options = parse(text);
    g_autoptr(GError) error = NULL;
    struct block *block = block_open(options, loop_main(), &error);

    g_assert_no_error(error);
    g_assert_nonnull(block);
    return block;
}

static inline void assert_refused(const char *text, const char *expected)
{
    g_autoptr(options_t) options = parse(text);
    g_autoptr(GError) error = NULL;
    struct block *block = block_open(options, loop_main(), &error);

    g_assert_null(block);
    g_assert_nonnull(error);
    if (!strstr(error->message, expected))
        g_error("'%s' is not in: %s", expected, error->message);
    g_assert_null(strchr(error->message, '\n'));
}

static inline void pattern(uint8_t *buffer, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++)
        buffer[i] = (uint8_t)((i + seed) * 2654435761u >> 13);
}

static inline bool is_zero(const uint8_t *buffer, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (buffer[i])
            return false;
    }
    return true;
}

/* A new image of @size bytes of pattern in @where; the caller frees (and removes) the name. */
static inline char *make_image(const char *where, size_t size)
{
    char *path = g_build_filename(where, "lodge-block-XXXXXX", NULL);
    g_autofree uint8_t *data = g_malloc(size + 1);
    int fd = g_mkstemp(path);

    g_assert_cmpint(fd, >=, 0);
    pattern(data, size, 0);
    g_assert_cmpint(write(fd, data, size), ==, size);
    close(fd);
    return path;
}

static inline void remove_image(char *path)
{
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_free(path);
}

/* Does opening it with these options work here? (O_DIRECT, io_uring: not everywhere.) */
static inline bool can_open(const char *text)
{
    g_autoptr(options_t) options = parse(text);
    struct block *block = block_open(options, loop_main(), NULL);

    block_close(block);
    return block;
}

#endif
