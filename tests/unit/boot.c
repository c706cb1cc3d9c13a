/* SPDX-License-Identifier: GPL-2.0-or-later */
/* boot - kernels of every kind land where they belong, and what is no kernel is refused clearly. */
#include "tests/unit/boot_fixture.h"

#include <unistd.h>

#include "firmware/space.h"
#include "tests/unit/images.h"

/* ---- bzImage by the 64-bit entry ---- */

static void test_linux64_kernel_in_place(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);

    load_image(f, image);
    g_assert_cmpint(f->result.protocol, ==, BOOT_LINUX64);
    g_assert_cmpstr(f->result.kernel_version, ==, IMAGE_VERSION);
    g_assert_cmpuint(f->result.kernel_bytes, ==, image->len);
    g_assert_cmpint(f->result.entry.mode, ==, VM_ENTRY_LONG_MODE);
    g_assert_cmpuint(f->result.entry.rip, ==, IMAGE_PREFERRED + 0x200);
    assert_guest(f, IMAGE_PREFERRED, image->data + IMAGE_SETUP_SIZE, image->len - IMAGE_SETUP_SIZE);
}

static void test_linux64_boot_params(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);
    struct boot_params params;
    char line[32];

    load_image(f, image);
    read_guest(f, f->result.entry.rsi, &params, sizeof(params));
    g_assert_cmpuint(params.hdr.header, ==, 0x53726448);
    g_assert_cmpuint(params.hdr.type_of_loader, ==, 0xff);
    g_assert_cmpuint(params.hdr.ramdisk_size, ==, 0);
    g_assert_cmpuint(params.acpi_rsdp_addr, ==, LAYOUT_ACPI_TABLES);
    assert_guest(f, params.acpi_rsdp_addr, "RSD PTR ", 8);
    read_guest(f, params.hdr.cmd_line_ptr, line, sizeof(line));
    g_assert_cmpstr(line, ==, "console=ttyS0");
    g_assert_cmpuint(params.hdr.setup_data, !=, 0);
    g_assert_cmpuint(read_le(f, params.hdr.setup_data, 8), ==, 0);
    g_assert_cmpuint(read_le(f, params.hdr.setup_data + 8, 4), ==, SETUP_RNG_SEED);
    g_assert_cmpuint(params.sentinel, ==, 0);
}

static void test_reset_vector(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);

    load_image(f, image);
    /* mov dx, port; mov al, value; out dx, al */
    g_assert_cmphex(read_le(f, 0xffff0, 1), ==, 0xba);
    g_assert_cmphex(read_le(f, 0xffff1, 2), ==, LAYOUT_PORT_ACPI + LAYOUT_ACPI_RESET);
    g_assert_cmphex(read_le(f, 0xffff3, 1), ==, 0xb0);
    g_assert_cmphex(read_le(f, 0xffff4, 1), ==, LAYOUT_ACPI_RESET_VALUE);
    g_assert_cmphex(read_le(f, 0xffff5, 1), ==, 0xee);
}

static void test_linux64_paging_and_gdt(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);
    struct vm_entry *entry = &f->result.entry;

    load_image(f, image);
    uint64_t pml4e = read_le(f, entry->cr3, 8);
    g_assert_cmpuint(pml4e & 3, ==, 3);
    for (uint64_t gpa = 0; gpa < 4096 * MIB; gpa += 2 * MIB) {
        uint64_t pdpte = read_le(f, (pml4e & ~UINT64_C(0xfff)) + 8 * (gpa >> 30), 8);
        uint64_t pde = read_le(f, (pdpte & ~UINT64_C(0xfff)) + 8 * ((gpa >> 21) & 511), 8);
        g_assert_cmpuint(pde, ==, gpa | 0x83);
    }
    g_assert_cmpuint(entry->gdt_limit, >=, 0x1f);
    uint64_t code = read_le(f, entry->gdt_base + 0x10, 8);
    g_assert_true(code >> 53 & 1);  /* L */
    g_assert_false(code >> 54 & 1); /* D */
    g_assert_cmpuint(read_le(f, entry->gdt_base + 0x18, 8), ==, UINT64_C(0xcf93000000ffff));
}

