/* SPDX-License-Identifier: GPL-2.0-or-later */
/* linux - bzImage, entered in 64-bit mode; see linux.h. Field names are those of boot.rst. */
#include "firmware/linux.h"

#include <gio/gio.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/layout.h"

enum {
    HEADER_OFFSET = 0x1f1,    /* of struct setup_header in the image and in boot_params */
    HEADER_FIXED_END = 0x202, /* the jump at 0x200 says where the rest ends, from here on */
    HEADER_MAX_END = 0x290,
    HEADER_MAGIC = 0x53726448, /* "HdrS" */
    BOOT_FLAG = 0xaa55,
    VERSION_64BIT = 0x020c, /* the first with xloadflags and 64-bit entry */
    SECTOR = 512,
    ENTRY_64 = 0x200, /* of startup_64 from the load address */
    LOADER_UNKNOWN = 0xff,
    VIDEO_NORMAL = 0xffff,
    SEED_SIZE = 32,
};

#define DEFAULT_LOAD UINT64_C(0x1000000)

bool linux_is_bzimage(const struct source *source)
{
    uint8_t start[0x206];
    uint32_t magic;

    if (source->size < sizeof(start) || !source_read(source, 0, start, sizeof(start), NULL))
        return false;
    memcpy(&magic, start + 0x202, sizeof(magic));
    return start[0x1fe] == 0x55 && start[0x1ff] == 0xaa && GUINT32_FROM_LE(magic) == HEADER_MAGIC;
}

static bool bad(const struct source *source, GError **error, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static bool bad(const struct source *source, GError **error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    g_autofree char *text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s: %s", source->name, text);
    return false;
}

/* "6.1.0-56-amd64 (builder) #1 ..." up to the first blank. */
static void read_version(const struct source *source, struct linux_image *image)
{
    uint64_t offset = (uint64_t)image->header.kernel_version + SECTOR;
    char *end;

    if (image->header.kernel_version == 0 || offset >= image->code_offset)
        return;
    uint64_t length = MIN(sizeof(image->version) - 1, image->code_offset - offset);
    if (!source_read(source, offset, image->version, length, NULL))
        length = 0;
    image->version[length] = 0;
    for (end = image->version; *end > ' ' && *end < 0x7f;)
        end++;
    *end = 0;
}

static bool check_header(const struct source *source, const struct setup_header *header,
                         GError **error)
{
    if (header->boot_flag != BOOT_FLAG || header->header != HEADER_MAGIC)
        return bad(source, error, "not a Linux bzImage");
    if (header->version < VERSION_64BIT)
        return bad(source, error,
                   "boot protocol %u.%02u has no 64-bit entry: use a kernel from 3.8 on",
                   header->version >> 8, header->version & 0xff);
    if (!(header->loadflags & LOADED_HIGH))
        return bad(source, error, "a zImage, not a bzImage: build the target bzImage");
    if (!(header->xloadflags & XLF_KERNEL_64))
        return bad(source, error, "a 32-bit kernel: use one for x86-64");
    if (header->relocatable_kernel &&
        (header->kernel_alignment == 0 ||
         (header->kernel_alignment & (header->kernel_alignment - 1)) != 0))
        return bad(source, error, "corrupt: kernel_alignment 0x%x is no power of two",
                   header->kernel_alignment);
    if (header->cmdline_size == 0)
        return bad(source, error, "corrupt: cmdline_size is 0");
    return true;
}

/* Where the parts lie in the file, all within it. */
static bool find_parts(const struct source *source, struct linux_image *image, GError **error)
{
    const struct setup_header *header = &image->header;
    unsigned sectors = header->setup_sects ? header->setup_sects : 4;
    uint64_t size = (uint64_t)header->syssize * 16;

    image->code_offset = (sectors + 1) * SECTOR;
    if (image->code_offset >= source->size)
        return bad(source, error, "truncated: nothing follows the setup code: fetch it again");
    uint64_t rest = source->size - image->code_offset;
    /* syssize counts paragraphs: the last one may be part of one. */
    if (size > rest + 15)
        return bad(source, error,
                   "truncated: the header tells of %" G_GUINT64_FORMAT
                   " bytes of kernel, the file has %" G_GUINT64_FORMAT ": fetch it again",
                   size, rest);
    image->code_size = size ? MIN(size, rest) : rest;
    if (image->code_size <= ENTRY_64)
        return bad(source, error, "corrupt: %" G_GUINT64_FORMAT " bytes of kernel code",
                   image->code_size);
    if (!source_in_range(header->payload_offset, header->payload_length, image->code_size))
        return bad(source, error, "corrupt: the payload lies outside of the file");
    image->payload_offset = image->code_offset + header->payload_offset;
    image->payload_size = header->payload_length;
    /* The kernel unpacks itself within init_size. */
    image->payload_limit = header->init_size;
    return true;
}

bool linux_parse(const struct source *source, struct linux_image *image, GError **error)
{
    uint8_t start[HEADER_MAX_END] = {0};
    uint64_t got = MIN(sizeof(start), source->size);

    memset(image, 0, sizeof(*image));
    if (!source_read(source, 0, start, got, error))
        return false;
    unsigned end = MIN(HEADER_FIXED_END + start[0x201], HEADER_MAX_END);
    if (got < end)
        return bad(source, error, "truncated within the setup header: fetch it again");
    memcpy(&image->header, start + HEADER_OFFSET, MIN(end - HEADER_OFFSET, sizeof(image->header)));
    if (!check_header(source, &image->header, error) || !find_parts(source, image, error))
        return false;
    read_version(source, image);
    return true;
}

/* What it takes to boot, rounded up, for the message. */
static bool no_room(const struct source *source, const struct space *space, uint64_t end,
                    GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                "%s: needs at least %" G_GUINT64_FORMAT " MiB of memory, the guest has "
                "%" G_GUINT64_FORMAT ": give it more (-m)",
                source->name, (end + MIB - 1) / MIB, space_ram_mib(space));
    return false;
}

