/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net_control - the control queue of virtio-net and what it controls (virtio 1.3, 5.1.6.5)
 *
 * Receive filtering, MAC address, VLAN filter, number of queue pairs, guest offloads, announcements. A
 * command is copied whole before it is looked at; one that is malformed gets VIRTIO_NET_ERR and
 * changes nothing.
 */
#include <endian.h>
#include <stddef.h>
#include <string.h>

#include "virtio/net_private.h"
#include "vmm/iov.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_net_control, "%s class=%u command=%u bytes=%zu ack=%u",
            (const char *device, unsigned class, unsigned command, size_t bytes, unsigned ack),
            device, class, command, bytes, ack)

#define COMMAND_BYTES (2u + 2 * (4u + 6u * 1024)) /* a MAC table of any driver's size */

void net_control_reset(struct virtio_net *vnet)
{
    memset(&vnet->filter, 0, sizeof(vnet->filter));
    /* Without the control queue there is no filter. */
    vnet->filter.promiscuous = !virtio_device_has(&vnet->vdev, VIRTIO_NET_F_CTRL_RX);
}

/* ---- the filter ---- */

static bool in_table(const uint8_t *table, unsigned count, const uint8_t *mac)
{
    for (unsigned i = 0; i < count; i++)
        if (!memcmp(table + 6 * i, mac, 6))
            return true;
    return false;
}

static bool vlan_wanted(const struct virtio_net *vnet, const uint8_t *frame, size_t length)
{
    unsigned vlan;

    if (!virtio_device_has(&vnet->vdev, VIRTIO_NET_F_CTRL_VLAN) || length < 16 ||
        frame[12] != 0x81 || frame[13] != 0x00)
        return true;
    vlan = (frame[14] << 8 | frame[15]) & 0xfff;
    return vnet->filter.vlans[vlan / 64] & UINT64_C(1) << (vlan % 64);
}

bool net_filter_accepts(const struct virtio_net *vnet, const uint8_t *frame, size_t length)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const struct net_filter *filter = &vnet->filter;

    if (filter->promiscuous)
        return true;
    if (length < 14 || !vlan_wanted(vnet, frame, length))
        return false;
    if (!memcmp(frame, broadcast, 6))
        return !filter->no_broadcast;
    if (frame[0] & 1)
        return !filter->no_multicast &&
               (filter->all_multicast || filter->multicast_overflow ||
                in_table(filter->multicast, filter->multicast_count, frame));
    return !filter->no_unicast &&
           (filter->all_unicast || filter->unicast_overflow || !memcmp(frame, vnet->mac, 6) ||
            in_table(filter->unicast, filter->unicast_count, frame));
}

/* ---- commands: each gets its data after class and command; true is VIRTIO_NET_OK ---- */

static bool set_receive_mode(struct virtio_net *vnet, unsigned command, const uint8_t *data,
                             size_t size)
{
    struct net_filter *filter = &vnet->filter;
    bool *const modes[] = {
        [VIRTIO_NET_CTRL_RX_PROMISC] = &filter->promiscuous,
        [VIRTIO_NET_CTRL_RX_ALLMULTI] = &filter->all_multicast,
        [VIRTIO_NET_CTRL_RX_ALLUNI] = &filter->all_unicast,
        [VIRTIO_NET_CTRL_RX_NOMULTI] = &filter->no_multicast,
        [VIRTIO_NET_CTRL_RX_NOUNI] = &filter->no_unicast,
        [VIRTIO_NET_CTRL_RX_NOBCAST] = &filter->no_broadcast,
    };

    if (size != 1 || command >= G_N_ELEMENTS(modes) || data[0] > 1 ||
        (command > VIRTIO_NET_CTRL_RX_ALLMULTI &&
         !virtio_device_has(&vnet->vdev, VIRTIO_NET_F_CTRL_RX_EXTRA)))
        return false;
    *modes[command] = data[0];
    return true;
}

