/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vcpu_stream - KVM's state of a machine as bytes, by state tables (vmm/vcpu_state.h)
 *
 * The fields are KVM's own structures, whose layout is the kernel's interface on x86-64. Interrupt
 * routes are not among them: each device sets its own again when it is loaded.
 */
#include <gio/gio.h>
#include <string.h>

#include "vmm/state.h"
#include "vmm/vm_private.h"

#define XSAVE_MAX  (64u << 10)
#define NESTED_MAX (64u << 10)
#define MSRS_MAX   4096u

static const struct state_field irqchip_fields[] = {
    STATE_U32(struct kvm_irqchip, chip_id, 1),
    STATE_BYTES(struct kvm_irqchip, chip, 1),
    STATE_END,
};
static const struct state_table irqchip_table = {"irqchip", 1, 1, irqchip_fields};

struct chips_image {
    struct kvm_irqchip irqchips[3];
    uint32_t irqchip_count;
    uint64_t clock; /* ns of the paravirtual clock */
};

static const struct state_field chips_fields[] = {
    STATE_STRUCTS(struct chips_image, irqchips, false, irqchip_count, 3, &irqchip_table, 1),
    STATE_U64(struct chips_image, clock, 1),
    STATE_END,
};
static const struct state_table chips_table = {"vm", 1, 1, chips_fields};

struct vcpu_image {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_debugregs debugregs;
    struct kvm_vcpu_events events;
    struct kvm_lapic_state lapic;
    struct kvm_xcrs xcrs;
    uint32_t mp_state;
    bool has_xcrs;
    GByteArray *xsave, *nested, *msrs; /* msrs: of struct kvm_msr_entry */
};

static const struct state_field vcpu_fields[] = {
    STATE_BYTES(struct vcpu_image, regs, 1),
    STATE_BYTES(struct vcpu_image, sregs, 1),
    STATE_BYTES(struct vcpu_image, debugregs, 1),
    STATE_BYTES(struct vcpu_image, events, 1),
    STATE_BYTES(struct vcpu_image, lapic, 1),
    STATE_BYTES(struct vcpu_image, xcrs, 1),
    STATE_U32(struct vcpu_image, mp_state, 1),
    STATE_BOOL(struct vcpu_image, has_xcrs, 1),
    STATE_BUFFER(struct vcpu_image, xsave, XSAVE_MAX, 1),
    STATE_BUFFER(struct vcpu_image, nested, NESTED_MAX, 1),
    STATE_BUFFER(struct vcpu_image, msrs, MSRS_MAX * sizeof(struct kvm_msr_entry), 1),
    STATE_END,
};
static const struct state_table vcpu_table = {"vcpu", 1, 1, vcpu_fields};

static GByteArray *bytes_of(const void *data, size_t size)
{
    GByteArray *bytes = g_byte_array_new();

    if (size)
        g_byte_array_append(bytes, data, (guint)size);
    return bytes;
}

static void image_finish(struct vcpu_image *image)
{
    g_clear_pointer(&image->xsave, g_byte_array_unref);
    g_clear_pointer(&image->nested, g_byte_array_unref);
    g_clear_pointer(&image->msrs, g_byte_array_unref);
}

bool vm_chips_save(struct vm *vm, GByteArray *out, GError **error)
{
    struct vm_chips_state state;
    struct chips_image image = {.irqchip_count = G_N_ELEMENTS(image.irqchips)};

    if (!vm_chips_state_get(vm, &state, error))
        return false;
    memcpy(image.irqchips, state.irqchips, sizeof(image.irqchips));
    image.clock = state.clock.clock;
    state_save(&chips_table, &image, out);
    return true;
}

bool vm_chips_load(struct vm *vm, const uint8_t *data, size_t size, GError **error)
{
    struct vm_chips_state state = {0};
    struct chips_image image = {.irqchip_count = G_N_ELEMENTS(image.irqchips)};

    if (!state_load(&chips_table, &image, data, size, error))
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(image.irqchips); i++) {
        if (image.irqchips[i].chip_id != i) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        "vm.irqchips[%u].chip_id: %u in the stream, %u expected", i,
                        image.irqchips[i].chip_id, i);
            return false;
        }
    }
    memcpy(state.irqchips, image.irqchips, sizeof(state.irqchips));
    state.clock.clock = image.clock;
    return vm_chips_state_set(vm, &state, true, error);
}

bool vcpu_save(struct vm *vm, unsigned vcpu, GByteArray *out, GError **error)
{
    struct vcpu_state state;
    struct vcpu_image image = {0};

    if (!vcpu_state_get(vm, vcpu, &state, error))
        return false;
    image.regs = state.regs;
    image.sregs = state.sregs;
    image.debugregs = state.debugregs;
    image.events = state.events;
    image.lapic = state.lapic;
    image.xcrs = state.xcrs;
    image.mp_state = state.mp_state.mp_state;
    image.has_xcrs = state.has_xcrs;
    image.xsave = bytes_of(state.xsave, state.xsave_size);
    image.nested = bytes_of(state.nested, state.nested_size);
    image.msrs = bytes_of(state.msrs, state.msr_count * sizeof(struct kvm_msr_entry));
    state_save(&vcpu_table, &image, out);
    image_finish(&image);
    vcpu_state_clear(&state);
    return true;
}

/* KVM reads as many bytes as it told us here, not as many as the stream has. */
static bool check_sizes(const struct vm *vm, const struct vcpu *vcpu,
                        const struct vcpu_image *image, GError **error)
{
    uint32_t xsave = vcpu->power_on.xsave_size;

    if (image->xsave->len != xsave)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "vcpu.xsave: %u bytes in the stream, this host's KVM has %u: restore it on a "
                    "host with the same CPU features",
                    image->xsave->len, xsave);
    else if (image->nested->len &&
             (image->nested->len != vm->nested_size ||
              ((const struct kvm_nested_state *)(void *)image->nested->data)->size >
                  image->nested->len))
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "vcpu.nested: %u bytes in the stream, this host's KVM has %u",
                    image->nested->len, vm->nested_size);
    else if (image->msrs->len % sizeof(struct kvm_msr_entry))
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "vcpu.msrs: %u bytes are no whole entries", image->msrs->len);
    else
        return true;
    return false;
}

bool vcpu_load(struct vm *vm, unsigned vcpu, const uint8_t *data, size_t size, GError **error)
{
    struct vcpu_image image = {0};
    bool done = false;

    if (state_load(&vcpu_table, &image, data, size, error) &&
        check_sizes(vm, &vm->vcpus[vcpu], &image, error)) {
        struct vcpu_state state = {
            .regs = image.regs,
            .sregs = image.sregs,
            .debugregs = image.debugregs,
            .events = image.events,
            .mp_state.mp_state = image.mp_state,
            .lapic = image.lapic,
            .xcrs = image.xcrs,
            .has_xcrs = image.has_xcrs,
            .xsave_size = image.xsave->len,
            .xsave = image.xsave->data,
            .nested_size = image.nested->len,
            .nested = image.nested->data,
            .msr_count = image.msrs->len / sizeof(struct kvm_msr_entry),
            .msrs = (struct kvm_msr_entry *)(void *)image.msrs->data,
        };
        done = vcpu_state_set(vm, vcpu, &state, 0, error);
    }
    image_finish(&image);
    return done;
}
