/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of backends/block: every operation on every implementation, decorated ones included. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/unit/block_helpers.h"

#define DISK_SIZE (4u << 20)

static char *folder; /* on the file system of the temporary files */

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
    {"snapshot", NULL, "snapshot=on"},
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
        if (!strcmp(disk.block->implementation, "snapshot"))
            g_assert_cmpint(after.st_blocks, ==, before.st_blocks);
        else
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

/* ---- on an I/O loop: opened and closed by the main thread, used by the loop's ---- */

struct io_loop_test {
    struct block *block;
    struct request requests[32];
    unsigned left; /* atomic */
    bool wrong_thread;
};

static void io_loop_done(struct block_request *block_request, int result)
{
    struct io_loop_test *test = block_request->opaque;

    on_done(block_request, result);
    test->wrong_thread |= !loop_is_current(test->block->loop);
    __atomic_sub_fetch(&test->left, 1, __ATOMIC_RELEASE);
}

static void io_loop_submit(void *opaque)
{
    struct io_loop_test *test = opaque;

    for (unsigned i = 0; i < G_N_ELEMENTS(test->requests); i++)
        block_submit(test->block, &test->requests[i].request);
    block_kick(test->block);
}

static void test_io_loop(const void *engine)
{
    _Alignas(4096) static uint8_t buffers[32 * 4096];
    struct io_loop_test test = {.left = G_N_ELEMENTS(test.requests)};
    struct loop *loop = loop_create("io", NULL);
    char *path = make_image(folder, DISK_SIZE);
    g_autofree char *text = g_strdup_printf("path=%s,engine=%s", path, (const char *)engine);
    g_autoptr(options_t) options = parse(text);

    test.block = block_open(options, loop, NULL);
    if (!test.block) {
        g_test_skip("no io_uring here");
    } else {
        for (unsigned i = 0; i < G_N_ELEMENTS(test.requests); i++) {
            fill(&test.requests[i], i % 2 ? BLOCK_READ : BLOCK_WRITE, i * 4096, buffers + i * 4096,
                 4096);
            test.requests[i].request.done = io_loop_done;
            test.requests[i].request.opaque = &test;
        }
        loop_call(loop, io_loop_submit, &test);
        for (unsigned i = 0; i < TIMEOUT_S * 1000 && __atomic_load_n(&test.left, __ATOMIC_ACQUIRE);
             i++)
            g_usleep(1000);
        g_assert_cmpuint(__atomic_load_n(&test.left, __ATOMIC_ACQUIRE), ==, 0);
        for (unsigned i = 0; i < G_N_ELEMENTS(test.requests); i++)
            g_assert_cmpint(test.requests[i].result, ==, 0);
        g_assert_false(test.wrong_thread);
        block_close(test.block);
    }
    loop_destroy(loop);
    remove_image(path);
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

/* ---- snapshot=on ---- */

static void assert_blocks(struct block *block, const uint8_t *expected, uint64_t offset,
                          size_t bytes)
{
    g_autofree uint8_t *buffer = g_malloc(bytes);

    g_assert_cmpint(operate(block, BLOCK_READ, offset, buffer, bytes), ==, 0);
    g_assert_cmpmem(buffer, bytes, expected + offset, bytes);
}

/* What the guest sees is a plain array of bytes, and the image is not touched. */
static void test_snapshot_layers(void)
{
    g_autofree uint8_t *expected = g_malloc(DISK_SIZE), *image = g_malloc(DISK_SIZE);
    char *path = make_image(folder, DISK_SIZE);
    g_autofree char *text = g_strdup_printf("path=%s,snapshot=on", path);
    g_autofree char *content = NULL;
    struct block *block = open_disk(text), *second = open_disk(text);
    GRand *rand = g_rand_new_with_seed(1);
    size_t length;

    pattern(image, DISK_SIZE, 0);
    memcpy(expected, image, DISK_SIZE);
    for (unsigned i = 0; i < 300; i++) {
        uint64_t offset = g_rand_int_range(rand, 0, 1000) * 512;
        size_t bytes = g_rand_int_range(rand, 1, 200) * 512;

        switch (g_rand_int_range(rand, 0, 4)) {
        case 0:
            pattern(expected + offset, bytes, i);
            g_assert_cmpint(operate(block, BLOCK_WRITE, offset, expected + offset, bytes), ==, 0);
            break;
        case 1:
            memset(expected + offset, 0, bytes);
            g_assert_cmpint(operate(block, BLOCK_WRITE_ZEROES, offset, NULL, bytes), ==, 0);
            break;
        default:
            assert_blocks(block, expected, offset, bytes);
            break;
        }
    }
    g_assert_cmpint(operate(block, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
    assert_blocks(block, expected, 0, DISK_SIZE);
    assert_blocks(second, image, 0, DISK_SIZE);
    block_close(block);
    block_close(second);
    g_assert_true(g_file_get_contents(path, &content, &length, NULL));
    g_assert_cmpmem(content, length, image, DISK_SIZE);
    g_rand_free(rand);
    remove_image(path);
}

static void test_snapshot_of_read_only_image(void)
{
    char *path = make_image(folder, 65536);
    g_autofree char *text = g_strdup_printf("path=%s,snapshot=on", path);
    g_autofree char *both = g_strdup_printf("path=%s,snapshot=on,readonly=on", path);
    static uint8_t buffer[4096];
    struct block *block;

    g_assert_cmpint(chmod(path, 0444), ==, 0);
    block = open_disk(text);
    g_assert_false(block->read_only);
    g_assert_cmpint(operate(block, BLOCK_WRITE, 0, buffer, 4096), ==, 0);
    block_close(block);
    assert_refused(both, "drop one");
    g_setenv("TMPDIR", "/nonexistent", TRUE);
    assert_refused(text, "set TMPDIR");
    g_unsetenv("TMPDIR");
    remove_image(path);
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
    g_test_add_data_func("/block/io-loop/uring", "uring", test_io_loop);
    g_test_add_data_func("/block/io-loop/threads", "threads", test_io_loop);
    g_test_add_func("/block/null/operations", test_null);
    g_test_add_func("/block/null/latency", test_null_latency);
    g_test_add_func("/block/null/submit-from-done", test_null_submit_from_done);
    g_test_add_func("/block/snapshot/layers", test_snapshot_layers);
    g_test_add_func("/block/snapshot/read-only-image", test_snapshot_of_read_only_image);
    g_test_add_func("/block/fault/rate", test_fault_rate);
    g_test_add_func("/block/fault/range", test_fault_range);
    g_test_add_func("/block/fault/delay", test_fault_delay);
    ret = g_test_run();
    g_rmdir(folder);
    g_free(folder);
    return ret;
}
