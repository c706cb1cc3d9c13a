/* SPDX-License-Identifier: GPL-2.0-or-later */
/* unpack, cache - packed kernels of every format, damaged ones, and what is kept of them. */
#include "firmware/unpack.h"

#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "tests/unit/boot_fixture.h"
#include "tests/unit/images.h"

#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_LZMA
#include <lzma.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif
#ifdef HAVE_LZ4
#include <lz4.h>
#endif

#define PACKED_MAX (1u << 20)

/* ---- packers, as the kernel's build does it ---- */

#ifdef HAVE_ZLIB
static gsize pack_gzip(const uint8_t *data, gsize size, uint8_t *out)
{
    z_stream z = {0};

    g_assert_cmpint(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, 0), ==, Z_OK);
    z.next_in = (uint8_t *)data;
    z.avail_in = size;
    z.next_out = out;
    z.avail_out = PACKED_MAX;
    g_assert_cmpint(deflate(&z, Z_FINISH), ==, Z_STREAM_END);
    deflateEnd(&z);
    return z.total_out;
}
#endif

#ifdef HAVE_LZMA
static gsize pack_xz(const uint8_t *data, gsize size, uint8_t *out)
{
    lzma_options_lzma lzma;
    lzma_filter filters[] = {
        {LZMA_FILTER_X86, NULL}, {LZMA_FILTER_LZMA2, &lzma}, {LZMA_VLI_UNKNOWN, NULL}};
    size_t length = 0;

    g_assert_false(lzma_lzma_preset(&lzma, 6));
    g_assert_cmpint(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, data, size, out,
                                              &length, PACKED_MAX),
                    ==, LZMA_OK);
    return length;
}

static gsize pack_lzma(const uint8_t *data, gsize size, uint8_t *out)
{
    lzma_options_lzma options;
    lzma_stream lzma = LZMA_STREAM_INIT;

    g_assert_false(lzma_lzma_preset(&options, 6));
    g_assert_cmpint(lzma_alone_encoder(&lzma, &options), ==, LZMA_OK);
    lzma.next_in = data;
    lzma.avail_in = size;
    lzma.next_out = out;
    lzma.avail_out = PACKED_MAX;
    g_assert_cmpint(lzma_code(&lzma, LZMA_FINISH), ==, LZMA_STREAM_END);
    lzma_end(&lzma);
    return lzma.total_out;
}
#endif

#ifdef HAVE_ZSTD
static gsize pack_zstd(const uint8_t *data, gsize size, uint8_t *out)
{
    ZSTD_CCtx *zstd = ZSTD_createCCtx();

    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    gsize length = ZSTD_compress2(zstd, out, PACKED_MAX, data, size);
    g_assert_false(ZSTD_isError(length));
    ZSTD_freeCCtx(zstd);
    return length;
}
#endif

#ifdef HAVE_LZ4
static gsize pack_lz4(const uint8_t *data, gsize size, uint8_t *out)
{
    uint32_t word = GUINT32_TO_LE(0x184c2102);
    gsize at = 4;

    memcpy(out, &word, 4);
    for (gsize done = 0; done < size;) {
        gsize block = MIN(size - done, 8 * MIB);
        int length = LZ4_compress_default((const char *)data + done, (char *)out + at + 4, block,
                                          PACKED_MAX - at - 4);
        g_assert_cmpint(length, >, 0);
        word = GUINT32_TO_LE(length);
        memcpy(out + at, &word, 4);
        at += 4 + length;
        done += block;
    }
    return at;
}
#endif

static const struct packer {
    const char *name;
    gsize (*pack)(const uint8_t *data, gsize size, uint8_t *out);
    bool detects_damage; /* LZ4's legacy format has no checksum */
} packers[] = {
#ifdef HAVE_ZLIB
    {"gzip", pack_gzip, true},
#endif
#ifdef HAVE_LZMA
    {"xz", pack_xz, true},
    {"lzma", pack_lzma, false},
#endif
#ifdef HAVE_ZSTD
    {"zstd", pack_zstd, true},
#endif
#ifdef HAVE_LZ4
    {"lz4", pack_lz4, false},
#endif
    {NULL},
};

