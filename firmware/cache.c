/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cache - unpacked kernels, kept between runs; see cache.h. */
#include "firmware/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/fd.h"
#include "vmm/log.h"

#define SUFFIX     ".vmlinux"
#define TEMPORARY  ".new-"
#define STALE      3600 /* seconds after which a temporary file has no writer any more */
#define EDGE_BYTES 4096u
#define BLOCK      65536u

struct trailer {
    char magic[8];
    uint64_t image_size; /* bytes before the trailer; 0: the kernel has no PVH entry */
    uint64_t checksum;
    char name[80]; /* the file's own: it holds the key */
};

static const char trailer_magic[8] = {'L', 'O', 'D', 'G', 'E', 'K', '0', '1'};

/* Ours, and nobody else can write it. */
static bool is_safe(const struct stat *st, mode_t type)
{
    return (st->st_mode & S_IFMT) == type && st->st_uid == geteuid() &&
           (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static bool make_key(struct cache *cache, const struct source *kernel)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    uint8_t edge[EDGE_BYTES];
    uint64_t size = MIN(sizeof(edge), kernel->size);
    const uint64_t numbers[] = {kernel->size, kernel->stat.st_mtim.tv_sec,
                                kernel->stat.st_mtim.tv_nsec};

    g_checksum_update(sum, (const guchar *)numbers, sizeof(numbers));
    if (!source_read(kernel, 0, edge, size, NULL))
        return false;
    g_checksum_update(sum, edge, size);
    if (!source_read(kernel, kernel->size - size, edge, size, NULL))
        return false;
    g_checksum_update(sum, edge, size);
    g_snprintf(cache->name, sizeof(cache->name), "%s" SUFFIX, g_checksum_get_string(sum));
    return true;
}

void cache_open(struct cache *cache, const char *path, const struct source *kernel)
{
    g_autofree char *standard = NULL;
    struct stat st;

    memset(cache, 0, sizeof(*cache));
    cache->folder = -1;
    if (path && !*path)
        return;
    if (!path)
        path = standard = g_build_filename(g_get_user_cache_dir(), "lodge", "kernels", NULL);
    if (!make_key(cache, kernel) || g_mkdir_with_parents(path, 0700) < 0)
        return;
    cache->folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (cache->folder >= 0 && (fstat(cache->folder, &st) < 0 || !is_safe(&st, S_IFDIR))) {
        log_debug("boot", "%s is not used: it is not ours alone", path);
        cache_close(cache);
    }
}

void cache_close(struct cache *cache)
{
    close_fd(cache->folder);
    cache->folder = -1;
}

enum cache_hit cache_find(struct cache *cache, struct source *image, uint64_t *checksum)
{
    struct trailer trailer;

    memset(image, 0, sizeof(*image));
    image->fd = -1;
    if (cache->folder < 0)
        return CACHE_MISS;
    image->fd = openat(cache->folder, cache->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (image->fd < 0)
        return CACHE_MISS;
    image->name = g_strdup_printf("unpacked kernel %s", cache->name);
    if (fstat(image->fd, &image->stat) == 0 && is_safe(&image->stat, S_IFREG) &&
        (uint64_t)image->stat.st_size >= sizeof(trailer)) {
        image->size = image->stat.st_size;
        uint64_t image_size = image->size - sizeof(trailer);
        if (source_read(image, image_size, &trailer, sizeof(trailer), NULL) &&
            memcmp(trailer.magic, trailer_magic, sizeof(trailer_magic)) == 0 &&
            memcmp(trailer.name, cache->name, sizeof(trailer.name)) == 0 &&
            trailer.image_size == image_size) {
            futimens(image->fd,
                     NULL); /* it was used now; a read-only file system does not matter */
            *checksum = trailer.checksum;
            image->size = image_size;
            if (image_size > 0)
                return CACHE_IMAGE;
            source_close(image);
            return CACHE_NO_PVH;
        }
    }
    source_close(image);
    cache_drop(cache);
    return CACHE_MISS;
}

void cache_drop(struct cache *cache)
{
    log_debug("boot", "the cached %s is damaged: removed", cache->name);
    unlinkat(cache->folder, cache->name, 0);
}

/* ---- storing ---- */

struct cached_file {
    char name[NAME_MAX + 1];
    struct timespec used;
};

static gint newest_first(gconstpointer a, gconstpointer b)
{
    const struct cached_file *left = a, *right = b;

    if (left->used.tv_sec != right->used.tv_sec)
        return left->used.tv_sec < right->used.tv_sec ? 1 : -1;
    return left->used.tv_nsec < right->used.tv_nsec ? 1 : -1;
}

/* Removes all but the CACHE_FILES used last, and what dead writers left. */
static void prune(struct cache *cache)
{
    g_autoptr(GArray) files = g_array_new(FALSE, TRUE, sizeof(struct cached_file));
    int copy = openat(cache->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;
    struct stat st;

    if (!dir) {
        close_fd(copy);
        return;
    }
    while ((entry = readdir(dir))) {
        struct cached_file file;

        if (fstatat(cache->folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (g_str_has_prefix(entry->d_name, TEMPORARY) &&
            st.st_mtim.tv_sec + STALE < g_get_real_time() / G_USEC_PER_SEC)
            unlinkat(cache->folder, entry->d_name, 0);
        if (!g_str_has_suffix(entry->d_name, SUFFIX))
            continue;
        g_strlcpy(file.name, entry->d_name, sizeof(file.name));
        file.used = st.st_mtim;
        g_array_append_val(files, file);
    }
    closedir(dir);
    g_array_sort(files, newest_first);
    for (guint i = CACHE_FILES; i < files->len; i++)
        unlinkat(cache->folder, g_array_index(files, struct cached_file, i).name, 0);
}

static bool write_all(int fd, const uint8_t *bytes, uint64_t size, uint64_t offset)
{
    while (size > 0) {
        ssize_t n = pwrite(fd, bytes, size, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        size -= n;
        offset += n;
    }
    return true;
}

/* Leaves holes where there are only zeros. */
static bool write_sparse(int fd, const uint8_t *bytes, uint64_t size, uint64_t offset)
{
    while (size > 0) {
        uint64_t n = MIN(size, BLOCK);

        if ((bytes[0] != 0 || memcmp(bytes, bytes + 1, n - 1) != 0) &&
            !write_all(fd, bytes, n, offset))
            return false;
        bytes += n;
        size -= n;
        offset += n;
    }
    return true;
}

static bool write_image(int fd, const struct elf_image *image, const uint8_t *head,
                        struct space *space)
{
    if (!write_all(fd, head, image->head_size, 0))
        return false;
    for (unsigned i = 0; i < image->notes; i++) {
        const struct elf_note *note = &image->note[i];
        if (!write_all(fd, note->bytes, note->size, note->offset))
            return false;
    }
    for (unsigned i = 0; i < image->segments; i++) {
        const struct elf_segment *segment = &image->segment[i];
        uint64_t done = 0;
        struct memory_span span;

        for (; done < segment->file_size; done += span.len) {
            if (!memory_find(space->memory, segment->gpa + done, segment->file_size - done,
                             &span) ||
                !write_sparse(fd, span.host, span.len, segment->offset + done))
                return false;
        }
    }
    return true;
}

void cache_store(struct cache *cache, const struct elf_image *image, const uint8_t *head,
                 struct space *space)
{
    struct trailer trailer = {.image_size = image ? image->end : 0};
    char temporary[64];
    int fd;

    if (cache->folder < 0)
        return;
    memcpy(trailer.magic, trailer_magic, sizeof(trailer_magic));
    memcpy(trailer.name, cache->name, sizeof(trailer.name));
    if (image)
        trailer.checksum = elf_checksum(image, head, space);
    g_snprintf(temporary, sizeof(temporary), TEMPORARY "%d-%08x", (int)getpid(), g_random_int());
    fd = openat(cache->folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                0600);
    if (fd < 0)
        return;
    bool ok = (!image || write_image(fd, image, head, space)) &&
              write_all(fd, (const uint8_t *)&trailer, sizeof(trailer), trailer.image_size);
    ok = close(fd) == 0 && ok;
    ok = ok && renameat(cache->folder, temporary, cache->folder, cache->name) == 0;
    if (ok) {
        prune(cache);
    } else {
        log_debug("boot", "the unpacked kernel was not kept: %s", g_strerror(errno));
        unlinkat(cache->folder, temporary, 0);
    }
}
