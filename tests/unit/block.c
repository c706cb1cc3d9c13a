/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of backends/block: every operation on every implementation, errors of opening, locks. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/block/block.h"

#define DISK_SIZE (4u << 20)
#define TIMEOUT_S 20

struct request {
    struct block_request request; /* first */
    struct iovec iov[8];
    int result;
    unsigned times_done;
};

static char *folder; /* on the file system of the temporary files */

/* ---- helpers ---- */

static void on_done(struct block_request *block_request, int result)
{
    struct request *request = (struct request *)block_request;

    request->result = result;
    request->times_done++;
}

static void fill(struct request *request, enum block_operation operation, uint64_t offset,
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

static void wait_for(struct block *block)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT_S * G_USEC_PER_SEC;

    while (block->in_flight) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        loop_iterate(block->loop, true);
    }
}

static int run(struct block *block, struct request *request)
{
    block_submit(block, &request->request);
    g_assert_cmpuint(request->times_done, ==, 0);
    block_kick(block);
    wait_for(block);
    g_assert_cmpuint(request->times_done, ==, 1);
    return request->result;
}

static int operate(struct block *block, enum block_operation operation, uint64_t offset,
                   void *buffer, uint64_t length)
{
    struct request request;

    fill(&request, operation, offset, buffer, length);
    return run(block, &request);
}

static struct options *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct options *options = options_parse(block_options, "--disk", text, &error);

    g_assert_no_error(error);
    return options;
}

static struct block *open_disk(const char *text)
{
    g_autoptr(options_t) options = parse(text);
    g_autoptr(GError) error = NULL;
    struct block *block = block_open(options, loop_main(), &error);

    g_assert_no_error(error);
    g_assert_nonnull(block);
    return block;
}

static void assert_refused(const char *text, const char *expected)
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

static void pattern(uint8_t *buffer, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++)
        buffer[i] = (uint8_t)((i + seed) * 2654435761u >> 13);
}

static bool is_zero(const uint8_t *buffer, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (buffer[i])
            return false;
    }
    return true;
}

/* A new image of @size bytes of pattern in @where; the caller frees (and removes) the name. */
static char *make_image(const char *where, size_t size)
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

static void remove_image(char *path)
{
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_free(path);
}

/* Does opening it with these options work here? (O_DIRECT, io_uring: not everywhere.) */
static bool can_open(const char *text)
{
    g_autoptr(options_t) options = parse(text);
    struct block *block = block_open(options, loop_main(), NULL);

    block_close(block);
    return block;
}

/* ---- each test below runs on each of these ---- */

struct variant {
    const char *name;
    const char *where; /* NULL: the temporary folder */
    const char *options;
};

static const struct variant variants[] = {
    {"uring", NULL, "engine=uring"},
    {"threads", NULL, "engine=threads"},
    {"uring-direct", NULL, "engine=uring,direct=on"},
    {"threads-direct", NULL, "engine=threads,direct=on"},
    {"uring-tmpfs", "/dev/shm", "engine=uring"},
    {"auto-tmpfs", "/dev/shm", "engine=auto"},
    {"decorated", NULL, "fault-delay-us=1,fault-operation=write"},
};

struct disk {
    char *path;
    struct block *block;
};

static bool disk_open(struct disk *disk, const struct variant *variant)
{
    g_autofree char *text = NULL;

    if (variant->where && !g_file_test(variant->where, G_FILE_TEST_IS_DIR)) {
        g_test_skip("no such folder here");
        return false;
    }
    disk->path = make_image(variant->where ? variant->where : folder, DISK_SIZE);
    text = g_strdup_printf("path=%s,%s", disk->path, variant->options);
    if (!can_open(text)) {
        g_autofree char *why = g_strdup_printf("%s is not to be had here", variant->options);

        remove_image(disk->path);
        g_test_skip(why);
        return false;
    }
    disk->block = open_disk(text);
    return true;
}

static void disk_close(struct disk *disk)
{
    block_close(disk->block);
    remove_image(disk->path);
}

