/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: kernel images. Whatever the file holds, loading it by any protocol either ends with an
 * entry point within RAM, or with one line that names the file, and nothing to clean up.
 */
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "firmware/boot.h"
#include "vmm/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX 65536u /* packed data may unpack to a thousand times of it */

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_result(struct memory *memory, const struct boot_result *result)
{
    struct memory_span span;
    uint64_t pml4e;

    check(result->protocol != BOOT_AUTO);
    check(memory_find(memory, result->entry.rip, 1, &span));
    check(memory_find(memory, result->entry.gdt_base, result->entry.gdt_limit, &span));
    if (result->entry.mode == VM_ENTRY_LONG_MODE) {
        check(memory_read(memory, result->entry.cr3, &pml4e, sizeof(pml4e)) == 0);
        check((pml4e & 3) == 3);
        check(memory_find(memory, result->entry.rsi, 4096, &span));
    } else {
        check(memory_find(memory, result->entry.rbx, 56, &span));
        check(result->entry.rip <= G_MAXUINT32);
    }
    if (result->kernel_version)
        check(g_str_is_ascii(result->kernel_version));
}

static void load(const char *path, uint64_t ram, enum boot_protocol protocol)
{
    static const uint32_t apic_ids[] = {0};
    struct memory_ram_options options = {0};
    struct memory *memory = memory_create();
    struct boot_result result;
    g_autoptr(GError) error = NULL;
    struct boot_config config = {
        .kernel = path,
        .initrd_data = "initrd",
        .initrd_size = 6,
        .command_line = "quiet",
        .protocol = protocol,
        .cache = "",
        .machine = {.vcpus = 1, .apic_ids = apic_ids, .acpi_port = LAYOUT_PORT_ACPI},
    };

    check(memory_add_ram(memory, ram, LAYOUT_LOW_END, &options, NULL));
    if (boot_load(memory, &config, &result, &error)) {
        check(!error);
        check_result(memory, &result);
    } else {
        check(error && !strchr(error->message, '\n'));
        check(strstr(error->message, path) != NULL || strstr(error->message, "memory") != NULL);
        check(!result.kernel_version);
    }
    boot_result_clear(&result);
    memory_destroy(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    char path[64];

    check(fd >= 0);
    size = MIN(size, INPUT_MAX);
    check(write(fd, data, size) == (ssize_t)size);
    g_snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    for (enum boot_protocol protocol = BOOT_AUTO; protocol <= BOOT_PVH_UNPACKED; protocol++)
        load(path, UINT64_C(64) << 20, protocol);
    load(path, UINT64_C(20) << 20, BOOT_AUTO);
    close(fd);
    return 0;
}