static bool no_packers(void)
{
    if (!packers[0].name)
        g_test_skip("built without any compression library");
    return !packers[0].name;
}

/* The packed image, with its size behind it if that is what a bzImage has. */
static GByteArray *pack(const struct packer *packer, const GByteArray *image, bool append_size)
{
    GByteArray *packed = g_byte_array_new();
    uint32_t size = GUINT32_TO_LE(image->len);

    g_byte_array_set_size(packed, PACKED_MAX);
    g_byte_array_set_size(packed, packer->pack(image->data, image->len, packed->data));
    if (append_size)
        g_byte_array_append(packed, (const guint8 *)&size, 4);
    return packed;
}

static GByteArray *make_bzimage(const struct packer *packer, const GByteArray *elf)
{
    g_autoptr(GByteArray) payload = pack(packer, elf, strcmp(packer->name, "gzip") != 0);

    return image_bzimage(payload->data, payload->len);
}

static void assert_elf_loaded(struct fixture *f, const GByteArray *elf)
{
    uint8_t zeros[IMAGE_ELF_DATA_MEM - IMAGE_ELF_DATA_SIZE] = {0};

    g_assert_cmpint(f->result.protocol, ==, BOOT_PVH_UNPACKED);
    g_assert_cmpstr(f->result.kernel_version, ==, IMAGE_VERSION);
    g_assert_cmpuint(f->result.entry.rip, ==, IMAGE_ELF_ENTRY);
    g_assert_cmpint(f->result.entry.mode, ==, VM_ENTRY_PROTECTED_MODE);
    assert_guest(f, IMAGE_ELF_TEXT_GPA, elf->data + IMAGE_ELF_TEXT, IMAGE_ELF_TEXT_SIZE);
    assert_guest(f, IMAGE_ELF_DATA_GPA, elf->data + IMAGE_ELF_DATA, IMAGE_ELF_DATA_SIZE);
    assert_guest(f, IMAGE_ELF_DATA_GPA + IMAGE_ELF_DATA_SIZE, zeros, sizeof(zeros));
}

/* ---- unpacking ---- */

static void test_bzimage_payloads(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    if (no_packers())
        return;
    for (const struct packer *packer = packers; packer->name; packer++) {
        g_autoptr(GByteArray) image = make_bzimage(packer, elf);
        g_test_message("%s", packer->name);
        make_memory(f, 64 * MIB);
        load_image(f, image);
        assert_elf_loaded(f, elf);
    }
}

static void test_packed_elf_files(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    if (no_packers())
        return;
    for (const struct packer *packer = packers; packer->name; packer++) {
        g_autoptr(GByteArray) image = pack(packer, elf, false);
        g_test_message("%s", packer->name);
        make_memory(f, 64 * MIB);
        load_image(f, image);
        assert_elf_loaded(f, elf);
    }
}

static void test_big_segments_and_odd_orders(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    if (no_packers())
        return;
    /* More than one piece of input and output each; the file begins inside of a segment, the
     * segments stand in the wrong order, and one's bytes are part of another's. */
    image_pad(elf, 600000);
    for (guint i = IMAGE_ELF_SIZE; i < elf->len; i++)
        elf->data[i] = g_test_rand_int();
    Elf64_Phdr *first = image_phdr(elf, 0), *second = image_phdr(elf, 1);
    second->p_offset = 0;
    second->p_filesz = second->p_memsz = 500001;
    Elf64_Phdr swap = *first;
    *first = *second;
    *second = swap;
    for (const struct packer *packer = packers; packer->name; packer++) {
        g_autoptr(GByteArray) image = make_bzimage(packer, elf);
        g_test_message("%s", packer->name);
        make_memory(f, 64 * MIB);
        load_image(f, image);
        assert_guest(f, IMAGE_ELF_TEXT_GPA, elf->data + IMAGE_ELF_TEXT, IMAGE_ELF_TEXT_SIZE);
        assert_guest(f, IMAGE_ELF_DATA_GPA, elf->data, 500001);
    }
}

