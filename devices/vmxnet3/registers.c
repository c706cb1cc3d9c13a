/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registers - BARs 0 and 1 of vmxnet3: commands, interrupts, events
 *
 * A command is carried out before its register write returns, so that a driver that quiesced the
 * device may free its rings: a vCPU takes the lock for that, and the loop hands it over after the
 * frame at hand. While the lifecycle forbids DMA, commands that need it wait for the end of the pause.
 *
 * Threads: vCPU threads.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <unistd.h>

#include "devices/vmxnet3/private.h"
#include "vmm/trace.h"

TRACE_EVENT(vmxnet3_command, "%s command=0x%08x result=0x%x",
            (const char *device, unsigned command, unsigned result), device, command, result)
TRACE_EVENT(vmxnet3_mask, "%s vector=%u masked=%d",
            (const char *device, unsigned vector, bool masked), device, vector, masked)
TRACE_EVENT(vmxnet3_interrupt, "%s vector=%u fired=%d",
            (const char *device, unsigned vector, bool fired), device, vector, fired)
TRACE_EVENT(vmxnet3_event, "%s events=0x%x", (const char *device, unsigned events), device, events)

#define REGISTER_SPACING 8u
#define QUEUE_SPACE      0x200u

/* ---- interrupts ---- */

/*
 * With the interrupt lock. Masks alone decide; the switch for all interrupts in shared memory
 * (VMXNET3_INTERRUPTS_OFF) is not looked at: drivers mask every vector as well, and Linux's turns the
 * switch on again after it has unmasked, without a word to us. An event between the two (the link's,
 * often: activation connects the backend) would wait for the next one.
 */
static void fire_or_keep(struct vmxnet3 *v, unsigned vector)
{
    uint32_t bit = 1u << vector;
    bool fired = !(v->masked & bit);

    trace_vmxnet3_interrupt(vmxnet3_name(v), vector, fired);
    if (!fired) {
        v->pending |= bit;
        return;
    }
    v->pending &= ~bit;
    if (v->setup.auto_mask)
        v->masked |= bit;
    if (pci_function_msix_enabled(&v->function)) {
        pci_function_fire(&v->function, vector);
    } else {
        v->icr = true;
        pci_function_set_intx(&v->function, true);
    }
}

void vmxnet3_interrupt(struct vmxnet3 *v, unsigned vector)
{
    pthread_mutex_lock(&v->interrupt_lock);
    fire_or_keep(v, vector);
    pthread_mutex_unlock(&v->interrupt_lock);
}

void vmxnet3_fire(struct vmxnet3 *v)
{
    for (; v->fire; v->fire &= v->fire - 1)
        vmxnet3_interrupt(v, __builtin_ctz(v->fire));
}

/* Unmasking says that the driver has looked at its rings, and has refilled them: frames that wait
 * for buffers may find some. */
static void set_masked(struct vmxnet3 *v, unsigned vector, bool masked)
{
    uint64_t one = 1;

    trace_vmxnet3_mask(vmxnet3_name(v), vector, masked);
    pthread_mutex_lock(&v->interrupt_lock);
    if (masked) {
        v->masked |= 1u << vector;
    } else {
        v->masked &= ~(1u << vector);
        if (v->pending & 1u << vector)
            fire_or_keep(v, vector);
    }
    pthread_mutex_unlock(&v->interrupt_lock);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!masked && __atomic_load_n(&v->rx_waiting, __ATOMIC_RELAXED) &&
        write(v->rx_doorbell, &one, sizeof(one)) < 0)
        log_debug(vmxnet3_name(v), "doorbell: %s", g_strerror(errno));
}

void vmxnet3_event(struct vmxnet3 *v, uint32_t events)
{
    v->events |= events;
    trace_vmxnet3_event(vmxnet3_name(v), v->events);
    dma_store32(&v->function.dma, v->setup.shared + offsetof(struct vmxnet3_shared, events),
                v->events);
    vmxnet3_interrupt(v, v->setup.event_vector);
}