static void test_memory_map(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);
    struct boot_params params;
    uint64_t ram = 0, previous = 0;
    bool low = false, bios = false, ecam = false, high = false;

    make_memory(f, 5120 * MIB); /* 3 GiB below the hole, 2 above 4 GiB */
    load_image(f, image);
    read_guest(f, f->result.entry.rsi, &params, sizeof(params));
    for (unsigned i = 0; i < params.e820_entries; i++) {
        const struct boot_e820_entry *e = &params.e820_table[i];
        g_assert_cmpuint(e->addr, >=, previous);
        previous = e->addr + e->size;
        ram += e->type == 1 ? e->size : 0;
        low |= e->addr == 0 && e->size == 0xa0000 && e->type == 1;
        bios |= e->addr == 0xa0000 && e->size == 0x60000 && e->type == 2;
        ecam |= e->addr == LAYOUT_ECAM_BASE && e->size == LAYOUT_ECAM_SIZE && e->type == 2;
        high |= e->addr == 4096 * MIB && e->size == 2048 * MIB && e->type == 1;
    }
    g_assert_true(low && bios && ecam && high);
    g_assert_cmpuint(ram, ==, 5120 * MIB - 0x60000);
}

static void test_initrd_from_file_and_memory(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);
    struct boot_params params;

    write_file(f->initrd, "first", 5);
    f->config.initrd = f->initrd;
    f->config.initrd_data = "second";
    f->config.initrd_size = 6;
    load_image(f, image);
    read_guest(f, f->result.entry.rsi, &params, sizeof(params));
    g_assert_cmpuint(params.hdr.ramdisk_size, ==, 14);
    g_assert_cmpuint(params.hdr.ramdisk_image % 4096, ==, 0);
    g_assert_cmpuint(params.hdr.ramdisk_image, >=, IMAGE_PREFERRED + IMAGE_INIT_SIZE);
    assert_guest(f, params.hdr.ramdisk_image, "first\0\0\0second", 14);
    g_assert_cmpuint(f->result.initrd_bytes, ==, 14);
}

static void test_initrd_above_4g_only_if_allowed(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);
    struct memory_ram_options options = {0};
    struct boot_params params;

    /* 28 MiB below the hole do not hold the kernel (at 16-24 MiB) and 20 MiB, those above do. */
    f->memory = memory_create();
    g_assert_true(memory_add_ram(f->memory, 60 * MIB, 28 * MIB, &options, NULL));
    write_file(f->initrd, "x", 1);
    g_assert_cmpint(truncate(f->initrd, 20 * MIB), ==, 0);
    f->config.initrd = f->initrd;
    image_header(image)->xloadflags = XLF_KERNEL_64;
    write_file(f->kernel, image->data, image->len);
    refuse(f, f->initrd, "fit");
    image_header(image)->xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
    load_image(f, image);
    read_guest(f, f->result.entry.rsi, &params, sizeof(params));
    g_assert_cmpuint(params.ext_ramdisk_image, ==, 1);
    g_assert_cmpuint(params.hdr.ramdisk_image, ==, 12 * MIB);
}

static void test_initrd_below_2g_where_that_fits(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);
    struct boot_params params;

    make_memory(f, 5120 * MIB);
    f->config.initrd_data = "x";
    f->config.initrd_size = 1;
    load_image(f, image);
    read_guest(f, f->result.entry.rsi, &params, sizeof(params));
    g_assert_cmpuint(params.ext_ramdisk_image, ==, 0);
    g_assert_cmpuint(params.hdr.ramdisk_image, ==, 2048 * MIB - 4096);
}

static void test_command_line_at_its_limit(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);
    g_autofree char *fits = g_strnfill(2047, 'a'), *too_long = g_strnfill(2048, 'a');

    f->config.command_line = fits;
    load_image(f, image);
    g_assert_cmpuint(read_le(f, SPACE_COMMAND_LINE + 2046, 2), ==, 'a');
    boot_result_clear(&f->result);
    f->config.command_line = too_long;
    refuse(f, NULL, "2048 characters");
    refuse(f, NULL, "takes 2047: shorten it");
}

static void test_little_memory(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);

    /* 16 MiB to run at and 8 MiB of init_size: 24 MiB are enough, a page less is not. */
    make_memory(f, 24 * MIB);
    load_image(f, image);
    boot_result_clear(&f->result);
    make_memory(f, 24 * MIB - 4096);
    refuse_image(f, image, "needs at least 24 MiB");
    refuse_image(f, image, "(-m)");
    make_memory(f, 65536);
    refuse(f, "-m 64M", "memory");
}

static void test_initrd_too_big(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);

    write_file(f->initrd, "x", 1);
    g_assert_cmpint(truncate(f->initrd, 50 * MIB), ==, 0);
    f->config.initrd = f->initrd;
    write_file(f->kernel, image->data, image->len);
    refuse(f, f->initrd, "(-m)");
}

