/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of vmm/snapshot: what was written comes back, and nothing else is ever taken for it. */
#include <stdbool.h>
#include <string.h>

#include "tests/unit/scratch.h"
#include "vmm/snapshot.h"

#define HEADER 60u

static struct snapshot *sample(void)
{
    struct snapshot *snapshot = snapshot_create();

    snapshot_add(snapshot, SNAPSHOT_CONFIG, 1, "config", "{}", 2);
    snapshot_add(snapshot, SNAPSHOT_VM, 1, "vm", "chips", 5);
    snapshot_add(snapshot, SNAPSHOT_VCPU, 1, "vcpu0", "registers", 9);
    snapshot_add(snapshot, SNAPSHOT_DEVICE, 1, "disk0", "\0\1\2", 3);
    snapshot_add(snapshot, SNAPSHOT_DEVICE, 1, "rng0", "", 0);
    return snapshot;
}

static GByteArray *sample_bytes(void)
{
    g_autoptr(snapshot_t) snapshot = sample();

    return snapshot_encode(snapshot);
}

/* Decoding fails, with an error that has @words in it. */
static void assert_refused(const uint8_t *data, size_t size, const char *words)
{
    /* A copy of exactly that size, so that a reader that goes beyond is caught. */
    g_autofree uint8_t *copy = g_memdup2(data, size);
    g_autoptr(GError) error = NULL;
    g_autoptr(snapshot_t) snapshot = snapshot_decode(copy, size, &error);

    g_assert_null(snapshot);
    g_assert_nonnull(error);
    if (!strstr(error->message, words))
        g_error("'%s' does not say '%s'", error->message, words);
}

static void test_crc32c_is_castagnoli(void)
{
    g_assert_cmphex(snapshot_crc32c(0, "123456789", 9), ==, 0xe3069283);
    g_assert_cmphex(snapshot_crc32c(snapshot_crc32c(0, "1234", 4), "56789", 5), ==, 0xe3069283);
}

static void test_round_trip(void)
{
    g_autoptr(GByteArray) bytes = sample_bytes();
    g_autoptr(GError) error = NULL;
    g_autoptr(snapshot_t) back = snapshot_decode(bytes->data, bytes->len, &error);
    g_autoptr(GByteArray) again = NULL;
    const struct snapshot_section *section;

    g_assert_no_error(error);
    g_assert_cmpuint(back->sections->len, ==, 5);
    section = snapshot_find(back, SNAPSHOT_DEVICE, "disk0");
    g_assert_cmpmem(section->data, section->size, "\0\1\2", 3);
    g_assert_null(snapshot_find(back, SNAPSHOT_DEVICE, "disk1"));
    again = snapshot_encode(back);
    g_assert_cmpmem(bytes->data, bytes->len, again->data, again->len);
}

static void test_truncated_anywhere(void)
{
    g_autoptr(GByteArray) bytes = sample_bytes();

    for (guint size = 0; size < bytes->len; size++)
        assert_refused(bytes->data, size, size < 8 ? "not a Lodge snapshot" : "truncated");
}

static void test_any_bit_flipped(void)
{
    g_autoptr(GByteArray) bytes = sample_bytes();

    for (guint bit = 0; bit < bytes->len * 8; bit++) {
        bytes->data[bit / 8] ^= 1 << bit % 8;
        assert_refused(bytes->data, bytes->len, "snapshot: ");
        bytes->data[bit / 8] ^= 1 << bit % 8;
    }
}

static void test_damage_names_the_section(void)
{
    g_autoptr(GByteArray) bytes = sample_bytes();

    bytes->data[HEADER + 24 + 6] ^= 1; /* the first section's payload */
    assert_refused(bytes->data, bytes->len, "section 0 (CONFIG)");
}

static void test_foreign(void)
{
    assert_refused((const uint8_t *)"QEVM\0\0\0\3 and so on and so on", 24, "not a Lodge snapshot");
}

static void test_bytes_after_the_end(void)
{
    g_autoptr(GByteArray) bytes = sample_bytes();

    g_byte_array_append(bytes, (const uint8_t *)"x", 1);
    assert_refused(bytes->data, bytes->len, "1 bytes follow the END");
}

static void assert_encoding_refused(struct snapshot *snapshot, const char *words)
{
    g_autoptr(GByteArray) bytes = snapshot_encode(snapshot);

    assert_refused(bytes->data, bytes->len, words);
    snapshot_destroy(snapshot);
}

