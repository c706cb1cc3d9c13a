/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 9P device through its registers and ring: messages there and back, resets, pauses, bad chains. */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/device/virtio_driver.h"
#include "tests/unit/scratch.h"
#include "virtio/9p.h"
#include "virtio/9p_wire.h"

#define EVENT_IDX  (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define PACKED     (UINT64_C(1) << VIRTIO_F_RING_PACKED)
#define INDIRECT   (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)
#define RING_RESET (UINT64_C(1) << VIRTIO_F_RING_RESET)
#define MOUNT_TAG  UINT64_C(1)

#define REQUEST 1024u
#define REPLY   16384u

struct fixture {
    struct harness *h;
    struct virtio_pci *vpci;
    struct virtio_driver *driver;
    char *dir;
    uint64_t request, reply; /* guest memory */
    struct p9_writer tx;
    struct p9_reader rx;
};

static void setup(struct fixture *f, const char *more)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = NULL;
    g_autofree char *text = NULL;
    struct virtio_device *vdev;

    f->dir = scratch_create();
    scratch_write(f->dir, "hello", "hello, guest");
    text = g_strdup_printf("path=%s,tag=srv%s", f->dir, more);
    options = options_parse(virtio_9p_options, "--share", text, &error);
    g_assert_no_error(error);
    f->h = harness_create(0);
    vdev = virtio_9p_create(options, f->h->loop, &error);
    g_assert_no_error(error);
    f->vpci = virtio_pci_create(vdev, "share0", &f->h->env, true, &error);
    g_assert_no_error(error);
    f->driver = virtio_driver_create(f->h, f->vpci);
    f->request = harness_alloc(f->h, REQUEST, 4096);
    f->reply = harness_alloc(f->h, REPLY, 4096);
}

static void teardown(struct fixture *f)
{
    virtio_driver_destroy(f->driver);
    virtio_pci_destroy(f->vpci);
    harness_destroy(f->h);
    scratch_remove(f->dir);
    g_free(f->dir);
}

static void begin(struct fixture *f, uint8_t type, uint16_t tag)
{
    uint8_t *request = harness_ptr(f->h, f->request, REQUEST);

    f->tx = (struct p9_writer){request, request, request + REQUEST, false};
    p9_write_u32(&f->tx, 0);
    p9_write_u8(&f->tx, type);
    p9_write_u16(&f->tx, tag);
}

static uint32_t end(struct fixture *f)
{
    struct p9_writer size = {f->tx.start, f->tx.start, f->tx.start + 4, false};

    g_assert_false(f->tx.overflow);
    p9_write_u32(&size, p9_written(&f->tx));
    return p9_written(&f->tx);
}

/* Takes the reply apart: its type; the body is at f->rx. */
static uint8_t reply_type(struct fixture *f, int64_t written)
{
    uint8_t type;

    g_assert_cmpint(written, >=, 7);
    f->rx = (struct p9_reader){.next = harness_ptr(f->h, f->reply, REPLY)};
    f->rx.end = f->rx.next + written;
    g_assert_cmpuint(p9_read_u32(&f->rx), ==, written);
    type = p9_read_u8(&f->rx);
    p9_read_u16(&f->rx);
    return type;
}

/* Sends what was built, both ways in several pieces. */
static uint8_t call(struct fixture *f)
{
    uint32_t size = end(f);
    const struct driver_buffer out[2] = {{f->request, 5}, {f->request + 5, size - 5}};
    const struct driver_buffer in[3] = {
        {f->reply, 11}, {f->reply + 11, 100}, {f->reply + 111, REPLY - 111}};

    return reply_type(f, virtio_driver_request(f->driver, 0, out, 2, in, 3));
}

static uint8_t call_version(struct fixture *f)
{
    begin(f, P9_TVERSION, P9_NOTAG);
    p9_write_u32(&f->tx, 8192);
    p9_write_string(&f->tx, "9P2000.L", 8);
    return call(f);
}