static void test_bad_initrd(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);

    write_file(f->kernel, image->data, image->len);
    f->config.initrd = f->initrd;
    refuse(f, f->initrd, "No such file");
    write_file(f->initrd, "", 0);
    refuse(f, f->initrd, "empty");
    f->config.initrd = f->folder;
    refuse(f, f->folder, "directory");
}

static void test_no_file(struct fixture *f, gconstpointer data)
{
    refuse(f, NULL, "No such file");
    write_file(f->kernel, "", 0);
    refuse(f, NULL, "empty");
    f->config.kernel = f->folder;
    refuse(f, f->folder, "directory");
    f->config.kernel = "/dev/null";
    refuse(f, "/dev/null", "not a regular file");
}

static void test_foreign_files(struct fixture *f, gconstpointer data)
{
    static const struct {
        const char *bytes, *part;
        unsigned at, size;
    } cases[] = {
        {"ARMd", "arm64", 0x38, 4},         {"RISCV", "RISC-V", 0x30, 5},
        {"MZ", "EFI program", 0, 2},        {"PK\3\4", "zip archive", 0, 4},
        {"070701", "cpio archive", 0, 6},   {"!<arch>\n", "ar archive", 0, 8},
        {"\1\2\3", "unknown format", 0, 3},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint8_t bytes[4096] = {0};
        memcpy(bytes + cases[i].at, cases[i].bytes, cases[i].size);
        write_file(f->kernel, bytes, sizeof(bytes));
        refuse(f, NULL, cases[i].part);
        refuse(f, NULL, "/boot/vmlinuz-");
    }
    write_file(f->kernel, "Dear kernel,\n", 13);
    refuse(f, NULL, "text file");
}

static void test_bad_setup_headers(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);
    struct setup_header good = *image_header(image);

#define BAD(FIELD, VALUE, PART)                                                                    \
    image_header(image)->FIELD = VALUE;                                                            \
    refuse_image(f, image, PART);                                                                  \
    *image_header(image) = good;
    BAD(version, 0x020b, "2.11");
    BAD(loadflags, 0, "zImage");
    BAD(xloadflags, XLF_CAN_BE_LOADED_ABOVE_4G, "32-bit kernel");
    BAD(kernel_alignment, 0, "kernel_alignment");
    BAD(kernel_alignment, 0x300000, "kernel_alignment");
    BAD(cmdline_size, 0, "cmdline_size");
    BAD(setup_sects, 0xff, "truncated");
    BAD(syssize, 0xffffffff, "truncated");
    BAD(payload_offset, 0x7fffffff, "payload");
    BAD(payload_length, 0xffffffff, "payload");
    BAD(pref_address, G_MAXUINT64, "corrupt");
    BAD(pref_address, G_MAXUINT64 - 0x1ffffe, "corrupt");
    BAD(pref_address, UINT64_C(0x8000000000000000), "corrupt");
    BAD(init_size, 0xffffffff, "needs at least");
    BAD(syssize, 1, "corrupt");
#undef BAD
    load_image(f, image); /* and it was good */
}

static void test_bzimage_cut_anywhere(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_bzimage("no payload", 10);

    make_memory(f, 64 * MIB);
    for (guint size = image->len - 16; size > 0; size--) {
        g_autoptr(GError) error = NULL;
        if (size > 0x400 && size % 64 != 0)
            continue;
        write_file(f->kernel, image->data, size);
        g_assert_false(boot_load(f->memory, &f->config, &f->result, &error));
        g_assert_nonnull(strstr(error->message, f->kernel));
    }
}

/* ---- ELF by PVH ---- */

static void test_pvh_kernel_in_place(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_elf();
    uint8_t zeros[IMAGE_ELF_DATA_MEM - IMAGE_ELF_DATA_SIZE] = {0};
    uint8_t dirt[4096];

    make_memory(f, 64 * MIB);
    memset(dirt, 0xee, sizeof(dirt));
    memory_write(f->memory, IMAGE_ELF_DATA_GPA + IMAGE_ELF_DATA_SIZE, dirt, sizeof(dirt));
    load_image(f, image);
    g_assert_cmpint(f->result.protocol, ==, BOOT_PVH);
    g_assert_cmpstr(f->result.kernel_version, ==, IMAGE_VERSION);
    g_assert_cmpint(f->result.entry.mode, ==, VM_ENTRY_PROTECTED_MODE);
    g_assert_cmpuint(f->result.entry.rip, ==, IMAGE_ELF_ENTRY);
    assert_guest(f, IMAGE_ELF_TEXT_GPA, image->data + IMAGE_ELF_TEXT, IMAGE_ELF_TEXT_SIZE);
    assert_guest(f, IMAGE_ELF_DATA_GPA, image->data + IMAGE_ELF_DATA, IMAGE_ELF_DATA_SIZE);
    assert_guest(f, IMAGE_ELF_DATA_GPA + IMAGE_ELF_DATA_SIZE, zeros, sizeof(zeros));
    uint64_t code = read_le(f, f->result.entry.gdt_base + 0x10, 8);
    g_assert_false(code >> 53 & 1); /* L */
    g_assert_true(code >> 54 & 1);  /* D */
}

