/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raw - disks whose bytes are those of a file or of a block device
 *
 *     --disk path=a.img,readonly=on,direct=on,engine=threads
 *
 * Locking: an open file description lock over the whole image, shared for read-only disks and
 * exclusive for writable ones, so that two monitors (or two disks of one) never write the same
 * image. Such locks end with the descriptor, whatever happens to the process. A block device that is
 * to be written is opened exclusively, so that a mounted one is refused.
 *
 * Size: fixed at open. A tail of less than a block (512 bytes; 4096 where O_DIRECT needs it) is not
 * visible to the guest, with a warning. A file that shrinks later gives I/O errors.
 *
 * Discard punches holes (BLKDISCARD on devices); write-zeroes uses the file system's or the device's
 * own means where there are any, and writes zeroes where there are none.
 */
#include "backends/block/raw.h"

#include <errno.h>
#include <inttypes.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmm/fd.h"
#include "vmm/log.h"

#define BOUNCE_SIZE (1u << 20)  /* bytes copied at a time when a guest's buffer is unaligned */
#define ZEROES_SIZE (64u << 10) /* of the block of zeroes */
#define ZEROES_IOVS 16u

/* ---- the iovec cursor ---- */

void raw_cursor_init(struct raw_cursor *cursor, const struct block_request *request)
{
    cursor->iov = request->iov;
    cursor->count = request->iov_count;
    if (cursor->count)
        cursor->saved = cursor->iov[0];
}

void raw_cursor_finish(struct raw_cursor *cursor)
{
    if (cursor->count)
        cursor->iov[0] = cursor->saved;
}

void raw_cursor_advance(struct raw_cursor *cursor, size_t bytes)
{
    while (cursor->count && bytes >= cursor->iov[0].iov_len) {
        bytes -= cursor->iov[0].iov_len;
        cursor->iov[0] = cursor->saved;
        cursor->iov++;
        cursor->count--;
        if (cursor->count)
            cursor->saved = cursor->iov[0];
    }
    if (cursor->count && bytes) {
        cursor->iov[0].iov_base = (uint8_t *)cursor->iov[0].iov_base + bytes;
        cursor->iov[0].iov_len -= bytes;
    }
}

/* ---- carrying out requests by blocking calls ---- */

bool raw_is_aligned(const struct raw_file *file, const struct block_request *request)
{
    uintptr_t bits = 0;

    if (!file->direct)
        return true;
    for (unsigned i = 0; i < request->iov_count; i++)
        bits |= (uintptr_t)request->iov[i].iov_base | request->iov[i].iov_len;
    return !(bits & (file->alignment - 1));
}

/* Reads or writes all of @cursor's bytes at @offset. */
static int transfer(struct raw_file *file, bool write, struct raw_cursor *cursor, uint64_t offset,
                    uint64_t length, int flags)
{
    while (length) {
        int count = MIN(cursor->count, IOV_MAX);
        ssize_t n = write ? pwritev2(file->fd, cursor->iov, count, offset, flags)
                          : preadv2(file->fd, cursor->iov, count, offset, flags);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0 || (uint64_t)n > length)
            return -EIO; /* beyond the end of a file that was cut short */
        raw_cursor_advance(cursor, n);
        offset += n;
        length -= n;
    }
    return 0;
}

static int transfer_plain(struct raw_file *file, struct block_request *request, int flags)
{
    struct raw_cursor cursor;
    int ret;

    raw_cursor_init(&cursor, request);
    ret = transfer(file, request->operation == BLOCK_WRITE, &cursor, request->offset,
                   request->length, flags);
    raw_cursor_finish(&cursor);
    return ret;
}

/* Copies between @buffer and the next @bytes of @cursor, which moves on. */
static void copy(struct raw_cursor *cursor, bool to_buffer, uint8_t *buffer, size_t bytes)
{
    while (bytes && cursor->count) {
        size_t n = MIN(bytes, cursor->iov[0].iov_len);

        if (to_buffer)
            memcpy(buffer, cursor->iov[0].iov_base, n);
        else
            memcpy(cursor->iov[0].iov_base, buffer, n);
        buffer += n;
        bytes -= n;
        raw_cursor_advance(cursor, n);
    }
}

