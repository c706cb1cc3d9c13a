/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * aml - writes ACPI machine language (ACPI 6.5, chapter 20) term by term
 *
 * Terms are appended in the order in which they stand in the encoding. What has a package length
 * (scopes, devices, methods, packages, If) is opened and closed; closing patches the length in, so
 * nesting needs no buffers. Misuse (unbalanced open and close, a malformed name) is a programming
 * error and asserts: nothing here sees foreign input.
 *
 * Resource descriptors (section 6.4) go into an aml_resources, which aml_crs makes a _CRS of.
 *
 * Threads: the caller's; no shared state.
 */
#ifndef FIRMWARE_AML_H
#define FIRMWARE_AML_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define AML_DEPTH 16

struct aml {
    GByteArray *bytes;
    unsigned depth;
    guint open[AML_DEPTH]; /* where the package lengths belong */
};

/* Opcodes without a function of their own (section 20.3). */
enum aml_op {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_LOCAL0 = 0x60,
    AML_ARG0 = 0x68,
    AML_ARG1 = 0x69,
    AML_ARG3 = 0x6b,
    AML_STORE = 0x70,              /* source, target */
    AML_AND = 0x7b,                /* operand, operand, target */
    AML_OR = 0x7d,                 /* operand, operand, target */
    AML_NOTIFY = 0x86,             /* object, value */
    AML_CREATE_DWORD_FIELD = 0x8a, /* buffer, byte index, name */
    AML_LNOT = 0x92,
    AML_LEQUAL = 0x93,
    AML_RETURN = 0xa4,
};

void aml_init(struct aml *aml);
void aml_finish(struct aml *aml); /* frees the bytes */

void aml_op(struct aml *aml, enum aml_op op);
/* A name string: "PWRB", "\\_SB_.PCI0"; segments are padded to four characters. */
void aml_path(struct aml *aml, const char *path);
void aml_integer(struct aml *aml, uint64_t value); /* in its shortest encoding */
void aml_string(struct aml *aml, const char *string);
void aml_eisa_id(struct aml *aml, const char *id); /* "PNP0A08" as a compressed integer */
void aml_uuid(struct aml *aml, const char *uuid);  /* a 16-byte buffer, as ToUUID */
void aml_buffer(struct aml *aml, const void *data, unsigned size);

void aml_name(struct aml *aml, const char *name); /* Name (name, ...): the value follows */
void aml_name_integer(struct aml *aml, const char *name, uint64_t value);
void aml_name_string(struct aml *aml, const char *name, const char *value);
void aml_name_eisa_id(struct aml *aml, const char *name, const char *id);

/* Each is ended by aml_close. */
void aml_open_scope(struct aml *aml, const char *path);
void aml_open_device(struct aml *aml, const char *name);
void aml_open_method(struct aml *aml, const char *name, unsigned arguments, bool serialized);
void aml_open_package(struct aml *aml, unsigned elements);
void aml_open_if(struct aml *aml); /* the condition follows, then the body */
void aml_open_else(struct aml *aml);
void aml_close(struct aml *aml);

/* OperationRegion (name, SystemIO, port, size), and a Field over all of it with one 32-bit unit. */
void aml_port_region(struct aml *aml, const char *name, uint16_t port, unsigned size);
void aml_dword_field(struct aml *aml, const char *region, const char *field);

/* ---- resource descriptors ---- */

typedef GByteArray aml_resources;

aml_resources *aml_resources_new(void);
void aml_resource_ports(aml_resources *resources, uint16_t first, uint8_t count);
void aml_resource_memory32(aml_resources *resources, uint32_t base, uint32_t size);
void aml_resource_interrupt(aml_resources *resources, uint32_t gsi, bool edge, bool active_low);
/* Windows that a bridge passes on (ResourceProducer); @size is not 0. */
void aml_window_bus(aml_resources *resources, uint8_t first, uint8_t last);
void aml_window_ports(aml_resources *resources, uint16_t base, uint16_t size);
void aml_window_memory32(aml_resources *resources, uint32_t base, uint32_t size);
void aml_window_memory64(aml_resources *resources, uint64_t base, uint64_t size);
/* Name (_CRS, ResourceTemplate () {...}); takes ownership. */
void aml_crs(struct aml *aml, aml_resources *resources);

#endif
