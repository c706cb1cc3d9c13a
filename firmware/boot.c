/* SPDX-License-Identifier: GPL-2.0-or-later */
/* boot - puts a kernel and all it needs into guest memory; see boot.h. */
#include "firmware/boot.h"

#include <gio/gio.h>
#include <string.h>

#include "firmware/acpi.h"
#include "firmware/cache.h"
#include "firmware/elf.h"
#include "firmware/linux.h"
#include "firmware/pvh.h"
#include "firmware/source.h"
#include "firmware/space.h"
#include "firmware/unpack.h"
#include "vmm/layout.h"
#include "vmm/log.h"

/* Linux takes 2048 bytes on x86 with the terminating zero; a bzImage says it itself. */
#define ELF_COMMAND_LINE_MAX 2047u
#define UNPACKED_MAX         (UINT64_C(4) << 30) /* of a vmlinux.xz, that may have debug sections */
#define INITRD_ALIGN         4u                  /* of a cpio archive that follows another */
#define LINUX_INITRD_MAX     UINT64_C(0x7fffffff) /* what every kernel since 2.6 takes */

/* Page table and segment descriptor bits (Intel SDM volume 3, sections 4.5 and 3.4.5). */
#define PAGE_PRESENT  UINT64_C(0x01)
#define PAGE_WRITABLE UINT64_C(0x02)
#define PAGE_LARGE    UINT64_C(0x80)
#define GDT_CODE64    UINT64_C(0x00af9b000000ffff)
#define GDT_CODE32    UINT64_C(0x00cf9b000000ffff)
#define GDT_DATA      UINT64_C(0x00cf93000000ffff)
#define GDT_TSS       UINT64_C(0x00008b0000000067)

const char *boot_protocol_name(enum boot_protocol protocol)
{
    switch (protocol) {
    case BOOT_AUTO:
        return "auto";
    case BOOT_LINUX64:
        return "linux64";
    case BOOT_PVH:
        return "pvh";
    case BOOT_PVH_UNPACKED:
        return "pvh-unpacked";
    }
    return "unknown";
}

void boot_result_clear(struct boot_result *result)
{
    g_free(result->kernel_version);
    memset(result, 0, sizeof(*result));
}

/* ---- what every protocol needs ---- */

static bool put_command_line(struct space *space, const struct boot_config *config,
                             const char *kernel, uint64_t max, GError **error)
{
    const char *line = config->command_line ? config->command_line : "";
    size_t length = strlen(line);

    max = MIN(max, SPACE_COMMAND_LINE_SIZE - 1);
    if (length > max) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "the kernel command line has %zu characters, %s takes %" G_GUINT64_FORMAT
                    ": shorten it",
                    length, kernel, max);
        return false;
    }
    space_write(space, SPACE_COMMAND_LINE, line, length + 1);
    return true;
}

static void put_gdt(struct space *space, struct vm_entry *entry)
{
    uint64_t code = entry->mode == VM_ENTRY_LONG_MODE ? GDT_CODE64 : GDT_CODE32;
    const uint64_t gdt[] = {0, 0, code, GDT_DATA, GDT_TSS, 0};

    for (unsigned i = 0; i < G_N_ELEMENTS(gdt); i++)
        space_write_le(space, SPACE_GDT + 8 * i, gdt[i], 8);
    entry->gdt_base = SPACE_GDT;
    entry->gdt_limit = sizeof(gdt) - 1;
}

/* The first 4 GiB mapped to themselves with 2 MiB pages: every CPU has those. */
static void put_page_tables(struct space *space, struct vm_entry *entry)
{
    uint64_t pointers = SPACE_PAGE_TABLES + MEMORY_PAGE_SIZE;
    uint64_t directories = pointers + MEMORY_PAGE_SIZE;
    uint64_t table[512];

    memset(table, 0, sizeof(table));
    table[0] = GUINT64_TO_LE(pointers | PAGE_PRESENT | PAGE_WRITABLE);
    space_write(space, SPACE_PAGE_TABLES, table, sizeof(table));
    memset(table, 0, sizeof(table));
    for (unsigned i = 0; i < 4; i++)
        table[i] =
            GUINT64_TO_LE((directories + i * MEMORY_PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITABLE);
    space_write(space, pointers, table, sizeof(table));
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned j = 0; j < 512; j++)
            table[j] = GUINT64_TO_LE(((uint64_t)i << 30 | (uint64_t)j << 21) | PAGE_PRESENT |
                                     PAGE_WRITABLE | PAGE_LARGE);
        space_write(space, directories + i * MEMORY_PAGE_SIZE, table, sizeof(table));
    }
    entry->cr3 = SPACE_PAGE_TABLES;
}

