/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virgl_fake - virglrenderer's functions, without GL (virgl_fake.h) */
#include "tests/support/virgl_fake.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/uio.h>
#include <virglrenderer.h>

#define LARGEST (UINT64_C(256) << 20) /* bytes: beyond, the device should have said no */

bool virgl_fake_holds, virgl_fake_fails;

struct virgl_box {
    uint32_t x, y, z, w, h, d;
};

struct texture {
    uint32_t width, height;
    uint8_t *pixels; /* NULL: not a texture in 2D */
    struct iovec *iov;
    unsigned count;
};

static GHashTable *textures, *contexts;
static struct virgl_renderer_callbacks *callbacks;
static void *cookie;
static uint32_t last_fence, done_fence;

static void free_texture(gpointer data)
{
    struct texture *texture = data;

    g_assert_null(texture->iov);
    g_free(texture->pixels);
    g_free(texture);
}

static struct texture *find(uint32_t id)
{
    struct texture *texture = g_hash_table_lookup(textures, GUINT_TO_POINTER(id));

    g_assert_nonnull(texture);
    return texture;
}

static void assert_context(uint32_t id)
{
    g_assert_true(g_hash_table_contains(contexts, GUINT_TO_POINTER(id)));
}

unsigned virgl_fake_objects(void)
{
    return textures ? g_hash_table_size(textures) + g_hash_table_size(contexts) : 0;
}

/* ---- life ---- */

int virgl_renderer_init(void *opaque, int flags, struct virgl_renderer_callbacks *cb)
{
    if (virgl_fake_fails)
        return -1;
    g_assert_null(textures);
    textures = g_hash_table_new_full(NULL, NULL, NULL, free_texture);
    contexts = g_hash_table_new(NULL, NULL);
    callbacks = cb;
    cookie = opaque;
    last_fence = done_fence = 0;
    return 0;
}

void virgl_renderer_cleanup(void *opaque)
{
    g_assert_cmpuint(virgl_fake_objects(), ==, 0);
    g_clear_pointer(&textures, g_hash_table_destroy);
    g_clear_pointer(&contexts, g_hash_table_destroy);
}

virgl_debug_callback_type virgl_set_debug_callback(virgl_debug_callback_type callback)
{
    return NULL;
}

int virgl_renderer_get_poll_fd(void)
{
    return -1;
}

void virgl_renderer_poll(void)
{
    if (virgl_fake_holds || done_fence == last_fence)
        return;
    done_fence = last_fence;
    callbacks->write_fence(cookie, done_fence);
}

int virgl_renderer_create_fence(int id, uint32_t context)
{
    if (virgl_fake_fails)
        return EINVAL;
    last_fence = id;
    return 0;
}

/* ---- capabilities ---- */

void virgl_renderer_get_cap_set(uint32_t set, uint32_t *version, uint32_t *size)
{
    *version = set;
    *size = set * 100;
}

void virgl_renderer_fill_caps(uint32_t set, uint32_t version, void *caps)
{
    g_assert_cmpuint(version, <=, set);
    memset(caps, 0x10 + set, set * 100);
}

/* ---- contexts ---- */

int virgl_renderer_context_create(uint32_t id, uint32_t length, const char *name)
{
    g_assert_true(id && !g_hash_table_contains(contexts, GUINT_TO_POINTER(id)));
    g_assert_cmpuint(strlen(name), ==, length);
    if (virgl_fake_fails)
        return ENOMEM;
    g_hash_table_add(contexts, GUINT_TO_POINTER(id));
    return 0;
}

int virgl_renderer_context_create_with_flags(uint32_t id, uint32_t flags, uint32_t length,
                                             const char *name)
{
    g_assert_true(flags == 1 || flags == 2);
    return virgl_renderer_context_create(id, length, name);
}

void virgl_renderer_context_destroy(uint32_t id)
{
    assert_context(id);
    g_hash_table_remove(contexts, GUINT_TO_POINTER(id));
}

void virgl_renderer_ctx_attach_resource(int context, int id)
{
    assert_context(context);
    find(id);
}

void virgl_renderer_ctx_detach_resource(int context, int id)
{
    assert_context(context);
    find(id);
}

