/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of lodge/snapshot: a machine that does not run goes to a folder and another is made of it. A
 * KVM without hardware support will do; without any, the tests are skipped.
 */
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "lodge/snapshot.h"
#include "tests/unit/scratch.h"

#define RAM      (UINT64_C(64) << 20)
#define PATTERN  UINT64_C(0x123000)
#define LAST     (RAM - 4096)
#define GREETING "here I was"

struct fixture {
    char *dir, *path;
    struct config *config;
    struct machine *machine;
};

static void on_end(void *opaque)
{
}

static struct machine *make(struct config *config, int memory_fd)
{
    struct machine_hooks hooks = {.ended = on_end, .memory_fd = memory_fd};
    g_autoptr(GError) error = NULL;
    struct machine *machine = machine_create(config, &hooks, &error);

    if (!machine)
        g_test_message("%s", error->message);
    return machine;
}

static void setup(struct fixture *f, gconstpointer extra)
{
    char *words[] = {(char *)"--allow-software-kvm",
                     (char *)"-m",
                     (char *)"64",
                     (char *)"--serial",
                     (char *)"type=null",
                     (char *)"--disk",
                     NULL,
                     (char *)"--rng",
                     (char *)"--rdma",
                     (char *)"loopback,net=type=null",
                     (char *)"--device",
                     (char *)"vmgenid",
                     (char *)"--device",
                     (char *)"rtc",
                     (char *)"--device",
                     (char *)"pvpanic",
                     (char *)"--device",
                     (char *)extra,
                     NULL};
    g_autofree char *disk = NULL;
    g_autoptr(GError) error = NULL;

    f->dir = scratch_create();
    f->path = g_build_filename(f->dir, "snap", NULL);
    scratch_write(f->dir, "disk", "");
    disk = g_strdup_printf("path=%s/disk", f->dir);
    g_assert_cmpint(truncate(disk + 5, 1 << 20), ==, 0);
    words[6] = disk;
    if (!extra)
        words[16] = NULL;
    f->config = config_from_arguments(words, &error);
    g_assert_no_error(error);
    f->machine = make(f->config, -1);
    if (!f->machine)
        return;
    g_assert_cmpint(memory_write(f->machine->memory, PATTERN, GREETING, 11), ==, 0);
    g_assert_cmpint(memory_write(f->machine->memory, LAST, GREETING, 11), ==, 0);
}

static void teardown(struct fixture *f, gconstpointer extra)
{
    machine_destroy(f->machine);
    config_free(f->config);
    scratch_remove(f->dir);
    g_free(f->path);
    g_free(f->dir);
}

static bool skipped(const struct fixture *f)
{
    if (!f->machine)
        g_test_skip("no KVM here");
    return !f->machine;
}

static void assert_says(GError *error, const char *words)
{
    g_assert_nonnull(error);
    if (!strstr(error->message, words))
        g_error("'%s' does not say '%s'", error->message, words);
}

static void take(struct fixture *f, const char *path)
{
    g_autoptr(GError) error = NULL;

    machine_snapshot(f->machine, path, false, &error);
    g_assert_no_error(error);
}

static unsigned files_in(const char *dir)
{
    g_autoptr(GDir) open = g_dir_open(dir, 0, NULL);
    unsigned count = 0;

    while (g_dir_read_name(open))
        count++;
    return count;
}

static void test_goes_on_after_a_snapshot(struct fixture *f, gconstpointer extra)
{
    g_autofree char *memory = g_build_filename(f->path, "memory", NULL);
    struct stat st;

    if (skipped(f))
        return;
    take(f, f->path);
    for (struct device *device = f->machine->devices.first; device; device = device->next)
        g_assert_cmpint(device_state(device), ==, DEVICE_RUNNING);
    g_assert_false(f->machine->paused);
    g_assert_cmpint(stat(memory, &st), ==, 0);
    g_assert_cmpuint(st.st_size, ==, RAM);
    g_assert_cmpuint((uint64_t)st.st_blocks * 512, <, RAM / 4); /* the rest is holes */
    g_assert_cmpuint(files_in(f->dir), ==, 2);                  /* the disk, the snapshot */
}