static int transfer_bounced(struct raw_file *file, struct block_request *request, int flags)
{
    bool write = request->operation == BLOCK_WRITE;
    size_t size = MIN(request->length, BOUNCE_SIZE);
    struct raw_cursor cursor;
    void *buffer;
    int ret = 0;

    if (posix_memalign(&buffer, MAX(file->alignment, 4096), size))
        return -ENOMEM;
    raw_cursor_init(&cursor, request);
    for (uint64_t done = 0; done < request->length && ret == 0;) {
        size_t n = MIN(size, request->length - done);
        struct iovec iov = {buffer, n};
        struct raw_cursor step = {&iov, 1, iov};

        if (write)
            copy(&cursor, true, buffer, n);
        ret = transfer(file, write, &step, request->offset + done, n, flags);
        if (!write && ret == 0)
            copy(&cursor, false, buffer, n);
        done += n;
    }
    raw_cursor_finish(&cursor);
    free(buffer);
    return ret;
}

static int write_zeroes_by_hand(struct raw_file *file, uint64_t offset, uint64_t length)
{
    static const uint8_t zeroes[ZEROES_SIZE] __attribute__((aligned(4096)));

    while (length) {
        uint64_t step = MIN(length, (uint64_t)ZEROES_SIZE * ZEROES_IOVS);
        struct iovec iov[ZEROES_IOVS];
        struct block_request request = {.iov = iov};
        struct raw_cursor cursor;
        int ret;

        for (uint64_t left = step; left; left -= iov[request.iov_count++].iov_len) {
            iov[request.iov_count].iov_base = (void *)zeroes;
            iov[request.iov_count].iov_len = MIN(left, ZEROES_SIZE);
        }
        raw_cursor_init(&cursor, &request);
        ret = transfer(file, true, &cursor, offset, step, 0);
        if (ret < 0)
            return ret;
        offset += step;
        length -= step;
    }
    return 0;
}

static int allocate(struct raw_file *file, int mode, uint64_t offset, uint64_t length)
{
    int ret;

    do {
        ret = fallocate(file->fd, mode | FALLOC_FL_KEEP_SIZE, offset, length) < 0 ? -errno : 0;
    } while (ret == -EINTR);
    return ret;
}

static bool is_unsupported(int ret)
{
    return ret == -EOPNOTSUPP || ret == -ENOTTY || ret == -ENOSYS || ret == -EINVAL;
}

static int write_zeroes(struct raw_file *file, const struct block_request *request)
{
    uint64_t range[2] = {request->offset, request->length};
    int ret;

    /* With unmap the space may go; a hole reads as zeroes. */
    if (request->unmap && !__atomic_load_n(&file->no_punch_hole, __ATOMIC_RELAXED)) {
        ret = allocate(file, FALLOC_FL_PUNCH_HOLE, request->offset, request->length);
        if (!is_unsupported(ret))
            return ret;
        __atomic_store_n(&file->no_punch_hole, true, __ATOMIC_RELAXED);
    }
    if (!__atomic_load_n(&file->no_zero_range, __ATOMIC_RELAXED)) {
        if (file->is_device)
            ret = ioctl(file->fd, BLKZEROOUT, range) < 0 ? -errno : 0;
        else
            ret = allocate(file, FALLOC_FL_ZERO_RANGE, request->offset, request->length);
        if (!is_unsupported(ret))
            return ret;
        __atomic_store_n(&file->no_zero_range, true, __ATOMIC_RELAXED);
    }
    return write_zeroes_by_hand(file, request->offset, request->length);
}

static int discard(struct raw_file *file, const struct block_request *request)
{
    uint64_t range[2] = {request->offset, request->length};

    if (file->is_device)
        return ioctl(file->fd, BLKDISCARD, range) < 0 ? -errno : 0;
    return allocate(file, FALLOC_FL_PUNCH_HOLE, request->offset, request->length);
}

static int sync_data(struct raw_file *file)
{
    return fdatasync(file->fd) < 0 ? -errno : 0;
}

int raw_execute(struct raw_file *file, struct block_request *request)
{
    bool aligned = raw_is_aligned(file, request);
    int flags = request->fua ? RWF_DSYNC : 0;
    int ret;

    switch (request->operation) {
    case BLOCK_READ:
        return aligned ? transfer_plain(file, request, 0) : transfer_bounced(file, request, 0);
    case BLOCK_WRITE:
        return aligned ? transfer_plain(file, request, flags)
                       : transfer_bounced(file, request, flags);
    case BLOCK_FLUSH:
        return sync_data(file);
    case BLOCK_DISCARD:
        ret = request->length ? discard(file, request) : 0;
        break;
    case BLOCK_WRITE_ZEROES:
        ret = request->length ? write_zeroes(file, request) : 0;
        break;
    default:
        return -EINVAL;
    }
    return ret == 0 && request->fua ? sync_data(file) : ret;
}

/* ---- opening ---- */