static void test_many_megabytes(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    if (no_packers())
        return;
    /* Three blocks of LZ4, the last one full, and segments across their borders. */
    image_pad(elf, 24 * MIB);
    for (guint i = IMAGE_ELF_SIZE; i < elf->len; i += 10007)
        elf->data[i] = i >> 8;
    image_phdr(elf, 1)->p_offset = 7 * MIB + 123;
    image_phdr(elf, 1)->p_filesz = image_phdr(elf, 1)->p_memsz = 17 * MIB - 123;
    for (const struct packer *packer = packers; packer->name; packer++) {
        g_autoptr(GByteArray) image = make_bzimage(packer, elf);
        g_test_message("%s", packer->name);
        image_header(image)->init_size = 24 * MIB;
        make_memory(f, 64 * MIB);
        load_image(f, image);
        g_assert_cmpint(f->result.protocol, ==, BOOT_PVH_UNPACKED);
        assert_guest(f, IMAGE_ELF_TEXT_GPA, elf->data + IMAGE_ELF_TEXT, IMAGE_ELF_TEXT_SIZE);
        assert_guest(f, IMAGE_ELF_DATA_GPA, elf->data + 7 * MIB + 123, 17 * MIB - 123);
    }
}

static void test_damaged_payloads(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    if (no_packers())
        return;
    for (const struct packer *packer = packers; packer->name; packer++) {
        g_autoptr(GByteArray) payload = pack(packer, elf, false);
        unsigned refused = 0;

        if (!packer->detects_damage)
            continue;
        for (guint at = 12; at < payload->len; at += payload->len / 7) {
            g_autoptr(GByteArray) image = NULL;
            g_autoptr(GError) error = NULL;
            g_test_message("%s at %u", packer->name, at);
            payload->data[at] ^= 0x10;
            image = image_bzimage(payload->data, payload->len);
            payload->data[at] ^= 0x10;
            write_file(f->kernel, image->data, image->len);
            make_memory(f, 64 * MIB);
            /* A bit that nothing depends on may be among them: then the kernel is whole. */
            if (boot_load(f->memory, &f->config, &f->result, &error))
                assert_elf_loaded(f, elf);
            else
                g_assert_nonnull(strstr(error->message, "corrupt"));
            boot_result_clear(&f->result);
            refused += error != NULL;
        }
        g_assert_cmpuint(refused, >=, 5);
    }
}

static void test_cut_payloads(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    if (no_packers())
        return;
    make_memory(f, 64 * MIB);
    for (const struct packer *packer = packers; packer->name; packer++) {
        g_autoptr(GByteArray) payload = pack(packer, elf, false);
        for (guint size = payload->len - 8; size > 8; size -= MIN(size - 8, 501)) {
            g_autoptr(GByteArray) image = image_bzimage(payload->data, size);
            g_test_message("%s, %u bytes", packer->name, size);
            f->config.protocol = BOOT_PVH_UNPACKED;
            refuse_image(f, image, ": ");
        }
    }
}

static void test_no_note_falls_back(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    if (no_packers())
        return;
    image_phdr(elf, 2)->p_type = PT_NULL;
    for (const struct packer *packer = packers; packer->name; packer++) {
        g_autoptr(GByteArray) image = make_bzimage(packer, elf);
        f->config.protocol = BOOT_AUTO;
        load_image(f, image);
        g_assert_cmpint(f->result.protocol, ==, BOOT_LINUX64);
        boot_result_clear(&f->result);
        f->config.protocol = BOOT_PVH_UNPACKED;
        refuse_image(f, image, "CONFIG_PVH");
    }
}

static void test_other_payloads_fall_back(struct fixture *f, gconstpointer data)
{
    static const char *const payloads[] = {"BZh91AY&SY........", "\x89LZO............",
                                           "not packed"};

    for (unsigned i = 0; i < G_N_ELEMENTS(payloads); i++) {
        g_autoptr(GByteArray) image = image_bzimage(payloads[i], strlen(payloads[i]));
        f->config.protocol = BOOT_AUTO;
        load_image(f, image);
        g_assert_cmpint(f->result.protocol, ==, BOOT_LINUX64);
        boot_result_clear(&f->result);
        f->config.protocol = BOOT_PVH_UNPACKED;
        refuse_image(f, image, "built without a library");
    }
}