static bool put_acpi(struct space *space, const struct boot_machine *machine, GError **error)
{
    g_autoptr(GByteArray) tables = acpi_build(machine, LAYOUT_ACPI_TABLES);

    if (tables->len > LAYOUT_ACPI_END - LAYOUT_ACPI_TABLES) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "the ACPI tables of %u vCPUs take %u bytes, %u are there: use fewer vCPUs",
                    machine->vcpus, tables->len, (unsigned)(LAYOUT_ACPI_END - LAYOUT_ACPI_TABLES));
        return false;
    }
    space_write(space, LAYOUT_ACPI_TABLES, tables->data, tables->len);
    return true;
}

/*
 * The real mode reset vector, with code that writes the ACPI reset register. Linux on a
 * hardware-reduced machine takes EFI for the way to reboot, whether there is one or not, and goes on
 * to the BIOS' entry without looking at the reset register (efi_reboot_required and
 * native_machine_emergency_restart in arch/x86): so there has to be something at that address.
 */
static void put_reset_vector(struct space *space, const struct boot_machine *machine)
{
    uint16_t port = machine->acpi_port + LAYOUT_ACPI_RESET;
    const uint8_t code[] = {
        0xba,      port & 0xff,
        port >> 8,                          /* mov dx, PORT */
        0xb0,      LAYOUT_ACPI_RESET_VALUE, /* mov al, VALUE */
        0xee,                               /* out dx, al */
        0xfa,      0xf4,
        0xeb,      0xfd, /* cli; 1: hlt; jmp 1b */
    };

    space_write(space, SPACE_RESET_VECTOR, code, sizeof(code));
}

/* ---- initrd ---- */

struct initrd {
    struct source file; /* size 0: none */
    const void *data;
    uint64_t data_size;
    uint64_t size; /* of both */
    uint64_t gpa;
};

static bool open_initrd(struct initrd *initrd, const struct boot_config *config, GError **error)
{
    memset(initrd, 0, sizeof(*initrd));
    initrd->file.fd = -1;
    if (config->initrd && !source_open(&initrd->file, "initrd", config->initrd, error))
        return false;
    initrd->data = config->initrd_data;
    initrd->data_size = config->initrd_data ? config->initrd_size : 0;
    initrd->size = config->initrd ? initrd->file.size : 0;
    if (initrd->data_size > 0)
        initrd->size =
            (initrd->size + INITRD_ALIGN - 1) / INITRD_ALIGN * INITRD_ALIGN + initrd->data_size;
    return true;
}

/* As high as the kernel takes it, so that it is in nobody's way; old limits are kept to if that
 * is possible. */
static bool put_initrd(struct initrd *initrd, struct space *space, uint64_t max, GError **error)
{
    const uint64_t limits[] = {MIN(max, LINUX_INITRD_MAX), MIN(max, G_MAXUINT32), max};
    bool placed = initrd->size == 0;
    uint64_t end;

    for (unsigned i = 0; i < G_N_ELEMENTS(limits) && !placed; i++)
        placed =
            space_take_highest(space, initrd->size, MEMORY_PAGE_SIZE, 0, limits[i], &initrd->gpa);
    if (!placed) {
        const char *name = initrd->file.name ? initrd->file.name : "initrd (built in)";
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "%s: its %" G_GUINT64_FORMAT " MiB do not fit beside the kernel in the guest's "
                    "%" G_GUINT64_FORMAT " MiB of memory: give it more (-m) or a smaller initrd",
                    name, (initrd->size >> 20) + 1, space_ram_mib(space));
        return false;
    }
    if (initrd->file.name &&
        !source_read_guest(&initrd->file, 0, space->memory, initrd->gpa, initrd->file.size, error))
        return false;
    if (initrd->data_size == 0)
        return true;
    end = initrd->gpa + initrd->size - initrd->data_size;
    if (initrd->file.name) {
        uint64_t file_end = initrd->gpa + initrd->file.size;
        space_write(space, file_end, "\0\0\0", end - file_end);
    }
    space_write(space, end, initrd->data, initrd->data_size);
    return true;
}

