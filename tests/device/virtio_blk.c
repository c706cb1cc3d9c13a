/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of virtio/blk through its PCI function, as a driver sees it: requests in every layout, bad
 * ones, and what happens to those in flight. */
#include <glib/gstdio.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <unistd.h>

#include "backends/block/block.h"
#include "tests/device/virtio_driver.h"
#include "virtio/blk.h"

#define BIT(n)    (UINT64_C(1) << (n))
#define SECTORS   2048u
#define DATA_SIZE 65536u
#define ALL_BLK                                                                                    \
    (BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) |            \
     BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_DISCARD) |       \
     BIT(VIRTIO_BLK_F_WRITE_ZEROES))
#define RINGS   (BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX))
#define PENDING 0xee /* what a status byte is set to: no status */

struct fixture {
    struct harness *h;
    struct virtio_device *vdev;
    struct virtio_pci *vpci;
    struct virtio_driver *driver;
    char *path;
    uint64_t header, status, data; /* guest memory */
};

/* ---- helpers ---- */

static char *make_image(void)
{
    g_autoptr(GError) error = NULL;
    char *path;
    int fd = g_file_open_tmp("lodge-virtio-blk-XXXXXX", &path, &error);

    g_assert_no_error(error);
    for (uint32_t sector = 0; sector < SECTORS; sector++) {
        uint32_t words[128];

        for (unsigned i = 0; i < 128; i++)
            words[i] = sector * 128 + i;
        g_assert_cmpint(write(fd, words, sizeof(words)), ==, sizeof(words));
    }
    close(fd);
    return path;
}

static void attach(struct fixture *f, const char *text, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(virtio_blk_options, "--disk", text, &error);

    g_assert_no_error(error);
    f->vdev = virtio_blk_create(options, f->h->loop, &error);
    g_assert_no_error(error);
    f->vpci = virtio_pci_create(f->vdev, name, &f->h->env, true, &error);
    g_assert_no_error(error);
    f->driver = virtio_driver_create(f->h, f->vpci);
    f->header = harness_alloc(f->h, 4096, 4096);
    f->status = harness_alloc(f->h, 4096, 4096);
    f->data = harness_alloc(f->h, DATA_SIZE, 4096);
}

/* @format: options; %s is the path of a fresh image. */
static void set_up(struct fixture *f, const char *format)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) parts = g_strsplit(format, "%s", 2);

    memset(f, 0, sizeof(*f));
    f->h = harness_create(0);
    if (parts[1]) {
        f->path = make_image();
        text = g_strconcat(parts[0], f->path, parts[1], NULL);
    }
    attach(f, text ? text : format, "virtio-blk0");
}

static void detach(struct fixture *f)
{
    virtio_driver_destroy(f->driver);
    virtio_pci_destroy(f->vpci);
}

static void tear_down(struct fixture *f)
{
    detach(f);
    harness_destroy(f->h);
    if (f->path)
        g_assert_cmpint(g_unlink(f->path), ==, 0);
    g_free(f->path);
}

static void put_header(struct fixture *f, uint64_t at, uint32_t type, uint64_t sector)
{
    harness_store(f->h, at, 4, type);
    harness_store(f->h, at + 4, 4, 0);
    harness_store(f->h, at + 8, 8, sector);
}

/* One request with @bytes of the data area, @to_device or back; its status. */
static uint8_t request_on(struct fixture *f, unsigned queue, uint32_t type, uint64_t sector,
                          bool to_device, uint32_t bytes)
{
    struct driver_buffer out[2] = {{f->header, 16}, {f->data, bytes}};
    struct driver_buffer in[2] = {{f->data, bytes}, {f->status, 1}};
    unsigned outs = to_device && bytes ? 2 : 1, ins = !to_device && bytes ? 2 : 1;
    int64_t written;

    put_header(f, f->header, type, sector);
    harness_store(f->h, f->status, 1, PENDING);
    written = virtio_driver_request(f->driver, queue, out, outs, ins == 2 ? in : in + 1, ins);
    g_assert_cmpint(written, >=, 0);
    if (ins == 1)
        g_assert_cmpint(written, ==, 1);
    return harness_load(f->h, f->status, 1);
}

