/* SPDX-License-Identifier: GPL-2.0-or-later */
/* acpi - the tables are well-formed, say what the machine has, and pass iasl both ways. */
#include "firmware/acpi.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>

#include "firmware/aml.h"
#include "vmm/layout.h"

#define BASE LAYOUT_ACPI_TABLES

static const struct pci_windows windows = {
    .ecam_base = LAYOUT_ECAM_BASE,
    .mmio32_base = LAYOUT_MMIO32_BASE,
    .mmio32_size = LAYOUT_MMIO32_SIZE,
    .mmio64_base = UINT64_C(0x4000000000),
    .mmio64_size = UINT64_C(0x1000000000),
    .port_base = LAYOUT_PCI_PORT_BASE,
    .port_size = LAYOUT_PCI_PORT_SIZE,
};
static const uint32_t one_id[] = {0};
static const uint32_t spread_ids[] = {0, 1, 4, 254, 255, 256, 1000};

static struct boot_machine full_machine(void)
{
    return (struct boot_machine){
        .vcpus = G_N_ELEMENTS(spread_ids),
        .apic_ids = spread_ids,
        .windows = &windows,
        .serial = {true, true},
        .rtc = true,
        .vmgenid = LAYOUT_VMGENID,
        .event_gsi = LAYOUT_GSI_ACPI,
        .event_port = LAYOUT_PORT_ACPI + LAYOUT_ACPI_EVENT,
        .acpi_port = LAYOUT_PORT_ACPI,
    };
}

static struct boot_machine bare_machine(void)
{
    return (struct boot_machine){.vcpus = 1, .apic_ids = one_id};
}

static uint64_t get(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, at, size);
    return GUINT64_FROM_LE(value);
}

static void assert_sum(const uint8_t *data, size_t size)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < size; i++)
        sum += data[i];
    g_assert_cmpuint(sum, ==, 0);
}

/* The table at guest-physical @address, checked; its length in @length. */
static const uint8_t *table_at(const GByteArray *all, uint64_t address, uint32_t *length)
{
    g_assert_cmpuint(address, >=, BASE);
    g_assert_cmpuint(address % 16, ==, 0);
    g_assert_cmpuint(address - BASE + 36, <=, all->len);
    const uint8_t *table = all->data + (address - BASE);
    *length = get(table + 4, 4);
    g_assert_cmpuint(address - BASE + *length, <=, all->len);
    assert_sum(table, *length);
    return table;
}

/* Finds a table as a guest does: RSDP, XSDT, and for the DSDT the FADT. NULL: not there. */
static const uint8_t *find_table(const GByteArray *all, const char *signature, uint32_t *length)
{
    g_assert_cmpmem(all->data, 8, "RSD PTR ", 8);
    assert_sum(all->data, 20);
    assert_sum(all->data, 36);
    g_assert_cmpuint(all->data[15], ==, 2);
    const uint8_t *xsdt = table_at(all, get(all->data + 24, 8), length);
    g_assert_cmpmem(xsdt, 4, "XSDT", 4);
    unsigned entries = (*length - 36) / 8;

    for (unsigned i = 0; i < entries; i++) {
        const uint8_t *table = table_at(all, get(xsdt + 36 + 8 * i, 8), length);

        if (strcmp(signature, "DSDT") == 0 && memcmp(table, "FACP", 4) == 0) {
            g_assert_cmpuint(get(table + 40, 4), ==, get(table + 140, 8));
            return table_at(all, get(table + 140, 8), length);
        }
        if (memcmp(table, signature, 4) == 0)
            return table;
    }
    return NULL;
}

static bool contains(const uint8_t *data, size_t size, const void *needle, size_t needle_size)
{
    return memmem(data, size, needle, needle_size) != NULL;
}