/* ---- the protocols ---- */

struct boot {
    const struct boot_config *config;
    struct boot_result *result;
    struct space space;
    struct source kernel;
    struct initrd initrd;
};

static bool finish_pvh(struct boot *boot, const struct elf_image *image, uint64_t command_line_max,
                       GError **error)
{
    struct boot_result *result = boot->result;
    struct vm_entry *entry = &result->entry;

    /* The initrd's address goes through 32 bits in Linux's PVH code. */
    if (!put_command_line(&boot->space, boot->config, boot->kernel.name, command_line_max, error) ||
        !put_initrd(&boot->initrd, &boot->space, G_MAXUINT32, error))
        return false;
    pvh_write_start_info(&boot->space, boot->initrd.gpa, boot->initrd.size, LAYOUT_ACPI_TABLES);
    entry->mode = VM_ENTRY_PROTECTED_MODE;
    entry->rip = image->pvh_entry;
    entry->rbx = SPACE_START_INFO;
    if (!result->kernel_version && image->version[0])
        result->kernel_version = g_strdup(image->version);
    return true;
}

static bool load_elf(struct boot *boot, GError **error)
{
    g_autofree struct elf_image *image = g_new0(struct elf_image, 1);

    if (!elf_load(image, &boot->kernel, &boot->space, NULL, error))
        return false;
    boot->result->protocol = BOOT_PVH;
    return finish_pvh(boot, image, ELF_COMMAND_LINE_MAX, error);
}

/* False: it is not there or not good, and nothing is lost but a moment. */
static bool load_cached(struct boot *boot, struct cache *cache, const struct source *cached,
                        uint64_t checksum, struct elf_image *image)
{
    const struct space before = boot->space;
    g_autoptr(GError) error = NULL;
    uint64_t found;

    if (elf_load(image, cached, &boot->space, &found, &error)) {
        if (found == checksum)
            return true;
        cache_drop(cache);
    } else {
        log_debug("boot", "%s", error->message);
    }
    boot->space = before;
    return false;
}

/* A packed ELF in the kernel's file: from the cache, or unpacked and then kept there. */
static bool load_packed_elf(struct boot *boot, uint64_t offset, uint64_t size, uint64_t limit,
                            enum unpack_format format, struct elf_image *image, GError **error)
{
    g_autofree struct elf_stream *stream = g_new(struct elf_stream, 1);
    g_autofree char *name = g_strdup_printf("%s (unpacked)", boot->kernel.name);
    g_autoptr(GError) local = NULL;
    struct cache cache;
    struct source cached;
    uint64_t checksum;
    bool ok = false;

    cache_open(&cache, boot->config->cache, &boot->kernel);
    enum cache_hit hit = cache_find(&cache, &cached, &checksum);
    if (hit == CACHE_NO_PVH) {
        g_set_error(&local, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    "%s: no ELF with a PVH entry note", name);
    } else if (hit == CACHE_IMAGE && load_cached(boot, &cache, &cached, checksum, image)) {
        ok = boot->result->unpack_cached = true;
    } else if (unpack_available(format)) {
        elf_stream_init(stream, image, name, &boot->space, limit);
        ok = unpack(&boot->kernel, offset, size, format, stream, &local);
        if (ok)
            cache_store(&cache, image, stream->head, &boot->space);
        else if (g_error_matches(local, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED))
            cache_store(&cache, NULL, NULL, NULL);
        elf_stream_clear(stream);
    } else {
        unpack(&boot->kernel, offset, size, format, NULL, &local); /* says what is missing */
    }
    source_close(&cached);
    cache_close(&cache);
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    return ok;
}