static uint8_t call_attach(struct fixture *f)
{
    begin(f, P9_TATTACH, 1);
    p9_write_u32(&f->tx, 0);
    p9_write_u32(&f->tx, P9_NOFID);
    p9_write_string(&f->tx, "root", 4);
    p9_write_string(&f->tx, "", 0);
    p9_write_u32(&f->tx, 0);
    return call(f);
}

static uint8_t call_walk(struct fixture *f, uint32_t newfid, const char *name)
{
    begin(f, P9_TWALK, 2);
    p9_write_u32(&f->tx, 0);
    p9_write_u32(&f->tx, newfid);
    p9_write_u16(&f->tx, 1);
    p9_write_string(&f->tx, name, strlen(name));
    return call(f);
}

static uint8_t call_lopen(struct fixture *f, uint32_t fid, uint32_t flags)
{
    begin(f, P9_TLOPEN, 3);
    p9_write_u32(&f->tx, fid);
    p9_write_u32(&f->tx, flags);
    return call(f);
}

static uint8_t call_getattr(struct fixture *f, uint32_t fid)
{
    begin(f, P9_TGETATTR, 4);
    p9_write_u32(&f->tx, fid);
    p9_write_u64(&f->tx, P9_GETATTR_BASIC);
    return call(f);
}

static uint8_t call_read(struct fixture *f, uint32_t fid, uint64_t offset, uint32_t count)
{
    begin(f, P9_TREAD, 5);
    p9_write_u32(&f->tx, fid);
    p9_write_u64(&f->tx, offset);
    p9_write_u32(&f->tx, count);
    return call(f);
}

static void begin_session(struct fixture *f, uint64_t features)
{
    virtio_driver_start(f->driver, features | MOUNT_TAG);
    g_assert_cmpuint(call_version(f), ==, P9_TVERSION + 1);
    g_assert_cmpuint(call_attach(f), ==, P9_TATTACH + 1);
}

static void read_hello(struct fixture *f, uint32_t fid)
{
    g_assert_cmpuint(call_walk(f, fid, "hello"), ==, P9_TWALK + 1);
    g_assert_cmpuint(call_lopen(f, fid, 0), ==, P9_TLOPEN + 1);
    g_assert_cmpuint(call_read(f, fid, 0, 4096), ==, P9_TREAD + 1);
    g_assert_cmpuint(p9_read_u32(&f->rx), ==, 12);
    g_assert_cmpmem(f->rx.next, 12, "hello, guest", 12);
}

static void test_tag(void)
{
    struct fixture f;

    setup(&f, "");
    g_assert_true(virtio_driver_offered(f.driver) & MOUNT_TAG);
    g_assert_cmpuint(virtio_driver_config(f.driver, 0, 2), ==, 3);
    g_assert_cmpuint(virtio_driver_config(f.driver, 2, 1), ==, 's');
    g_assert_cmpuint(virtio_driver_config(f.driver, 4, 1), ==, 'v');
    teardown(&f);
}

static void test_reads_and_writes(gconstpointer features)
{
    struct fixture f;
    g_autofree char *text = NULL;

    setup(&f, "");
    begin_session(&f, *(const uint64_t *)features);
    read_hello(&f, 1);
    g_assert_cmpuint(call_walk(&f, 2, "hello"), ==, P9_TWALK + 1);
    g_assert_cmpuint(call_lopen(&f, 2, 1), ==, P9_TLOPEN + 1);
    begin(&f, P9_TWRITE, 6);
    p9_write_u32(&f.tx, 2);
    p9_write_u64(&f.tx, 7);
    p9_write_u32(&f.tx, 4);
    p9_write_u32(&f.tx, 0x74736f68); /* "host" */
    g_assert_cmpuint(call(&f), ==, P9_TWRITE + 1);
    text = scratch_read(f.dir, "hello");
    g_assert_cmpstr(text, ==, "hello, hostt");
    teardown(&f);
}