/* One table of addresses from the front of the data; too many: all of its kind are accepted. */
static bool read_table(const uint8_t **data, size_t *size, uint8_t *table, uint32_t *count,
                       bool *overflow)
{
    uint32_t entries;

    if (*size < 4)
        return false;
    memcpy(&entries, *data, 4);
    entries = le32toh(entries);
    if (entries > (*size - 4) / 6)
        return false;
    *overflow = entries > NET_MAX_MACS;
    *count = *overflow ? 0 : entries;
    memcpy(table, *data + 4, *count * 6);
    *data += 4 + 6 * (size_t)entries;
    *size -= 4 + 6 * (size_t)entries;
    return true;
}

static bool set_address(struct virtio_net *vnet, const uint8_t *data, size_t size)
{
    if (size != 6 || (data[0] & 1) || !virtio_device_has(&vnet->vdev, VIRTIO_NET_F_CTRL_MAC_ADDR))
        return false;
    memcpy(vnet->mac, data, 6);
    virtio_device_set_config(&vnet->vdev, offsetof(struct virtio_net_config, mac), vnet->mac, 6,
                             false);
    return true;
}

static bool set_tables(struct virtio_net *vnet, const uint8_t *data, size_t size)
{
    struct net_filter filter = vnet->filter;

    if (!virtio_device_has(&vnet->vdev, VIRTIO_NET_F_CTRL_RX) ||
        !read_table(&data, &size, filter.unicast, &filter.unicast_count,
                    &filter.unicast_overflow) ||
        !read_table(&data, &size, filter.multicast, &filter.multicast_count,
                    &filter.multicast_overflow) ||
        size)
        return false;
    vnet->filter = filter;
    return true;
}

static bool set_mac(struct virtio_net *vnet, unsigned command, const uint8_t *data, size_t size)
{
    switch (command) {
    case VIRTIO_NET_CTRL_MAC_ADDR_SET:
        return set_address(vnet, data, size);
    case VIRTIO_NET_CTRL_MAC_TABLE_SET:
        return set_tables(vnet, data, size);
    default:
        return false;
    }
}

static bool set_vlan(struct virtio_net *vnet, unsigned command, const uint8_t *data, size_t size)
{
    uint64_t bit;
    unsigned vlan;

    if (size != 2 || command > VIRTIO_NET_CTRL_VLAN_DEL)
        return false;
    vlan = data[0] | data[1] << 8;
    if (vlan >= 4096)
        return false;
    bit = UINT64_C(1) << (vlan % 64);
    if (command == VIRTIO_NET_CTRL_VLAN_ADD)
        vnet->filter.vlans[vlan / 64] |= bit;
    else
        vnet->filter.vlans[vlan / 64] &= ~bit;
    return true;
}

static bool set_pairs(struct virtio_net *vnet, unsigned command, const uint8_t *data, size_t size)
{
    unsigned pairs;

    if (command != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || size != 2)
        return false;
    pairs = data[0] | data[1] << 8;
    return pairs >= 1 && pairs <= vnet->pairs && net_use_pairs(vnet, pairs) == 0;
}

static bool set_guest_offloads(struct virtio_net *vnet, unsigned command, const uint8_t *data,
                               size_t size)
{
    uint64_t bits;

    if (command != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || size != 8)
        return false;
    memcpy(&bits, data, 8);
    bits = le64toh(bits);
    return !(bits & ~(vnet->vdev.negotiated & NET_OFFLOAD_FEATURES)) &&
           net_apply_offloads(vnet, bits) == 0;
}

static bool acknowledge(struct virtio_net *vnet, unsigned command, const uint8_t *data, size_t size)
{
    if (command != VIRTIO_NET_CTRL_ANNOUNCE_ACK)
        return false;
    net_announced(vnet);
    return true;
}