static bool load_packed(struct boot *boot, uint64_t offset, uint64_t size, uint64_t limit,
                        uint64_t command_line_max, GError **error)
{
    g_autofree struct elf_image *image = g_new0(struct elf_image, 1);
    int64_t start = g_get_monotonic_time();
    uint8_t head[8];
    size_t head_size = MIN(sizeof(head), size);

    if (!source_read(&boot->kernel, offset, head, head_size, error) ||
        !load_packed_elf(boot, offset, size, limit, unpack_detect(head, head_size), image, error))
        return false;
    boot->result->unpack_ns = (g_get_monotonic_time() - start) * 1000;
    boot->result->protocol = BOOT_PVH_UNPACKED;
    return finish_pvh(boot, image, command_line_max, error);
}

static bool load_linux64(struct boot *boot, const struct linux_image *image, GError **error)
{
    struct vm_entry *entry = &boot->result->entry;
    uint64_t initrd_max;

    if (!put_command_line(&boot->space, boot->config, boot->kernel.name, image->header.cmdline_size,
                          error) ||
        !linux_load(&boot->kernel, image, &boot->space, &entry->rip, &initrd_max, error) ||
        !put_initrd(&boot->initrd, &boot->space, initrd_max, error))
        return false;
    linux_write_boot_params(image, &boot->space, entry->rip, boot->initrd.gpa, boot->initrd.size,
                            LAYOUT_ACPI_TABLES);
    entry->mode = VM_ENTRY_LONG_MODE;
    entry->rsi = SPACE_BOOT_PARAMS;
    boot->result->protocol = BOOT_LINUX64;
    return true;
}

static bool load_bzimage(struct boot *boot, GError **error)
{
    enum boot_protocol wanted = boot->config->protocol;
    struct linux_image image;

    if (!linux_parse(&boot->kernel, &image, error))
        return false;
    if (image.version[0])
        boot->result->kernel_version = g_strdup(image.version);
    if (wanted == BOOT_LINUX64 || (wanted == BOOT_AUTO && image.payload_size == 0))
        return load_linux64(boot, &image, error);

    const struct space before = boot->space;
    g_autoptr(GError) local = NULL;
    if (load_packed(boot, image.payload_offset, image.payload_size,
                    image.payload_limit ? image.payload_limit : UNPACKED_MAX,
                    image.header.cmdline_size, &local))
        return true;
    /* Damaged data would not unpack in the guest either; all else is worth a try there. */
    if (wanted == BOOT_PVH_UNPACKED ||
        g_error_matches(local, G_IO_ERROR, G_IO_ERROR_PARTIAL_INPUT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    log_debug("boot", "not entered by PVH: %s", local->message);
    boot->space = before;
    boot->result->unpack_ns = 0;
    if (load_linux64(boot, &image, error))
        return true;
    /* The 64-bit entry needs more memory: let the message name the lesser need. */
    if (g_error_matches(local, G_IO_ERROR, G_IO_ERROR_NO_SPACE) && error &&
        g_error_matches(*error, G_IO_ERROR, G_IO_ERROR_NO_SPACE)) {
        g_clear_error(error);
        g_propagate_error(error, g_steal_pointer(&local));
    }
    return false;
}

/* What is there instead of a kernel, for the message. */
static const char *describe_foreign(const uint8_t *head, size_t size)
{
    if (size >= 0x3c && memcmp(head + 0x38, "ARMd", 4) == 0)
        return "a kernel for arm64";
    if (size >= 0x40 && memcmp(head + 0x30, "RISCV", 5) == 0)
        return "a kernel for RISC-V";
    if (size >= 2 && memcmp(head, "MZ", 2) == 0)
        return "an EFI program";
    if (size >= 4 && memcmp(head, "PK\3\4", 4) == 0)
        return "a zip archive";
    if (size >= 6 && memcmp(head, "070701", 6) == 0)
        return "a cpio archive (an initrd?)";
    if (size >= 8 && memcmp(head, "!<arch>\n", 8) == 0)
        return "an ar archive (a package?)";
    for (size_t i = 0; i < size; i++)
        if (head[i] < 0x20 && !g_ascii_isspace(head[i]))
            return "an unknown format";
    return "a text file";
}

static bool refuse_protocol(struct boot *boot, const char *is, const char *takes, GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                "%s: %s can't be booted by protocol %s: use %s", boot->kernel.name, is,
                boot_protocol_name(boot->config->protocol), takes);
    return false;
}

static bool load_kernel(struct boot *boot, GError **error)
{
    enum boot_protocol wanted = boot->config->protocol;
    uint8_t head[512];
    size_t size = MIN(sizeof(head), boot->kernel.size);

    if (!source_read(&boot->kernel, 0, head, size, error))
        return false;
    if (linux_is_bzimage(&boot->kernel))
        return (wanted != BOOT_PVH ||
                refuse_protocol(boot, "a bzImage", "linux64 or pvh-unpacked", error)) &&
               load_bzimage(boot, error);
    if (elf_is_elf(head, size))
        return (wanted == BOOT_AUTO || wanted == BOOT_PVH ||
                refuse_protocol(boot, "an ELF file", "pvh", error)) &&
               load_elf(boot, error);
    if (unpack_detect(head, size) != UNPACK_UNKNOWN)
        return (wanted == BOOT_AUTO || wanted == BOOT_PVH_UNPACKED ||
                refuse_protocol(boot, "a packed file", "pvh-unpacked", error)) &&
               load_packed(boot, 0, boot->kernel.size, UNPACKED_MAX, ELF_COMMAND_LINE_MAX, error);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                "%s: %s, not a kernel for x86-64: give a bzImage (/boot/vmlinuz-*) or a vmlinux",
                boot->kernel.name, describe_foreign(head, size));
    return false;
}