static void test_read_write(const void *variant)
{
    _Alignas(4096) static uint8_t in[65536], out[65536], expected[65536];
    struct disk disk;

    if (!disk_open(&disk, variant))
        return;
    pattern(expected, sizeof(expected), 8192);
    g_assert_cmpint(operate(disk.block, BLOCK_READ, 8192, in, sizeof(in)), ==, 0);
    g_assert_cmpmem(in, sizeof(in), expected, sizeof(expected));

    pattern(out, sizeof(out), 99);
    g_assert_cmpint(operate(disk.block, BLOCK_WRITE, 1 << 20, out, sizeof(out)), ==, 0);
    g_assert_cmpint(operate(disk.block, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
    memset(in, 0, sizeof(in));
    g_assert_cmpint(operate(disk.block, BLOCK_READ, 1 << 20, in, sizeof(in)), ==, 0);
    g_assert_cmpmem(in, sizeof(in), out, sizeof(out));

    /* The last block, and not one byte more. */
    g_assert_cmpint(operate(disk.block, BLOCK_WRITE, DISK_SIZE - 4096, out, 4096), ==, 0);
    g_assert_cmpint(operate(disk.block, BLOCK_READ, DISK_SIZE - 4096, in, 4096), ==, 0);
    g_assert_cmpmem(in, 4096, out, 4096);
    disk_close(&disk);
}

static void test_scattered(const void *variant)
{
    _Alignas(4096) static uint8_t buffer[65536], back[65536];
    static const struct {
        size_t at, length;
    } pieces[] = {{0, 4096}, {8192, 512}, {16384, 0}, {20480, 7680}, {33280, 4096}};
    struct disk disk;
    struct request request;
    struct iovec before[G_N_ELEMENTS(pieces)];
    size_t total = 0;

    if (!disk_open(&disk, variant))
        return;
    pattern(buffer, sizeof(buffer), 5);
    fill(&request, BLOCK_WRITE, 4096, NULL, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(pieces); i++) {
        request.iov[i] = (struct iovec){buffer + pieces[i].at, pieces[i].length};
        total += pieces[i].length;
    }
    memcpy(before, request.iov, sizeof(before));
    request.request.iov_count = G_N_ELEMENTS(pieces);
    request.request.length = total;
    request.request.fua = true;
    g_assert_cmpint(run(disk.block, &request), ==, 0);
    g_assert_cmpmem(request.iov, sizeof(before), before, sizeof(before));

    g_assert_cmpint(operate(disk.block, BLOCK_READ, 4096, back, total), ==, 0);
    total = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(pieces); i++) {
        g_assert_cmpmem(back + total, pieces[i].length, buffer + pieces[i].at, pieces[i].length);
        total += pieces[i].length;
    }
    disk_close(&disk);
}

static void test_unaligned_buffers(const void *variant)
{
    static uint8_t buffer[3 << 20], back[3 << 20];
    struct disk disk;
    size_t size = 2 << 20;

    if (!disk_open(&disk, variant))
        return;
    pattern(buffer, sizeof(buffer), 77);
    g_assert_cmpint(operate(disk.block, BLOCK_WRITE, 4096, buffer + 3, size), ==, 0);
    g_assert_cmpint(operate(disk.block, BLOCK_READ, 4096, back + 13, size), ==, 0);
    g_assert_cmpmem(back + 13, size, buffer + 3, size);
    disk_close(&disk);
}

static void test_write_zeroes(const void *variant)
{
    _Alignas(4096) static uint8_t buffer[32768], before[4096];
    struct disk disk;

    if (!disk_open(&disk, variant))
        return;
    for (int unmap = 0; unmap < 2; unmap++) {
        uint64_t offset = 65536 + unmap * 65536;
        struct request request;

        fill(&request, BLOCK_WRITE_ZEROES, offset, NULL, sizeof(buffer));
        request.request.unmap = unmap;
        request.request.fua = unmap;
        g_assert_cmpint(run(disk.block, &request), ==, 0);
        g_assert_cmpint(operate(disk.block, BLOCK_READ, offset, buffer, sizeof(buffer)), ==, 0);
        g_assert_true(is_zero(buffer, sizeof(buffer)));
        pattern(before, 4096, offset - 4096);
        g_assert_cmpint(operate(disk.block, BLOCK_READ, offset - 4096, buffer, 4096), ==, 0);
        g_assert_cmpmem(buffer, 4096, before, 4096);
    }
    disk_close(&disk);
}

static void test_discard(const void *variant)
{
    struct disk disk;
    struct stat before, after;

    if (!disk_open(&disk, variant))
        return;
    if (disk.block->can_discard) {
        g_assert_cmpint(operate(disk.block, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
        g_assert_cmpint(stat(disk.path, &before), ==, 0);
        g_assert_cmpint(operate(disk.block, BLOCK_DISCARD, 0, NULL, DISK_SIZE / 2), ==, 0);
        g_assert_cmpint(stat(disk.path, &after), ==, 0);
        g_assert_cmpint(after.st_size, ==, before.st_size);
        g_assert_cmpint(after.st_blocks, <, before.st_blocks);
    } else {
        g_assert_cmpint(operate(disk.block, BLOCK_DISCARD, 0, NULL, DISK_SIZE / 2), ==,
                        -EOPNOTSUPP);
    }
    disk_close(&disk);
}

static void test_bounds(const void *variant)
{
    _Alignas(4096) static uint8_t buffer[8192];
    struct disk disk;

    if (!disk_open(&disk, variant))
        return;
    g_assert_cmpint(operate(disk.block, BLOCK_READ, DISK_SIZE - 4096, buffer, 8192), ==, -EINVAL);
    g_assert_cmpint(operate(disk.block, BLOCK_READ, DISK_SIZE, buffer, 4096), ==, -EINVAL);
    g_assert_cmpint(operate(disk.block, BLOCK_WRITE, UINT64_MAX - 4095, buffer, 4096), ==, -EINVAL);
    g_assert_cmpint(operate(disk.block, BLOCK_READ, 100, buffer, 4096), ==, -EINVAL);
    g_assert_cmpint(operate(disk.block, BLOCK_WRITE_ZEROES, 0, NULL, 100), ==, -EINVAL);
    g_assert_cmpuint(disk.block->stats.failed[BLOCK_READ], ==, 3);
    disk_close(&disk);
}

static void test_many_in_flight(const void *variant)
{
    enum { COUNT = 1000 }; /* more than a ring holds */
    g_autofree struct request *requests = g_new(struct request, COUNT);
    uint8_t *buffers;
    struct disk disk;

    if (!disk_open(&disk, variant))
        return;
    buffers = aligned_alloc(4096, COUNT * 4096);
    for (unsigned round = 0; round < 2; round++) {
        enum block_operation operation = round ? BLOCK_READ : BLOCK_WRITE;

        for (unsigned i = 0; i < COUNT; i++) {
            uint8_t *buffer = buffers + i * 4096;

            memset(buffer, round ? 0 : i, 4096);
            fill(&requests[i], operation, (uint64_t)i * 4096, buffer, 4096);
            block_submit(disk.block, &requests[i].request);
        }
        block_kick(disk.block);
        wait_for(disk.block);
        for (unsigned i = 0; i < COUNT; i++) {
            g_assert_cmpint(requests[i].result, ==, 0);
            g_assert_cmpuint(requests[i].times_done, ==, 1);
            g_assert_cmpuint(buffers[i * 4096 + 4095], ==, (uint8_t)i);
        }
    }
    g_assert_cmpuint(disk.block->stats.bytes[BLOCK_READ], ==, COUNT * 4096);
    free(buffers);
    disk_close(&disk);
}

/* A file that is cut short under us: an error, not a hang and not a success. */
static void test_shrunk_file(const void *variant)
{
    _Alignas(4096) static uint8_t buffer[16384];
    struct disk disk;

    if (!disk_open(&disk, variant))
        return;
    g_assert_cmpint(truncate(disk.path, 8192), ==, 0);
    g_assert_cmpint(operate(disk.block, BLOCK_READ, 0, buffer, 8192), ==, 0);
    g_assert_cmpint(operate(disk.block, BLOCK_READ, 0, buffer, 16384), ==, -EIO);
    g_assert_cmpint(operate(disk.block, BLOCK_READ, 8192, buffer, 4096), ==, -EIO);
    disk_close(&disk);
}

struct chain {
    struct request request;
    struct block *block;
    unsigned left;
};

static void chain_done(struct block_request *block_request, int result)
{
    struct chain *chain = block_request->opaque;

    g_assert_cmpint(result, ==, 0);
    if (--chain->left == 0)
        return;
    block_submit(chain->block, &chain->request.request);
    block_kick(chain->block);
}

/* A done callback may submit and kick. */
static void test_submit_from_done(const void *variant)
{
    _Alignas(4096) static uint8_t buffer[4096];
    struct chain chain = {.left = 500};
    struct disk disk;

    if (!disk_open(&disk, variant))
        return;
    fill(&chain.request, BLOCK_READ, 0, buffer, 4096);
    chain.request.request.done = chain_done;
    chain.request.request.opaque = &chain;
    chain.block = disk.block;
    block_submit(disk.block, &chain.request.request);
    block_kick(disk.block);
    wait_for(disk.block);
    g_assert_cmpuint(chain.left, ==, 0);
    disk_close(&disk);
}

/* Closing with requests in flight waits for the kernel and calls nobody back. */
static void test_close_in_flight(const void *variant)
{
    enum { COUNT = 400 };
    g_autofree struct request *requests = g_new(struct request, COUNT);
    uint8_t *buffers;
    struct disk disk;

    if (!disk_open(&disk, variant))
        return;
    buffers = aligned_alloc(4096, COUNT * 4096);
    memset(buffers, 1, COUNT * 4096);
    for (unsigned i = 0; i < COUNT; i++) {
        fill(&requests[i], i % 2 ? BLOCK_WRITE : BLOCK_READ, (uint64_t)i * 4096, buffers + i * 4096,
             4096);
        block_submit(disk.block, &requests[i].request);
    }
    block_kick(disk.block);
    disk_close(&disk);
    free(buffers);
}

static unsigned batches, last_seen;

static void on_batch(void *opaque)
{
    struct request *requests = opaque;

    batches++;
    last_seen = 0;
    for (unsigned i = 0; i < 8; i++)
        last_seen += requests[i].times_done;
}

/* batch_done comes after runs of done callbacks, the last one included. */
static void test_batches(const void *variant)
{
    _Alignas(4096) static uint8_t buffer[8 * 4096];
    struct request requests[8];
    struct disk disk;

    if (!disk_open(&disk, variant))
        return;
    batches = last_seen = 0;
    disk.block->batch_done = on_batch;
    disk.block->batch_opaque = requests;
    for (unsigned i = 0; i < 8; i++) {
        fill(&requests[i], i ? BLOCK_READ : BLOCK_FLUSH, i * 4096, i ? buffer + i * 4096 : NULL,
             i ? 4096 : 0);
        block_submit(disk.block, &requests[i].request);
    }
    block_kick(disk.block);
    wait_for(disk.block);
    g_assert_cmpuint(batches, >=, 1);
    g_assert_cmpuint(batches, <=, 8);
    g_assert_cmpuint(last_seen, ==, 8);
    disk_close(&disk);
}

/* ---- null ---- */

static void test_null(void)
{
    struct block *block = open_disk("type=null,size=1M");
    uint8_t buffer[512];

    g_assert_cmpuint(block->size, ==, 1 << 20);
    memset(buffer, 7, sizeof(buffer));
    g_assert_cmpint(operate(block, BLOCK_WRITE, 0, buffer, 512), ==, 0);
    g_assert_cmpint(operate(block, BLOCK_READ, 0, buffer, 512), ==, 0);
    g_assert_true(is_zero(buffer, sizeof(buffer)));
    g_assert_cmpint(operate(block, BLOCK_DISCARD, 0, NULL, 4096), ==, 0);
    g_assert_cmpint(operate(block, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
    g_assert_cmpint(operate(block, BLOCK_READ, 1 << 20, buffer, 512), ==, -EINVAL);
    block_close(block);
}

static void test_null_latency(void)
{
    struct block *block = open_disk("type=null,size=1M,latency-us=20000");
    struct request first, second;
    uint8_t buffer[1024];
    int64_t start = g_get_monotonic_time();

    fill(&first, BLOCK_READ, 0, buffer, 512);
    fill(&second, BLOCK_READ, 512, buffer + 512, 512);
    block_submit(block, &first.request);
    block_submit(block, &second.request);
    block_kick(block);
    g_assert_cmpuint(first.times_done, ==, 0);
    wait_for(block);
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 20000);
    g_assert_cmpuint(second.times_done, ==, 1);
    block_close(block);
}

static void test_null_submit_from_done(void)
{
    static uint8_t buffer[4096];
    struct chain chain = {.left = 500};
    struct block *block = open_disk("type=null,size=1M");

    fill(&chain.request, BLOCK_READ, 0, buffer, 4096);
    chain.request.request.done = chain_done;
    chain.request.request.opaque = &chain;
    chain.block = block;
    block_submit(block, &chain.request.request);
    block_kick(block);
    wait_for(block);
    g_assert_cmpuint(chain.left, ==, 0);
    block_close(block);
}

/* ---- faults ---- */

static unsigned count_faults(const char *text, uint64_t *which)
{
    struct block *block = open_disk(text);
    uint8_t buffer[512];
    unsigned failed = 0;

    *which = 0;
    for (unsigned i = 0; i < 400; i++) {
        int result = operate(block, BLOCK_READ, (i % 16) * 512, buffer, 512);

        g_assert_true(result == 0 || result == -EIO);
        if (result) {
            failed++;
            *which = *which * 31 + i;
        }
    }
    g_assert_cmpuint(block->stats.failed[BLOCK_READ], ==, failed);
    block_close(block);
    return failed;
}

static void test_fault_rate(void)
{
    uint64_t first, again, other;
    unsigned failed = count_faults("type=null,size=1M,fault-errors=250,fault-seed=7", &first);

    g_assert_cmpuint(failed, >, 60);
    g_assert_cmpuint(failed, <, 140);
    g_assert_cmpuint(count_faults("type=null,size=1M,fault-errors=250,fault-seed=7", &again), ==,
                     failed);
    g_assert_cmpuint(first, ==, again);
    count_faults("type=null,size=1M,fault-errors=250,fault-seed=8", &other);
    g_assert_cmpuint(first, !=, other);
}

static void test_fault_range(void)
{
    struct block *block = open_disk("type=null,size=1M,fault-errors=1000,fault-operation=write,"
                                    "fault-start=4K,fault-size=4K");
    static uint8_t buffer[8192];

    g_assert_cmpint(operate(block, BLOCK_WRITE, 0, buffer, 4096), ==, 0);
    g_assert_cmpint(operate(block, BLOCK_WRITE, 8192, buffer, 4096), ==, 0);
    g_assert_cmpint(operate(block, BLOCK_WRITE, 0, buffer, 4608), ==, -EIO);
    g_assert_cmpint(operate(block, BLOCK_WRITE, 4096, buffer, 512), ==, -EIO);
    g_assert_cmpint(operate(block, BLOCK_WRITE, 8192 - 512, buffer, 1024), ==, -EIO);
    g_assert_cmpint(operate(block, BLOCK_READ, 4096, buffer, 512), ==, 0);
    g_assert_cmpint(operate(block, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
    block_close(block);
    assert_refused("type=null,size=1M,fault-errors=1,fault-start=1M", "fault-start");
}

static void test_fault_delay(void)
{
    struct block *block = open_disk("type=null,size=1M,fault-delay-us=20000,fault-operation=flush");
    uint8_t buffer[512];
    int64_t start = g_get_monotonic_time();

    g_assert_cmpint(operate(block, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 20000);
    g_assert_cmpint(operate(block, BLOCK_READ, 0, buffer, 512), ==, 0);
    block_close(block);
}

/* ---- opening ---- */

static void test_options_that_conflict(void)
{
    assert_refused("type=null", "size=1G");
    assert_refused("type=null,size=1000", "multiple of 512");
    assert_refused("type=null,size=0", "multiple of 512");
    assert_refused("type=null,size=1M,path=x", "type=null has no file");
    assert_refused("readonly=on", "path=FILE");
    assert_refused("path=x,size=1M", "only type=null");
    assert_refused("path=x,latency-us=5", "only type=null");
}

static void test_missing_file(void)
{
    assert_refused("path=/nonexistent/a.img", "no such file");
    assert_refused("/nonexistent/a.img", "truncate -s");
}

static void test_not_a_disk(void)
{
    g_autofree char *fifo = g_build_filename(folder, "fifo", NULL);
    g_autofree char *text = g_strdup_printf("path=%s", folder);
    g_autofree char *read_only = g_strdup_printf("path=%s,readonly=on", folder);

    assert_refused(text, "is a directory");
    assert_refused(read_only, "is a directory");
    assert_refused("path=/dev/null", "is a character device");
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    g_free(g_steal_pointer(&text));
    text = g_strdup_printf("path=%s,readonly=on", fifo);
    assert_refused(text, "is a FIFO");
    g_unlink(fifo);
}

/* Opening with @text as a user without rights (in a child: root may open anything) is refused. */
static void assert_refused_to_nobody(const char *text, const char *expected)
{
    pid_t child = fork();
    int status;

    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        if (getuid() == 0 && setuid(65534) < 0)
            _exit(2);
        assert_refused(text, expected);
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(status, ==, 0);
}

static void test_permission(void)
{
    char *path = make_image(folder, 4096);
    g_autofree char *text = g_strdup_printf("path=%s", path);

    g_assert_cmpint(chmod(folder, 0755), ==, 0);
    g_assert_cmpint(chmod(path, 0444), ==, 0);
    assert_refused_to_nobody(text, "add readonly=on");
    g_assert_cmpint(chmod(path, 0), ==, 0);
    assert_refused_to_nobody(text, "Permission denied; run as a user who may read and write");
    remove_image(path);
}

/* From now on io_uring_setup fails with @err in this process. */
static void forbid_io_uring(int err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {G_N_ELEMENTS(code), code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(2);
}

static void test_io_uring_refused(void)
{
    static const int errors[] = {ENOSYS, EPERM, ENOMEM};
    char *path = make_image(folder, 65536);
    g_autofree char *automatic = g_strdup_printf("path=%s", path);
    g_autofree char *forced = g_strdup_printf("path=%s,engine=uring", path);

    for (unsigned i = 0; i < G_N_ELEMENTS(errors); i++) {
        pid_t child = fork();
        int status;

        g_assert_cmpint(child, >=, 0);
        if (child == 0) {
            static uint8_t buffer[4096], expected[4096];
            struct block *block;

            forbid_io_uring(errors[i]);
            assert_refused(forced, "use engine=threads");
            block = open_disk(automatic);
            g_assert_cmpstr(block->implementation, ==, "threads");
            pattern(expected, sizeof(expected), 8192);
            g_assert_cmpint(operate(block, BLOCK_READ, 8192, buffer, sizeof(buffer)), ==, 0);
            g_assert_cmpmem(buffer, sizeof(buffer), expected, sizeof(expected));
            block_close(block);
            _exit(0);
        }
        g_assert_cmpint(waitpid(child, &status, 0), ==, child);
        g_assert_cmpint(status, ==, 0);
    }
    remove_image(path);
}

static void test_sizes(void)
{
    char *path = make_image(folder, 1000);
    g_autofree char *text = g_strdup_printf("path=%s,engine=threads", path);
    struct block *block;
    uint8_t buffer[1024];

    /* The tail is not the guest's. */
    block = open_disk(text);
    g_assert_cmpuint(block->size, ==, 512);
    g_assert_cmpint(operate(block, BLOCK_READ, 512, buffer, 512), ==, -EINVAL);
    block_close(block);
    g_assert_cmpint(truncate(path, 511), ==, 0);
    assert_refused(text, "has 511 bytes");
    g_assert_cmpint(truncate(path, 0), ==, 0);
    assert_refused(text, "has 0 bytes");
    remove_image(path);
}

static void test_foreign_format(void)
{
    char *path = make_image(folder, 65536);
    g_autofree char *text = g_strdup_printf("path=%s", path);
    g_autofree char *as_raw = g_strdup_printf("path=%s,type=raw", path);
    int fd = open(path, O_WRONLY);

    g_assert_cmpint(pwrite(fd, "QFI\xfb\0\0\0\3", 8, 0), ==, 8);
    close(fd);
    assert_refused(text, "qcow2");
    block_close(open_disk(as_raw));
    remove_image(path);
}

static void test_read_only(void)
{
    char *path = make_image(folder, 65536);
    g_autofree char *text = g_strdup_printf("path=%s,readonly=on", path);
    struct block *block = open_disk(text);
    static uint8_t buffer[4096];

    g_assert_true(block->read_only);
    g_assert_false(block->can_discard);
    g_assert_cmpint(operate(block, BLOCK_READ, 0, buffer, 4096), ==, 0);
    g_assert_cmpint(operate(block, BLOCK_WRITE, 0, buffer, 4096), ==, -EROFS);
    g_assert_cmpint(operate(block, BLOCK_DISCARD, 0, NULL, 4096), ==, -EROFS);
    g_assert_cmpint(operate(block, BLOCK_WRITE_ZEROES, 0, NULL, 4096), ==, -EROFS);
    g_assert_cmpint(operate(block, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
    block_close(block);
    remove_image(path);
}

static void test_discard_off(void)
{
    char *path = make_image(folder, 65536);
    g_autofree char *text = g_strdup_printf("path=%s,discard=off", path);
    struct block *block = open_disk(text);

    g_assert_false(block->can_discard);
    g_assert_cmpint(operate(block, BLOCK_DISCARD, 0, NULL, 4096), ==, -EOPNOTSUPP);
    block_close(block);
    remove_image(path);
}

/* ---- locks: against another process, which is what matters ---- */

/* Opens it in a child with @options; the child holds it until the pipe is closed. */
static pid_t hold_in_child(const char *options, int *release)
{
    int ready[2], hold[2];
    char byte;
    pid_t child;

    g_assert_cmpint(pipe(ready), ==, 0);
    g_assert_cmpint(pipe(hold), ==, 0);
    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        close(hold[1]);
        open_disk(options);
        if (write(ready[1], "x", 1) != 1 || read(hold[0], &byte, 1) != 0)
            _exit(2);
        _exit(0);
    }
    close(hold[0]);
    close(ready[1]);
    g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
    close(ready[0]);
    *release = hold[1];
    return child;
}

static void let_go(pid_t child, int release)
{
    int status;

    close(release);
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(status, ==, 0);
}

static void test_locks(void)
{
    char *path = make_image(folder, 65536);
    g_autofree char *writer = g_strdup_printf("path=%s,engine=threads", path);
    g_autofree char *reader = g_strdup_printf("path=%s,engine=threads,readonly=on", path);
    g_autofree char *careless = g_strdup_printf("path=%s,engine=threads,lock=off", path);
    int release;
    pid_t child = hold_in_child(writer, &release);

    assert_refused(writer, "in use by another monitor");
    assert_refused(reader, "another monitor writes this image");
    block_close(open_disk(careless));
    let_go(child, release);

    child = hold_in_child(reader, &release);
    assert_refused(writer, "use readonly=on in both");
    block_close(open_disk(reader));
    let_go(child, release);

    block_close(open_disk(writer));
    remove_image(path);
}

static void test_two_disks_of_one_image(void)
{
    char *path = make_image(folder, 65536);
    g_autofree char *text = g_strdup_printf("path=%s", path);
    struct block *block = open_disk(text);

    assert_refused(text, "in use by another monitor");
    block_close(block);
    block_close(open_disk(text));
    remove_image(path);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(const void *variant);
    } on_each[] = {
        {"read-write", test_read_write},
        {"scattered", test_scattered},
        {"unaligned-buffers", test_unaligned_buffers},
        {"write-zeroes", test_write_zeroes},
        {"discard", test_discard},
        {"bounds", test_bounds},
        {"many-in-flight", test_many_in_flight},
        {"shrunk-file", test_shrunk_file},
        {"submit-from-done", test_submit_from_done},
        {"close-in-flight", test_close_in_flight},
        {"batches", test_batches},
    };
    int ret;

    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("lodge-block-XXXXXX", NULL);
    for (unsigned v = 0; v < G_N_ELEMENTS(variants); v++) {
        for (unsigned t = 0; t < G_N_ELEMENTS(on_each); t++) {
            g_autofree char *name =
                g_strdup_printf("/block/%s/%s", variants[v].name, on_each[t].name);

            g_test_add_data_func(name, &variants[v], on_each[t].fn);
        }
    }
    g_test_add_func("/block/null/operations", test_null);
    g_test_add_func("/block/null/latency", test_null_latency);
    g_test_add_func("/block/null/submit-from-done", test_null_submit_from_done);
    g_test_add_func("/block/fault/rate", test_fault_rate);
    g_test_add_func("/block/fault/range", test_fault_range);
    g_test_add_func("/block/fault/delay", test_fault_delay);
    g_test_add_func("/block/open/conflicts", test_options_that_conflict);
    g_test_add_func("/block/open/missing-file", test_missing_file);
    g_test_add_func("/block/open/not-a-disk", test_not_a_disk);
    g_test_add_func("/block/open/permission", test_permission);
    g_test_add_func("/block/open/sizes", test_sizes);
    g_test_add_func("/block/open/foreign-format", test_foreign_format);
    g_test_add_func("/block/open/read-only", test_read_only);
    g_test_add_func("/block/open/discard-off", test_discard_off);
    g_test_add_func("/block/open/io-uring-refused", test_io_uring_refused);
    g_test_add_func("/block/lock/other-process", test_locks);
    g_test_add_func("/block/lock/same-process", test_two_disks_of_one_image);
    ret = g_test_run();
    g_rmdir(folder);
    g_free(folder);
    return ret;
}
