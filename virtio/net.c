/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net - the virtio network device (virtio 1.3, 5.1; stock driver: virtio_net)
 *
 * Up to 64 queue pairs, all on the device's loop (net_queues.c); a control queue (net_control.c).
 *
 * Offloads: the backend either passes large and unchecked frames through (tap) or makes them ordinary
 * (backends/net/offload.c), so transmit offloads are always offered; of the receive offloads, segments
 * only with tap, and checksums also with a backend that answers for them (user).
 *
 * Saved state: the control queue's settings, frames that wait for buffers, and what the backend has.
 *
 * Limits: a frame of 64 KiB; one loop for all queues.
 */
#include "virtio/net.h"

#include <endian.h>
#include <errno.h>
#include <gio/gio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>

#include "virtio/net_private.h"
#include "vmm/state.h"

#define PCI_CLASS_NETWORK 0x020000u
#define CONFIG_SIZE       offsetof(struct virtio_net_config, speed)

const struct option_spec virtio_net_options[] = {
    NET_OPTIONS,
    {"mac", OPTION_MAC, .help = "the guest's address (default: a random one)"},
    {"offloads", OPTION_BOOL, .value = "on", .help = "offer checksum and segmentation offloads"},
    VIRTIO_DEVICE_OPTIONS,
    {},
};

static struct virtio_net *to_net(struct virtio_device *vdev)
{
    return (struct virtio_net *)vdev;
}

/* ---- link ---- */

static void set_status(struct virtio_net *vnet, uint16_t bits, bool set, bool notify)
{
    uint16_t before, status;

    memcpy(&before, vnet->vdev.config + offsetof(struct virtio_net_config, status), 2);
    status = set ? before | htole16(bits) : before & ~htole16(bits);
    if (status != before)
        virtio_device_set_config(&vnet->vdev, offsetof(struct virtio_net_config, status), &status,
                                 sizeof(status), notify);
}

void net_update_link(struct virtio_net *vnet)
{
    set_status(vnet, VIRTIO_NET_S_LINK_UP, vnet->link && vnet->net->link_up, true);
}

struct link_change {
    struct virtio_net *vnet;
    bool up;
};

static void change_link(void *opaque)
{
    struct link_change *change = opaque;

    change->vnet->link = change->up;
    net_update_link(change->vnet);
}

void virtio_net_set_link(struct virtio_device *vdev, bool up)
{
    struct link_change change = {to_net(vdev), up};

    loop_call(vdev->loop, change_link, &change);
}

/* The device's status asks until the driver acknowledges it (net_control.c). */
static void announce(void *opaque)
{
    struct virtio_net *vnet = opaque;

    if (!(vnet->vdev.status & VIRTIO_CONFIG_S_DRIVER_OK) || !vnet->link)
        return;
    if (virtio_device_has(&vnet->vdev, VIRTIO_NET_F_GUEST_ANNOUNCE))
        set_status(vnet, VIRTIO_NET_S_ANNOUNCE, true, true);
    else
        net_announce(vnet->net, vnet->mac);
}

void virtio_net_announce(struct virtio_device *vdev)
{
    loop_call(vdev->loop, announce, to_net(vdev));
}

void net_announced(struct virtio_net *vnet)
{
    set_status(vnet, VIRTIO_NET_S_ANNOUNCE, false, false);
}

struct net *virtio_net_backend(struct virtio_device *vdev)
{
    return to_net(vdev)->net;
}

/* ---- what the driver, or a loaded state, sets ---- */

int net_apply_offloads(struct virtio_net *vnet, uint64_t bits)
{
    struct net_offloads offloads = {
        .checksum = bits & NET_BIT(VIRTIO_NET_F_GUEST_CSUM),
        .tso4 = bits & NET_BIT(VIRTIO_NET_F_GUEST_TSO4),
        .tso6 = bits & NET_BIT(VIRTIO_NET_F_GUEST_TSO6),
        .ecn = bits & NET_BIT(VIRTIO_NET_F_GUEST_ECN),
    };
    int ret = net_set_offloads(vnet->net, &offloads);

    if (!ret)
        vnet->offload_bits = bits & NET_OFFLOAD_FEATURES;
    return ret;
}