static uint8_t request(struct fixture *f, uint32_t type, uint64_t sector, bool to_device,
                       uint32_t bytes)
{
    return request_on(f, 0, type, sector, to_device, bytes);
}

static uint8_t read_sectors(struct fixture *f, uint64_t sector, unsigned count)
{
    return request(f, VIRTIO_BLK_T_IN, sector, false, count * 512);
}

static uint8_t write_sectors(struct fixture *f, uint64_t sector, unsigned count)
{
    return request(f, VIRTIO_BLK_T_OUT, sector, true, count * 512);
}

static void fill_data(struct fixture *f, uint8_t value, unsigned bytes)
{
    memset(harness_ptr(f->h, f->data, bytes), value, bytes);
}

/* Is the data at @gpa that of the fresh image's sectors? */
static void assert_image(struct fixture *f, uint64_t gpa, uint64_t sector, unsigned bytes)
{
    const uint32_t *words = harness_ptr(f->h, gpa, bytes);

    for (unsigned i = 0; i < bytes / 4; i++)
        g_assert_cmpuint(words[i], ==, sector * 128 + i);
}

static void assert_filled(struct fixture *f, uint64_t gpa, uint8_t value, unsigned bytes)
{
    const uint8_t *data = harness_ptr(f->h, gpa, bytes);

    for (unsigned i = 0; i < bytes; i++)
        g_assert_cmpuint(data[i], ==, value);
}

static unsigned config(struct fixture *f, unsigned offset, unsigned size)
{
    return virtio_driver_config(f->driver, offset, size);
}
#define CONFIG(F, MEMBER)                                                                          \
    config(F, offsetof(struct virtio_blk_config, MEMBER),                                          \
           sizeof(((struct virtio_blk_config *)0)->MEMBER))

/* ---- what the device says it is ---- */

static void test_config(void)
{
    struct fixture f;
    uint64_t offered;

    set_up(&f, "path=%s,queues=3,queue-size=64,serial=abc");
    offered = virtio_driver_offered(f.driver);
    g_assert_cmphex(offered & ALL_BLK, ==, ALL_BLK);
    g_assert_true(offered & BIT(VIRTIO_BLK_F_MQ));
    g_assert_false(offered & BIT(VIRTIO_BLK_F_RO));
    g_assert_false(offered & BIT(VIRTIO_BLK_F_SIZE_MAX));
    virtio_driver_start(f.driver, ALL_BLK | BIT(VIRTIO_BLK_F_MQ) | RINGS);
    g_assert_cmpuint(CONFIG(&f, capacity), ==, SECTORS);
    g_assert_cmpuint(CONFIG(&f, seg_max), ==, 62);
    g_assert_cmpuint(CONFIG(&f, blk_size), ==, 512);
    g_assert_cmpuint(CONFIG(&f, num_queues), ==, 3);
    g_assert_cmpuint(CONFIG(&f, wce), ==, 1);
    g_assert_cmpuint(CONFIG(&f, max_discard_sectors), >, SECTORS);
    g_assert_cmpuint(CONFIG(&f, max_write_zeroes_seg), ==, 16);
    g_assert_cmpuint(512u << CONFIG(&f, physical_block_exp), ==, 4096);
    tear_down(&f);
}

