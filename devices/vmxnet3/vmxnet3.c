/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmxnet3 - the device as a whole: creation, its loop, lifecycle, link (contract: vmxnet3.h)
 *
 * PCI 15ad:07b0 with two 4 KiB memory BARs (registers.c) and MSI-X in BAR 2, 25 vectors; the interrupt
 * pin serves drivers without MSI-X. Revisions 1 to 3 of the interface (interface.h): up to 8 transmit
 * and 8 receive queues, checksums, segmentation (TSO) and its counterpart (LRO), VLAN tags inserted,
 * stripped and filtered, a multicast filter, RSS, the small-packet data rings, MTUs up to 9000.
 *
 * All queues are served by one loop, on any backend of backends/net. A backend with several queues
 * (tap) is used with as many as the driver has transmit queues; whatever a frame's backend queue, RSS
 * says which receive queue it is for.
 *
 * The driver is told nothing of the host's MTU: the interface has no word for that.
 *
 * Threads: registers and commands on vCPU threads, everything else on the loop; one lock between them,
 * which the loop holds for a batch and a vCPU for a command (private.h). Backends are called with it
 * held; what they call back meanwhile is noted and looked at after the batch.
 *
 * Not there: wake-up patterns, interrupt moderation (accepted, without effect), UDP tunnels and
 * everything of revisions 4 and up.
 */
#include "devices/vmxnet3/vmxnet3.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "devices/vmxnet3/private.h"
#include "vmm/fd.h"
#include "vmm/trace.h"

TRACE_EVENT(vmxnet3_backend, "%s on=%d queues=%u", (const char *device, bool on, unsigned queues),
            device, on, queues)

#define BAR_SIZE       4096u
#define MSIX_BAR       2u
#define MSIX_PBA       2048u
#define HEADERS_BUFFER (NET_HEADER_SIZE + VMXNET3_TXD_HEADERS + 64)

const struct option_spec vmxnet3_options[] = {
    NET_OPTIONS,
    {"mac", OPTION_MAC, .help = "the guest's address (default: a random one)"},
    {},
};

/* ---- locks and wake-ups ---- */

void vmxnet3_lock(struct vmxnet3 *v)
{
    __atomic_fetch_add(&v->impatient, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&v->lock);
    __atomic_fetch_sub(&v->impatient, 1, __ATOMIC_RELAXED);
}

bool vmxnet3_can_run(const struct vmxnet3 *v)
{
    return v->active && !v->paused && v->backend_on && v->backend_generation == v->generation &&
           device_is_running(&v->function.device) &&
           !dma_allowed(&v->function.dma, DMA_FROM_DEVICE);
}

void vmxnet3_apply_later(struct vmxnet3 *v)
{
    uint64_t one = 1;

    if (write(v->work, &one, sizeof(one)) < 0)
        log_debug(vmxnet3_name(v), "work: %s", g_strerror(errno));
}

/* ---- the backend follows the driver ---- */

static void turn_off(struct vmxnet3 *v)
{
    if (!v->backend_on)
        return;
    v->backend_on = false;
    for (unsigned i = 0; i < v->backend_queues; i++)
        net_set_active(v->net, i, v->loop, false);
    v->readable = 0;
    loop_timer_cancel(v->tx_timer);
    loop_timer_cancel(v->rx_timer);
    trace_vmxnet3_backend(vmxnet3_name(v), false, v->backend_queues);
}

static void set_offloads(struct vmxnet3 *v, uint32_t features, uint32_t revision)
{
    bool checksum = features & VMXNET3_F_RX_CHECKSUM;
    bool lro = checksum && features & VMXNET3_F_LRO && revision > 1;
    struct net_offloads offloads = {.checksum = checksum, .tso4 = lro, .tso6 = lro};
    int ret = net_set_offloads(v->net, &offloads);

    if (ret)
        log_warn(vmxnet3_name(v), "the host's interface does not take the offloads: %s",
                 g_strerror(-ret));
}

static void turn_on(struct vmxnet3 *v, const struct vmxnet3_setup *setup)
{
    v->backend_queues = MIN(v->net->queues, setup->tx_count);
    for (unsigned i = 0; i < v->net->queues; i++)
        net_set_used(v->net, i, i < v->backend_queues);
    for (unsigned i = 0; i < VMXNET3_MAX_QUEUES; i++)
        v->tx[i].blocked = v->tx[i].discards = false;
    for (unsigned i = 0; i < v->backend_queues; i++)
        net_set_active(v->net, i, v->loop, true);
    v->backend_on = true;
    trace_vmxnet3_backend(vmxnet3_name(v), true, v->backend_queues);
}