static void acknowledge_events(struct vmxnet3 *v, uint32_t events)
{
    vmxnet3_lock(v);
    v->events &= ~events;
    if (v->active && !dma_allowed(&v->function.dma, DMA_FROM_DEVICE))
        dma_store32(&v->function.dma, v->setup.shared + offsetof(struct vmxnet3_shared, events),
                    v->events);
    pthread_mutex_unlock(&v->lock);
}

/* ---- commands ---- */

static void update(struct vmxnet3 *v, uint32_t command)
{
    int ret = 0;

    switch (command) {
    case VMXNET3_UPDATE_RX_MODE:
        ret = vmxnet3_read_rx_mode(v);
        break;
    case VMXNET3_UPDATE_MAC_FILTERS:
        ret = vmxnet3_read_multicasts(v);
        break;
    case VMXNET3_UPDATE_VLAN_FILTERS:
        ret = vmxnet3_read_vlans(v);
        break;
    case VMXNET3_UPDATE_RSS:
        ret = vmxnet3_read_rss(v);
        break;
    case VMXNET3_UPDATE_FEATURES:
        ret = vmxnet3_read_features(v);
        v->generation++;
        break;
    }
    if (ret) {
        vmxnet3_guest_error(v, "command 0x%08x: %s", command, g_strerror(-ret));
        v->result = 1;
    }
}

/* Interrupts are not held back to have fewer of them: no scheme but that. */
static void get_coalesce(struct vmxnet3 *v)
{
    struct vmxnet3_coalesce none = {0};
    struct vmxnet3_block block;
    struct dma *dma = &v->function.dma;

    if (dma_read(dma, v->setup.shared + offsetof(struct vmxnet3_shared, command), &block,
                 sizeof(block)) ||
        block.size < sizeof(none) || dma_write(dma, block.address, &none, sizeof(none)))
        v->result = 1;
}

static bool needs_dma(uint32_t command)
{
    return command != VMXNET3_QUIESCE && command != VMXNET3_RESET &&
           (command < VMXNET3_FIRST_GET || command == VMXNET3_GET_QUEUE_STATUS ||
            command == VMXNET3_GET_STATS || command == VMXNET3_GET_COALESCE);
}

static uint32_t mac_half(const uint8_t mac[6], bool high)
{
    if (high)
        return mac[4] | mac[5] << 8;
    return mac[0] | mac[1] << 8 | mac[2] << 16 | (uint32_t)mac[3] << 24;
}

static void get(struct vmxnet3 *v, uint32_t command)
{
    switch (command) {
    case VMXNET3_GET_QUEUE_STATUS:
    case VMXNET3_GET_STATS:
        if (v->active)
            vmxnet3_write_status(v, command == VMXNET3_GET_STATS);
        break;
    case VMXNET3_GET_LINK:
        v->result = vmxnet3_link_now(v) ? VMXNET3_LINK_SPEED << 16 | 1 : 0;
        v->link_told = v->result;
        break;
    case VMXNET3_GET_MAC_LOW:
    case VMXNET3_GET_MAC_HIGH:
        v->result = mac_half(v->own_mac, command == VMXNET3_GET_MAC_HIGH);
        break;
    case VMXNET3_GET_INTERRUPTS:
        v->result = VMXNET3_INTERRUPTS_MSIX | VMXNET3_MASK_AUTO << 2;
        break;
    case VMXNET3_GET_TX_DATA_SIZE:
        v->result = VMXNET3_TX_DATA;
        break;
    case VMXNET3_GET_COALESCE:
        if (v->active)
            get_coalesce(v);
        break;
    }
}