static void test_read_only(void)
{
    struct fixture f;
    uint64_t offered;

    set_up(&f, "path=%s,readonly=on");
    offered = virtio_driver_offered(f.driver);
    g_assert_true(offered & BIT(VIRTIO_BLK_F_RO));
    g_assert_false(offered & BIT(VIRTIO_BLK_F_MQ));
    g_assert_false(offered & (BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES)));
    virtio_driver_start(f.driver, BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_FLUSH));
    g_assert_cmpuint(read_sectors(&f, 5, 1), ==, VIRTIO_BLK_S_OK);
    assert_image(&f, f.data, 5, 512);
    fill_data(&f, 0x55, 512);
    g_assert_cmpuint(write_sectors(&f, 5, 1), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(read_sectors(&f, 5, 1), ==, VIRTIO_BLK_S_OK);
    assert_image(&f, f.data, 5, 512);
    g_assert_cmpuint(request(&f, VIRTIO_BLK_T_FLUSH, 0, false, 0), ==, VIRTIO_BLK_S_OK);
    tear_down(&f);
}

static void test_bad_options(void)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"type=null,size=1M,serial=123456789012345678901", "serial"},
        {"type=null,size=1M,queue-size=100", "power of two"},
        {"type=null,size=1M,queues=65", "1 to 64"},
        {"path=/nonexistent", "no such file"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(options_t) options =
            options_parse(virtio_blk_options, "--disk", cases[i].text, &error);

        if (options)
            g_assert_null(virtio_blk_create(options, loop_main(), &error));
        g_assert_nonnull(error);
        g_assert_nonnull(strstr(error->message, cases[i].expected));
    }
}

/* ---- requests that are right ---- */

static void test_transfers(const void *ring_features)
{
    struct fixture f;
    uint64_t rings = *(const uint64_t *)ring_features;

    set_up(&f, "path=%s,in-order=on,queue-size=16");
    virtio_driver_start(f.driver, ALL_BLK | rings);
    for (unsigned round = 0; round < 50; round++) { /* around the ring several times */
        unsigned sector = round * 16;

        g_assert_cmpuint(read_sectors(&f, sector, 16), ==, VIRTIO_BLK_S_OK);
        assert_image(&f, f.data, sector, 16 * 512);
        fill_data(&f, round, 4096);
        g_assert_cmpuint(write_sectors(&f, sector + 4, 8), ==, VIRTIO_BLK_S_OK);
        g_assert_cmpuint(read_sectors(&f, sector, 16), ==, VIRTIO_BLK_S_OK);
        assert_image(&f, f.data, sector, 4 * 512);
        assert_filled(&f, f.data + 4 * 512, round, 4096);
        assert_image(&f, f.data + 12 * 512, sector + 12, 4 * 512);
    }
    g_assert_cmpuint(request(&f, VIRTIO_BLK_T_FLUSH, 0, false, 0), ==, VIRTIO_BLK_S_OK);
    tear_down(&f);
}

/* 5.2.6 leaves it to the driver how header, data and status are cut into descriptors. */
static void test_layouts(void)
{
    struct fixture f;
    uint64_t mixed;

    set_up(&f, "path=%s");
    virtio_driver_start(f.driver, ALL_BLK);
    mixed = harness_alloc(f.h, 8192, 4096);

    /* Header in three pieces; data in odd ones, the last with the status byte. */
    {
        struct driver_buffer out[] = {{f.header, 4}, {f.header + 4, 11}, {f.header + 15, 1}};
        struct driver_buffer in[] = {{mixed, 100}, {mixed + 100, 500}, {mixed + 600, 425}};

        put_header(&f, f.header, VIRTIO_BLK_T_IN, 7);
        harness_store(f.h, mixed + 1024, 1, PENDING);
        g_assert_cmpint(virtio_driver_request(f.driver, 0, out, 3, in, 3), ==, 1025);
        g_assert_cmpuint(harness_load(f.h, mixed + 1024, 1), ==, VIRTIO_BLK_S_OK);
        assert_image(&f, mixed, 7, 1024);
    }
    /* Header and data of a write in one descriptor. */
    {
        struct driver_buffer out[] = {{mixed, 16 + 512}};
        struct driver_buffer in[] = {{f.status, 1}};

        put_header(&f, mixed, VIRTIO_BLK_T_OUT, 9);
        memset(harness_ptr(f.h, mixed + 16, 512), 0x77, 512);
        harness_store(f.h, f.status, 1, PENDING);
        g_assert_cmpint(virtio_driver_request(f.driver, 0, out, 1, in, 1), ==, 1);
        g_assert_cmpuint(harness_load(f.h, f.status, 1), ==, VIRTIO_BLK_S_OK);
        g_assert_cmpuint(read_sectors(&f, 8, 3), ==, VIRTIO_BLK_S_OK);
        assert_image(&f, f.data, 8, 512);
        assert_filled(&f, f.data + 512, 0x77, 512);
        assert_image(&f, f.data + 1024, 10, 512);
    }
    tear_down(&f);
}