static void test_stop_leaves_it_stopped(struct fixture *f, gconstpointer extra)
{
    g_autoptr(GError) error = NULL;

    if (skipped(f))
        return;
    g_assert_true(machine_snapshot(f->machine, f->path, true, &error));
    g_assert_true(f->machine->paused);
    g_assert_cmpint(device_state(f->machine->devices.first), ==, DEVICE_STOP);
    g_assert_true(machine_resume(f->machine, &error));
}

/* What may differ: the new id, and clocks that go on. */
static bool may_differ(const char *name)
{
    return !strcmp(name, "vm") || !strcmp(name, "vcpu0") || !strcmp(name, "vmgenid") ||
           !strcmp(name, "acpi") || !strcmp(name, "rtc");
}

static void assert_same_states(const char *before, const char *after)
{
    g_autofree char *one = g_build_filename(before, "state", NULL);
    g_autofree char *two = g_build_filename(after, "state", NULL);
    g_autoptr(snapshot_t) a = snapshot_read(one, NULL), b = snapshot_read(two, NULL);

    g_assert_cmpuint(a->sections->len, ==, b->sections->len);
    for (guint i = 0; i < a->sections->len; i++) {
        struct snapshot_section *x = g_ptr_array_index(a->sections, i);
        struct snapshot_section *y = g_ptr_array_index(b->sections, i);

        g_assert_cmpstr(x->name, ==, y->name);
        g_assert_cmpuint(x->size, ==, y->size);
        if (!may_differ(x->name) && memcmp(x->data, y->data, x->size))
            g_error("section %s is another after a restore", x->name);
    }
}

/* Of a memory file: RAM below the hole lies there at its address. */
static void assert_greeting(const char *folder, uint64_t gpa)
{
    g_autofree char *path = g_build_filename(folder, "memory", NULL), *contents = NULL;
    gsize length;

    g_assert_true(g_file_get_contents(path, &contents, &length, NULL));
    g_assert_cmpuint(length, ==, RAM);
    g_assert_cmpstr(contents + gpa, ==, GREETING);
}

static void test_restored_machine_is_the_same(struct fixture *f, gconstpointer extra)
{
    g_autofree char *second = g_build_filename(f->dir, "snap2", NULL);
    char *none[] = {NULL}, text[11];
    uint8_t guid[VMGENID_SIZE];
    struct restore *restore;
    g_autoptr(GError) error = NULL;

    if (skipped(f))
        return;
    memcpy(guid, vmgenid_guid(f->machine->vmgenid), sizeof(guid));
    take(f, f->path);
    machine_destroy(f->machine); /* it holds the disk's lock */
    config_free(f->config);
    restore = restore_open(f->path, &error);
    g_assert_no_error(error);
    f->config = restore_config(restore, none, &error);
    g_assert_no_error(error);
    f->machine = make(f->config, restore->memory_fd);
    g_assert_true(restore_machine(restore, f->machine, &error));
    g_assert_no_error(error);
    restore_close(restore);
    /* First of all what nobody has touched since is saved again. */
    take(f, second);
    assert_same_states(f->path, second);
    assert_greeting(second, PATTERN);
    assert_greeting(second, LAST);
    g_assert_cmpint(memory_read(f->machine->memory, PATTERN, text, 11), ==, 0);
    g_assert_cmpstr(text, ==, GREETING);
    g_assert_cmpint(memory_read(f->machine->memory, LAST, text, 11), ==, 0);
    g_assert_cmpstr(text, ==, GREETING);
    g_assert_true(memcmp(guid, vmgenid_guid(f->machine->vmgenid), sizeof(guid)) != 0);
}

static void test_folder_in_use_is_refused(struct fixture *f, gconstpointer extra)
{
    g_autoptr(GError) error = NULL;

    if (skipped(f))
        return;
    take(f, f->path);
    g_assert_false(machine_snapshot(f->machine, f->path, true, &error));
    assert_says(error, "new or empty folder");
    g_assert_cmpuint(files_in(f->dir), ==, 2);
    g_assert_false(f->machine->paused);
    g_assert_cmpint(device_state(f->machine->devices.first), ==, DEVICE_RUNNING);
}