/* The backend watches for frames, or not, on the pairs in use. */
static void set_active(struct virtio_net *vnet, bool on)
{
    for (unsigned i = 0; i < vnet->pairs; i++) {
        vnet->transmit_blocked[i] = false;
        net_set_active(vnet->net, i, vnet->vdev.loop, on && i < vnet->active_pairs);
    }
    vnet->readable = 0;
}

/* Tells the backend which pairs are used; -errno of the first that it could not take up. */
static int set_used(struct virtio_net *vnet, unsigned pairs)
{
    int first = 0;

    for (unsigned i = 0; i < vnet->pairs; i++) {
        int ret = net_set_used(vnet->net, i, i < pairs);

        first = first ? first : ret;
    }
    return first;
}

int net_use_pairs(struct virtio_net *vnet, unsigned pairs)
{
    unsigned before = vnet->active_pairs;
    int ret;

    set_active(vnet, false);
    ret = set_used(vnet, pairs);
    if (ret) {
        set_used(vnet, before);
    } else {
        vnet->active_pairs = pairs;
        for (unsigned i = pairs; i < vnet->pairs; i++) {
            net_unpost(vnet, i);
            vnet->receive[i].held_bytes = 0;
        }
    }
    set_active(vnet, true);
    /* Frames may have come meanwhile that nobody was told of; and who waited for the backend to
     * take more is not going to be told. */
    for (unsigned i = 0; i < 2 * vnet->active_pairs; i++)
        virtio_device_kick(&vnet->vdev, i);
    return ret;
}

/* ---- life ---- */

static int net_start(struct virtio_device *vdev)
{
    struct virtio_net *vnet = to_net(vdev);
    int ret;

    if (!vnet->loaded) {
        net_control_reset(vnet);
        vnet->active_pairs = 1;
        vnet->offload_bits = vdev->negotiated & NET_OFFLOAD_FEATURES;
    }
    vnet->loaded = false;
    net_update_link(vnet); /* what was loaded may have had another */
    ret = net_apply_offloads(vnet, vnet->offload_bits);
    if (!ret)
        ret = set_used(vnet, vnet->active_pairs);
    if (!ret)
        set_active(vnet, true);
    return ret;
}

/* Nothing is in flight but buffers popped ahead, and those go with the rings. */
static void net_stop(struct virtio_device *vdev)
{
    struct virtio_net *vnet = to_net(vdev);

    set_active(vnet, false);
    for (unsigned i = 0; i < vnet->pairs; i++)
        net_forget_posted(vnet, i);
    /* The next driver finds the card as it came; but a state that is being loaded says how it was. */
    if (device_state(vdev->device) != DEVICE_RESUMING) {
        for (unsigned i = 0; i < vnet->pairs; i++)
            vnet->receive[i].held_bytes = 0;
        memcpy(vnet->mac, vnet->own_mac, sizeof(vnet->mac));
        virtio_device_set_config(vdev, offsetof(struct virtio_net_config, mac), vnet->mac,
                                 sizeof(vnet->mac), false);
        set_status(vnet, VIRTIO_NET_S_ANNOUNCE, false, false);
    }
    virtio_device_stopped(vdev);
}

static void net_queue_stop(struct virtio_device *vdev, unsigned index)
{
    struct virtio_net *vnet = to_net(vdev);

    if (!(index & 1) && index / 2 < vnet->pairs)
        net_forget_posted(vnet, index / 2);
    virtio_device_queue_stopped(vdev, index);
}

static void net_queue_ready(struct virtio_device *vdev, unsigned index)
{
    struct virtio_net *vnet = to_net(vdev);

    if (virtio_device_has(vdev, VIRTIO_NET_F_CTRL_VQ) && index == net_control_index(vnet))
        net_control_ready(vnet, index);
    else if (index / 2 >= vnet->active_pairs)
        return;
    else if (index & 1)
        net_transmit(vnet, index / 2);
    else
        net_receive_frames(vnet, index / 2);
}