static void test_fadt_is_hardware_reduced(void)
{
    struct boot_machine machine = full_machine();
    g_autoptr(GByteArray) all = acpi_build(&machine, BASE);
    uint32_t length;
    const uint8_t *fadt = find_table(all, "FACP", &length);

    g_assert_nonnull(fadt);
    g_assert_cmpuint(length, ==, 276);
    g_assert_true(get(fadt + 112, 4) & 1 << 20);
    g_assert_true(get(fadt + 112, 4) & 1 << 10);
    g_assert_cmpuint(get(fadt + 120, 8), ==, LAYOUT_PORT_ACPI + LAYOUT_ACPI_RESET);
    g_assert_cmpuint(fadt[128], ==, LAYOUT_ACPI_RESET_VALUE);
    g_assert_cmpuint(get(fadt + 248, 8), ==, LAYOUT_PORT_ACPI + LAYOUT_ACPI_SLEEP_CONTROL);
    g_assert_cmpuint(get(fadt + 260, 8), ==, LAYOUT_PORT_ACPI + LAYOUT_ACPI_SLEEP_STATUS);
}

static void test_madt_lists_every_processor(void)
{
    struct boot_machine machine = full_machine();
    g_autoptr(GByteArray) all = acpi_build(&machine, BASE);
    uint32_t length;
    const uint8_t *madt = find_table(all, "APIC", &length);
    unsigned found = 0, overrides = 0, ioapics = 0;

    g_assert_nonnull(madt);
    g_assert_cmpuint(get(madt + 40, 4), ==, 0); /* no PIC */
    for (uint32_t at = 44; at < length; at += madt[at + 1]) {
        g_assert_cmpuint(madt[at + 1], >=, 2);
        if (madt[at] == 0) {
            g_assert_cmpuint(madt[at + 2], ==, found);
            g_assert_cmpuint(madt[at + 3], ==, spread_ids[found++]);
        } else if (madt[at] == 9) {
            g_assert_cmpuint(get(madt + at + 4, 4), ==, spread_ids[found]);
            g_assert_cmpuint(get(madt + at + 12, 4), ==, found++);
        } else if (madt[at] == 2) {
            g_assert_cmpuint(get(madt + at + 8, 2), ==, 5); /* edge, active high */
            overrides++;
        } else if (madt[at] == 1) {
            g_assert_cmpuint(get(madt + at + 4, 4), ==, LAYOUT_IOAPIC);
            ioapics++;
        }
    }
    g_assert_cmpuint(found, ==, G_N_ELEMENTS(spread_ids));
    g_assert_cmpuint(overrides, ==, 4);
    g_assert_cmpuint(ioapics, ==, 1);
}

static void test_mcfg_matches_the_ecam(void)
{
    struct boot_machine machine = full_machine();
    g_autoptr(GByteArray) all = acpi_build(&machine, BASE);
    uint32_t length;
    const uint8_t *mcfg = find_table(all, "MCFG", &length);

    g_assert_nonnull(mcfg);
    g_assert_cmpuint(get(mcfg + 44, 8), ==, windows.ecam_base);
    g_assert_cmpuint((mcfg[55] + 1) << 20, ==, LAYOUT_ECAM_SIZE);
}

static void test_dsdt_holds_the_windows(void)
{
    struct boot_machine machine = full_machine();
    g_autoptr(GByteArray) all = acpi_build(&machine, BASE);
    uint32_t length;
    const uint8_t *dsdt = find_table(all, "DSDT", &length);
    uint64_t range64[] = {GUINT64_TO_LE(windows.mmio64_base),
                          GUINT64_TO_LE(windows.mmio64_base + windows.mmio64_size - 1)};
    uint32_t range32[] = {GUINT32_TO_LE(windows.mmio32_base),
                          GUINT32_TO_LE(windows.mmio32_base + windows.mmio32_size - 1)};
    uint16_t ports[] = {GUINT16_TO_LE(windows.port_base),
                        GUINT16_TO_LE(windows.port_base + windows.port_size - 1)};

    g_assert_nonnull(dsdt);
    g_assert_true(contains(dsdt, length, range64, sizeof(range64)));
    g_assert_true(contains(dsdt, length, range32, sizeof(range32)));
    g_assert_true(contains(dsdt, length, ports, sizeof(ports)));
}