static void update_backend(struct vmxnet3 *v)
{
    struct vmxnet3_setup *setup = NULL;
    uint32_t generation, revision;
    bool wanted;

    pthread_mutex_lock(&v->lock);
    wanted = v->active && !v->paused;
    generation = v->generation;
    revision = v->revision;
    if (wanted)
        setup = g_memdup2(&v->setup, sizeof(v->setup));
    pthread_mutex_unlock(&v->lock);
    if (!wanted || generation != v->backend_generation)
        turn_off(v);
    if (wanted && !v->backend_on) {
        set_offloads(v, setup->features, revision);
        turn_on(v, setup);
        v->backend_generation = generation;
    }
    g_free(setup);
}

static void update_link(struct vmxnet3 *v)
{
    bool link = vmxnet3_link_now(v);

    pthread_mutex_lock(&v->lock);
    if (vmxnet3_can_run(v) && v->link_told != link) {
        v->link_told = link;
        vmxnet3_event(v, VMXNET3_EVENT_LINK);
    }
    pthread_mutex_unlock(&v->lock);
}

static void tell_listener(struct vmxnet3 *v)
{
    uint8_t mac[6];
    bool link = vmxnet3_link_up(v), active = vmxnet3_active(v);
    unsigned mtu = vmxnet3_mtu(v);

    vmxnet3_mac(v, mac);
    if (link == v->told.link && active == v->told.active && mtu == v->told.mtu &&
        !memcmp(mac, v->told.mac, sizeof(mac)))
        return;
    v->told.link = link;
    v->told.active = active;
    v->told.mtu = mtu;
    memcpy(v->told.mac, mac, sizeof(mac));
    if (v->changed)
        v->changed(v->changed_opaque);
}

/* Everything that changed, and then a look at every queue. */
static void apply(void *opaque)
{
    struct vmxnet3 *v = opaque;

    update_backend(v);
    update_link(v);
    tell_listener(v);
    for (unsigned i = 0; v->backend_on && i < VMXNET3_MAX_QUEUES; i++)
        vmxnet3_transmit(v, i);
    for (unsigned i = 0; v->backend_on && i < v->backend_queues; i++)
        vmxnet3_receive(v, i);
}

static void on_tx_doorbell(void *opaque)
{
    struct vmxnet3_tx_queue *queue = opaque;

    vmxnet3_transmit(queue->owner, queue - queue->owner->tx);
}

static void on_rx_doorbell(void *opaque)
{
    vmxnet3_receive_waiting(opaque);
}

/* ---- questions ---- */

void vmxnet3_mac(struct vmxnet3 *v, uint8_t mac[6])
{
    vmxnet3_lock(v);
    memcpy(mac, v->mac, sizeof(v->mac));
    pthread_mutex_unlock(&v->lock);
}

bool vmxnet3_link_up(struct vmxnet3 *v)
{
    return vmxnet3_link_now(v);
}

bool vmxnet3_active(struct vmxnet3 *v)
{
    bool active;

    vmxnet3_lock(v);
    active = v->active;
    pthread_mutex_unlock(&v->lock);
    return active;
}

unsigned vmxnet3_mtu(struct vmxnet3 *v)
{
    unsigned mtu;

    vmxnet3_lock(v);
    mtu = v->setup.mtu ? v->setup.mtu : VMXNET3_MTU;
    pthread_mutex_unlock(&v->lock);
    return mtu;
}

struct pci_function *vmxnet3_function(struct vmxnet3 *v)
{
    return &v->function;
}

struct net *vmxnet3_backend(struct vmxnet3 *v)
{
    return v->net;
}

void vmxnet3_set_link(struct vmxnet3 *v, bool up)
{
    __atomic_store_n(&v->link, up, __ATOMIC_RELAXED);
    vmxnet3_apply_later(v);
}

static void announce_on_loop(void *opaque)
{
    struct vmxnet3 *v = opaque;
    uint8_t mac[6];

    vmxnet3_mac(v, mac);
    if (vmxnet3_active(v) && vmxnet3_link_now(v))
        net_announce(v->net, mac);
}

