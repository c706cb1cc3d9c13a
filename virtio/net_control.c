/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net_control - the control queue of virtio-net and what it controls (virtio 1.3, 5.1.6.5)
 *
 * Receive filtering, MAC address, VLAN filter, number of queue pairs, guest offloads. A command is
 * copied whole before it is looked at; one that is malformed gets VIRTIO_NET_ERR and changes nothing.
 */
#include <endian.h>
#include <string.h>

#include "virtio/net_private.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_net_control, "%s class=%u command=%u bytes=%zu ack=%u",
            (const char *device, unsigned class, unsigned command, size_t bytes, unsigned ack),
            device, class, command, bytes, ack)

#define COMMAND_BYTES (2u + 2 * (4u + 6u * 1024)) /* a MAC table of any driver's size */

static const uint64_t offload_features =
    UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM | UINT64_C(1) << VIRTIO_NET_F_GUEST_TSO4 |
    UINT64_C(1) << VIRTIO_NET_F_GUEST_TSO6 | UINT64_C(1) << VIRTIO_NET_F_GUEST_ECN |
    UINT64_C(1) << VIRTIO_NET_F_GUEST_UFO;

void net_apply_offloads(struct virtio_net *vnet, uint64_t bits)
{
    vnet->offload_bits = bits & offload_features;
    vnet->offloads = (struct net_offloads){
        .checksum = bits & UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM,
        .tso4 = bits & UINT64_C(1) << VIRTIO_NET_F_GUEST_TSO4,
        .tso6 = bits & UINT64_C(1) << VIRTIO_NET_F_GUEST_TSO6,
        .ecn = bits & UINT64_C(1) << VIRTIO_NET_F_GUEST_ECN,
    };
    net_set_offloads(vnet->net, &vnet->offloads);
}

void net_control_reset(struct virtio_net *vnet)
{
    memset(&vnet->filter, 0, sizeof(vnet->filter));
    /* Without the control queue there is no filter. */
    vnet->filter.promiscuous = true;
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

    if (size != 1 || command >= G_N_ELEMENTS(modes) || data[0] > 1)
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

static bool set_mac(struct virtio_net *vnet, unsigned command, const uint8_t *data, size_t size)
{
    struct net_filter filter = vnet->filter;

    if (command == VIRTIO_NET_CTRL_MAC_ADDR_SET) {
        if (size != 6 || (data[0] & 1))
            return false;
        memcpy(vnet->mac, data, 6);
        virtio_device_set_config(&vnet->vdev, 0, vnet->mac, 6, false);
        return true;
    }
    if (command != VIRTIO_NET_CTRL_MAC_TABLE_SET ||
        !read_table(&data, &size, filter.unicast, &filter.unicast_count,
                    &filter.unicast_overflow) ||
        !read_table(&data, &size, filter.multicast, &filter.multicast_count,
                    &filter.multicast_overflow) ||
        size)
        return false;
    vnet->filter = filter;
    return true;
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

    if (command != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || size != 2 ||
        !virtio_device_has(&vnet->vdev, VIRTIO_NET_F_MQ))
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
    if (bits & ~(vnet->vdev.negotiated & offload_features))
        return false;
    net_apply_offloads(vnet, bits);
    return true;
}

static const struct {
    uint8_t class;
    unsigned feature;
    bool (*run)(struct virtio_net *vnet, unsigned command, const uint8_t *data, size_t size);
} classes[] = {
    {VIRTIO_NET_CTRL_RX, VIRTIO_NET_F_CTRL_RX, set_receive_mode},
    {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_F_CTRL_MAC_ADDR, set_mac},
    {VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_F_CTRL_VLAN, set_vlan},
    {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_F_MQ, set_pairs},
    {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, set_guest_offloads},
};

static bool run_command(struct virtio_net *vnet, const uint8_t *bytes, size_t size)
{
    if (size < 2)
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(classes); i++)
        if (classes[i].class == bytes[0] && virtio_device_has(&vnet->vdev, classes[i].feature))
            return classes[i].run(vnet, bytes[1], bytes + 2, size - 2);
    return false;
}

void net_control_ready(struct virtio_net *vnet, struct virtq *vq)
{
    static const uint8_t empty[2];
    uint8_t bytes[COMMAND_BYTES];

    do {
        virtq_disable_notify(vq);
        while (virtq_pop(vq, vnet->control) == 1) {
            struct virtq_element *element = vnet->control;
            size_t size = 0;
            uint8_t ack;

            if (!element->in_bytes) {
                virtio_device_needs_reset(&vnet->vdev, "control command without room for its ack");
                return;
            }
            for (unsigned i = 0; i < element->out_count && size < sizeof(bytes); i++) {
                size_t part = MIN(virtq_out(element)[i].iov_len, sizeof(bytes) - size);

                memcpy(bytes + size, virtq_out(element)[i].iov_base, part);
                size += part;
            }
            ack = element->out_bytes <= sizeof(bytes) && run_command(vnet, bytes, size)
                      ? VIRTIO_NET_OK
                      : VIRTIO_NET_ERR;
            trace_virtio_net_control(vnet->vdev.device->name, size ? bytes[0] : empty[0],
                                     size > 1 ? bytes[1] : empty[1], size, ack);
            *(uint8_t *)virtq_in(element)[0].iov_base = ack;
            virtq_push(vq, element, 1);
            virtq_flush(vq);
        }
    } while (virtq_enable_notify(vq));
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
    STATE_END,
};
const struct state_table net_state = {"virtio-net", 1, 1, net_fields};