static const struct {
    uint8_t class;
    uint64_t features; /* one of these was negotiated */
    bool (*run)(struct virtio_net *vnet, unsigned command, const uint8_t *data, size_t size);
} classes[] = {
    {VIRTIO_NET_CTRL_RX, NET_BIT(VIRTIO_NET_F_CTRL_RX), set_receive_mode},
    {VIRTIO_NET_CTRL_MAC, NET_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | NET_BIT(VIRTIO_NET_F_CTRL_RX),
     set_mac},
    {VIRTIO_NET_CTRL_VLAN, NET_BIT(VIRTIO_NET_F_CTRL_VLAN), set_vlan},
    {VIRTIO_NET_CTRL_MQ, NET_BIT(VIRTIO_NET_F_MQ), set_pairs},
    {VIRTIO_NET_CTRL_GUEST_OFFLOADS, NET_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS), set_guest_offloads},
    {VIRTIO_NET_CTRL_ANNOUNCE, NET_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE), acknowledge},
};

static bool run_command(struct virtio_net *vnet, const uint8_t *bytes, size_t size)
{
    if (size < 2 || size > COMMAND_BYTES)
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(classes); i++)
        if (classes[i].class == bytes[0] && vnet->vdev.negotiated & classes[i].features)
            return classes[i].run(vnet, bytes[1], bytes + 2, size - 2);
    return false;
}

/* Pops and answers one; false when there is none, or the driver broke the format. */
static bool answer_one(struct virtio_net *vnet, struct virtq *vq)
{
    uint8_t bytes[COMMAND_BYTES + 1] = {0}; /* one more shows that a command is too long */
    struct virtq_element *element = vnet->out;
    uint8_t ack;
    size_t size;

    if (virtq_pop(vq, element) != 1)
        return false;
    if (!element->in_bytes) {
        virtio_device_needs_reset(&vnet->vdev, "control command without room for its ack");
        return false;
    }
    size = iov_read(virtq_out(element), element->out_count, 0, bytes, sizeof(bytes));
    ack = run_command(vnet, bytes, size) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
    trace_virtio_net_control(vnet->vdev.device->name, bytes[0], bytes[1], size, ack);
    iov_write(virtq_in(element), element->in_count, 0, &ack, 1);
    virtq_push(vq, element, 1);
    virtq_flush(vq);
    return true;
}

void net_control_ready(struct virtio_net *vnet, unsigned index)
{
    struct virtq *vq = virtio_device_queue(&vnet->vdev, index);
    unsigned done = 0;

    virtq_disable_notify(vq);
    while (done < NET_BATCH && answer_one(vnet, vq))
        done++;
    if (done == NET_BATCH || virtq_enable_notify(vq))
        virtio_device_kick(&vnet->vdev, index);
}

/* ---- saved state ---- */

static const struct state_field filter_fields[] = {
    STATE_BOOL(struct net_filter, promiscuous, 1),
    STATE_BOOL(struct net_filter, all_multicast, 1),
    STATE_BOOL(struct net_filter, all_unicast, 1),
    STATE_BOOL(struct net_filter, no_multicast, 1),
    STATE_BOOL(struct net_filter, no_unicast, 1),
    STATE_BOOL(struct net_filter, no_broadcast, 1),
    STATE_BOOL(struct net_filter, unicast_overflow, 1),
    STATE_BOOL(struct net_filter, multicast_overflow, 1),
    STATE_U32(struct net_filter, unicast_count, 1),
    STATE_U32(struct net_filter, multicast_count, 1),
    STATE_BYTES(struct net_filter, unicast, 1),
    STATE_BYTES(struct net_filter, multicast, 1),
    STATE_ARRAY(struct net_filter, vlans, STATE_KIND_U64, 1),
    STATE_END,
};
static const struct state_table filter_state = {"virtio-net-filter", 1, 1, filter_fields};

static const struct state_field net_fields[] = {
    STATE_BYTES(struct virtio_net, mac, 1),
    STATE_BOOL(struct virtio_net, link, 1),
    STATE_U32(struct virtio_net, active_pairs, 1),
    STATE_U64(struct virtio_net, offload_bits, 1),
    STATE_STRUCT(struct virtio_net, filter, &filter_state, 1),
    STATE_BUFFER(struct virtio_net, frames, NET_MAX_STATE, 1),
    STATE_BUFFER(struct virtio_net, backend, NET_MAX_STATE, 1),
    STATE_END,
};
const struct state_table net_state = {"virtio-net", 1, 1, net_fields};