static void test_absent_parts_are_absent(void)
{
    struct boot_machine machine = bare_machine();
    g_autoptr(GByteArray) all = acpi_build(&machine, BASE);
    uint32_t length;
    static const char *const names[] = {"PCI0", "COM1", "COM2", "RTC_", "VGEN",
                                        "PWRB", "GED_", "_S5_", "MBRD"};

    g_assert_null(find_table(all, "MCFG", &length));
    const uint8_t *fadt = find_table(all, "FACP", &length);
    g_assert_nonnull(fadt);
    g_assert_false(get(fadt + 112, 4) & 1 << 10); /* no reset register */
    g_assert_true(get(fadt + 109, 2) & 1 << 5);   /* no RTC */
    const uint8_t *dsdt = find_table(all, "DSDT", &length);
    g_assert_nonnull(dsdt);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
        g_assert_false(contains(dsdt, length, names[i], 4));
}

static void test_64_processors_fit_the_area(void)
{
    uint32_t ids[64];
    struct boot_machine machine = full_machine();

    for (unsigned i = 0; i < 64; i++)
        ids[i] = i + 250;
    machine.vcpus = 64;
    machine.apic_ids = ids;
    g_autoptr(GByteArray) all = acpi_build(&machine, BASE);
    g_assert_cmpuint(all->len, <=, LAYOUT_ACPI_END - LAYOUT_ACPI_TABLES);
}

static void test_package_lengths_of_every_width(void)
{
    static const unsigned sizes[] = {1, 57, 58, 59, 4088, 4089, 4090, 70000, 1048567, 1048568};

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree uint8_t *data = g_malloc0(sizes[i]);
        struct aml aml;

        aml_init(&aml);
        aml_buffer(&aml, data, sizes[i]);
        const uint8_t *p = aml.bytes->data + 1;
        unsigned extra = p[0] >> 6;
        uint32_t length = extra ? p[0] & 0xf : p[0] & 0x3f;
        for (unsigned b = 0; b < extra; b++)
            length |= (uint32_t)p[1 + b] << (4 + 8 * b);
        g_assert_cmpuint(length, ==, aml.bytes->len - 1);
        aml_finish(&aml);
    }
}

static void test_eisa_ids_and_uuids(void)
{
    static const uint8_t pnp0a08[] = {0x0c, 0x41, 0xd0, 0x0a, 0x08};
    static const uint8_t uuid[] = {0x11, 0x13, 0x0a, 0x10, 0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f,
                                   0x1c, 0x40, 0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66};
    struct aml aml;

    aml_init(&aml);
    aml_eisa_id(&aml, "PNP0A08");
    g_assert_cmpmem(aml.bytes->data, aml.bytes->len, pnp0a08, sizeof(pnp0a08));
    g_byte_array_set_size(aml.bytes, 0);
    aml_uuid(&aml, "33db4d5b-1ff7-401c-9657-7441c03dd766");
    g_assert_cmpmem(aml.bytes->data, aml.bytes->len, uuid, sizeof(uuid));
    aml_finish(&aml);
}

/* ---- what ACPICA, the implementation that kernels use, makes of them ---- */

static char *run_tool(const char *const *arguments, const char *folder)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_MERGE);
    char *output = NULL;

    g_subprocess_launcher_set_cwd(launcher, folder);
    g_autoptr(GSubprocess) tool = g_subprocess_launcher_spawnv(launcher, arguments, &error);
    g_assert_no_error(error);
    g_subprocess_communicate_utf8(tool, NULL, NULL, &output, NULL, &error);
    g_assert_no_error(error);
    if (!g_subprocess_get_successful(tool))
        g_error("%s failed: %s", arguments[0], output);
    return output;
}