/* With the lock. */
static void carry_out(struct vmxnet3 *v, uint32_t command)
{
    v->result = 0;
    if (command >= VMXNET3_FIRST_GET)
        get(v, command);
    else if (command == VMXNET3_ACTIVATE)
        v->result = vmxnet3_activate(v) ? 1 : 0;
    else if (command == VMXNET3_QUIESCE || command == VMXNET3_RESET)
        vmxnet3_deactivate(v);
    else if (v->active)
        update(v, command);
    if (command == VMXNET3_RESET)
        for (unsigned i = 0; i < VMXNET3_MAX_QUEUES; i++) {
            memset(v->tx[i].counters, 0, sizeof(v->tx[i].counters));
            memset(v->rx[i].counters, 0, sizeof(v->rx[i].counters));
        }
    trace_vmxnet3_command(vmxnet3_name(v), command, v->result);
}

void vmxnet3_do_later(struct vmxnet3 *v)
{
    for (unsigned i = 0; i < v->later_count; i++)
        carry_out(v, v->later[i]);
    v->later_count = 0;
}

static void write_command(struct vmxnet3 *v, uint32_t command)
{
    vmxnet3_lock(v);
    if (command == VMXNET3_QUIESCE || command == VMXNET3_RESET)
        v->later_count = 0;
    if (!needs_dma(command) || dma_allowed(&v->function.dma, DMA_FROM_DEVICE) != -EAGAIN) {
        carry_out(v, command);
    } else if (v->later_count < VMXNET3_LATER) {
        v->later[v->later_count++] = command;
        v->result = 0;
    } else {
        v->result = 1;
    }
    pthread_mutex_unlock(&v->lock);
    if (command < VMXNET3_FIRST_GET)
        vmxnet3_apply_later(v);
}

static uint32_t read_result(struct vmxnet3 *v)
{
    uint32_t result;

    vmxnet3_lock(v);
    result = v->result;
    pthread_mutex_unlock(&v->lock);
    return result;
}

/* ---- BAR 1 ---- */

static uint32_t read_mac(struct vmxnet3 *v, bool high)
{
    uint8_t mac[6];

    vmxnet3_mac(v, mac);
    return mac_half(mac, high);
}

static void write_mac(struct vmxnet3 *v, bool high, uint32_t value)
{
    vmxnet3_lock(v);
    for (unsigned i = 0; i < (high ? 2 : 4); i++)
        v->mac[i + (high ? 4 : 0)] = value >> (8 * i);
    pthread_mutex_unlock(&v->lock);
    if (high)
        vmxnet3_apply_later(v);
}

static uint32_t read_icr(struct vmxnet3 *v)
{
    bool was;

    pthread_mutex_lock(&v->interrupt_lock);
    was = v->icr;
    /* A stopped device is only looked at. */
    if (device_rule(device_state(&v->function.device), DEVICE_OP_REGISTER_WRITE) == DEVICE_ALLOW) {
        v->icr = false;
        pci_function_set_intx(&v->function, false);
    }
    pthread_mutex_unlock(&v->interrupt_lock);
    return was;
}

static uint32_t read_register(struct vmxnet3 *v, uint64_t offset)
{
    switch (offset) {
    case VMXNET3_VRRS:
        return VMXNET3_REVISIONS;
    case VMXNET3_UVRS:
        return 1;
    case VMXNET3_DSAL:
        return v->shared_register;
    case VMXNET3_DSAH:
        return v->shared_register >> 32;
    case VMXNET3_CMD:
        return read_result(v);
    case VMXNET3_MACL:
    case VMXNET3_MACH:
        return read_mac(v, offset == VMXNET3_MACH);
    case VMXNET3_ICR:
        return read_icr(v);
    case VMXNET3_ECR:
        return __atomic_load_n(&v->events, __ATOMIC_RELAXED);
    default:
        return 0;
    }
}

static void write_shared(struct vmxnet3 *v, bool high, uint32_t value)
{
    vmxnet3_lock(v);
    v->shared_register = high ? (v->shared_register & UINT32_MAX) | (uint64_t)value << 32
                              : (v->shared_register & ~(uint64_t)UINT32_MAX) | value;
    pthread_mutex_unlock(&v->lock);
}