static bool open_failed(const struct raw_file *file, const struct options *options, int err,
                        GError **error)
{
    const char *path = options_string(options, "path");
    bool read_only = file->read_only;
    int fd;

    if (err == ENOENT) {
        options_set_error(error, options, "path",
                          "no such file; to make an empty disk: truncate -s 10G %s", path);
        return false;
    }
    if (err == EINVAL && options_bool(options, "direct")) {
        options_set_error(error, options, "path",
                          "its file system can't bypass the page cache; drop direct=on");
        return false;
    }
    if (err == EISDIR) {
        options_set_error(error, options, "path",
                          "is a directory, not a disk image; to share a folder: --share");
        return false;
    }
    if (err == EBUSY) {
        options_set_error(error, options, "path",
                          "in use on this host (mounted, or open in another monitor); unmount it, "
                          "or use readonly=on");
        return false;
    }
    if (!read_only && (fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) >= 0) {
        close(fd);
        options_set_error(error, options, "path",
                          "can be read but not written (%s); add readonly=on", g_strerror(err));
        return false;
    }
    if (err == EACCES || err == EPERM) {
        options_set_error(error, options, "path",
                          "%s; run as a user who may %s it, or change its mode", g_strerror(err),
                          read_only ? "read" : "read and write");
        return false;
    }
    options_set_error(error, options, "path", "can't be opened: %s", g_strerror(err));
    return false;
}

static bool check_kind(struct raw_file *file, const struct stat *st, const struct options *options,
                       GError **error)
{
    int device_read_only = 0;

    if (S_ISREG(st->st_mode))
        return true;
    if (S_ISBLK(st->st_mode)) {
        file->is_device = true;
        if (!file->read_only && ioctl(file->fd, BLKROGET, &device_read_only) == 0 &&
            device_read_only) {
            options_set_error(error, options, "path", "is a read-only device; add readonly=on");
            return false;
        }
        return true;
    }
    if (S_ISDIR(st->st_mode))
        return open_failed(file, options, EISDIR, error);
    options_set_error(error, options, "path", "is a %s; a disk is a regular file or a block device",
                      S_ISFIFO(st->st_mode)  ? "FIFO"
                      : S_ISCHR(st->st_mode) ? "character device"
                                             : "socket");
    return false;
}

static bool locks_deferred;

void block_defer_locks(bool defer)
{
    locks_deferred = defer;
}