int virgl_renderer_submit_cmd(void *buffer, int context, int words)
{
    const uint32_t *word = buffer;
    struct texture *texture;

    assert_context(context);
    g_assert_cmpint(words, >, 0);
    texture = words > 1 ? g_hash_table_lookup(textures, GUINT_TO_POINTER(word[0])) : NULL;
    if (!texture || !texture->pixels || virgl_fake_fails)
        return EINVAL;
    for (size_t i = 0; i < (size_t)texture->width * texture->height; i++)
        memcpy(texture->pixels + 4 * i, &word[1], 4);
    return 0;
}

/* ---- resources ---- */

int virgl_renderer_resource_create(struct virgl_renderer_resource_create_args *args,
                                   struct iovec *iov, uint32_t count)
{
    uint64_t bytes = (uint64_t)args->width * args->height * args->depth * MAX(args->array_size, 1) *
                     MAX(args->nr_samples, 1);
    struct texture *texture;

    g_assert_true(args->handle && bytes);
    g_assert_cmpuint(bytes, <=, LARGEST);
    g_assert_false(g_hash_table_contains(textures, GUINT_TO_POINTER(args->handle)));
    if (virgl_fake_fails)
        return EINVAL;
    texture = g_new0(struct texture, 1);
    texture->width = args->width;
    texture->height = args->height;
    if (args->target == 2 && args->depth == 1 && args->array_size <= 1)
        texture->pixels = g_malloc0(4 * (gsize)args->width * args->height);
    g_hash_table_insert(textures, GUINT_TO_POINTER(args->handle), texture);
    return 0;
}

void virgl_renderer_resource_unref(uint32_t id)
{
    find(id);
    g_hash_table_remove(textures, GUINT_TO_POINTER(id));
}

int virgl_renderer_resource_attach_iov(int id, struct iovec *iov, int count)
{
    struct texture *texture = find(id);

    g_assert_null(texture->iov);
    if (virgl_fake_fails)
        return EINVAL;
    texture->iov = iov;
    texture->count = count;
    return 0;
}

void virgl_renderer_resource_detach_iov(int id, struct iovec **iov, int *count)
{
    struct texture *texture = find(id);

    g_assert_nonnull(texture->iov);
    *iov = texture->iov;
    *count = texture->count;
    texture->iov = NULL;
}

/* ---- transfers ---- */

/* A row between a texture and byte @offset of the pieces; false: beyond their end. */
static bool copy_row(uint8_t *pixels, size_t size, const struct iovec *iov, unsigned count,
                     uint64_t offset, bool to_host)
{
    for (; size && count; iov++, count--) {
        size_t part;

        if (offset >= iov->iov_len) {
            offset -= iov->iov_len;
            continue;
        }
        part = MIN(size, iov->iov_len - offset);
        if (to_host)
            memcpy(pixels, (uint8_t *)iov->iov_base + offset, part);
        else
            memcpy((uint8_t *)iov->iov_base + offset, pixels, part);
        pixels += part;
        size -= part;
        offset = 0;
    }
    return !size;
}

static int transfer(uint32_t id, uint32_t context, uint32_t level, uint32_t stride,
                    const struct virgl_box *box, uint64_t offset, struct iovec *iov, unsigned count,
                    bool to_host)
{
    struct texture *texture = find(id);

    if (context)
        assert_context(context);
    if (!iov) {
        iov = texture->iov;
        count = texture->count;
        g_assert_nonnull(iov);
    }
    if (!texture->pixels || level || box->z || box->d != 1 ||
        (uint64_t)box->x + box->w > texture->width || (uint64_t)box->y + box->h > texture->height ||
        virgl_fake_fails)
        return EINVAL;
    stride = stride ? stride : 4 * texture->width;
    for (uint32_t y = 0; y < box->h; y++)
        if (!copy_row(texture->pixels + 4 * ((size_t)(box->y + y) * texture->width + box->x),
                      4 * (size_t)box->w, iov, count, offset + (uint64_t)y * stride, to_host))
            return EINVAL;
    return 0;
}

int virgl_renderer_transfer_read_iov(uint32_t id, uint32_t context, uint32_t level, uint32_t stride,
                                     uint32_t layer_stride, struct virgl_box *box, uint64_t offset,
                                     struct iovec *iov, int count)
{
    return transfer(id, context, level, stride, box, offset, iov, count, false);
}

int virgl_renderer_transfer_write_iov(uint32_t id, uint32_t context, int level, uint32_t stride,
                                      uint32_t layer_stride, struct virgl_box *box, uint64_t offset,
                                      struct iovec *iov, unsigned count)
{
    return transfer(id, context, level, stride, box, offset, iov, count, true);
}
