/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state - what of a vmxnet3 is saved, and the check of what is loaded
 *
 * Saved: registers, what the driver had shared, where the rings are, interrupt masks, frames that wait
 * for buffers, and the backend's own. A loaded state is hostile: it passes the check that an
 * activation passes.
 */
#include <endian.h>
#include <gio/gio.h>
#include <string.h>

#include "devices/vmxnet3/private.h"
#include "vmm/state.h"

static const struct state_field ring_fields[] = {
    STATE_U64(struct vmxnet3_ring, base, 1),
    STATE_U32(struct vmxnet3_ring, size, 1),
    STATE_U32(struct vmxnet3_ring, next, 1),
    STATE_BOOL(struct vmxnet3_ring, generation, 1),
    STATE_END,
};
static const struct state_table ring_state = {"vmxnet3-ring", 1, 1, ring_fields};

static const struct state_field tx_fields[] = {
    STATE_STRUCT(struct vmxnet3_tx_queue, ring, &ring_state, 1),
    STATE_STRUCT(struct vmxnet3_tx_queue, completions, &ring_state, 1),
    STATE_U8(struct vmxnet3_tx_queue, vector, 1),
    STATE_BOOL(struct vmxnet3_tx_queue, stopped, 1),
    STATE_U32(struct vmxnet3_tx_queue, error, 1),
    STATE_ARRAY(struct vmxnet3_tx_queue, counters, STATE_KIND_U64, 1),
    STATE_END,
};
static const struct state_table tx_state = {"vmxnet3-tx", 1, 1, tx_fields};

/* An array of structs that are all there, always. */
#define ALL(TYPE, MEMBER, TABLE)                                                                   \
    {                                                                                              \
        .name = #MEMBER, .kind = STATE_KIND_TABLE, .offset = offsetof(TYPE, MEMBER),               \
        .count = G_N_ELEMENTS(((TYPE *)0)->MEMBER), .stride = sizeof(((TYPE *)0)->MEMBER[0]),      \
        .since = 1, .table = TABLE, .count_offset = -1                                             \
    }

static const struct state_field rx_fields[] = {
    ALL(struct vmxnet3_rx_queue, ring, &ring_state),
    STATE_STRUCT(struct vmxnet3_rx_queue, completions, &ring_state, 1),
    STATE_U64(struct vmxnet3_rx_queue, data, 1),
    STATE_U16(struct vmxnet3_rx_queue, data_entry, 1),
    STATE_U8(struct vmxnet3_rx_queue, vector, 1),
    STATE_BOOL(struct vmxnet3_rx_queue, stopped, 1),
    STATE_U32(struct vmxnet3_rx_queue, error, 1),
    STATE_ARRAY(struct vmxnet3_rx_queue, counters, STATE_KIND_U64, 1),
    STATE_END,
};
static const struct state_table rx_state = {"vmxnet3-rx", 1, 1, rx_fields};

static const struct state_field setup_fields[] = {
    STATE_U64(struct vmxnet3_setup, shared, 1),
    STATE_U64(struct vmxnet3_setup, queues, 1),
    STATE_U32(struct vmxnet3_setup, features, 1),
    STATE_U32(struct vmxnet3_setup, mtu, 1),
    STATE_U16(struct vmxnet3_setup, max_rx_pieces, 1),
    STATE_U32(struct vmxnet3_setup, tx_count, 1),
    STATE_U32(struct vmxnet3_setup, rx_count, 1),
    STATE_BOOL(struct vmxnet3_setup, auto_mask, 1),
    STATE_U8(struct vmxnet3_setup, event_vector, 1),
    STATE_U32(struct vmxnet3_setup, rx_mode, 1),
    STATE_BOOL(struct vmxnet3_setup, many_multicasts, 1),
    STATE_U32(struct vmxnet3_setup, multicast_count, 1),
    STATE_BYTES(struct vmxnet3_setup, multicasts, 1),
    STATE_ARRAY(struct vmxnet3_setup, vlans, STATE_KIND_U32, 1),
    STATE_U16(struct vmxnet3_setup, rss_types, 1),
    STATE_U16(struct vmxnet3_setup, rss_table_size, 1),
    STATE_BYTES(struct vmxnet3_setup, rss_key, 1),
    STATE_BYTES(struct vmxnet3_setup, rss_table, 1),
    STATE_END,
};
static const struct state_table setup_state = {"vmxnet3-setup", 1, 1, setup_fields};