static void test_serial(void)
{
    struct fixture f;
    struct driver_buffer out;
    char serial[24];

    set_up(&f, "path=%s,serial=12345678901234567890");
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    fill_data(&f, 0x11, 32);
    g_assert_cmpuint(request(&f, VIRTIO_BLK_T_GET_ID, 0, false, 20), ==, VIRTIO_BLK_S_OK);
    harness_read(f.h, f.data, serial, 21);
    g_assert_cmpmem(serial, 20, "12345678901234567890", 20);
    g_assert_cmpuint(serial[20], ==, 0x11);

    /* In pieces, and with less room than it has. */
    out = (struct driver_buffer){f.header, 16};
    {
        struct driver_buffer in[] = {{f.data, 3}, {f.data + 512, 5}, {f.status, 1}};

        g_assert_cmpint(virtio_driver_request(f.driver, 0, &out, 1, in, 3), ==, 9);
        harness_read(f.h, f.data + 512, serial, 6);
        g_assert_cmpmem(serial, 5, "45678", 5);
        g_assert_cmpuint(serial[5], ==, 0);
    }
    tear_down(&f);
}

struct range {
    uint64_t sector;
    uint32_t count, flags;
};

static uint8_t ranges(struct fixture *f, uint32_t type, const struct range *list, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        harness_store(f->h, f->data + 16 * i, 8, list[i].sector);
        harness_store(f->h, f->data + 16 * i + 8, 4, list[i].count);
        harness_store(f->h, f->data + 16 * i + 12, 4, list[i].flags);
    }
    return request(f, type, 0, true, 16 * count);
}

static void test_discard(void)
{
    static const struct range two[] = {{64, 64, 0}, {1024, 128, 0}}, past = {SECTORS - 1, 2, 0},
                              unmap = {0, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP},
                              wrap = {UINT64_MAX, 8, 0}, nothing = {8, 0, 0};
    struct range many[17] = {{0}};
    const struct block *block;
    struct fixture f;

    set_up(&f, "path=%s");
    block = virtio_blk_backend(f.vdev);
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_DISCARD, two, 2), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(block->stats.requests[BLOCK_DISCARD], ==, 2);
    g_assert_cmpuint(block->stats.bytes[BLOCK_DISCARD], ==, 192 * 512);
    g_assert_cmpuint(read_sectors(&f, 60, 4), ==, VIRTIO_BLK_S_OK);
    assert_image(&f, f.data, 60, 4 * 512);
    g_assert_cmpuint(read_sectors(&f, 1024 + 128, 4), ==, VIRTIO_BLK_S_OK);
    assert_image(&f, f.data, 1024 + 128, 4 * 512);

    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_DISCARD, &unmap, 1), ==, VIRTIO_BLK_S_UNSUPP);
    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_DISCARD, &past, 1), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_DISCARD, &wrap, 1), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_DISCARD, &nothing, 1), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_DISCARD, many, 16), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_DISCARD, many, 17), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(request(&f, VIRTIO_BLK_T_DISCARD, 0, true, 15), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(block->stats.requests[BLOCK_DISCARD], ==, 2);
    tear_down(&f);
}