void vmxnet3_announce(struct vmxnet3 *v)
{
    loop_call(v->loop, announce_on_loop, v);
}

struct listening {
    struct vmxnet3 *v;
    vmxnet3_listener_fn changed;
    void *opaque;
};

static void listen_on_loop(void *opaque)
{
    struct listening *listening = opaque;

    listening->v->changed = listening->changed;
    listening->v->changed_opaque = listening->opaque;
}

void vmxnet3_set_listener(struct vmxnet3 *v, vmxnet3_listener_fn changed, void *opaque)
{
    struct listening listening = {v, changed, opaque};

    loop_call(v->loop, listen_on_loop, &listening);
}

/* ---- lifecycle ---- */

static void pause_on_loop(void *opaque)
{
    struct vmxnet3 *v = opaque;

    pthread_mutex_lock(&v->lock);
    v->paused = true;
    pthread_mutex_unlock(&v->lock);
    turn_off(v);
}

/* Nothing is in flight outside of a batch: a frame is sent, or waits in its ring. */
static void quiesce(struct device *device)
{
    struct vmxnet3 *v = (struct vmxnet3 *)device;

    loop_call(v->loop, pause_on_loop, v);
}

static void resume_on_loop(void *opaque)
{
    struct vmxnet3 *v = opaque;

    pthread_mutex_lock(&v->lock);
    v->paused = false;
    vmxnet3_do_later(v);
    pthread_mutex_unlock(&v->lock);
    apply(v);
}

static void resume(struct device *device)
{
    struct vmxnet3 *v = (struct vmxnet3 *)device;

    loop_call(v->loop, resume_on_loop, v);
}

static void reset_on_loop(void *opaque)
{
    struct vmxnet3 *v = opaque;

    pthread_mutex_lock(&v->lock);
    vmxnet3_deactivate(v);
    vmxnet3_reset_registers(v);
    v->paused = false;
    pthread_mutex_unlock(&v->lock);
    apply(v);
}

static void reset(struct device *device)
{
    struct vmxnet3 *v = (struct vmxnet3 *)device;

    loop_call(v->loop, reset_on_loop, v);
    pci_function_reset(&v->function, true);
}

static const struct device_ops device_ops = {
    .quiesce = quiesce,
    .resume = resume,
    .reset = reset,
    .before_save = vmxnet3_before_save,
    .after_load = vmxnet3_after_load,
};

/* ---- creation ---- */

static const struct pci_identity identity = {
    .vendor_id = VMXNET3_VENDOR_ID,
    .device_id = VMXNET3_DEVICE_ID,
    .subsystem_vendor_id = VMXNET3_VENDOR_ID,
    .subsystem_id = VMXNET3_DEVICE_ID,
    .revision = 1,
    .class_code = 0x020000,
};

static int create_doorbells(struct vmxnet3 *v)
{
    v->work = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    v->rx_doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (v->work < 0 || v->rx_doorbell < 0)
        return -errno;
    for (unsigned i = 0; i < VMXNET3_MAX_QUEUES; i++) {
        v->tx[i].owner = v;
        v->tx[i].doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (v->tx[i].doorbell < 0)
            return -errno;
    }
    v->work_watch = loop_eventfd_create(v->loop, v->work, apply, v);
    v->rx_watch = loop_eventfd_create(v->loop, v->rx_doorbell, on_rx_doorbell, v);
    for (unsigned i = 0; i < VMXNET3_MAX_QUEUES; i++)
        v->tx[i].watch = loop_eventfd_create(v->loop, v->tx[i].doorbell, on_tx_doorbell, &v->tx[i]);
    return 0;
}

static int add_doorbells(struct vmxnet3 *v)
{
    struct pci_function *function = &v->function;
    int ret = 0;

    for (unsigned i = 0; i < VMXNET3_MAX_QUEUES && !ret; i++) {
        ret = pci_function_add_doorbell(function, 0, VMXNET3_TXPROD + 8 * i, 4, false, 0,
                                        v->tx[i].doorbell);
        if (!ret)
            ret = pci_function_add_doorbell(function, 0, VMXNET3_RXPROD + 8 * i, 4, false, 0,
                                            v->rx_doorbell);
        if (!ret)
            ret = pci_function_add_doorbell(function, 0, VMXNET3_RXPROD2 + 8 * i, 4, false, 0,
                                            v->rx_doorbell);
    }
    return ret;
}