static void test_no_room_for_the_segments_falls_back(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    if (no_packers())
        return;
    image_phdr(elf, 1)->p_paddr = 100 * MIB;
    for (const struct packer *packer = packers; packer->name; packer++) {
        g_autoptr(GByteArray) image = make_bzimage(packer, elf);
        f->config.protocol = BOOT_AUTO;
        load_image(f, image);
        g_assert_cmpint(f->result.protocol, ==, BOOT_LINUX64);
        boot_result_clear(&f->result);
        f->config.protocol = BOOT_PVH_UNPACKED;
        refuse_image(f, image, "needs at least 101 MiB");
    }
}

static void test_output_is_bounded(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    if (no_packers())
        return;
    image_pad(elf, IMAGE_INIT_SIZE + 1); /* zeros: some thousand bytes when packed */
    f->config.protocol = BOOT_PVH_UNPACKED;
    for (const struct packer *packer = packers; packer->name; packer++) {
        g_autoptr(GByteArray) image = make_bzimage(packer, elf);
        g_test_message("%s", packer->name);
        refuse_image(f, image, "unpacks to more than 8 MiB");
    }
}

static void test_protocols_of_packed_files(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    if (no_packers())
        return;
    g_autoptr(GByteArray) packed = pack(&packers[0], elf, false);
    f->config.protocol = BOOT_PVH;
    refuse_image(f, packed, "use pvh-unpacked");
    f->config.protocol = BOOT_LINUX64;
    refuse_image(f, packed, "use pvh-unpacked");
    g_byte_array_set_size(elf, 5000);
    memset(elf->data, 'x', elf->len);
    g_autoptr(GByteArray) text = pack(&packers[0], elf, false);
    f->config.protocol = BOOT_AUTO;
    refuse_image(f, text, "not an ELF file");
}

/* ---- the cache ---- */

static unsigned list_cache(struct fixture *f, char **first)
{
    g_autoptr(GDir) dir = g_dir_open(f->config.cache, 0, NULL);
    const char *name;
    unsigned count = 0;

    while (dir && (name = g_dir_read_name(dir))) {
        if (first && count == 0)
            *first = g_build_filename(f->config.cache, name, NULL);
        count++;
    }
    return count;
}

static void remove_cache(struct fixture *f)
{
    g_autoptr(GDir) dir = g_dir_open(f->config.cache, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(f->config.cache, name, NULL);
        g_assert_cmpint(g_remove(path), ==, 0);
    }
    g_rmdir(f->config.cache);
}

static void cache_setup(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    fixture_setup(f, data);
    f->config.cache = g_build_filename(f->folder, "cache", NULL);
    if (!packers[0].name)
        return;
    g_autoptr(GByteArray) image = make_bzimage(&packers[0], elf);
    write_file(f->kernel, image->data, image->len);
}

static void cache_teardown(struct fixture *f, gconstpointer data)
{
    remove_cache(f);
    g_free((char *)f->config.cache);
    fixture_teardown(f, data);
}

static void load_and_check(struct fixture *f, bool cached)
{
    g_autoptr(GByteArray) elf = image_elf();

    make_memory(f, 64 * MIB);
    load(f);
    assert_elf_loaded(f, elf);
    g_assert_cmpint(f->result.unpack_cached, ==, cached);
}