static void net_quiesce(struct virtio_device *vdev)
{
    struct virtio_net *vnet = to_net(vdev);

    set_active(vnet, false);
    for (unsigned i = 0; i < vnet->pairs; i++)
        net_unpost(vnet, i);
}

static void net_resume(struct virtio_device *vdev)
{
    set_active(to_net(vdev), true);
}

static void close_backend(void *opaque)
{
    net_close(opaque);
}

static void net_destroy(struct virtio_device *vdev)
{
    struct virtio_net *vnet = to_net(vdev);

    loop_call(vdev->loop, close_backend, vnet->net);
    virtio_device_finish(vdev);
    for (unsigned i = 0; i < vnet->pairs; i++) {
        g_free(vnet->receive[i].pieces);
        g_free(vnet->receive[i].held);
    }
    g_free(vnet->receive);
    g_free(vnet->transmit_blocked);
    g_free(vnet->out);
    g_free(vnet->in);
    g_byte_array_unref(vnet->frames);
    g_byte_array_unref(vnet->backend);
    g_free(vnet);
}

/* ---- saved state ---- */

static void net_before_save(struct virtio_device *vdev)
{
    struct virtio_net *vnet = to_net(vdev);

    g_byte_array_set_size(vnet->frames, 0);
    g_byte_array_set_size(vnet->backend, 0);
    net_save_frames(vnet, vnet->frames);
    net_save(vnet->net, vnet->backend);
}

static bool check_loaded(const struct virtio_net *vnet, GError **error)
{
    const struct virtio_device *vdev = &vnet->vdev;
    unsigned most = virtio_device_has(vdev, VIRTIO_NET_F_MQ) ? vnet->pairs : 1;

    if (vnet->active_pairs <= most && vnet->filter.unicast_count <= NET_MAX_MACS &&
        vnet->filter.multicast_count <= NET_MAX_MACS &&
        !(vnet->offload_bits & ~(vdev->negotiated & NET_OFFLOAD_FEATURES)))
        return true;
    g_set_error(
        error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
        "virtio-net: %u active pairs (of %u), %u and %u filtered addresses (of %u), offloads "
        "0x%" G_GINT64_MODIFIER "x: more than was negotiated",
        vnet->active_pairs, most, vnet->filter.unicast_count, vnet->filter.multicast_count,
        NET_MAX_MACS, vnet->offload_bits);
    return false;
}

static bool net_after_load(struct virtio_device *vdev, GError **error)
{
    struct virtio_net *vnet = to_net(vdev);

    if (!check_loaded(vnet, error) ||
        !net_load(vnet->net, vnet->backend->data, vnet->backend->len, error))
        return false;
    if (!net_load_frames(vnet, vnet->frames->data, vnet->frames->len)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "virtio-net: the frames that waited for buffers are damaged");
        return false;
    }
    vnet->loaded = vdev->status & VIRTIO_CONFIG_S_DRIVER_OK;
    return true;
}

/* ---- creation ---- */

static const struct virtio_class net_class = {
    .type = "virtio-net",
    .id = VIRTIO_ID_NET,
    .pci_class = PCI_CLASS_NETWORK,
    .features = NET_BIT(VIRTIO_NET_F_MAC) | NET_BIT(VIRTIO_NET_F_STATUS) |
                NET_BIT(VIRTIO_NET_F_MTU) | NET_BIT(VIRTIO_NET_F_MRG_RXBUF) |
                NET_BIT(VIRTIO_NET_F_CSUM) | NET_BIT(VIRTIO_NET_F_HOST_TSO4) |
                NET_BIT(VIRTIO_NET_F_HOST_TSO6) | NET_BIT(VIRTIO_NET_F_HOST_ECN) |
                NET_OFFLOAD_FEATURES | NET_BIT(VIRTIO_NET_F_CTRL_VQ) |
                NET_BIT(VIRTIO_NET_F_CTRL_RX) | NET_BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) |
                NET_BIT(VIRTIO_NET_F_CTRL_VLAN) | NET_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
                NET_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | NET_BIT(VIRTIO_NET_F_MQ) |
                NET_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE),
    .config_size = CONFIG_SIZE,
    .start = net_start,
    .stop = net_stop,
    .queue_ready = net_queue_ready,
    .queue_stop = net_queue_stop,
    .quiesce = net_quiesce,
    .resume = net_resume,
    .before_save = net_before_save,
    .state_table = &net_state,
    .after_load = net_after_load,
    .destroy = net_destroy,
};