/* What a reader would refuse is not written: together, to the byte. */
static void test_more_than_fits_is_not_written(void)
{
    g_autoptr(snapshot_t) snapshot = snapshot_create();
    g_autofree uint8_t *state = g_malloc0(3 << 20);
    g_autoptr(GError) error = NULL;

    g_assert_cmpuint(snapshot->max_devices + (8 << 20), <, SNAPSHOT_MAX_SIZE);
    snapshot->max_devices = 5 << 20;
    g_assert_true(snapshot_add_device(snapshot, "gpu0", state, 3 << 20, &error));
    g_assert_false(snapshot_add_device(snapshot, "gpu1", state, (2 << 20) + 1, &error));
    g_assert_cmpstr(
        error->message, ==,
        "snapshot: with the 2 MiB that gpu1 holds the devices' states are larger than 5 MiB; the "
        "guest must free some of it");
    g_assert_null(snapshot_find(snapshot, SNAPSHOT_DEVICE, "gpu1"));
    g_assert_true(snapshot_add_device(snapshot, "gpu2", state, 2 << 20, NULL));
    g_assert_false(snapshot_add_device(snapshot, "gpu3", state, 1, NULL));
    g_assert_true(snapshot_add_device(snapshot, "gpu4", state, 0, NULL));
}

static void test_newer_section_version(void)
{
    struct snapshot *snapshot = sample();

    snapshot_add(snapshot, SNAPSHOT_DEVICE, 2, "net0", "x", 1);
    assert_encoding_refused(snapshot, "section DEV 'net0': version 2");
}

static void test_unknown_mandatory_section(void)
{
    struct snapshot *snapshot = sample();

    snapshot_add(snapshot, 77, 1, "novelty", "x", 1);
    assert_encoding_refused(snapshot, "section 'novelty': type 77");
}

static void test_unknown_optional_section_is_skipped(void)
{
    g_autoptr(snapshot_t) snapshot = sample(), back = NULL;
    g_autoptr(GByteArray) bytes = NULL;
    g_autoptr(GError) error = NULL;
    struct snapshot_section *section;

    snapshot_add(snapshot, 77, 9, "novelty", "x", 1);
    section = g_ptr_array_index(snapshot->sections, snapshot->sections->len - 1);
    section->flags = 0;
    bytes = snapshot_encode(snapshot);
    back = snapshot_decode(bytes->data, bytes->len, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(back->sections->len, ==, 5);
}

static void test_section_twice(void)
{
    struct snapshot *snapshot = sample();

    snapshot_add(snapshot, SNAPSHOT_DEVICE, 1, "disk0", "", 0);
    assert_encoding_refused(snapshot, "section DEV 'disk0' is there twice");
}

static void test_newer_format(void)
{
    g_autoptr(GByteArray) bytes = sample_bytes();
    uint32_t crc;

    bytes->data[8] = bytes->data[16] = 2;
    crc = GUINT32_TO_LE(snapshot_crc32c(0, bytes->data, HEADER - 4));
    memcpy(bytes->data + HEADER - 4, &crc, 4);
    assert_refused(bytes->data, bytes->len, "newer lodge");
}

static void test_file_round_trip(void)
{
    g_autofree char *dir = scratch_create();
    g_autofree char *path = g_build_filename(dir, "state", NULL);
    g_autoptr(snapshot_t) snapshot = sample(), back = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(snapshot_write(snapshot, path, &error));
    back = snapshot_read(path, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(back->sections->len, ==, 5);
    g_assert_null(snapshot_read(dir, &error));
    g_assert_nonnull(error);
    scratch_remove(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/snapshot/crc32c-is-castagnoli", test_crc32c_is_castagnoli);
    g_test_add_func("/snapshot/round-trip", test_round_trip);
    g_test_add_func("/snapshot/truncated-anywhere", test_truncated_anywhere);
    g_test_add_func("/snapshot/any-bit-flipped", test_any_bit_flipped);
    g_test_add_func("/snapshot/damage-names-the-section", test_damage_names_the_section);
    g_test_add_func("/snapshot/foreign", test_foreign);
    g_test_add_func("/snapshot/bytes-after-the-end", test_bytes_after_the_end);
    g_test_add_func("/snapshot/more-than-fits-is-not-written", test_more_than_fits_is_not_written);
    g_test_add_func("/snapshot/newer-section-version", test_newer_section_version);
    g_test_add_func("/snapshot/unknown-mandatory-section", test_unknown_mandatory_section);
    g_test_add_func("/snapshot/unknown-optional-section-is-skipped",
                    test_unknown_optional_section_is_skipped);
    g_test_add_func("/snapshot/section-twice", test_section_twice);
    g_test_add_func("/snapshot/newer-format", test_newer_format);
    g_test_add_func("/snapshot/file-round-trip", test_file_round_trip);
    return g_test_run();
}