static void test_second_load_is_cached(struct fixture *f, gconstpointer data)
{
    struct stat st;

    if (no_packers())
        return;
    load_and_check(f, false);
    g_assert_cmpuint(list_cache(f, NULL), ==, 1);
    g_assert_cmpint(stat(f->config.cache, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0700);
    load_and_check(f, true);
    g_assert_cmpuint(list_cache(f, NULL), ==, 1);
}

static void test_dirty_memory_is_overwritten(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();
    g_autofree uint8_t *dirt = g_malloc(8 * MIB);

    if (no_packers())
        return;
    load_and_check(f, false);
    memset(dirt, 0xee, 8 * MIB);
    g_assert_cmpint(memory_write(f->memory, 16 * MIB, dirt, 8 * MIB), ==, 0);
    load(f); /* as after a reset */
    assert_elf_loaded(f, elf);
    g_assert_true(f->result.unpack_cached);
}

static void test_damaged_cache_is_replaced(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = NULL;
    struct stat st;

    if (no_packers())
        return;
    load_and_check(f, false);
    g_assert_cmpuint(list_cache(f, &path), ==, 1);
    g_assert_cmpint(stat(path, &st), ==, 0);
    /* In the head, a segment, the trailer: magic, size, checksum, name. */
    const goffset offsets[] = {24,
                               IMAGE_ELF_TEXT + 100,
                               st.st_size - 104,
                               st.st_size - 96,
                               st.st_size - 88,
                               st.st_size - 70};
    for (unsigned i = 0; i < G_N_ELEMENTS(offsets); i++) {
        FILE *file = fopen(path, "r+");
        g_assert_cmpint(fseek(file, offsets[i], SEEK_SET), ==, 0);
        int byte = fgetc(file);
        g_assert_cmpint(fseek(file, offsets[i], SEEK_SET), ==, 0);
        fputc(byte ^ 1, file);
        g_assert_cmpint(fclose(file), ==, 0);
        load_and_check(f, false);
        load_and_check(f, true);
    }
    for (goffset size = 0; size < st.st_size; size += 1111) {
        g_assert_cmpint(truncate(path, size), ==, 0);
        load_and_check(f, false);
        load_and_check(f, true);
    }
}

static void test_unsafe_cache_is_not_used(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = NULL, *target = g_build_filename(f->folder, "elsewhere", NULL);

    if (no_packers())
        return;
    load_and_check(f, false);
    g_assert_cmpuint(list_cache(f, &path), ==, 1);
    /* A file that others may write, a link, a folder that others may write. */
    g_assert_cmpint(chmod(path, 0666), ==, 0);
    load_and_check(f, false);
    load_and_check(f, true);
    g_assert_cmpint(rename(path, target), ==, 0);
    g_assert_cmpint(symlink(target, path), ==, 0);
    load_and_check(f, false);
    g_assert_cmpint(remove(target), ==, 0);
    g_assert_cmpint(chmod(f->config.cache, 0777), ==, 0);
    load_and_check(f, false);
    load_and_check(f, false);
    g_assert_cmpint(chmod(f->config.cache, 0700), ==, 0);
}

static void test_changed_kernel_is_unpacked_again(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();

    if (no_packers())
        return;
    load_and_check(f, false);
    elf->data[IMAGE_ELF_TEXT + 5] ^= 1;
    g_autoptr(GByteArray) image = make_bzimage(&packers[0], elf);
    write_file(f->kernel, image->data, image->len);
    make_memory(f, 64 * MIB);
    load(f);
    g_assert_false(f->result.unpack_cached);
    assert_elf_loaded(f, elf);
    g_assert_cmpuint(list_cache(f, NULL), ==, 2);
}

static void test_cache_stays_small(struct fixture *f, gconstpointer data)
{
    if (no_packers())
        return;
    for (unsigned i = 0; i < 7; i++) {
        g_autoptr(GByteArray) elf = image_elf();
        elf->data[IMAGE_ELF_TEXT + 5] = i;
        g_autoptr(GByteArray) image = make_bzimage(&packers[0], elf);
        write_file(f->kernel, image->data, image->len);
        load(f);
        g_assert_false(f->result.unpack_cached);
    }
    g_assert_cmpuint(list_cache(f, NULL), ==, 4);
    load(f); /* the newest is among them */
    g_assert_true(f->result.unpack_cached);
}

static void test_no_pvh_is_remembered(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) elf = image_elf();
    g_autofree char *path = NULL;
    struct stat st;

    if (no_packers())
        return;
    image_phdr(elf, 2)->p_type = PT_NULL;
    g_autoptr(GByteArray) image = make_bzimage(&packers[0], elf);
    load_image(f, image);
    g_assert_cmpint(f->result.protocol, ==, BOOT_LINUX64);
    g_assert_cmpuint(list_cache(f, &path), ==, 1);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_size, <, 200);
    load_image(f, image);
    g_assert_cmpint(f->result.protocol, ==, BOOT_LINUX64);
}