static void test_many_requests_at_once(gconstpointer features)
{
    enum { COUNT = 60 };
    struct fixture f;
    uint64_t memory;
    bool seen[COUNT] = {false};

    setup(&f, ",threads=3");
    begin_session(&f, *(const uint64_t *)features);
    memory = harness_alloc(f.h, COUNT * 512, 4096);
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            struct driver_buffer out = {memory + i * 512, 0}, in = {memory + i * 512 + 256, 256};

            begin(&f, P9_TGETATTR, 100 + i);
            p9_write_u32(&f.tx, 0);
            p9_write_u64(&f.tx, P9_GETATTR_BASIC);
            out.len = end(&f);
            harness_write(f.h, out.gpa, f.tx.start, out.len);
            virtio_driver_submit(f.driver, 0, &out, 1, &in, 1, &seen[i]);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            uint32_t written;
            bool *mark = virtio_driver_wait(f.driver, 0, &written);
            uint64_t reply = memory + (mark - seen) * 512 + 256;

            g_assert_nonnull(mark);
            g_assert_false(*mark);
            *mark = true;
            g_assert_cmpuint(written, ==, 7 + 8 + 13 + 132);
            g_assert_cmpuint(harness_load(f.h, reply + 4, 1), ==, P9_TGETATTR + 1);
            g_assert_cmpuint(harness_load(f.h, reply + 5, 2), ==, 100 + (mark - seen));
        }
        memset(seen, 0, sizeof(seen));
    }
    teardown(&f);
}

static void test_readonly(void)
{
    struct fixture f;

    setup(&f, ",readonly");
    begin_session(&f, 0);
    read_hello(&f, 1);
    g_assert_cmpuint(call_walk(&f, 2, "hello"), ==, P9_TWALK + 1);
    g_assert_cmpuint(call_lopen(&f, 2, 2), ==, P9_RLERROR);
    g_assert_cmpuint(p9_read_u32(&f.rx), ==, EROFS);
    teardown(&f);
}

static void test_reset_ends_the_session(void)
{
    struct fixture f;

    setup(&f, "");
    begin_session(&f, 0);
    read_hello(&f, 1);
    for (unsigned i = 0; i < 20; i++) { /* some in flight */
        uint32_t size;
        struct driver_buffer out, in = {f.reply, REPLY};

        begin(&f, P9_TGETATTR, 100 + i);
        p9_write_u32(&f.tx, 0);
        p9_write_u64(&f.tx, P9_GETATTR_BASIC);
        size = end(&f);
        out = (struct driver_buffer){f.request, size};
        virtio_driver_submit(f.driver, 0, &out, 1, &in, 1, &f);
    }
    virtio_driver_reset(f.driver);
    virtio_driver_start(f.driver, EVENT_IDX);
    g_assert_cmpuint(call_getattr(&f, 0), ==, P9_RLERROR); /* no session */
    g_assert_cmpuint(call_version(&f), ==, P9_TVERSION + 1);
    g_assert_cmpuint(call_getattr(&f, 1), ==, P9_RLERROR);
    g_assert_cmpuint(p9_read_u32(&f.rx), ==, EBADF);
    g_assert_cmpuint(call_attach(&f), ==, P9_TATTACH + 1);
    read_hello(&f, 1);
    teardown(&f);
}

static void test_queue_reset_keeps_the_session(void)
{
    struct fixture f;

    setup(&f, "");
    begin_session(&f, RING_RESET);
    read_hello(&f, 1);
    virtio_driver_write(f.driver, 22, 2, 0); /* queue_select */
    virtio_driver_write(f.driver, 58, 2, 1); /* queue_reset */
    harness_settle(f.h, 20);
    g_assert_cmpuint(virtio_driver_read(f.driver, 58, 2), ==, 0);
    virtio_driver_setup_queue(f.driver, 0, 0);
    g_assert_cmpuint(call_getattr(&f, 1), ==, P9_TGETATTR + 1);
    teardown(&f);
}