static void write_register(struct vmxnet3 *v, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case VMXNET3_VRRS:
        value &= VMXNET3_REVISIONS;
        vmxnet3_lock(v);
        v->revision = value ? 32 - __builtin_clz(value) : 1;
        pthread_mutex_unlock(&v->lock);
        break;
    case VMXNET3_DSAL:
    case VMXNET3_DSAH:
        write_shared(v, offset == VMXNET3_DSAH, value);
        break;
    case VMXNET3_CMD:
        write_command(v, value);
        break;
    case VMXNET3_MACL:
    case VMXNET3_MACH:
        write_mac(v, offset == VMXNET3_MACH, value);
        break;
    case VMXNET3_ECR:
        acknowledge_events(v, value);
        break;
    }
}

/* ---- both BARs ---- */

static uint64_t region_read(struct pci_function *function, unsigned region, uint64_t offset,
                            unsigned size)
{
    struct vmxnet3 *v = (struct vmxnet3 *)function;
    uint32_t masked;

    if (region == PCI_REGION_BAR1)
        return read_register(v, offset);
    if (region != PCI_REGION_BAR0 || offset % REGISTER_SPACING ||
        offset >= VMXNET3_VECTORS * REGISTER_SPACING)
        return 0;
    pthread_mutex_lock(&v->interrupt_lock);
    masked = v->masked;
    pthread_mutex_unlock(&v->interrupt_lock);
    return masked >> (offset / REGISTER_SPACING) & 1;
}

/* A doorbell that no eventfd took: one of unusual width. */
static void ring(struct vmxnet3 *v, uint64_t offset)
{
    unsigned queue = offset % QUEUE_SPACE / REGISTER_SPACING;
    uint64_t one = 1;
    int fd = offset < VMXNET3_RXPROD ? v->tx[queue % VMXNET3_MAX_QUEUES].doorbell : v->rx_doorbell;

    if (queue < VMXNET3_MAX_QUEUES && write(fd, &one, sizeof(one)) < 0)
        log_debug(vmxnet3_name(v), "doorbell: %s", g_strerror(errno));
}

static void region_write(struct pci_function *function, unsigned region, uint64_t offset,
                         unsigned size, uint64_t value)
{
    struct vmxnet3 *v = (struct vmxnet3 *)function;

    if (offset % REGISTER_SPACING)
        return;
    if (region == PCI_REGION_BAR1)
        write_register(v, offset, value);
    else if (region == PCI_REGION_BAR0 && offset < VMXNET3_VECTORS * REGISTER_SPACING)
        set_masked(v, offset / REGISTER_SPACING, value & 1);
    else if (region == PCI_REGION_BAR0 && offset >= VMXNET3_TXPROD &&
             offset < VMXNET3_RXPROD2 + QUEUE_SPACE)
        ring(v, offset);
}

/* What was written to the rings while bus mastering was off has been passed by. */
static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
    struct vmxnet3 *v = (struct vmxnet3 *)function;

    if (pci_function_mastering_written(function, offset, size))
        vmxnet3_apply_later(v);
}

const struct pci_function_ops vmxnet3_function_ops = {
    .region_read = region_read,
    .region_write = region_write,
    .config_written = config_written,
};

void vmxnet3_reset_registers(struct vmxnet3 *v)
{
    v->revision = 1;
    v->shared_register = 0;
    v->result = 0;
    v->events = 0;
    v->later_count = 0;
    memcpy(v->mac, v->own_mac, sizeof(v->mac));
    v->setup = (struct vmxnet3_setup){.mtu = VMXNET3_MTU};
    for (unsigned i = 0; i < VMXNET3_MAX_QUEUES; i++) {
        memset(v->tx[i].counters, 0, sizeof(v->tx[i].counters));
        memset(v->rx[i].counters, 0, sizeof(v->rx[i].counters));
    }
}