static void test_blocker_is_named(struct fixture *f, gconstpointer extra)
{
    g_autoptr(GError) error = NULL;

    if (skipped(f))
        return;
    machine_find(f->machine, "rng0")->device->migration_blocker = "a test wants it so";
    g_assert_false(machine_snapshot(f->machine, f->path, false, &error));
    assert_says(error, "rng0 can't be saved");
    g_assert_false(g_file_test(f->path, G_FILE_TEST_EXISTS));
    g_assert_false(f->machine->paused);
}

static void test_other_shapes_are_refused(struct fixture *f, gconstpointer extra)
{
    char *memory[] = {(char *)"-m", (char *)"128", NULL};
    char *cpus[] = {(char *)"-c", (char *)"2", NULL};
    char *device[] = {(char *)"--rng", NULL};
    const struct {
        char **words;
        const char *says;
    } rows[] = {{memory, "snapshot has 64"}, {cpus, "snapshot has 1"}, {device, "devices"}};
    struct restore *restore;

    if (skipped(f))
        return;
    take(f, f->path);
    restore = restore_open(f->path, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(restore_config(restore, rows[i].words, &error));
        assert_says(error, rows[i].says);
    }
    restore_close(restore);
}

/* The configuration with @word and @value over it; what it says when that is refused. */
static struct config *with(struct fixture *f, const char *word, const char *value, char **refusal)
{
    char *words[] = {(char *)word, (char *)value, NULL};
    struct restore *restore = restore_open(f->path, NULL);
    g_autoptr(GError) error = NULL;
    struct config *config = restore_config(restore, words, &error);

    if (refusal)
        *refusal = error ? g_strdup(error->message) : NULL;
    restore_close(restore);
    return config;
}

static const struct options *options_of(const struct config *config, const char *id)
{
    for (guint i = 0; i < config->devices->len; i++) {
        const struct device_config *device = g_ptr_array_index(config->devices, i);

        if (!strcmp(options_string(device->options, "id"), id))
            return device->options;
    }
    return NULL;
}

static void test_host_resources_can_be_others(struct fixture *f, gconstpointer extra)
{
    static const struct {
        const char *word, *value, *id, *key, *after;
    } rows[] = {
        {"--disk", "path=/other", "disk0", "path", "/other"},
        {"--disk", "id=disk0,path=/other", "disk0", "path", "/other"},
        {"--disk", "engine=threads", "disk0", "path", NULL}, /* as it was */
        {"--share", "tag=t,path=/srv", "share0", "path", "/srv"},
        {"--serial", "type=file,path=/log", "serial0", "path", "/log"},
        {"--console", "serial", "serial0", "type", "stdio"},
        {"--device", "virtio-blk,path=/other", "disk0", "path", "/other"},
    };

    if (skipped(f))
        return;
    take(f, f->path);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *refusal = NULL, *same = g_build_filename(f->dir, "disk", NULL);
        g_autoptr(config_t) config = with(f, rows[i].word, rows[i].value, &refusal);

        g_assert_cmpstr(refusal, ==, NULL);
        g_assert_cmpstr(options_string(options_of(config, rows[i].id), rows[i].key), ==,
                        rows[i].after ? rows[i].after : same);
    }
}

static void test_what_the_guest_sees_can_not(struct fixture *f, gconstpointer extra)
{
    static const struct {
        const char *word, *value, *says;
    } rows[] = {
        {"--disk", "queues=4", "--disk: queues=4: the guest knows it as 1"},
        {"--disk", "id=disk7,path=/a", "the snapshot's are disk0"},
        {"--net", "type=null", "has no virtio-net"},
        {"--rng", "id=rng0", "say what is to change"},
        {"--share", "tag=x,path=/srv", "tag=x: the snapshot's are share0"},
        {"--console", "virtio", "no such console"},
    };

    if (skipped(f))
        return;
    take(f, f->path);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *refusal = NULL;

        g_assert_null(with(f, rows[i].word, rows[i].value, &refusal));
        if (!strstr(refusal, rows[i].says))
            g_error("'%s' does not say '%s'", refusal, rows[i].says);
    }
}