static bool lock_image(struct raw_file *file, const struct options *options, GError **error)
{
    bool read_only = file->read_only;
    struct flock lock = {.l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

    if (!options_bool(options, "lock") || locks_deferred ||
        fcntl(file->fd, F_OFD_SETLK, &lock) == 0)
        return true;
    if (errno == EAGAIN || errno == EACCES) {
        options_set_error(error, options, "path",
                          read_only
                              ? "in use: another monitor writes this image; stop it, or make "
                                "it readonly=on too"
                              : "in use by another monitor (the image is locked); stop it, or "
                                "use readonly=on in both");
        return false;
    }
    log_warn("block",
             "%s: can't be locked on this file system (%s): take care that nothing else "
             "uses it",
             options_string(options, "path"), g_strerror(errno));
    return true;
}

/* A number in a file of a block device's queue in sysfs (of the whole disk for a partition). */
static uint64_t queue_attribute(const struct stat *st, const char *attribute)
{
    static const char *const folders[] = {"", "/.."};

    for (unsigned i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autofree char *text = NULL;
        g_autofree char *path =
            g_strdup_printf("/sys/dev/block/%u:%u%s/queue/%s", major(st->st_rdev),
                            minor(st->st_rdev), folders[i], attribute);

        if (g_file_get_contents(path, &text, NULL, NULL))
            return g_ascii_strtoull(text, NULL, 10);
    }
    return 0;
}

static void describe_device(struct raw *raw, const struct stat *st)
{
    int logical = 512;
    unsigned physical = 0;

    ioctl(raw->file.fd, BLKSSZGET, &logical);
    ioctl(raw->file.fd, BLKPBSZGET, &physical);
    if (logical > 512)
        raw->block.block_size = logical;
    raw->block.physical_block_size = physical;
    raw->block.discard_granularity = queue_attribute(st, "discard_granularity");
    raw->block.can_discard = queue_attribute(st, "discard_max_bytes") > 0;
}

static void describe_file(struct raw *raw, const struct stat *st)
{
    struct statfs fs;

    raw->block.physical_block_size = st->st_blksize;
    raw->block.discard_granularity = st->st_blksize;
    /* Beyond the end nothing is changed, and the answer is the same as within. */
    raw->block.can_discard =
        allocate(&raw->file, FALLOC_FL_PUNCH_HOLE, (st->st_size + 4095) & ~4095ll, 4096) == 0;
    raw->file.no_punch_hole = !raw->block.can_discard;
    raw->file.in_memory =
        fstatfs(raw->file.fd, &fs) == 0 &&
        ((unsigned long)fs.f_type == TMPFS_MAGIC || (unsigned long)fs.f_type == RAMFS_MAGIC) &&
        !raw->file.direct;
}

/* Which alignment O_DIRECT needs here: tried out, since not every kernel and file system tells. */
static bool find_alignment(struct raw *raw, const struct options *options, GError **error)
{
    _Alignas(8192) uint8_t buffer[8192];
    bool found = false;

    raw->file.alignment = 1;
    if (!raw->file.direct)
        return true;
    for (unsigned alignment = raw->block.block_size; alignment <= 4096 && !found; alignment *= 8) {
        if (pread(raw->file.fd, buffer + alignment, alignment, 0) >= 0) {
            raw->file.alignment = alignment;
            raw->block.block_size = alignment;
            found = true;
        }
    }
    if (!found)
        options_set_error(error, options, "direct",
                          "reading past the page cache fails here (%s); drop direct=on",
                          g_strerror(errno));
    return found;
}

static bool find_size(struct raw *raw, const struct stat *st, const struct options *options,
                      GError **error)
{
    uint64_t size = st->st_size;
    uint64_t tail;

    if (raw->file.is_device && ioctl(raw->file.fd, BLKGETSIZE64, &size) < 0) {
        options_set_error(error, options, "path", "its size can't be read: %s", g_strerror(errno));
        return false;
    }
    tail = size % raw->block.block_size;
    if (size == tail) {
        options_set_error(error, options, "path",
                          "has %" PRIu64
                          " bytes, less than one block; to make it a disk of 10 GiB: "
                          "truncate -s 10G %s",
                          size, options_string(options, "path"));
        return false;
    }
    if (tail)
        log_warn("block",
                 "%s: its size is not a multiple of %u: the guest does not see the last "
                 "%" PRIu64 " bytes",
                 raw->block.name, raw->block.block_size, tail);
    raw->block.size = size - tail;
    return true;
}

/* An image of another format taken for raw shows the guest its metadata, and may lose it. */
static bool check_format(struct raw *raw, const struct options *options, GError **error)
{
    static const struct {
        const char *name, *magic;
    } formats[] = {{"qcow2", "QFI\xfb"}, {"vmdk", "KDMV"}, {"vhdx", "vhdxfile"},
                   {"vpc", "conectix"},  {"vdi", "<<< "},  {"vmdk", "# Disk "}};
    _Alignas(4096) char head[4096];
    ssize_t n;

    if (options_given(options, "type"))
        return true;
    n = pread(raw->file.fd, head, sizeof(head), 0);
    for (unsigned i = 0; n > 16 && i < G_N_ELEMENTS(formats); i++) {
        if (memcmp(head, formats[i].magic, strlen(formats[i].magic)))
            continue;
        options_set_error(error, options, "path",
                          "looks like a %s image; convert it (qemu-img convert -O raw), or say "
                          "type=raw to use its bytes as they are",
                          formats[i].name);
        return false;
    }
    return true;
}

/* Does a read that must not wait work here (whether or not there is data without waiting)? */
static bool try_nowait(int fd)
{
    _Alignas(4096) char head[4096];
    struct iovec iov = {head, sizeof(head)};

    return preadv2(fd, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

/*
 * I/O goes through a description of its own: a ring keeps the one it was given for a while after
 * everything was closed, and the lock must not last as long.
 */
static void separate_lock(struct raw_file *file, int flags)
{
    char path[32];
    int fd;

    g_snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
    fd = open(path, flags & ~O_EXCL);
    if (fd >= 0) {
        file->lock_fd = file->fd;
        file->fd = fd;
    }
}

static bool open_file(struct raw *raw, const struct options *options, GError **error)
{
    const char *path = options_string(options, "path");
    struct raw_file *file = &raw->file;
    bool read_only = file->read_only;
    struct stat st;
    int flags;

    file->direct = options_bool(options, "direct");
    flags = (read_only ? O_RDONLY : O_RDWR) | (file->direct ? O_DIRECT : 0) | O_CLOEXEC;
    /* The kernel refuses a second exclusive open of a block device, mounts included. */
    if (!read_only && options_bool(options, "lock") && stat(path, &st) == 0 && S_ISBLK(st.st_mode))
        flags |= O_EXCL;
    /* O_NONBLOCK: a FIFO must not make us wait for its other end. */
    file->fd = open(path, flags | O_NONBLOCK);
    if (file->fd < 0)
        return open_failed(file, options, errno, error);
    if (fstat(file->fd, &st) < 0 || fcntl(file->fd, F_SETFL, flags) < 0)
        return open_failed(file, options, errno, error);
    if (!check_kind(file, &st, options, error) || !lock_image(file, options, error))
        return false;
    if (options_bool(options, "lock"))
        separate_lock(file, flags);
    if (file->is_device)
        describe_device(raw, &st);
    else
        describe_file(raw, &st);
    if (!find_alignment(raw, options, error) || !find_size(raw, &st, options, error) ||
        !check_format(raw, options, error))
        return false;
    file->nowait_reads = try_nowait(file->fd);
    return true;
}

static void settle(struct raw *raw, bool discard)
{
    struct block *block = &raw->block;

    block->read_only = raw->file.read_only;
    if (block->read_only || !discard)
        block->can_discard = false;
    block->can_write_zeroes = !block->read_only;
    if (block->physical_block_size < block->block_size || block->physical_block_size > 1u << 20 ||
        block->physical_block_size & (block->physical_block_size - 1))
        block->physical_block_size = block->block_size;
    if (block->discard_granularity < block->block_size ||
        block->discard_granularity % block->block_size)
        block->discard_granularity = block->block_size;
}

/* @options: NULL for the engine that suits. */
static struct block *create_engine(const struct raw *raw, const struct options *options,
                                   GError **error)
{
    const char *engine = options ? options_string(options, "engine") : "auto";
    g_autoptr(GError) refused = NULL;
    struct block *block;

    /* What is in memory is there at once: io_uring would hand it to a kernel thread. */
    if (!strcmp(engine, "threads") || (!strcmp(engine, "auto") && raw->file.in_memory))
        return raw_threads_create(raw, error);
    block = raw_uring_create(raw, &refused);
    if (block)
        return block;
    if (!strcmp(engine, "uring")) {
        options_set_error(error, options, "engine", "%s; use engine=threads", refused->message);
        return NULL;
    }
    log_info("block", "%s: worker threads are used: %s", raw->block.name, refused->message);
    return raw_threads_create(raw, error);
}

void raw_adopt(struct raw *raw, const struct raw *from, const struct block_ops *ops,
               const char *implementation)
{
    *raw = *from;
    raw->block.ops = ops;
    raw->block.implementation = implementation;
    block_list_init(&raw->block.rejected, &raw->block.rejected_last);
}

void raw_finish(struct raw *raw)
{
    close_fd(raw->file.fd);
    close_fd(raw->file.lock_fd);
    block_finish(&raw->block);
}

struct block *block_raw_open(const struct options *options, bool read_only, struct loop *loop,
                             GError **error)
{
    static const char *const null_keys[] = {"size", "latency-us"};
    struct raw raw = {.file = {.fd = -1, .lock_fd = -1, .read_only = read_only}};
    struct block *block = NULL;

    if (!options_string(options, "path")) {
        options_set_error(error, options, NULL, "a path is needed: path=FILE (or type=null)");
        return NULL;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(null_keys); i++) {
        if (options_given(options, null_keys[i])) {
            options_set_error(error, options, null_keys[i], "only type=null takes it");
            return NULL;
        }
    }
    block_init(&raw.block, NULL, loop, options_string(options, "path"), NULL);
    if (open_file(&raw, options, error)) {
        if (options_bool(options, "lock"))
            raw.block.lock_fd = raw.file.lock_fd >= 0 ? raw.file.lock_fd : raw.file.fd;
        settle(&raw, options_bool(options, "discard"));
        block = create_engine(&raw, options, error);
    }
    if (!block)
        raw_finish(&raw);
    return block;
}

struct block *block_raw_from_fd(int fd, const char *name, uint32_t block_size, struct loop *loop,
                                GError **error)
{
    struct raw raw = {.file = {.fd = fd, .lock_fd = -1, .alignment = 1}};
    struct block *block;
    struct stat st;

    block_init(&raw.block, NULL, loop, name, NULL);
    raw.block.block_size = block_size;
    if (fstat(fd, &st) < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "%s: %s", name,
                    g_strerror(errno));
        raw_finish(&raw);
        return NULL;
    }
    describe_file(&raw, &st);
    raw.block.size = st.st_size - st.st_size % block_size;
    raw.file.nowait_reads = try_nowait(fd);
    settle(&raw, true);
    block = create_engine(&raw, NULL, error);
    if (!block)
        raw_finish(&raw);
    return block;
}