static void remove_folder(const char *folder)
{
    GDir *dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_remove(path);
    }
    g_clear_pointer(&dir, g_dir_close);
    g_rmdir(folder);
}

/* Disassembles a table and, where iasl can compile the outcome, compiles it without a complaint. */
static void check_with_iasl(const GByteArray *all, const char *signature)
{
    g_autofree char *folder = g_dir_make_tmp("lodge-acpi-XXXXXX", NULL);
    uint32_t length;
    const uint8_t *table = find_table(all, signature, &length);
    g_autofree char *aml = g_strdup_printf("%s.aml", signature);
    g_autofree char *dsl = g_strdup_printf("%s.dsl", signature);
    g_autofree char *path = g_build_filename(folder, aml, NULL);
    g_autofree char *text_path = g_build_filename(folder, dsl, NULL);
    g_autofree char *text = NULL;

    g_assert_nonnull(table);
    g_assert_true(g_file_set_contents(path, (const char *)table, length, NULL));
    const char *disassemble[] = {"iasl", "-vs", "-d", aml, NULL};
    g_autofree char *first = run_tool(disassemble, folder);
    g_assert_true(g_file_get_contents(text_path, &text, NULL, NULL));
    if (strstr(first, "Warning") || strstr(first, "Error") || strstr(text, "Warning") ||
        strstr(text, "Invalid"))
        g_error("iasl -d %s: %s\n%s", aml, first, text);
    const char *compile[] = {"iasl", "-vs", "-oa", "-p", "again", dsl, NULL};
    g_autofree char *second = run_tool(compile, folder);
    if (!strstr(second, " 0 Errors, 0 Warnings, 0 Remarks"))
        g_error("iasl %s: %s\n%s", dsl, second, text);
    /* The same bytes come out: nothing was encoded in a way that iasl reads differently. */
    g_autofree char *again = g_build_filename(folder, "again.aml", NULL);
    g_autofree char *bytes = NULL;
    gsize size;
    g_assert_true(g_file_get_contents(again, &bytes, &size, NULL));
    g_assert_cmpuint(size, ==, length);
    g_assert_cmpmem(bytes + 36, size - 36, table + 36, length - 36);
    remove_folder(folder);
}

static void test_iasl_accepts_the_tables(void)
{
    g_autofree char *iasl = g_find_program_in_path("iasl");
    static const char *const signatures[] = {"FACP", "APIC", "MCFG", "DSDT"};

    if (!iasl) {
        g_test_skip("iasl is not installed (Debian: acpica-tools)");
        return;
    }
    struct boot_machine machine = full_machine();
    g_autoptr(GByteArray) full = acpi_build(&machine, BASE);
    for (unsigned i = 0; i < G_N_ELEMENTS(signatures); i++)
        check_with_iasl(full, signatures[i]);
    machine = bare_machine();
    g_autoptr(GByteArray) bare = acpi_build(&machine, BASE);
    check_with_iasl(bare, "DSDT");
    machine = full_machine();
    machine.windows = NULL;
    machine.vmgenid = 0;
    g_autoptr(GByteArray) no_pci = acpi_build(&machine, BASE);
    check_with_iasl(no_pci, "DSDT");
}

/* Loads the tables into ACPICA's interpreter, evaluates @command and gives the output. */
static char *run_acpiexec(const GByteArray *all, const char *command)
{
    static const char *const signatures[] = {"FACP", "APIC", "MCFG", "DSDT"};
    g_autofree char *folder = g_dir_make_tmp("lodge-acpi-XXXXXX", NULL);
    const char *arguments[] = {"acpiexec", "-b", command, "FACP", "APIC", "MCFG", "DSDT", NULL};

    for (unsigned i = 0; i < G_N_ELEMENTS(signatures); i++) {
        g_autofree char *path = g_build_filename(folder, signatures[i], NULL);
        uint32_t length;
        const uint8_t *table = find_table(all, signatures[i], &length);
        g_assert_true(g_file_set_contents(path, (const char *)table, length, NULL));
    }
    char *output = run_tool(arguments, folder);
    remove_folder(folder);
    if (strstr(output, "ACPI Error") || strstr(output, "ACPI Warning") ||
        strstr(output, "ACPI BIOS") || !strstr(output, "tables successfully acquired"))
        g_error("acpiexec: %s", output);
    return output;
}