/* Locally administered, unicast. */
static void random_mac(uint8_t mac[6])
{
    if (getrandom(mac, 6, 0) != 6)
        memcpy(mac, "\x52\x54\x00\x12\x34\x56", 6);
    mac[0] = (mac[0] & 0xfc) | 0x02;
}

static struct vmxnet3 *allocate(struct net *net, const struct options *options, struct loop *loop)
{
    struct vmxnet3 *v = g_new0(struct vmxnet3, 1);

    v->net = net;
    v->loop = loop;
    v->link = true;
    pthread_mutex_init(&v->lock, NULL);
    pthread_mutex_init(&v->interrupt_lock, NULL);
    v->work = v->rx_doorbell = -1;
    for (unsigned i = 0; i < VMXNET3_MAX_QUEUES; i++)
        v->tx[i].doorbell = -1;
    v->tx_timer = loop_timer_create(loop, vmxnet3_discard_blocked, v);
    v->rx_timer = loop_timer_create(loop, vmxnet3_receive_later, v);
    v->rx_patience = VMXNET3_LOOK_SOON;
    v->headers = g_malloc0(HEADERS_BUFFER);
    v->saved_frames = g_byte_array_new();
    v->saved_backend = g_byte_array_new();
    if (!options_mac(options, "mac", v->own_mac))
        random_mac(v->own_mac);
    v->masked = UINT32_MAX;
    vmxnet3_reset_registers(v);
    return v;
}

struct vmxnet3 *vmxnet3_create(const char *name, const struct options *options,
                               const struct pci_environment *env, struct loop *loop, GError **error)
{
    struct net *net = net_open(options, loop, error);
    struct vmxnet3 *v;
    int ret;

    if (!net)
        return NULL;
    v = allocate(net, options, loop);
    pci_function_init(&v->function, name, "vmxnet3", &device_ops, &vmxnet3_function_ops, &identity,
                      env);
    v->function.device.state_table = &vmxnet3_state;
    v->function.device.state_base = v;
    pci_function_add_bar(&v->function, 0, BAR_SIZE, 0);
    pci_function_add_bar(&v->function, 1, BAR_SIZE, 0);
    pci_function_add_bar(&v->function, MSIX_BAR, BAR_SIZE, 0);
    pci_function_add_intx(&v->function, 1);
    ret = pci_function_add_msix(&v->function, VMXNET3_VECTORS, MSIX_BAR, 0, MSIX_PBA);
    if (!ret)
        ret = create_doorbells(v);
    if (!ret)
        ret = add_doorbells(v);
    if (ret) {
        options_set_error(error, options, NULL, "%s (raise ulimit -n)", g_strerror(-ret));
        vmxnet3_destroy(v);
        return NULL;
    }
    vmxnet3_mac(v, v->told.mac);
    v->told.link = vmxnet3_link_now(v);
    v->told.mtu = VMXNET3_MTU;
    net_set_client(net, &vmxnet3_client, v);
    return v;
}

static void close_on_loop(void *opaque)
{
    struct vmxnet3 *v = opaque;

    turn_off(v);
    loop_timer_destroy(v->tx_timer);
    loop_timer_destroy(v->rx_timer);
    loop_fd_destroy(v->work_watch);
    loop_fd_destroy(v->rx_watch);
    for (unsigned i = 0; i < VMXNET3_MAX_QUEUES; i++)
        loop_fd_destroy(v->tx[i].watch);
    net_close(v->net);
}

void vmxnet3_destroy(struct vmxnet3 *v)
{
    if (!v)
        return;
    loop_call(v->loop, close_on_loop, v);
    pci_function_finish(&v->function);
    close_fd(v->work);
    close_fd(v->rx_doorbell);
    for (unsigned i = 0; i < VMXNET3_MAX_QUEUES; i++)
        close_fd(v->tx[i].doorbell);
    for (unsigned i = 0; i < NET_MAX_QUEUES; i++)
        g_free(v->received[i].bytes);
    g_free(v->headers);
    g_byte_array_unref(v->saved_frames);
    g_byte_array_unref(v->saved_backend);
    pthread_mutex_destroy(&v->interrupt_lock);
    pthread_mutex_destroy(&v->lock);
    g_free(v);
}