static void test_paused_device_is_silent(void)
{
    struct fixture f;
    g_autoptr(GError) error = NULL;
    struct driver_buffer out, in;

    setup(&f, "");
    begin_session(&f, EVENT_IDX);
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_RUNNING_P2P, 1000, &error));
    begin(&f, P9_TGETATTR, 9);
    p9_write_u32(&f.tx, 0);
    p9_write_u64(&f.tx, P9_GETATTR_BASIC);
    out = (struct driver_buffer){f.request, end(&f)};
    in = (struct driver_buffer){f.reply, REPLY};
    virtio_driver_submit(f.driver, 0, &out, 1, &in, 1, &f);
    harness_settle(f.h, 50);
    g_assert_null(driver_ring_reap(virtio_driver_ring(f.driver, 0), NULL));
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_RUNNING, 1000, &error));
    g_assert_true(virtio_driver_wait(f.driver, 0, NULL) == &f);
    teardown(&f);
}

static struct virtio_pci *another_device(struct fixture *f, const char *tag)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strdup_printf("path=%s,tag=%s", f->dir, tag);
    g_autoptr(options_t) options = options_parse(virtio_9p_options, "--share", text, &error);
    struct virtio_device *vdev = virtio_9p_create(options, f->h->loop, &error);

    g_assert_no_error(error);
    return virtio_pci_create(vdev, "share0", &f->h->env, true, &error);
}

/* The state of a device with a session goes to another one on the same folder, and back. */
static void test_session_is_saved(void)
{
    struct fixture f;
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) saved = NULL, again = NULL;
    struct virtio_pci *other;

    setup(&f, "");
    begin_session(&f, EVENT_IDX);
    read_hello(&f, 1);
    saved = harness_save(&virtio_pci_function(f.vpci)->device);
    other = another_device(&f, "srv");
    g_assert_true(harness_load_state(&virtio_pci_function(other)->device, saved, &error));
    g_assert_no_error(error);
    again = harness_save(&virtio_pci_function(other)->device);
    g_assert_cmpmem(again->data, again->len, saved->data, saved->len);
    virtio_pci_destroy(other);
    virtio_driver_reset(f.driver); /* forget all of it, then have it back */
    g_assert_true(harness_load_state(&virtio_pci_function(f.vpci)->device, again, &error));
    g_assert_no_error(error);
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_RUNNING_P2P, 1000, &error));
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_RUNNING, 1000, &error));
    g_assert_cmpuint(call_read(&f, 1, 7, 100), ==, P9_TREAD + 1);
    g_assert_cmpuint(p9_read_u32(&f.rx), ==, 5);
    g_assert_cmpmem(f.rx.next, 5, "guest", 5);
    teardown(&f);
}

static void test_state_of_another_share_is_refused(void)
{
    struct fixture f;
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) saved = NULL;
    struct virtio_pci *other;

    setup(&f, "");
    begin_session(&f, 0);
    saved = harness_save(&virtio_pci_function(f.vpci)->device);
    other = another_device(&f, "other");
    g_assert_false(harness_load_state(&virtio_pci_function(other)->device, saved, &error));
    g_assert_nonnull(strstr(error->message, "tag 'srv', not 'other'"));
    virtio_pci_destroy(other);
    teardown(&f);
}

/* @out_size bytes of a Tversion, @in_size of room. */
static void check_bad_chain(uint32_t out_size, uint32_t in_size)
{
    struct fixture f;
    struct driver_buffer out, in;

    setup(&f, "");
    begin_session(&f, 0);
    begin(&f, P9_TVERSION, P9_NOTAG);
    end(&f);
    out = (struct driver_buffer){f.request, out_size};
    in = (struct driver_buffer){f.reply, in_size};
    virtio_driver_submit(f.driver, 0, &out, out_size > 0, &in, in_size > 0, &f);
    harness_settle(f.h, 20);
    g_assert_cmpuint(virtio_driver_status(f.driver) & VIRTIO_CONFIG_S_NEEDS_RESET, !=, 0);
    virtio_driver_reset(f.driver);
    begin_session(&f, 0);
    read_hello(&f, 1);
    teardown(&f);
}