static void test_write_zeroes(void)
{
    static const struct range two[] = {{64, 8, 0}, {80, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP}},
                              flag = {0, 8, 2}, past = {SECTORS, 1, 0};
    struct fixture f;

    set_up(&f, "path=%s");
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_WRITE_ZEROES, two, 2), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_WRITE_ZEROES, &flag, 1), ==, VIRTIO_BLK_S_UNSUPP);
    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_WRITE_ZEROES, &past, 1), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(read_sectors(&f, 56, 40), ==, VIRTIO_BLK_S_OK);
    assert_image(&f, f.data, 56, 8 * 512);
    assert_filled(&f, f.data + 8 * 512, 0, 8 * 512);
    assert_image(&f, f.data + 16 * 512, 72, 8 * 512);
    assert_filled(&f, f.data + 24 * 512, 0, 8 * 512);
    assert_image(&f, f.data + 32 * 512, 88, 8 * 512);
    tear_down(&f);
}

static void test_cache_mode(void)
{
    struct fixture f;
    unsigned wce = offsetof(struct virtio_blk_config, wce);

    set_up(&f, "path=%s");
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    harness_bar_write(f.h, f.driver->slot, f.driver->bar, f.driver->config + wce, 1, 0);
    g_assert_cmpuint(CONFIG(&f, wce), ==, 0);
    fill_data(&f, 0x33, 512);
    g_assert_cmpuint(write_sectors(&f, 3, 1), ==, VIRTIO_BLK_S_OK);
    /* Other bytes are not the driver's to write. */
    harness_bar_write(f.h, f.driver->slot, f.driver->bar, f.driver->config, 4, 99);
    g_assert_cmpuint(CONFIG(&f, capacity), ==, SECTORS);
    /* The next driver finds the cache on. */
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    g_assert_cmpuint(CONFIG(&f, wce), ==, 1);
    g_assert_cmpuint(read_sectors(&f, 3, 1), ==, VIRTIO_BLK_S_OK);
    assert_filled(&f, f.data, 0x33, 512);
    tear_down(&f);
}

static void test_queues(void)
{
    struct fixture f;

    set_up(&f, "path=%s,queues=4");
    virtio_driver_start(f.driver, ALL_BLK | RINGS | BIT(VIRTIO_BLK_F_MQ));
    for (unsigned queue = 0; queue < 4; queue++) {
        uint64_t before = virtio_driver_interrupts(f.driver, queue);

        g_assert_cmpuint(request_on(&f, queue, VIRTIO_BLK_T_IN, 100 + queue, false, 512), ==,
                         VIRTIO_BLK_S_OK);
        assert_image(&f, f.data, 100 + queue, 512);
        harness_settle(f.h, 1);
        g_assert_cmpuint(virtio_driver_interrupts(f.driver, queue), ==, before + 1);
    }
    tear_down(&f);
}

/* ---- requests that are wrong ---- */