static const struct state_field fields[] = {
    STATE_STRUCT(struct vmxnet3, function, &pci_function_state, 1),
    STATE_U32(struct vmxnet3, revision, 1),
    STATE_U64(struct vmxnet3, shared_register, 1),
    STATE_U32(struct vmxnet3, result, 1),
    STATE_BYTES(struct vmxnet3, mac, 1),
    STATE_BYTES(struct vmxnet3, own_mac, 1),
    STATE_BOOL(struct vmxnet3, active, 1),
    STATE_STRUCT(struct vmxnet3, setup, &setup_state, 1),
    ALL(struct vmxnet3, tx, &tx_state),
    ALL(struct vmxnet3, rx, &rx_state),
    STATE_U32(struct vmxnet3, events, 1),
    STATE_BOOL(struct vmxnet3, link_told, 1),
    STATE_ARRAY(struct vmxnet3, later, STATE_KIND_U32, 1),
    STATE_U32(struct vmxnet3, later_count, 1),
    STATE_U32(struct vmxnet3, masked, 1),
    STATE_U32(struct vmxnet3, pending, 1),
    STATE_BOOL(struct vmxnet3, icr, 1),
    STATE_BUFFER(struct vmxnet3, saved_frames, VMXNET3_MAX_STATE, 1),
    STATE_BUFFER(struct vmxnet3, saved_backend, VMXNET3_MAX_STATE, 1),
    STATE_END,
};
const struct state_table vmxnet3_state = {"vmxnet3", 1, 1, fields};

/* ---- frames that wait: of each its backend queue, its length, itself ---- */

static void save_frames(struct vmxnet3 *v)
{
    g_byte_array_set_size(v->saved_frames, 0);
    for (unsigned i = 0; i < NET_MAX_QUEUES; i++) {
        uint32_t head[2] = {htole32(i), htole32(v->received[i].size)};

        if (!v->received[i].size)
            continue;
        g_byte_array_append(v->saved_frames, (const uint8_t *)head, sizeof(head));
        g_byte_array_append(v->saved_frames, v->received[i].bytes, v->received[i].size);
    }
}

static bool load_frames(struct vmxnet3 *v)
{
    const uint8_t *data = v->saved_frames->data;
    size_t left = v->saved_frames->len;

    while (left) {
        uint32_t head[2], queue, size;

        if (left < sizeof(head))
            return false;
        memcpy(head, data, sizeof(head));
        queue = le32toh(head[0]);
        size = le32toh(head[1]);
        left -= sizeof(head);
        if (queue >= NET_MAX_QUEUES || size < NET_HEADER_SIZE || size > VMXNET3_FRAME ||
            size > left)
            return false;
        if (!v->received[queue].bytes)
            v->received[queue].bytes = g_malloc(VMXNET3_FRAME);
        memcpy(v->received[queue].bytes, data + sizeof(head), size);
        v->received[queue].size = size;
        data += sizeof(head) + size;
        left -= size;
    }
    return true;
}

/* ---- saving and loading ---- */

void vmxnet3_before_save(struct device *device)
{
    struct vmxnet3 *v = (struct vmxnet3 *)device;

    pci_function_before_save(&v->function);
    g_byte_array_set_size(v->saved_backend, 0);
    save_frames(v);
    net_save(v->net, v->saved_backend);
}

static bool check(struct vmxnet3 *v, GError **error)
{
    const char *why = "revision";

    if (v->revision >= 1 && v->revision <= 3) {
        why = "commands that wait";
        if (v->later_count <= VMXNET3_LATER && (!v->active || vmxnet3_map(v, &why)))
            return true;
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "vmxnet3: %s: makes no sense", why);
    return false;
}

static bool take_over(struct vmxnet3 *v, GError **error)
{
    if (!pci_function_after_load(&v->function, error) || !check(v, error) ||
        !net_load(v->net, v->saved_backend->data, v->saved_backend->len, error))
        return false;
    if (load_frames(v))
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                "vmxnet3: the frames that waited for buffers are damaged");
    return false;
}

bool vmxnet3_after_load(struct device *device, GError **error)
{
    struct vmxnet3 *v = (struct vmxnet3 *)device;

    for (unsigned i = 0; i < NET_MAX_QUEUES; i++)
        v->received[i].size = 0;
    v->rx_waiting = 0;
    v->generation++;
    if (!take_over(v, error)) {
        vmxnet3_deactivate(v); /* nobody is to look at any of it */
        vmxnet3_reset_registers(v);
        return false;
    }
    v->pending &= (1u << VMXNET3_VECTORS) - 1;
    if (!pci_function_msix_enabled(&v->function))
        pci_function_set_intx(&v->function, v->icr);
    return true;
}