static void choose_features(struct virtio_net *vnet, const struct options *options)
{
    uint64_t *offered = &vnet->vdev.offered;
    uint64_t send = NET_BIT(VIRTIO_NET_F_CSUM) | NET_BIT(VIRTIO_NET_F_HOST_TSO4) |
                    NET_BIT(VIRTIO_NET_F_HOST_TSO6) | NET_BIT(VIRTIO_NET_F_HOST_ECN);
    uint64_t receive = NET_OFFLOAD_FEATURES;

    if (!options_bool(options, "offloads")) {
        *offered &= ~(send | receive);
    } else if (!vnet->net->host_offloads) {
        receive &= ~(vnet->net->checked ? NET_BIT(VIRTIO_NET_F_GUEST_CSUM) : 0);
        *offered &= ~receive;
    }
    if (!(*offered & NET_OFFLOAD_FEATURES))
        *offered &= ~NET_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
    if (vnet->pairs == 1)
        *offered &= ~NET_BIT(VIRTIO_NET_F_MQ);
    if (!vnet->net->mtu)
        *offered &= ~NET_BIT(VIRTIO_NET_F_MTU);
}

static void fill_config(struct virtio_net *vnet)
{
    struct virtio_net_config config = {
        .status = htole16(vnet->net->link_up ? VIRTIO_NET_S_LINK_UP : 0),
        .max_virtqueue_pairs = htole16(vnet->pairs),
        .mtu = htole16(vnet->net->mtu),
    };

    memcpy(config.mac, vnet->mac, sizeof(config.mac));
    virtio_device_set_config(&vnet->vdev, 0, &config, CONFIG_SIZE, false);
}

/* Locally administered, unicast. */
static void random_mac(uint8_t mac[6])
{
    if (getrandom(mac, 6, 0) != 6)
        memcpy(mac, "\x52\x54\x00\x12\x34\x56", 6);
    mac[0] = (mac[0] & 0xfc) | 0x02;
}

struct virtio_device *virtio_net_create(const struct options *options, struct loop *loop,
                                        GError **error)
{
    struct virtio_ring_options ring;
    struct virtio_net *vnet;
    uint16_t queue_size;
    struct net *net;
    int ret;

    if (!virtio_ring_options_read(options, &ring, &queue_size, error))
        return NULL;
    net = net_open(options, loop, error);
    if (!net)
        return NULL;
    vnet = g_new0(struct virtio_net, 1);
    vnet->net = net;
    vnet->pairs = net->queues;
    vnet->link = true;
    ret = virtio_device_init(&vnet->vdev, &net_class, 2 * vnet->pairs + 1, queue_size, loop);
    if (ret) {
        options_set_error(error, options, "queues", "%s (raise ulimit -n, or use fewer)",
                          g_strerror(-ret));
        net_close(net);
        g_free(vnet);
        return NULL;
    }
    virtio_device_set_ring_options(&vnet->vdev, &ring);
    if (!options_mac(options, "mac", vnet->own_mac))
        random_mac(vnet->own_mac);
    memcpy(vnet->mac, vnet->own_mac, sizeof(vnet->mac));
    vnet->receive = g_new0(struct net_receive_queue, vnet->pairs);
    vnet->transmit_blocked = g_new0(bool, vnet->pairs);
    vnet->out = virtq_element_create(NET_PIECES);
    vnet->in = virtq_element_create(NET_PIECES);
    vnet->frames = g_byte_array_new();
    vnet->backend = g_byte_array_new();
    net_control_reset(vnet);
    choose_features(vnet, options);
    fill_config(vnet);
    net_set_client(net, &net_backend_client, vnet);
    return &vnet->vdev;
}