static void test_pvh_start_info(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_elf();
    uint64_t info, modules, map, ram = 0;
    char line[32];

    f->config.initrd_data = "initrd";
    f->config.initrd_size = 6;
    load_image(f, image);
    info = f->result.entry.rbx;
    g_assert_cmpuint(read_le(f, info, 4), ==, 0x336ec578);
    g_assert_cmpuint(read_le(f, info + 4, 4), ==, 1);
    g_assert_cmpuint(read_le(f, info + 12, 4), ==, 1);
    modules = read_le(f, info + 16, 8);
    read_guest(f, read_le(f, info + 24, 8), line, sizeof(line));
    g_assert_cmpstr(line, ==, "console=ttyS0");
    assert_guest(f, read_le(f, info + 32, 8), "RSD PTR ", 8);
    assert_guest(f, read_le(f, modules, 8), "initrd", 6);
    g_assert_cmpuint(read_le(f, modules + 8, 8), ==, 6);
    map = read_le(f, info + 40, 8);
    for (unsigned i = 0; i < read_le(f, info + 48, 4); i++)
        if (read_le(f, map + 24 * i + 16, 4) == 1)
            ram += read_le(f, map + 24 * i + 8, 8);
    g_assert_cmpuint(ram, ==, 64 * MIB - 0x60000);
}

static void test_bad_elf_headers(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_elf();
    g_autofree guint8 *good = g_memdup2(image->data, image->len);

#define BAD(WHERE, VALUE, PART)                                                                    \
    WHERE = VALUE;                                                                                 \
    refuse_image(f, image, PART);                                                                  \
    memcpy(image->data, good, image->len);
    BAD(image_ehdr(image)->e_ident[EI_CLASS], ELFCLASS32, "32-bit ELF");
    BAD(image_ehdr(image)->e_ident[EI_DATA], ELFDATA2MSB, "another architecture");
    BAD(image_ehdr(image)->e_machine, EM_AARCH64, "another architecture (machine 183)");
    BAD(image_ehdr(image)->e_version, 2, "unknown ELF version");
    BAD(image_ehdr(image)->e_type, ET_REL, "type 1");
    BAD(image_ehdr(image)->e_phentsize, 55, "program headers");
    BAD(image_ehdr(image)->e_phnum, 0, "program headers");
    BAD(image_ehdr(image)->e_phnum, 0xffff, "truncated");
    BAD(image_ehdr(image)->e_phoff, G_MAXUINT64, "truncated");
    BAD(image_ehdr(image)->e_phoff, G_MAXUINT64 - 55, "truncated");
    BAD(image_ehdr(image)->e_phoff, IMAGE_ELF_SIZE - 3 * sizeof(Elf64_Phdr), "beyond the first");
    BAD(image_phdr(image, 1)->p_offset, G_MAXUINT64, "truncated");
    BAD(image_phdr(image, 1)->p_filesz, G_MAXUINT64, "truncated");
    BAD(image_phdr(image, 1)->p_memsz, 1, "corrupt");
    BAD(image_phdr(image, 1)->p_paddr, G_MAXUINT64 - 1, "corrupt");
    BAD(image_phdr(image, 1)->p_paddr, 0, "below 1 MiB");
    BAD(image_phdr(image, 1)->p_paddr, 0xfff00, "below 1 MiB");
    BAD(image_phdr(image, 1)->p_paddr, IMAGE_ELF_TEXT_GPA + 1, "segments 0 and 1 overlap");
    BAD(image_phdr(image, 1)->p_paddr, 64 * MIB - 4096, "needs at least");
    BAD(image_phdr(image, 1)->p_paddr, UINT64_C(1) << 50, "where no guest has memory");
    BAD(image_phdr(image, 1)->p_memsz, UINT64_C(1) << 50, "where no guest has memory");
    BAD(image_phdr(image, 2)->p_type, PT_NULL, "CONFIG_PVH");
    BAD(image_phdr(image, 2)->p_offset, IMAGE_ELF_SIZE, "truncated");
    BAD(image_phdr(image, 2)->p_filesz, 40, "CONFIG_PVH");
    BAD(image_phdr(image, 0)->p_memsz = image_phdr(image, 0)->p_filesz, 0x800, "lies in none");
    image_phdr(image, 0)->p_type = PT_NULL;
    BAD(image_phdr(image, 1)->p_type, PT_NULL, "nothing to load");
#undef BAD
    load_image(f, image);
}

