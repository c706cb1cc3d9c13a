/* SPDX-License-Identifier: GPL-2.0-or-later */
/* acpi - the tables that describe the machine; see acpi.h. Sections are those of ACPI 6.5. */
#include "firmware/acpi.h"

#include <string.h>

#include "firmware/aml.h"
#include "vmm/layout.h"

#define ECAM_BUS_SIZE (1u << 20)

struct acpi_header { /* section 5.2.6 */
    char signature[4];
    uint32_t length;
    uint8_t revision;
    uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
} __attribute__((packed));

struct acpi_rsdp { /* section 5.2.5.3 */
    char signature[8];
    uint8_t checksum; /* of the first 20 bytes */
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum;
    uint8_t reserved[3];
} __attribute__((packed));

struct acpi_address { /* generic address structure, section 5.2.3.2 */
    uint8_t space;    /* 1: ports */
    uint8_t bits;
    uint8_t bit_offset;
    uint8_t access; /* 1: bytes */
    uint64_t address;
} __attribute__((packed));

struct acpi_fadt { /* section 5.2.9 */
    struct acpi_header header;
    uint32_t facs, dsdt;
    uint8_t reserved0, profile;
    uint8_t legacy[62]; /* SCI, SMI, fixed register blocks, C states, RTC: not there */
    uint8_t century;
    uint16_t boot_architecture;
    uint8_t reserved1;
    uint32_t flags;
    struct acpi_address reset;
    uint8_t reset_value;
    uint16_t arm_boot_architecture;
    uint8_t minor_revision;
    uint64_t x_facs, x_dsdt;
    struct acpi_address fixed[8]; /* fixed register blocks: not there */
    struct acpi_address sleep_control, sleep_status;
    char hypervisor[8];
} __attribute__((packed));

G_STATIC_ASSERT(sizeof(struct acpi_header) == 36);
G_STATIC_ASSERT(sizeof(struct acpi_rsdp) == 36);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct acpi_fadt, century) == 108);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct acpi_fadt, flags) == 112);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct acpi_fadt, reset) == 116);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct acpi_fadt, x_dsdt) == 140);
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct acpi_fadt, sleep_control) == 244);
G_STATIC_ASSERT(sizeof(struct acpi_fadt) == 276);

enum {
    FADT_WBINVD = 1 << 0,
    FADT_POWER_BUTTON = 1 << 4, /* is a device in the DSDT, not fixed hardware */
    FADT_SLEEP_BUTTON = 1 << 5, /* the same */
    FADT_RESET_SUPPORTED = 1 << 10,
    FADT_HARDWARE_REDUCED = 1 << 20,

    BOOT_LEGACY_DEVICES = 1 << 0,
    BOOT_NO_VGA = 1 << 2,
    BOOT_NO_ASPM = 1 << 4,
    BOOT_NO_RTC = 1 << 5,

    MADT_LAPIC = 0,
    MADT_IOAPIC = 1,
    MADT_OVERRIDE = 2,
    MADT_LAPIC_NMI = 4,
    MADT_X2APIC = 9,
    MADT_X2APIC_NMI = 10,
    MADT_ENABLED = 1,
    MADT_EDGE_HIGH = 0x5, /* MPS INTI flags: active high, edge triggered */
    MADT_MAX_LAPIC = 254, /* 255 is the broadcast id; above, only x2APIC entries can say it */

    RSDP_V1_LENGTH = 20,
    TABLE_ALIGN = 16,
};

static void put(GByteArray *bytes, uint64_t value, unsigned size)
{
    uint64_t le = GUINT64_TO_LE(value);

    g_byte_array_append(bytes, (const guint8 *)&le, size);
}

static uint8_t checksum(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint8_t sum = 0;

    for (size_t i = 0; i < size; i++)
        sum += bytes[i];
    return -sum;
}

static void put_header(GByteArray *table, const char *signature, uint8_t revision)
{
    struct acpi_header header = {
        .revision = revision,
        .oem_id = "LODGE",
        .oem_table_id = "LODGEPC",
        .oem_revision = GUINT32_TO_LE(1),
        .creator_id = {'L', 'O', 'D', 'G'},
        .creator_revision = GUINT32_TO_LE(1),
    };

    memcpy(header.signature, signature, 4);
    g_byte_array_append(table, (const guint8 *)&header, sizeof(header));
}