static void test_bad_chains(void)
{
    check_bad_chain(6, REPLY);
    check_bad_chain(0, REPLY);
    check_bad_chain(7, 0);
    check_bad_chain(7, 10);
}

static void test_malformed_messages_are_answered(void)
{
    struct fixture f;
    static const uint32_t sizes[] = {0, 6, 8, 100000, UINT32_MAX};

    setup(&f, "");
    begin_session(&f, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct driver_buffer out = {f.request, 19}, in = {f.reply, 11};

        begin(&f, P9_TGETATTR, 3);
        end(&f);
        harness_store(f.h, f.request, 4, sizes[i]);
        g_assert_cmpuint(reply_type(&f, virtio_driver_request(f.driver, 0, &out, 1, &in, 1)), ==,
                         P9_RLERROR);
    }
    read_hello(&f, 1);
    teardown(&f);
}

static void check_options(const char *text, const char *problem)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(virtio_9p_options, "--share", text, &error);

    if (options) {
        g_assert_null(virtio_9p_create(options, loop_main(), &error));
    }
    g_assert_nonnull(error);
    g_assert_true(g_str_has_prefix(error->message, "--share: "));
    if (!strstr(error->message, problem)) {
        g_error("'%s' does not say '%s'", error->message, problem);
    }
}

static void test_options(void)
{
    g_autofree char *long_tag = g_strnfill(255, 'x');
    g_autofree char *long_option = g_strdup_printf("path=/tmp,tag=%s", long_tag);

    check_options("path=/nowhere,tag=a", "path=/nowhere: no such directory");
    check_options("path=/etc/passwd,tag=a", "not a directory");
    check_options("path=/tmp", "tag");
    check_options("path=/tmp,tag=", "tag");
    check_options(long_option, "1 to 254 bytes");
    check_options("path=/tmp,tag=a,security=mapped", "passthrough");
    check_options("path=/tmp,tag=a,threads=0", "threads");
}

int main(int argc, char **argv)
{
    static const uint64_t sets[] = {0, EVENT_IDX | INDIRECT, PACKED, PACKED | EVENT_IDX | INDIRECT};

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio-9p/tag", test_tag);
    for (unsigned i = 0; i < G_N_ELEMENTS(sets); i++) {
        g_autofree char *path = g_strdup_printf("/virtio-9p/reads-and-writes/%u", i);
        g_autofree char *many = g_strdup_printf("/virtio-9p/many-requests-at-once/%u", i);

        g_test_add_data_func(path, &sets[i], test_reads_and_writes);
        g_test_add_data_func(many, &sets[i], test_many_requests_at_once);
    }
    g_test_add_func("/virtio-9p/readonly", test_readonly);
    g_test_add_func("/virtio-9p/reset-ends-the-session", test_reset_ends_the_session);
    g_test_add_func("/virtio-9p/queue-reset-keeps-the-session", test_queue_reset_keeps_the_session);
    g_test_add_func("/virtio-9p/paused-device-is-silent", test_paused_device_is_silent);
    g_test_add_func("/virtio-9p/session-is-saved", test_session_is_saved);
    g_test_add_func("/virtio-9p/state-of-another-share-is-refused",
                    test_state_of_another_share_is_refused);
    g_test_add_func("/virtio-9p/bad-chains", test_bad_chains);
    g_test_add_func("/virtio-9p/malformed-messages-are-answered",
                    test_malformed_messages_are_answered);
    g_test_add_func("/virtio-9p/options", test_options);
    return g_test_run();
}
