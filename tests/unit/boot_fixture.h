/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A folder with a kernel and an initrd, memory to load them into, and what came of it. */
#ifndef TESTS_UNIT_BOOT_FIXTURE_H
#define TESTS_UNIT_BOOT_FIXTURE_H

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>

#include "firmware/boot.h"
#include "firmware/space.h"
#include "vmm/layout.h"

static const uint32_t fixture_apic_ids[] = {0};
static const struct pci_windows fixture_windows = {
    .ecam_base = LAYOUT_ECAM_BASE,
    .mmio32_base = LAYOUT_MMIO32_BASE,
    .mmio32_size = LAYOUT_MMIO32_SIZE,
    .port_base = LAYOUT_PCI_PORT_BASE,
    .port_size = LAYOUT_PCI_PORT_SIZE,
};

struct fixture {
    char *folder;
    char *kernel, *initrd; /* paths in it */
    struct memory *memory;
    struct boot_config config;
    struct boot_result result;
};

static inline void fixture_setup(struct fixture *f, gconstpointer data)
{
    f->folder = g_dir_make_tmp("lodge-boot-XXXXXX", NULL);
    f->kernel = g_build_filename(f->folder, "kernel", NULL);
    f->initrd = g_build_filename(f->folder, "initrd", NULL);
    f->config = (struct boot_config){
        .kernel = f->kernel,
        .command_line = "console=ttyS0",
        .cache = "", /* not the user's */
        .machine =
            {
                .vcpus = 1,
                .apic_ids = fixture_apic_ids,
                .windows = &fixture_windows,
                .acpi_port = LAYOUT_PORT_ACPI,
            },
    };
}

static inline void fixture_teardown(struct fixture *f, gconstpointer data)
{
    boot_result_clear(&f->result);
    memory_destroy(f->memory);
    g_remove(f->kernel);
    g_remove(f->initrd);
    g_rmdir(f->folder);
    g_free(f->kernel);
    g_free(f->initrd);
    g_free(f->folder);
}

static inline void make_memory(struct fixture *f, uint64_t size)
{
    struct memory_ram_options options = {0};

    memory_destroy(f->memory);
    f->memory = memory_create();
    g_assert_true(memory_add_ram(f->memory, size, LAYOUT_LOW_END, &options, NULL));
}

static inline void write_file(const char *path, const void *data, gsize size)
{
    FILE *file = fopen(path, "w");

    g_assert_nonnull(file);
    g_assert_cmpuint(fwrite(data, 1, size, file), ==, size);
    g_assert_cmpint(fclose(file), ==, 0);
}

static inline void load(struct fixture *f)
{
    g_autoptr(GError) error = NULL;

    boot_result_clear(&f->result);
    if (!f->memory)
        make_memory(f, 64 * MIB);
    bool ok = boot_load(f->memory, &f->config, &f->result, &error);
    g_assert_no_error(error);
    g_assert_true(ok);
}

static inline void load_image(struct fixture *f, GByteArray *image)
{
    write_file(f->kernel, image->data, image->len);
    load(f);
}

/* The load fails with one line that holds @part and @name (NULL: the kernel's path). */
static inline void refuse(struct fixture *f, const char *name, const char *part)
{
    g_autoptr(GError) error = NULL;

    if (!f->memory)
        make_memory(f, 64 * MIB);
    g_assert_false(boot_load(f->memory, &f->config, &f->result, &error));
    g_assert_nonnull(error);
    if (!strstr(error->message, part) || !strstr(error->message, name ? name : f->kernel) ||
        strchr(error->message, '\n'))
        g_error("\"%s\" lacks \"%s\" or \"%s\"", error->message, part, name ? name : f->kernel);
    g_assert_null(f->result.kernel_version);
}

static inline void refuse_image(struct fixture *f, GByteArray *image, const char *part)
{
    write_file(f->kernel, image->data, image->len);
    refuse(f, NULL, part);
}

static inline void read_guest(struct fixture *f, uint64_t gpa, void *data, size_t size)
{
    g_assert_cmpint(memory_read(f->memory, gpa, data, size), ==, 0);
}

static inline uint64_t read_le(struct fixture *f, uint64_t gpa, unsigned size)
{
    uint64_t value = 0;

    read_guest(f, gpa, &value, size);
    return GUINT64_FROM_LE(value);
}

static inline void assert_guest(struct fixture *f, uint64_t gpa, const void *data, size_t size)
{
    g_autofree uint8_t *copy = g_malloc(size);

    read_guest(f, gpa, copy, size);
    g_assert_cmpmem(copy, size, data, size);
}

/* One of the machine's own kernels, or NULL. */
static inline char *find_own_kernel(void)
{
    g_autoptr(GDir) dir = g_dir_open("/boot", 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename("/boot", name, NULL);
        if (g_str_has_prefix(name, "vmlinuz-") && g_access(path, R_OK) == 0)
            return g_steal_pointer(&path);
    }
    return NULL;
}

#endif