static void test_out_of_range(void)
{
    struct fixture f;

    set_up(&f, "path=%s");
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    g_assert_cmpuint(read_sectors(&f, SECTORS - 1, 1), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(read_sectors(&f, SECTORS - 1, 2), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(read_sectors(&f, SECTORS, 1), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(write_sectors(&f, SECTORS, 1), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(read_sectors(&f, UINT64_MAX, 1), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(write_sectors(&f, UINT64_MAX / 512, 2), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(request(&f, VIRTIO_BLK_T_IN, 0, false, 100), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(request(&f, VIRTIO_BLK_T_OUT, 0, true, 513), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(request(&f, VIRTIO_BLK_T_IN, 0, false, 0), ==, VIRTIO_BLK_S_OK);
    tear_down(&f);
}

static void test_unsupported(void)
{
    static const uint32_t types[] = {2, 3, 10, 12, VIRTIO_BLK_T_SECURE_ERASE, 99, 0x80000000u};
    static const struct range range = {0, 8, 0};
    struct fixture f;

    set_up(&f, "path=%s");
    virtio_driver_start(f.driver, RINGS); /* none of the optional kinds */
    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++)
        g_assert_cmpuint(request(&f, types[i], 0, false, 512), ==, VIRTIO_BLK_S_UNSUPP);
    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_DISCARD, &range, 1), ==, VIRTIO_BLK_S_UNSUPP);
    g_assert_cmpuint(ranges(&f, VIRTIO_BLK_T_WRITE_ZEROES, &range, 1), ==, VIRTIO_BLK_S_UNSUPP);
    tear_down(&f);
}

static bool needs_reset(void *opaque)
{
    return virtio_driver_status(opaque) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static void test_broken_format(void)
{
    struct fixture f;

    set_up(&f, "path=%s");
    for (unsigned i = 0; i < 3; i++) {
        struct driver_buffer out = {f.header, i == 0 ? 15 : 16};
        struct driver_buffer in = {f.status, 1};
        int marker;

        virtio_driver_start(f.driver, ALL_BLK | RINGS);
        g_assert_cmpuint(read_sectors(&f, 1, 1), ==, VIRTIO_BLK_S_OK);
        assert_image(&f, f.data, 1, 512);
        put_header(&f, f.header, VIRTIO_BLK_T_FLUSH, 0);
        virtio_driver_submit(f.driver, 0, &out, i == 2 ? 0 : 1, &in, i == 1 ? 0 : 1, &marker);
        g_assert_true(harness_wait(f.h, needs_reset, f.driver, HARNESS_TIMEOUT_MS));
    }
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    g_assert_cmpuint(read_sectors(&f, 1, 1), ==, VIRTIO_BLK_S_OK);
    tear_down(&f);
}

static void test_disk_errors(void)
{
    struct fixture f;

    set_up(&f, "path=%s,fault-errors=1000,fault-start=64K,fault-size=4K");
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    g_assert_cmpuint(read_sectors(&f, 127, 1), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(read_sectors(&f, 127, 2), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(write_sectors(&f, 135, 1), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(read_sectors(&f, 136, 1), ==, VIRTIO_BLK_S_OK);
    tear_down(&f);
}

/* ---- many at once ---- */

static void submit_reads(struct fixture *f, unsigned queue, unsigned count)
{
    struct driver_ring *ring = virtio_driver_ring(f->driver, queue);

    for (unsigned i = 0; i < count; i++) {
        struct driver_buffer out = {f->header + 16 * i, 16};
        struct driver_buffer in[] = {{f->data + 512 * i, 512}, {f->status + i, 1}};

        put_header(f, out.gpa, VIRTIO_BLK_T_IN, 10 + i);
        harness_store(f->h, f->status + i, 1, PENDING);
        g_assert_true(driver_ring_add(ring, &out, 1, in, 2, ring->features.indirect,
                                      GUINT_TO_POINTER(i + 1)));
    }
    virtio_driver_publish(f->driver, queue);
}

static void test_batch(void)
{
    enum { COUNT = 64 };
    struct fixture f;
    uint64_t before;

    set_up(&f, "path=%s,queue-size=64");
    virtio_driver_start(f.driver, ALL_BLK | BIT(VIRTIO_RING_F_INDIRECT_DESC));
    before = virtio_driver_interrupts(f.driver, 0);
    submit_reads(&f, 0, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        uint32_t written;

        g_assert_nonnull(virtio_driver_wait(f.driver, 0, &written));
        g_assert_cmpuint(written, ==, 513);
    }
    harness_settle(f.h, 1);
    for (unsigned i = 0; i < COUNT; i++) {
        g_assert_cmpuint(harness_load(f.h, f.status + i, 1), ==, VIRTIO_BLK_S_OK);
        assert_image(&f, f.data + 512 * i, 10 + i, 512);
    }
    /* One interrupt for each batch of completions, not for each request. */
    g_assert_cmpuint(virtio_driver_interrupts(f.driver, 0) - before, <=, COUNT / 4);
    tear_down(&f);
}

/* ---- requests in flight when something happens ---- */

static void assert_pending(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        g_assert_cmpuint(harness_load(f->h, f->status + i, 1), ==, PENDING);
}

static void test_reset_in_flight(void)
{
    struct fixture f;

    set_up(&f, "type=null,size=1M,latency-us=300000");
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    submit_reads(&f, 0, 8);
    harness_settle(f.h, 5);
    g_assert_cmpuint(virtio_blk_backend(f.vdev)->in_flight, ==, 8);
    virtio_driver_reset(f.driver);
    g_assert_cmpuint(virtio_blk_backend(f.vdev)->in_flight, ==, 0);
    harness_settle(f.h, 350);
    assert_pending(&f, 8);
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    g_assert_cmpuint(read_sectors(&f, 0, 1), ==, VIRTIO_BLK_S_OK);
    tear_down(&f);
}

static void test_queue_reset_in_flight(void)
{
    struct fixture f;

    set_up(&f, "type=null,size=1M,latency-us=300000,queues=2");
    virtio_driver_start(f.driver,
                        ALL_BLK | RINGS | BIT(VIRTIO_F_RING_RESET) | BIT(VIRTIO_BLK_F_MQ));
    submit_reads(&f, 1, 4);
    harness_settle(f.h, 5);
    virtio_driver_write(f.driver, 22, 2, 1); /* queue_select */
    virtio_driver_write(f.driver, 58, 2, 1); /* queue_reset */
    for (unsigned i = 0; i < 100 && virtio_driver_read(f.driver, 58, 2); i++)
        harness_settle(f.h, 5);
    g_assert_cmpuint(virtio_driver_read(f.driver, 58, 2), ==, 0);
    assert_pending(&f, 4);
    /* The other queue went on, and this one works again. */
    g_assert_cmpuint(request_on(&f, 0, VIRTIO_BLK_T_IN, 0, false, 512), ==, VIRTIO_BLK_S_OK);
    virtio_driver_setup_queue(f.driver, 1, 0);
    g_assert_cmpuint(request_on(&f, 1, VIRTIO_BLK_T_IN, 0, false, 512), ==, VIRTIO_BLK_S_OK);
    tear_down(&f);
}

static void test_destroy_in_flight(void)
{
    struct fixture f;

    set_up(&f, "path=%s,fault-delay-us=30000,fault-operation=read");
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    submit_reads(&f, 0, 8);
    harness_settle(f.h, 5);
    tear_down(&f);
}

static void test_pause_in_flight(void)
{
    struct fixture f;
    g_autoptr(GError) error = NULL;

    set_up(&f, "type=null,size=1M,latency-us=30000");
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    submit_reads(&f, 0, 8);
    harness_settle(f.h, 5);
    devices_set_state(&f.h->devices, DEVICE_STOP, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
    /* They were completed before the device stopped, not dropped. */
    for (unsigned i = 0; i < 8; i++)
        g_assert_cmpuint(harness_load(f.h, f.status + i, 1), ==, VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < 8; i++)
        g_assert_nonnull(driver_ring_reap(virtio_driver_ring(f.driver, 0), NULL));
    /* What is asked for meanwhile waits. */
    device_violations_fatal(false);
    submit_reads(&f, 0, 4);
    harness_settle(f.h, 60);
    device_violations_fatal(true);
    assert_pending(&f, 4);
    devices_set_state(&f.h->devices, DEVICE_RUNNING, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
    for (unsigned i = 0; i < 4; i++)
        g_assert_nonnull(virtio_driver_wait(f.driver, 0, NULL));
    tear_down(&f);
}

/* ---- saved state ---- */

static bool save_and_load(struct fixture *f, const char *other_options, GError **error)
{
    struct fixture other = {.h = f->h};
    g_autoptr(GByteArray) saved = NULL;
    struct device *device = &virtio_pci_function(f->vpci)->device;
    GError *state_error = NULL;
    bool ok;

    devices_set_state(&f->h->devices, DEVICE_STOP_COPY, HARNESS_TIMEOUT_MS, &state_error);
    g_assert_no_error(state_error);
    saved = harness_save(device);
    devices_set_state(&f->h->devices, DEVICE_RUNNING, HARNESS_TIMEOUT_MS, &state_error);
    g_assert_no_error(state_error);
    attach(&other, other_options, "virtio-blk1");
    ok = harness_load_state(&virtio_pci_function(other.vpci)->device, saved, error);
    if (ok) {
        g_assert_cmpuint(CONFIG(&other, wce), ==, CONFIG(f, wce));
        g_assert_cmpuint(CONFIG(&other, capacity), ==, CONFIG(f, capacity));
    }
    detach(&other);
    return ok;
}

static void test_saved_state(void)
{
    struct fixture f;
    g_autoptr(GError) error = NULL;

    set_up(&f, "type=null,size=1M");
    virtio_driver_start(f.driver, ALL_BLK | RINGS);
    harness_bar_write(f.h, f.driver->slot, f.driver->bar,
                      f.driver->config + offsetof(struct virtio_blk_config, wce), 1, 0);
    g_assert_cmpuint(read_sectors(&f, 1, 1), ==, VIRTIO_BLK_S_OK);
    save_and_load(&f, "type=null,size=1M", &error);
    g_assert_no_error(error);
    g_assert_false(save_and_load(&f, "type=null,size=2M", &error));
    g_assert_nonnull(strstr(error->message, "2048 sectors"));
    g_assert_nonnull(strstr(error->message, "4096"));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t features;
    } rings[] = {
        {"split", 0},
        {"split-indirect-event-idx", RINGS},
        {"split-in-order", RINGS | BIT(VIRTIO_F_IN_ORDER)},
        {"packed", BIT(VIRTIO_F_RING_PACKED)},
        {"packed-indirect-event-idx", RINGS | BIT(VIRTIO_F_RING_PACKED)},
        {"packed-in-order", RINGS | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER)},
    };

    g_test_init(&argc, &argv, NULL);
    device_violations_fatal(true);
    g_test_add_func("/virtio-blk/config", test_config);
    g_test_add_func("/virtio-blk/read-only", test_read_only);
    g_test_add_func("/virtio-blk/bad-options", test_bad_options);
    for (unsigned i = 0; i < G_N_ELEMENTS(rings); i++) {
        g_autofree char *name = g_strdup_printf("/virtio-blk/transfers/%s", rings[i].name);

        g_test_add_data_func(name, &rings[i].features, test_transfers);
    }
    g_test_add_func("/virtio-blk/layouts", test_layouts);
    g_test_add_func("/virtio-blk/serial", test_serial);
    g_test_add_func("/virtio-blk/discard", test_discard);
    g_test_add_func("/virtio-blk/write-zeroes", test_write_zeroes);
    g_test_add_func("/virtio-blk/cache-mode", test_cache_mode);
    g_test_add_func("/virtio-blk/queues", test_queues);
    g_test_add_func("/virtio-blk/out-of-range", test_out_of_range);
    g_test_add_func("/virtio-blk/unsupported", test_unsupported);
    g_test_add_func("/virtio-blk/broken-format", test_broken_format);
    g_test_add_func("/virtio-blk/disk-errors", test_disk_errors);
    g_test_add_func("/virtio-blk/batch", test_batch);
    g_test_add_func("/virtio-blk/reset-in-flight", test_reset_in_flight);
    g_test_add_func("/virtio-blk/queue-reset-in-flight", test_queue_reset_in_flight);
    g_test_add_func("/virtio-blk/destroy-in-flight", test_destroy_in_flight);
    g_test_add_func("/virtio-blk/pause-in-flight", test_pause_in_flight);
    g_test_add_func("/virtio-blk/saved-state", test_saved_state);
    return g_test_run();
}