static void test_acpica_evaluates_the_methods(void)
{
    g_autofree char *acpiexec = g_find_program_in_path("acpiexec");
    /* Command, and what its output has to hold. */
    static const char *const cases[][2] = {
        /* Revision 1, control bits 0x1f: SHPC (2) is taken away, and the first word says so. */
        {"evaluate \\_SB.PCI0._OSC (5b 4d db 33 f7 1f 1c 40 96 57 74 41 c0 3d d7 66) 1 3 "
         "(00 00 00 00 1f 00 00 00 1f 00 00 00)",
         "10 00 00 00 1F 00 00 00 1D 00 00 00"},
        /* What was granted is granted again without a remark. */
        {"evaluate \\_SB.PCI0._OSC (5b 4d db 33 f7 1f 1c 40 96 57 74 41 c0 3d d7 66) 1 3 "
         "(00 00 00 00 1f 00 00 00 1d 00 00 00)",
         "00 00 00 00 1F 00 00 00 1D 00 00 00"},
        {"evaluate \\_SB.PCI0._OSC (5b 4d db 33 f7 1f 1c 40 96 57 74 41 c0 3d d7 66) 2 3 "
         "(00 00 00 00 1f 00 00 00 1d 00 00 00)",
         "08 00 00 00 1F 00 00 00 1D 00 00 00"},
        {"evaluate \\_SB.PCI0._OSC (00 4d db 33 f7 1f 1c 40 96 57 74 41 c0 3d d7 66) 1 3 "
         "(00 00 00 00 1f 00 00 00 1f 00 00 00)",
         "04 00 00 00 1F 00 00 00 1F 00 00 00"},
        {"evaluate \\_SB.VGEN.ADDR", "[Integer] = 00000000000EF000"},
        {"evaluate \\_S5", "[Integer] = 0000000000000005"},
        {"evaluate \\_SB.GED._EVT 9", "No object was returned"},
        {"resources \\_SB.PCI0", "Address Maximum : 0000004FFFFFFFFF"},
    };

    if (!acpiexec) {
        g_test_skip("acpiexec is not installed (Debian: acpica-tools)");
        return;
    }
    struct boot_machine machine = full_machine();
    g_autoptr(GByteArray) all = acpi_build(&machine, BASE);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *output = run_acpiexec(all, cases[i][0]);
        if (!strstr(output, cases[i][1]))
            g_error("%s: no \"%s\" in %s", cases[i][0], cases[i][1], output);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/acpi/fadt-is-hardware-reduced", test_fadt_is_hardware_reduced);
    g_test_add_func("/acpi/madt-lists-every-processor", test_madt_lists_every_processor);
    g_test_add_func("/acpi/mcfg-matches-the-ecam", test_mcfg_matches_the_ecam);
    g_test_add_func("/acpi/dsdt-holds-the-windows", test_dsdt_holds_the_windows);
    g_test_add_func("/acpi/absent-parts-are-absent", test_absent_parts_are_absent);
    g_test_add_func("/acpi/64-processors-fit-the-area", test_64_processors_fit_the_area);
    g_test_add_func("/acpi/iasl-accepts-the-tables", test_iasl_accepts_the_tables);
    g_test_add_func("/acpi/acpica-evaluates-the-methods", test_acpica_evaluates_the_methods);
    g_test_add_func("/aml/package-lengths-of-every-width", test_package_lengths_of_every_width);
    g_test_add_func("/aml/eisa-ids-and-uuids", test_eisa_ids_and_uuids);
    return g_test_run();
}