/* Fills in length and checksum, appends to @all (aligned) and returns the table's address. */
static uint64_t finish_table(GByteArray *all, uint64_t base, GByteArray *table)
{
    struct acpi_header *header = (struct acpi_header *)table->data;

    header->length = GUINT32_TO_LE(table->len);
    header->checksum = 0;
    header->checksum = checksum(table->data, table->len);
    while (all->len % TABLE_ALIGN)
        put(all, 0, 1);
    uint64_t address = base + all->len;
    g_byte_array_append(all, table->data, table->len);
    return address;
}

/* ---- DSDT ---- */

static void put_serial(struct aml *aml, unsigned index, uint16_t port, uint32_t gsi)
{
    aml_resources *resources = aml_resources_new();
    char name[5] = {'C', 'O', 'M', '1' + index, 0};

    aml_open_device(aml, name);
    aml_name_eisa_id(aml, "_HID", "PNP0501");
    aml_name_integer(aml, "_UID", index + 1);
    aml_resource_ports(resources, port, 8);
    aml_resource_interrupt(resources, gsi, true, false);
    aml_crs(aml, resources);
    aml_close(aml);
}

static void put_rtc(struct aml *aml)
{
    aml_resources *resources = aml_resources_new();

    aml_open_device(aml, "RTC");
    aml_name_eisa_id(aml, "_HID", "PNP0B00");
    aml_resource_ports(resources, LAYOUT_PORT_RTC, 2);
    aml_resource_interrupt(resources, LAYOUT_GSI_RTC, true, false);
    aml_crs(aml, resources);
    aml_close(aml);
}

/*
 * _OSC of a PCI Express host bridge (PCI Firmware 3.3, section 4.5.1): native hot-plug, power
 * management events, error reporting and the capability structure go to the guest; SHPC hot-plug
 * is refused, for there is none.
 */
static void put_osc(struct aml *aml)
{
    static const char support[] = "CDW1", control[] = "CDW3";

    aml_open_method(aml, "_OSC", 4, true);
    aml_op(aml, AML_CREATE_DWORD_FIELD);
    aml_op(aml, AML_ARG3);
    aml_integer(aml, 0);
    aml_path(aml, support);
    aml_open_if(aml);
    aml_op(aml, AML_LEQUAL);
    aml_op(aml, AML_ARG0);
    aml_uuid(aml, "33db4d5b-1ff7-401c-9657-7441c03dd766");
    aml_op(aml, AML_CREATE_DWORD_FIELD);
    aml_op(aml, AML_ARG3);
    aml_integer(aml, 8);
    aml_path(aml, control);
    /* Local0 = CDW3 & 0x1d */
    aml_op(aml, AML_AND);
    aml_path(aml, control);
    aml_integer(aml, 0x1d);
    aml_op(aml, AML_LOCAL0);
    /* If (Arg1 != 1) { CDW1 |= 0x08 }: an unknown revision */
    aml_open_if(aml);
    aml_op(aml, AML_LNOT);
    aml_op(aml, AML_LEQUAL);
    aml_op(aml, AML_ARG1);
    aml_integer(aml, 1);
    aml_op(aml, AML_OR);
    aml_path(aml, support);
    aml_integer(aml, 0x08);
    aml_path(aml, support);
    aml_close(aml);
    /* If (CDW3 != Local0) { CDW1 |= 0x10 }: some bits were refused */
    aml_open_if(aml);
    aml_op(aml, AML_LNOT);
    aml_op(aml, AML_LEQUAL);
    aml_path(aml, control);
    aml_op(aml, AML_LOCAL0);
    aml_op(aml, AML_OR);
    aml_path(aml, support);
    aml_integer(aml, 0x10);
    aml_path(aml, support);
    aml_close(aml);
    aml_op(aml, AML_STORE);
    aml_op(aml, AML_LOCAL0);
    aml_path(aml, control);
    aml_close(aml);
    aml_open_else(aml); /* an unknown UUID */
    aml_op(aml, AML_OR);
    aml_path(aml, support);
    aml_integer(aml, 0x04);
    aml_path(aml, support);
    aml_close(aml);
    aml_op(aml, AML_RETURN);
    aml_op(aml, AML_ARG3);
    aml_close(aml);
}