bool boot_load(struct memory *memory, const struct boot_config *config, struct boot_result *result,
               GError **error)
{
    g_autofree struct boot *boot = g_new0(struct boot, 1);
    struct vm_entry *entry = &result->entry;
    bool ok;

    memset(result, 0, sizeof(*result));
    boot->config = config;
    boot->result = result;
    boot->kernel.fd = boot->initrd.file.fd = -1;
    ok = space_init(&boot->space, memory, &config->machine, error) &&
         source_open(&boot->kernel, "kernel", config->kernel, error) &&
         open_initrd(&boot->initrd, config, error) && load_kernel(boot, error) &&
         put_acpi(&boot->space, &config->machine, error);
    if (ok) {
        put_reset_vector(&boot->space, &config->machine);
        put_gdt(&boot->space, entry);
        if (entry->mode == VM_ENTRY_LONG_MODE)
            put_page_tables(&boot->space, entry);
        entry->rsp = SPACE_BOOT_PARAMS; /* some memory below: the entry code sets its own */
        result->kernel_bytes = boot->kernel.size;
        result->initrd_bytes = boot->initrd.size;
        log_info("boot", "%s (%s) by %s, %" G_GUINT64_FORMAT " bytes of initrd", boot->kernel.name,
                 result->kernel_version ? result->kernel_version : "unknown version",
                 boot_protocol_name(result->protocol), result->initrd_bytes);
    } else {
        boot_result_clear(result);
    }
    source_close(&boot->kernel);
    source_close(&boot->initrd.file);
    return ok;
}

#define PREPARE_MEMORY (UINT64_C(1) << 30) /* only what the kernel fills is ever there */

bool boot_prepare(const char *kernel, const char *cache, GError **error)
{
    static const uint32_t apic_ids[] = {0};
    const struct boot_config config = {
        .kernel = kernel,
        .cache = cache,
        .machine = {.vcpus = 1, .apic_ids = apic_ids},
    };
    struct memory_ram_options options = {0};
    struct memory *memory = memory_create();
    struct boot_result result;
    bool ok = memory_add_ram(memory, PREPARE_MEMORY, LAYOUT_LOW_END, &options, error) &&
              boot_load(memory, &config, &result, error);

    if (ok)
        boot_result_clear(&result);
    memory_destroy(memory);
    return ok;
}
