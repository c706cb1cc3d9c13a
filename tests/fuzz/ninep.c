/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: raw 9P messages to the file server, over a small directory of its own.
 *
 * Input: a byte that says how large the pieces of requests and replies are (0: one piece), a byte for
 * the room for replies (in units of 64 bytes; 0: plenty), then messages one after the other, each as
 * long as its size field says (as far as there are bytes). The server begins with a session and the
 * directory as fid 0, so that also inputs without Tversion get somewhere.
 *
 * What must hold: every message is answered within its room, with its own tag, by its own reply or
 * Rlerror; nothing outside the directory changes; no descriptor stays open.
 */
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/ninep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_MESSAGES 256u

/* TOP/shared is shared, TOP/outside must stay as it is. */
static char *build_tree(void)
{
    char *top = scratch_create();

    scratch_mkdir(top, "outside");
    scratch_write(top, "outside/secret", "secret");
    scratch_mkdir(top, "shared/d/e");
    scratch_write(top, "shared/f", "contents");
    scratch_write(top, "shared/d/g", "more");
    scratch_symlink(top, "shared/l", "../outside");
    scratch_symlink(top, "shared/d/l", "../../outside/secret");
    return top;
}

static void check_outside(const char *top)
{
    g_autofree char *secret = scratch_read(top, "outside/secret");
    g_autofree char *path = g_build_filename(top, "outside", NULL);
    struct stat stat_buffer;

    g_assert_cmpstr(secret, ==, "secret");
    g_assert_cmpint(stat(path, &stat_buffer), ==, 0);
    g_assert_cmpuint(stat_buffer.st_mode & 07777, ==, 0755);
}

/* So that what the guest has forbidden can be removed again, also by who is not root. */
static int allow(const char *path, const struct stat *stat_buffer, int type, struct FTW *ftw)
{
    return type == FTW_D || type == FTW_DNR ? chmod(path, 0755) : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *top = build_tree();
    g_autofree char *shared = g_build_filename(top, "shared", NULL);
    struct client_config config = {.dir = shared,
                                   .security = SHARE_SECURITY_NONE,
                                   .max_fids = 64,
                                   .max_open = 8,
                                   .max_cached = 4};
    unsigned before = count_descriptors();
    struct client *client = client_create(&config);

    log_set_levels("error", NULL);
    if (size >= 2) {
        client->piece = data[0];
        client->room = data[1] ? 64u * data[1] : 65536;
        data += 2;
        size -= 2;
    }
    for (unsigned i = 0; size >= P9_HEADER_SIZE && i < MAX_MESSAGES; i++) {
        uint32_t length = data[0] | data[1] << 8 | data[2] << 16 | (uint32_t)data[3] << 24;

        length = CLAMP(length, P9_HEADER_SIZE, MIN(size, 60000));
        memcpy(client->tx_buffer, data, length);
        client_send(client, length);
        data += length;
        size -= length;
    }
    client_destroy(client, false);
    g_assert_cmpuint(count_descriptors(), ==, before);
    check_outside(top);
    nftw(shared, allow, 16, FTW_PHYS | FTW_MOUNT);
    scratch_remove(top);
    return 0;
}