/* Where the INTx pins of every slot arrive (section 6.2.13); level, active low by definition. */
static void put_prt(struct aml *aml)
{
    aml_name(aml, "_PRT");
    aml_open_package(aml, PCI_SLOTS * 4);
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        for (unsigned pin = 1; pin <= 4; pin++) {
            aml_open_package(aml, 4);
            aml_integer(aml, slot << 16 | 0xffff); /* all functions */
            aml_integer(aml, pin - 1);
            aml_integer(aml, 0); /* no link device: the next number is a GSI */
            aml_integer(aml, pci_host_gsi(slot, pin));
            aml_close(aml);
        }
    }
    aml_close(aml);
}

static unsigned last_bus(const struct pci_windows *windows)
{
    return LAYOUT_ECAM_SIZE / ECAM_BUS_SIZE - 1;
}

static void put_pci_host(struct aml *aml, const struct pci_windows *windows)
{
    aml_resources *resources = aml_resources_new();

    aml_open_device(aml, "PCI0");
    aml_name_eisa_id(aml, "_HID", "PNP0A08");
    aml_name_eisa_id(aml, "_CID", "PNP0A03");
    aml_name_integer(aml, "_UID", 0);
    aml_name_integer(aml, "_SEG", 0);
    aml_name_integer(aml, "_BBN", 0);
    aml_name_integer(aml, "_CCA", 1); /* DMA is coherent */
    aml_window_bus(resources, 0, last_bus(windows));
    aml_resource_ports(resources, 0xcf8, 8);
    if (windows->port_size > 0)
        aml_window_ports(resources, windows->port_base, windows->port_size);
    if (windows->mmio32_size > 0)
        aml_window_memory32(resources, windows->mmio32_base, windows->mmio32_size);
    if (windows->mmio64_size > 0)
        aml_window_memory64(resources, windows->mmio64_base, windows->mmio64_size);
    aml_crs(aml, resources);
    put_prt(aml);
    put_osc(aml);
    aml_close(aml);
}

/* What the machine occupies outside of the host bridge's windows: Linux trusts MCFG only if the
 * ECAM is claimed by a PNP0C02 (or reserved in e820). */
static void put_motherboard(struct aml *aml, const struct boot_machine *machine)
{
    aml_resources *resources = aml_resources_new();

    aml_open_device(aml, "MBRD");
    aml_name_eisa_id(aml, "_HID", "PNP0C02");
    aml_name_integer(aml, "_UID", 0);
    if (machine->windows)
        aml_resource_memory32(resources, machine->windows->ecam_base, LAYOUT_ECAM_SIZE);
    if (machine->acpi_port)
        aml_resource_ports(resources, machine->acpi_port, LAYOUT_ACPI_SIZE);
    aml_crs(aml, resources);
    aml_close(aml);
}

static void put_vmgenid(struct aml *aml, uint64_t address)
{
    aml_open_device(aml, "VGEN");
    aml_name_string(aml, "_HID", "LODG0001");
    aml_name_string(aml, "_CID", "VM_Gen_Counter");
    aml_name_string(aml, "_DDN", "VM_Gen_Counter");
    aml_name(aml, "ADDR");
    aml_open_package(aml, 2);
    aml_integer(aml, address & G_MAXUINT32);
    aml_integer(aml, address >> 32);
    aml_close(aml);
    aml_close(aml);
}

/* If (Local0 & bit) { Notify (device, 0x80) } */
static void put_event(struct aml *aml, uint32_t bit, const char *device)
{
    aml_open_if(aml);
    aml_op(aml, AML_AND);
    aml_op(aml, AML_LOCAL0);
    aml_integer(aml, bit);
    aml_op(aml, AML_ZERO); /* no target */
    aml_op(aml, AML_NOTIFY);
    aml_path(aml, device);
    aml_integer(aml, 0x80);
    aml_close(aml);
}