static void test_prepared_kernel_is_cached(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    if (no_packers())
        return;
    g_assert_true(boot_prepare(f->kernel, f->config.cache, &error));
    g_assert_no_error(error);
    load_and_check(f, true);
    g_assert_false(boot_prepare(f->folder, f->config.cache, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_IS_DIRECTORY);
}

static void test_no_cache_folder_is_no_error(struct fixture *f, gconstpointer data)
{
    if (no_packers())
        return;
    write_file(f->config.cache, "a file", 6);
    load_and_check(f, false);
    g_assert_cmpint(remove(f->config.cache), ==, 0);
}

/* ---- the machine's own kernel ---- */

static void test_own_kernel(struct fixture *f, gconstpointer data)
{
    g_autofree char *kernel = find_own_kernel();

    if (!kernel || no_packers()) {
        g_test_skip("there is no readable /boot/vmlinuz-*");
        return;
    }
    f->config.kernel = kernel;
    make_memory(f, 256 * MIB);
    load(f);
    g_assert_cmpint(f->result.protocol, ==, BOOT_PVH_UNPACKED);
    g_assert_cmpuint(f->result.entry.rip, >=, 0x1000000);
    struct boot_result first = f->result;
    f->result.kernel_version = NULL;
    g_autofree uint8_t *unpacked = g_malloc(128 * MIB), *cached = g_malloc(128 * MIB);
    read_guest(f, 0x100000, unpacked, 128 * MIB);
    make_memory(f, 256 * MIB);
    load(f);
    g_assert_true(f->result.unpack_cached);
    g_assert_cmpuint(f->result.entry.rip, ==, first.entry.rip);
    read_guest(f, 0x100000, cached, 128 * MIB);
    g_assert_true(memcmp(unpacked, cached, 128 * MIB) == 0);
    boot_result_clear(&first);
}

#define ADD(NAME, FUNCTION)                                                                        \
    g_test_add("/unpack/" NAME, struct fixture, NULL, fixture_setup, FUNCTION, fixture_teardown)
#define ADD_CACHE(NAME, FUNCTION)                                                                  \
    g_test_add("/cache/" NAME, struct fixture, NULL, cache_setup, FUNCTION, cache_teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("bzimage-payloads", test_bzimage_payloads);
    ADD("packed-elf-files", test_packed_elf_files);
    ADD("big-segments-and-odd-orders", test_big_segments_and_odd_orders);
    ADD("many-megabytes", test_many_megabytes);
    ADD("damaged-payloads", test_damaged_payloads);
    ADD("cut-payloads", test_cut_payloads);
    ADD("no-note-falls-back", test_no_note_falls_back);
    ADD("other-payloads-fall-back", test_other_payloads_fall_back);
    ADD("no-room-for-the-segments-falls-back", test_no_room_for_the_segments_falls_back);
    ADD("output-is-bounded", test_output_is_bounded);
    ADD("protocols-of-packed-files", test_protocols_of_packed_files);
    ADD_CACHE("second-load-is-cached", test_second_load_is_cached);
    ADD_CACHE("dirty-memory-is-overwritten", test_dirty_memory_is_overwritten);
    ADD_CACHE("damaged-cache-is-replaced", test_damaged_cache_is_replaced);
    ADD_CACHE("unsafe-cache-is-not-used", test_unsafe_cache_is_not_used);
    ADD_CACHE("changed-kernel-is-unpacked-again", test_changed_kernel_is_unpacked_again);
    ADD_CACHE("stays-small", test_cache_stays_small);
    ADD_CACHE("no-pvh-is-remembered", test_no_pvh_is_remembered);
    ADD_CACHE("prepared-kernel-is-cached", test_prepared_kernel_is_cached);
    ADD_CACHE("no-folder-is-no-error", test_no_cache_folder_is_no_error);
    ADD_CACHE("own-kernel", test_own_kernel);
    return g_test_run();
}