static void test_hostile_notes(struct fixture *f, gconstpointer data)
{
    static const uint32_t sizes[] = {0, 1, 3, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff};
    g_autoptr(GByteArray) image = image_elf();
    Elf64_Nhdr *note = (Elf64_Nhdr *)(image->data + IMAGE_ELF_NOTE);
    Elf64_Nhdr good = *note;

    make_memory(f, 64 * MIB);
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(sizes); i++) {
        g_autoptr(GError) error = NULL;

        *(i % 2 ? &note->n_namesz : &note->n_descsz) = sizes[i / 2];
        write_file(f->kernel, image->data, image->len);
        /* A reader may find its way back to the other notes; if not, it has to say so. */
        if (boot_load(f->memory, &f->config, &f->result, &error))
            g_assert_cmpuint(f->result.entry.rip, ==, IMAGE_ELF_ENTRY);
        else
            g_assert_nonnull(strstr(error->message, "CONFIG_PVH"));
        boot_result_clear(&f->result);
        *note = good;
    }
}

static void test_elf_cut_anywhere(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) image = image_elf();

    make_memory(f, 64 * MIB);
    for (guint size = image->len - 1; size > 0; size--) {
        g_autoptr(GError) error = NULL;
        if (size > 0x200 && size % 64 != 0)
            continue;
        write_file(f->kernel, image->data, size);
        g_assert_false(boot_load(f->memory, &f->config, &f->result, &error));
        g_assert_nonnull(strstr(error->message, f->kernel));
    }
}

static void test_protocol_that_does_not_fit(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf(), bzimage = image_bzimage("no payload", 10);

    f->config.protocol = BOOT_LINUX64;
    refuse_image(f, elf, "linux64");
    f->config.protocol = BOOT_PVH;
    refuse_image(f, bzimage, "pvh");
}

/* ---- the machine's own kernels ---- */

static void test_own_kernel(struct fixture *f, gconstpointer data)
{
    g_autofree char *kernel = find_own_kernel();

    if (!kernel) {
        g_test_skip("there is no readable /boot/vmlinuz-*");
        return;
    }
    make_memory(f, 256 * MIB);
    f->config.kernel = kernel;
    f->config.protocol = BOOT_LINUX64;
    load(f);
    g_autofree char *base = g_path_get_basename(kernel);
    g_assert_cmpstr(f->result.kernel_version, ==, base + strlen("vmlinuz-"));
}

#define ADD(NAME, FUNCTION)                                                                        \
    g_test_add("/boot/" NAME, struct fixture, NULL, fixture_setup, FUNCTION, fixture_teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("linux64/kernel-in-place", test_linux64_kernel_in_place);
    ADD("linux64/boot-params", test_linux64_boot_params);
    ADD("linux64/paging-and-gdt", test_linux64_paging_and_gdt);
    ADD("linux64/reset-vector", test_reset_vector);
    ADD("linux64/memory-map", test_memory_map);
    ADD("linux64/initrd-from-file-and-memory", test_initrd_from_file_and_memory);
    ADD("linux64/initrd-above-4g-only-if-allowed", test_initrd_above_4g_only_if_allowed);
    ADD("linux64/initrd-below-2g-where-that-fits", test_initrd_below_2g_where_that_fits);
    ADD("linux64/command-line-at-its-limit", test_command_line_at_its_limit);
    ADD("linux64/little-memory", test_little_memory);
    ADD("linux64/initrd-too-big", test_initrd_too_big);
    ADD("linux64/bad-initrd", test_bad_initrd);
    ADD("linux64/bad-setup-headers", test_bad_setup_headers);
    ADD("linux64/cut-anywhere", test_bzimage_cut_anywhere);
    ADD("pvh/kernel-in-place", test_pvh_kernel_in_place);
    ADD("pvh/start-info", test_pvh_start_info);
    ADD("pvh/bad-elf-headers", test_bad_elf_headers);
    ADD("pvh/hostile-notes", test_hostile_notes);
    ADD("pvh/cut-anywhere", test_elf_cut_anywhere);
    ADD("no-file", test_no_file);
    ADD("foreign-files", test_foreign_files);
    ADD("protocol-that-does-not-fit", test_protocol_that_does_not_fit);
    ADD("own-kernel", test_own_kernel);
    return g_test_run();
}