/* Power button and generic event device (sections 4.8.2.2.1.2, 5.6.9). */
static void put_events(struct aml *aml, const struct boot_machine *machine)
{
    aml_resources *resources = aml_resources_new();

    aml_open_device(aml, "PWRB");
    aml_name_eisa_id(aml, "_HID", "PNP0C0C");
    aml_name_integer(aml, "_UID", 0);
    aml_close(aml);

    aml_open_device(aml, "GED");
    aml_name_string(aml, "_HID", "ACPI0013");
    aml_name_integer(aml, "_UID", 0);
    aml_resource_interrupt(resources, machine->event_gsi, true, false);
    aml_crs(aml, resources);
    aml_port_region(aml, "EREG", machine->event_port, 4);
    aml_dword_field(aml, "EREG", "ESEL");
    aml_open_method(aml, "_EVT", 1, true);
    aml_op(aml, AML_STORE); /* one read: it clears what it returns */
    aml_path(aml, "ESEL");
    aml_op(aml, AML_LOCAL0);
    put_event(aml, LAYOUT_ACPI_EVENT_POWER_BUTTON, "PWRB");
    if (machine->vmgenid)
        put_event(aml, LAYOUT_ACPI_EVENT_VMGENID, "VGEN");
    aml_close(aml);
    aml_close(aml);
}

static GByteArray *build_dsdt(const struct boot_machine *machine)
{
    struct aml aml;

    aml_init(&aml);
    put_header(aml.bytes, "DSDT", 2); /* 2: integers are 64 bits wide */
    if (machine->acpi_port) {
        aml_name(&aml, "\\_S5");
        aml_open_package(&aml, 4);
        aml_integer(&aml, LAYOUT_ACPI_S5);
        for (unsigned i = 0; i < 3; i++)
            aml_integer(&aml, 0);
        aml_close(&aml);
    }
    aml_open_scope(&aml, "\\_SB");
    if (machine->windows || machine->acpi_port)
        put_motherboard(&aml, machine);
    if (machine->windows)
        put_pci_host(&aml, machine->windows);
    if (machine->serial[0])
        put_serial(&aml, 0, LAYOUT_PORT_SERIAL0, LAYOUT_GSI_SERIAL0);
    if (machine->serial[1])
        put_serial(&aml, 1, LAYOUT_PORT_SERIAL1, LAYOUT_GSI_SERIAL1);
    if (machine->rtc)
        put_rtc(&aml);
    if (machine->vmgenid)
        put_vmgenid(&aml, machine->vmgenid);
    if (machine->event_gsi)
        put_events(&aml, machine);
    aml_close(&aml);

    GByteArray *bytes = g_byte_array_ref(aml.bytes);
    aml_finish(&aml);
    return bytes;
}

/* ---- the other tables ---- */

static struct acpi_address port_register(uint16_t port)
{
    return (struct acpi_address){
        .space = 1, .bits = 8, .access = 1, .address = GUINT64_TO_LE(port)};
}

static GByteArray *build_fadt(const struct boot_machine *machine, uint64_t dsdt)
{
    GByteArray *table = g_byte_array_new();

    put_header(table, "FACP", 6);
    g_byte_array_set_size(table, sizeof(struct acpi_fadt));
    struct acpi_fadt *fadt = (struct acpi_fadt *)table->data;
    memset(&fadt->facs, 0, sizeof(*fadt) - sizeof(fadt->header));
    uint32_t flags = FADT_WBINVD | FADT_POWER_BUTTON | FADT_SLEEP_BUTTON | FADT_HARDWARE_REDUCED;
    uint16_t boot = BOOT_NO_VGA | BOOT_NO_ASPM;

    if (machine->serial[0] || machine->serial[1])
        boot |= BOOT_LEGACY_DEVICES;
    if (!machine->rtc)
        boot |= BOOT_NO_RTC;
    if (machine->acpi_port) {
        flags |= FADT_RESET_SUPPORTED;
        fadt->reset = port_register(machine->acpi_port + LAYOUT_ACPI_RESET);
        fadt->reset_value = LAYOUT_ACPI_RESET_VALUE;
        fadt->sleep_control = port_register(machine->acpi_port + LAYOUT_ACPI_SLEEP_CONTROL);
        fadt->sleep_status = port_register(machine->acpi_port + LAYOUT_ACPI_SLEEP_STATUS);
    }
    fadt->flags = GUINT32_TO_LE(flags);
    fadt->boot_architecture = GUINT16_TO_LE(boot);
    fadt->dsdt = GUINT32_TO_LE((uint32_t)dsdt);
    fadt->x_dsdt = GUINT64_TO_LE(dsdt);
    memcpy(fadt->hypervisor, "LODGE", 5);
    return table;
}

static void put_override(GByteArray *table, uint8_t irq)
{
    put(table, MADT_OVERRIDE, 1);
    put(table, 10, 1);
    put(table, 0, 1); /* ISA */
    put(table, irq, 1);
    put(table, irq, 4);
    put(table, MADT_EDGE_HIGH, 2);
}