static void test_short_memory_file_is_refused(struct fixture *f, gconstpointer extra)
{
    g_autofree char *memory = g_build_filename(f->path, "memory", NULL);
    g_autoptr(GError) error = NULL;

    if (skipped(f))
        return;
    take(f, f->path);
    g_assert_cmpint(truncate(memory, 4096), ==, 0);
    g_assert_null(restore_open(f->path, &error));
    assert_says(error, "section RAM");
}

/* A stream of an earlier build: every section and every state table in it is understood. KVM's own
 * sections are only read as far as the host's CPU allows, so not here. */
static void test_golden_snapshot_is_read(struct fixture *f, gconstpointer extra)
{
    g_autofree uint8_t *data = NULL;
    char *none[] = {NULL};
    struct restore *restore;
    g_autoptr(config_t) config = NULL;
    struct machine *machine;
    g_autoptr(GError) error = NULL;
    gsize size;

    if (skipped(f))
        return;
    g_assert_true(g_file_get_contents(TEST_SOURCE "/golden/state", (char **)&data, &size, NULL));
    restore = restore_from_stream(data, size, &error);
    g_assert_no_error(error);
    config = restore_config(restore, none, &error);
    g_assert_no_error(error);
    machine = make(config, -1);
    g_assert_nonnull(machine);
    g_assert_true(devices_set_state(&machine->devices, DEVICE_RESUMING, 1000, &error));
    for (struct device *device = machine->devices.first; device; device = device->next) {
        const struct snapshot_section *section =
            snapshot_find(restore->snapshot, SNAPSHOT_DEVICE, device->name);

        g_assert_nonnull(section);
        device_load(device, section->data, section->size, &error);
        g_assert_no_error(error);
    }
    g_assert_true(devices_set_state(&machine->devices, DEVICE_RUNNING, 1000, &error));
    machine_destroy(machine);
    restore_close(restore);
}

/* One bit wrong in a device's own bytes, with every checksum right: it loads or it is refused by the
 * device's name, and a machine that was to get it is still there to be destroyed. */
static void test_spoiled_device_states_are_refused_by_name(struct fixture *f, gconstpointer extra)
{
    g_autofree char *path = g_build_filename(f->path, "state", NULL);
    g_autoptr(GRand) random = g_rand_new_with_seed(11);
    g_autoptr(snapshot_t) snapshot = NULL;
    unsigned refused = 0;

    if (skipped(f))
        return;
    take(f, f->path);
    snapshot = snapshot_read(path, NULL);
    for (unsigned round = 0; round < 400; round++) {
        for (struct device *device = f->machine->devices.first; device; device = device->next) {
            const struct snapshot_section *section =
                snapshot_find(snapshot, SNAPSHOT_DEVICE, device->name);
            g_autofree uint8_t *copy = g_memdup2(section->data, section->size + 1);
            g_autoptr(GError) error = NULL;

            if (!section->size)
                continue;
            g_assert_true(devices_set_state(&f->machine->devices, DEVICE_RESUMING, 1000, &error));
            copy[g_rand_int_range(random, 0, (gint32)section->size)] ^=
                1 << g_rand_int_range(random, 0, 8);
            if (!device_load(device, copy, section->size, &error)) {
                assert_says(error, device->name);
                refused++;
            }
            devices_reset(&f->machine->devices);
        }
    }
    g_assert_cmpuint(refused, >, 100);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(NAME, EXTRA)                                                                           \
    g_test_add("/machine-snapshot/" #NAME, struct fixture, EXTRA, setup, test_##NAME, teardown)
    ADD(goes_on_after_a_snapshot, NULL);
    ADD(stop_leaves_it_stopped, NULL);
    ADD(restored_machine_is_the_same, "virtio-9p,path=/,tag=t,readonly=on");
    ADD(folder_in_use_is_refused, NULL);
    ADD(blocker_is_named, NULL);
    ADD(other_shapes_are_refused, NULL);
    ADD(host_resources_can_be_others, "virtio-9p,path=/,tag=t,readonly=on");
    ADD(what_the_guest_sees_can_not, "virtio-9p,path=/,tag=t,readonly=on");
    ADD(short_memory_file_is_refused, NULL);
    ADD(golden_snapshot_is_read, NULL);
    ADD(spoiled_device_states_are_refused_by_name, "virtio-9p,path=/,tag=t,readonly=on");
    return g_test_run();
}