bool linux_load(const struct source *source, const struct linux_image *image, struct space *space,
                uint64_t *entry, uint64_t *initrd_max, GError **error)
{
    const struct setup_header *header = &image->header;
    uint64_t align = header->relocatable_kernel ? header->kernel_alignment : MEMORY_PAGE_SIZE;
    uint64_t preferred = header->pref_address ? header->pref_address : DEFAULT_LOAD;
    uint64_t need = MAX((uint64_t)header->init_size, image->code_size);
    uint64_t load = (preferred + align - 1) & ~(align - 1);

    if (load < preferred || load > LAYOUT_HIGH_START || need > LAYOUT_HIGH_START)
        return bad(source, error,
                   "corrupt: loads at 0x%" G_GINT64_MODIFIER "x and needs 0x%" G_GINT64_MODIFIER
                   "x bytes",
                   preferred, need);
    /*
     * The kernel runs at its load address, but never below pref_address: a lower place would save
     * no memory, a higher one does as well if it is relocatable.
     */
    if (!space_take(space, load, need) &&
        (!header->relocatable_kernel ||
         !space_take_lowest(space, need, align, load, LAYOUT_LOW_END - 1, &load)))
        return no_room(source, space, load + need, error);
    if (!source_read_guest(source, image->code_offset, space->memory, load, image->code_size,
                           error))
        return false;
    *entry = load + ENTRY_64;
    *initrd_max = header->xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G
                      ? G_MAXUINT64
                      : MIN(header->initrd_addr_max, G_MAXUINT32);
    return true;
}

/* Random bytes that a kernel from 6.0 on mixes into its pool; others skip the entry. */
static uint64_t write_setup_data(struct space *space)
{
    uint8_t seed[SEED_SIZE];
    struct setup_data data = {
        .type = GUINT32_TO_LE(SETUP_RNG_SEED),
        .len = GUINT32_TO_LE(SEED_SIZE),
    };

    if (getrandom(seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
        return 0;
    space_write(space, SPACE_SETUP_DATA, &data, sizeof(data));
    space_write(space, SPACE_SETUP_DATA + sizeof(data), seed, sizeof(seed));
    return SPACE_SETUP_DATA;
}

void linux_write_boot_params(const struct linux_image *image, struct space *space, uint64_t entry,
                             uint64_t initrd, uint64_t initrd_size, uint64_t rsdp)
{
    struct boot_params params;
    struct setup_header *header = &params.hdr;

    G_STATIC_ASSERT(sizeof(params) == MEMORY_PAGE_SIZE);
    G_STATIC_ASSERT(offsetof(struct boot_params, hdr) == HEADER_OFFSET);
    G_STATIC_ASSERT(SPACE_RANGES <= E820_MAX_ENTRIES_ZEROPAGE);
    memset(&params, 0, sizeof(params));
    *header = image->header;
    header->type_of_loader = LOADER_UNKNOWN;
    header->vid_mode = VIDEO_NORMAL;
    header->code32_start = entry - ENTRY_64;
    header->cmd_line_ptr = SPACE_COMMAND_LINE;
    header->setup_data = write_setup_data(space);
    header->ramdisk_image = (uint32_t)initrd;
    header->ramdisk_size = (uint32_t)initrd_size;
    params.ext_ramdisk_image = initrd >> 32;
    params.ext_ramdisk_size = initrd_size >> 32;
    params.acpi_rsdp_addr = rsdp;
    for (unsigned i = 0; i < space->ranges; i++) {
        params.e820_table[i].addr = space->map[i].base;
        params.e820_table[i].size = space->map[i].size;
        params.e820_table[i].type = space->map[i].type;
    }
    params.e820_entries = space->ranges;
    space_write(space, SPACE_BOOT_PARAMS, &params, sizeof(params));
}