static void put_processor(GByteArray *table, uint32_t uid, uint32_t apic_id)
{
    if (apic_id <= MADT_MAX_LAPIC && uid <= G_MAXUINT8) {
        put(table, MADT_LAPIC, 1);
        put(table, 8, 1);
        put(table, uid, 1);
        put(table, apic_id, 1);
        put(table, MADT_ENABLED, 4);
    } else {
        put(table, MADT_X2APIC, 1);
        put(table, 16, 1);
        put(table, 0, 2);
        put(table, apic_id, 4);
        put(table, MADT_ENABLED, 4);
        put(table, uid, 4);
    }
}

static GByteArray *build_madt(const struct boot_machine *machine)
{
    GByteArray *table = g_byte_array_new();
    bool x2apic = false;

    put_header(table, "APIC", 5);
    put(table, LAYOUT_LAPIC, 4);
    put(table, 0, 4); /* flags: no dual 8259 (PCAT_COMPAT) */
    for (unsigned i = 0; i < machine->vcpus; i++) {
        put_processor(table, i, machine->apic_ids[i]);
        x2apic |= machine->apic_ids[i] > MADT_MAX_LAPIC;
    }
    put(table, MADT_IOAPIC, 1);
    put(table, 12, 1);
    put(table, 0, 2); /* id 0, reserved */
    put(table, LAYOUT_IOAPIC, 4);
    put(table, 0, 4); /* its first GSI */
    /* Without a PIC nothing implies the ISA interrupts' trigger mode: say it for those there are. */
    if (machine->serial[0])
        put_override(table, LAYOUT_GSI_SERIAL0);
    if (machine->serial[1])
        put_override(table, LAYOUT_GSI_SERIAL1);
    if (machine->rtc)
        put_override(table, LAYOUT_GSI_RTC);
    if (machine->event_gsi && machine->event_gsi < 16)
        put_override(table, machine->event_gsi);
    put(table, MADT_LAPIC_NMI, 1); /* LINT1 of all processors */
    put(table, 6, 1);
    put(table, 0xff, 1);
    put(table, 0, 2);
    put(table, 1, 1);
    if (x2apic) {
        put(table, MADT_X2APIC_NMI, 1);
        put(table, 12, 1);
        put(table, 0, 2);
        put(table, G_MAXUINT32, 4);
        put(table, 1, 4); /* LINT1, reserved */
    }
    return table;
}

static GByteArray *build_mcfg(const struct pci_windows *windows)
{
    GByteArray *table = g_byte_array_new();

    put_header(table, "MCFG", 1);
    put(table, 0, 8);
    put(table, windows->ecam_base, 8);
    put(table, 0, 2); /* segment */
    put(table, 0, 1);
    put(table, last_bus(windows), 1);
    put(table, 0, 4);
    return table;
}

GByteArray *acpi_build(const struct boot_machine *machine, uint64_t base)
{
    GByteArray *all = g_byte_array_new();
    struct acpi_rsdp rsdp = {.oem_id = "LODGE", .revision = 2};
    g_autoptr(GByteArray) dsdt = build_dsdt(machine);
    g_autoptr(GByteArray) madt = build_madt(machine);
    g_autoptr(GByteArray) xsdt = g_byte_array_new();

    memcpy(rsdp.signature, "RSD PTR ", 8);
    g_byte_array_append(all, (const guint8 *)&rsdp, sizeof(rsdp)); /* its place; filled in below */
    uint64_t dsdt_address = finish_table(all, base, dsdt);
    g_autoptr(GByteArray) fadt = build_fadt(machine, dsdt_address);

    put_header(xsdt, "XSDT", 1);
    put(xsdt, finish_table(all, base, fadt), 8);
    put(xsdt, finish_table(all, base, madt), 8);
    if (machine->windows) {
        g_autoptr(GByteArray) mcfg = build_mcfg(machine->windows);
        put(xsdt, finish_table(all, base, mcfg), 8);
    }
    rsdp.xsdt = GUINT64_TO_LE(finish_table(all, base, xsdt));
    rsdp.length = GUINT32_TO_LE(sizeof(rsdp));
    rsdp.checksum = checksum(&rsdp, RSDP_V1_LENGTH);
    rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
    memcpy(all->data, &rsdp, sizeof(rsdp));
    return all;
}
