/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pci - the modern virtio PCI transport (contract: virtio/pci.h; virtio 1.3, 4.1)
 *
 * BAR 0 (64-bit memory, 16 KiB), a page each:
 *     0x0000 common configuration       0x1000 ISR status
 *     0x2000 device configuration       0x3000 notification, 4 bytes a queue
 * BAR 2 (64-bit memory): MSI-X, one vector for configuration changes and one a queue.
 *
 * Driven by virtio_pci (Linux) in its modern half; there is no legacy interface (revision 1). Config
 * space carries the five virtio capabilities; the fifth is a window into BAR 0 for guests that have
 * not mapped it.
 *
 * Threads: registers on vCPU threads, several at once; interrupts from the device's loop. What the
 * driver selects and the vectors are single values, stored and loaded atomically; ISR and INTx level
 * change together, under isr_lock. Queue settings may be written only while the queue is neither
 * enabled nor being reset: then nobody else looks at them.
 */
#include "virtio/pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "vmm/log.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_pci_read, "%s common offset=0x%02x size=%u value=0x%x",
            (const char *device, unsigned offset, unsigned size, unsigned value), device, offset,
            size, value)
TRACE_EVENT(virtio_pci_write, "%s common offset=0x%02x size=%u value=0x%x",
            (const char *device, unsigned offset, unsigned size, unsigned value), device, offset,
            size, value)

#define VIRTIO_VENDOR_ID  0x1af4
#define VIRTIO_DEVICE_ID  0x1040 /* plus the virtio device id */
#define CONFIG_BAR        0u
#define MSIX_BAR          2u
#define COMMON_OFFSET     0x0000u
#define ISR_OFFSET        0x1000u
#define DEVICE_OFFSET     0x2000u
#define NOTIFY_OFFSET     0x3000u
#define AREA_SIZE         0x1000u
#define CONFIG_BAR_SIZE   0x4000u
#define NOTIFY_MULTIPLIER 4u
#define COMMON_SIZE       60u /* up to queue_reset */
#define ISR_QUEUE         1u
#define ISR_CONFIG        VIRTIO_PCI_ISR_CONFIG
#define WINDOW_DATA       offsetof(struct virtio_pci_cfg_cap, pci_cfg_data)

struct virtio_pci {
    struct pci_function function;
    struct virtio_device *vdev;
    uint32_t device_feature_select, driver_feature_select;
    uint16_t config_vector;
    uint16_t queue_select;
    uint8_t isr;
    pthread_mutex_t isr_lock;
    unsigned window; /* offset of the configuration access capability */
    struct state_table state_table;
    struct state_field state_fields[9];
};

static struct virtio_pci *to_vpci(struct pci_function *function)
{
    return (struct virtio_pci *)function;
}

/* ---- interrupts ---- */

static void raise_isr(struct virtio_pci *vpci, uint8_t bit, bool line)
{
    pthread_mutex_lock(&vpci->isr_lock);
    vpci->isr |= bit;
    if (line)
        pci_function_set_intx(&vpci->function, true);
    pthread_mutex_unlock(&vpci->isr_lock);
}

static uint8_t take_isr(struct virtio_pci *vpci)
{
    uint8_t isr;

    pthread_mutex_lock(&vpci->isr_lock);
    isr = vpci->isr;
    /* A stopped device is only looked at. */
    if (device_rule(device_state(&vpci->function.device), DEVICE_OP_REGISTER_WRITE) ==
        DEVICE_ALLOW) {
        vpci->isr = 0;
        pci_function_set_intx(&vpci->function, false);
    }
    pthread_mutex_unlock(&vpci->isr_lock);
    return isr;
}

static void notify_queue(void *opaque, unsigned vector)
{
    struct virtio_pci *vpci = opaque;

    if (!pci_function_msix_enabled(&vpci->function))
        raise_isr(vpci, ISR_QUEUE, true);
    else if (vector != VIRTIO_MSI_NO_VECTOR)
        pci_function_fire(&vpci->function, vector);
}

static void notify_config(void *opaque)
{
    struct virtio_pci *vpci = opaque;
    bool msix = pci_function_msix_enabled(&vpci->function);
    uint16_t vector = __atomic_load_n(&vpci->config_vector, __ATOMIC_RELAXED);

    /* The bit is set whichever way the interrupt goes (virtio 1.3, 4.1.4.5.1). */
    raise_isr(vpci, ISR_CONFIG, !msix);
    if (msix && vector != VIRTIO_MSI_NO_VECTOR)
        pci_function_fire(&vpci->function, vector);
}

static void on_device_reset(void *opaque)
{
    struct virtio_pci *vpci = opaque;

    vpci->device_feature_select = vpci->driver_feature_select = 0;
    vpci->queue_select = 0;
    __atomic_store_n(&vpci->config_vector, VIRTIO_MSI_NO_VECTOR, __ATOMIC_RELAXED);
    pthread_mutex_lock(&vpci->isr_lock);
    vpci->isr = 0;
    pci_function_set_intx(&vpci->function, false);
    pthread_mutex_unlock(&vpci->isr_lock);
}

static const struct virtio_transport_ops transport_ops = {
    .notify_queue = notify_queue,
    .notify_config = notify_config,
    .reset = on_device_reset,
};

/* ---- common configuration ---- */

/* The selected queue, or NULL: registers of a queue that is not there read as zero. */
static struct virtq *selected(struct virtio_pci *vpci)
{
    unsigned index = vpci->queue_select;

    return index < vpci->vdev->queue_count ? virtio_device_queue(vpci->vdev, index) : NULL;
}

static void put(uint8_t *bytes, unsigned offset, unsigned size, uint64_t value)
{
    memcpy(bytes + offset, &value, size);
}

static void fill_queue(struct virtio_pci *vpci, uint8_t *bytes)
{
    struct virtq *vq = selected(vpci);
    struct virtio_device *vdev = vpci->vdev;

    if (!vq)
        return;
    put(bytes, VIRTIO_PCI_COMMON_Q_MSIX, 2, __atomic_load_n(&vq->vector, __ATOMIC_RELAXED));
    put(bytes, VIRTIO_PCI_COMMON_Q_ENABLE, 2, virtio_device_queue_enabled(vdev, vq->index));
    put(bytes, VIRTIO_PCI_COMMON_Q_NOFF, 2, vq->index);
    put(bytes, VIRTIO_PCI_COMMON_Q_NDATA, 2, vq->index);
    put(bytes, VIRTIO_PCI_COMMON_Q_RESET, 2, virtio_device_queue_resetting(vdev, vq->index));
    pthread_mutex_lock(&vdev->lock); /* the loop may be resetting it */
    put(bytes, VIRTIO_PCI_COMMON_Q_SIZE, 2, vq->size);
    put(bytes, VIRTIO_PCI_COMMON_Q_DESCLO, 8, vq->descriptors);
    put(bytes, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, vq->driver_area);
    put(bytes, VIRTIO_PCI_COMMON_Q_USEDLO, 8, vq->device_area);
    pthread_mutex_unlock(&vdev->lock);
}

/* Reads are rare, so each makes the whole structure and takes its bytes: any width works. */
static uint64_t common_read(struct virtio_pci *vpci, unsigned offset, unsigned size)
{
    struct virtio_device *vdev = vpci->vdev;
    uint8_t bytes[COMMON_SIZE] = {0};
    uint32_t select = vpci->device_feature_select;
    uint64_t value = 0;

    if (offset >= COMMON_SIZE || size > COMMON_SIZE - offset)
        return 0;
    put(bytes, VIRTIO_PCI_COMMON_DFSELECT, 4, select);
    put(bytes, VIRTIO_PCI_COMMON_DF, 4, select < 2 ? vdev->offered >> (32 * select) : 0);
    select = vpci->driver_feature_select;
    put(bytes, VIRTIO_PCI_COMMON_GFSELECT, 4, select);
    put(bytes, VIRTIO_PCI_COMMON_GF, 4, select < 2 ? vdev->driver_features >> (32 * select) : 0);
    put(bytes, VIRTIO_PCI_COMMON_MSIX, 2, __atomic_load_n(&vpci->config_vector, __ATOMIC_RELAXED));
    put(bytes, VIRTIO_PCI_COMMON_NUMQ, 2, vdev->queue_count);
    put(bytes, VIRTIO_PCI_COMMON_STATUS, 1, virtio_device_get_status(vdev));
    put(bytes, VIRTIO_PCI_COMMON_CFGGENERATION, 1,
        __atomic_load_n(&vdev->config_generation, __ATOMIC_ACQUIRE));
    put(bytes, VIRTIO_PCI_COMMON_Q_SELECT, 2, vpci->queue_select);
    fill_queue(vpci, bytes);
    memcpy(&value, bytes + offset, size);
    trace_virtio_pci_read(vpci->function.device.name, offset, size, value);
    return value;
}

/* A vector that the function does not have is answered by NO_VECTOR (virtio 1.3, 4.1.5.1.2.1). */
static void set_vector(struct virtio_pci *vpci, uint16_t *vector, uint16_t value)
{
    if (value >= vpci->function.msix.vectors)
        value = VIRTIO_MSI_NO_VECTOR;
    __atomic_store_n(vector, value, __ATOMIC_RELAXED);
}

static void set_half(uint64_t *address, unsigned half, uint32_t value)
{
    *address = (*address & ~((uint64_t)UINT32_MAX << (32 * half))) | (uint64_t)value << (32 * half);
}

static bool size_is_valid(struct virtio_pci *vpci, const struct virtq *vq, uint16_t size)
{
    bool packed = virtio_device_has(vpci->vdev, VIRTIO_F_RING_PACKED);

    return size && size <= vq->max_size && (packed || !(size & (size - 1)));
}

/* The settings of a queue that hold from queue_enable to its reset. False: not such a register. */
static bool queue_setting_write(struct virtio_pci *vpci, struct virtq *vq, unsigned offset,
                                uint32_t value)
{
    switch (offset) {
    case VIRTIO_PCI_COMMON_Q_SIZE:
        /* 0 marks a queue that the driver does not use; it can't be enabled then. */
        if (!value || size_is_valid(vpci, vq, value))
            vq->size = value;
        else
            log_guest(&vpci->function.device.guest_errors, vpci->function.device.name,
                      "queue %u: size %u refused (at most %u, split: a power of two)", vq->index,
                      value, vq->max_size);
        return true;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
    case VIRTIO_PCI_COMMON_Q_DESCHI:
        set_half(&vq->descriptors, offset == VIRTIO_PCI_COMMON_Q_DESCHI, value);
        return true;
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
        set_half(&vq->driver_area, offset == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
        return true;
    case VIRTIO_PCI_COMMON_Q_USEDLO:
    case VIRTIO_PCI_COMMON_Q_USEDHI:
        set_half(&vq->device_area, offset == VIRTIO_PCI_COMMON_Q_USEDHI, value);
        return true;
    default:
        return false;
    }
}

static void queue_write(struct virtio_pci *vpci, unsigned offset, uint32_t value)
{
    struct virtq *vq = selected(vpci);
    struct virtio_device *vdev = vpci->vdev;

    if (!vq)
        return;
    switch (offset) {
    case VIRTIO_PCI_COMMON_Q_MSIX:
        set_vector(vpci, &vq->vector, value);
        return;
    case VIRTIO_PCI_COMMON_Q_RESET:
        if (value == 1)
            virtio_device_reset_queue(vdev, vq->index);
        return;
    case VIRTIO_PCI_COMMON_Q_ENABLE:
        if (value == 1 && vq->size)
            virtio_device_enable_queue(vdev, vq->index);
        return;
    default:
        if (!virtio_device_begin_queue_setup(vdev, vq->index))
            return;
        queue_setting_write(vpci, vq, offset, value);
        virtio_device_end_queue_setup(vdev);
    }
}

/* Width of the register that starts at @offset; 0: none, or one that the driver can't write. */
static unsigned register_width(unsigned offset)
{
    switch (offset) {
    case VIRTIO_PCI_COMMON_STATUS:
        return 1;
    case VIRTIO_PCI_COMMON_MSIX:
    case VIRTIO_PCI_COMMON_Q_SELECT:
    case VIRTIO_PCI_COMMON_Q_SIZE:
    case VIRTIO_PCI_COMMON_Q_MSIX:
    case VIRTIO_PCI_COMMON_Q_ENABLE:
    case VIRTIO_PCI_COMMON_Q_RESET:
        return 2;
    case VIRTIO_PCI_COMMON_DFSELECT:
    case VIRTIO_PCI_COMMON_GFSELECT:
    case VIRTIO_PCI_COMMON_GF:
    case VIRTIO_PCI_COMMON_Q_DESCLO:
    case VIRTIO_PCI_COMMON_Q_DESCHI:
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
    case VIRTIO_PCI_COMMON_Q_USEDLO:
    case VIRTIO_PCI_COMMON_Q_USEDHI:
        return 4;
    default:
        return 0;
    }
}

static void common_write(struct virtio_pci *vpci, unsigned offset, unsigned size, uint64_t value)
{
    trace_virtio_pci_write(vpci->function.device.name, offset, size, value);
    if (size == 8 && register_width(offset) == 4) { /* a 64-bit field in one go */
        common_write(vpci, offset, 4, (uint32_t)value);
        common_write(vpci, offset + 4, 4, value >> 32);
        return;
    }
    if (!size || register_width(offset) != size) {
        log_guest(&vpci->function.device.guest_errors, vpci->function.device.name,
                  "write of %u bytes at 0x%02x of the common configuration ignored", size, offset);
        return;
    }
    switch (offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
        vpci->device_feature_select = value;
        break;
    case VIRTIO_PCI_COMMON_GFSELECT:
        vpci->driver_feature_select = value;
        break;
    case VIRTIO_PCI_COMMON_GF:
        virtio_device_set_driver_features(vpci->vdev, vpci->driver_feature_select, value);
        break;
    case VIRTIO_PCI_COMMON_MSIX:
        set_vector(vpci, &vpci->config_vector, value);
        break;
    case VIRTIO_PCI_COMMON_STATUS:
        virtio_device_set_status(vpci->vdev, value);
        break;
    case VIRTIO_PCI_COMMON_Q_SELECT:
        vpci->queue_select = value;
        break;
    default:
        queue_write(vpci, offset, value);
    }
}

/* ---- the BAR ---- */

static uint64_t region_read(struct pci_function *function, unsigned region, uint64_t offset,
                            unsigned size)
{
    struct virtio_pci *vpci = to_vpci(function);

    if (region != CONFIG_BAR)
        return 0;
    switch (offset & ~(uint64_t)(AREA_SIZE - 1)) {
    case COMMON_OFFSET:
        return common_read(vpci, offset, size);
    case ISR_OFFSET:
        return offset == ISR_OFFSET ? take_isr(vpci) : 0;
    case DEVICE_OFFSET:
        return virtio_device_config_read(vpci->vdev, offset - DEVICE_OFFSET, size);
    default:
        return 0;
    }
}

static void region_write(struct pci_function *function, unsigned region, uint64_t offset,
                         unsigned size, uint64_t value)
{
    struct virtio_pci *vpci = to_vpci(function);

    if (region != CONFIG_BAR)
        return;
    switch (offset & ~(uint64_t)(AREA_SIZE - 1)) {
    case COMMON_OFFSET:
        common_write(vpci, offset, size, value);
        break;
    case DEVICE_OFFSET:
        virtio_device_config_write(vpci->vdev, offset - DEVICE_OFFSET, size, value);
        break;
    case NOTIFY_OFFSET:
        /* The eventfds take the usual writes; here come those of unusual width. */
        if (offset % NOTIFY_MULTIPLIER == 0)
            virtio_device_kick(vpci->vdev, (offset - NOTIFY_OFFSET) / NOTIFY_MULTIPLIER);
        break;
    }
}

/* ---- the configuration access capability (virtio 1.3, 4.1.4.9) ---- */

/* Where the window points, when that makes sense. */
static bool window_target(struct virtio_pci *vpci, uint32_t *offset, uint32_t *length)
{
    const uint8_t *cap = vpci->function.config + vpci->window;

    memcpy(offset, cap + VIRTIO_PCI_CAP_OFFSET, 4);
    memcpy(length, cap + VIRTIO_PCI_CAP_LENGTH, 4);
    return cap[VIRTIO_PCI_CAP_BAR] == CONFIG_BAR &&
           (*length == 1 || *length == 2 || *length == 4) && *offset % *length == 0 &&
           *offset <= CONFIG_BAR_SIZE - *length;
}

static bool touches_window(struct virtio_pci *vpci, unsigned offset, unsigned size)
{
    unsigned data = vpci->window + WINDOW_DATA;

    return offset < data + 4 && offset + size > data;
}

static void config_read(struct pci_function *function, unsigned offset, unsigned size)
{
    struct virtio_pci *vpci = to_vpci(function);
    uint32_t at, length, value;

    if (!touches_window(vpci, offset, size) || !window_target(vpci, &at, &length))
        return;
    value = pci_function_region_read(function, CONFIG_BAR, at, length);
    memcpy(function->config + vpci->window + WINDOW_DATA, &value, length);
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
    struct virtio_pci *vpci = to_vpci(function);
    uint32_t at, length, value = 0;

    /* Chains that were made available while bus mastering was off have been passed by. */
    if (vpci->vdev->status && pci_function_mastering_written(function, offset, size)) {
        for (unsigned i = 0; i < vpci->vdev->queue_count; i++)
            if (virtio_device_queue_enabled(vpci->vdev, i))
                virtio_device_kick(vpci->vdev, i);
    }
    if (!touches_window(vpci, offset, size) || !window_target(vpci, &at, &length))
        return;
    memcpy(&value, function->config + vpci->window + WINDOW_DATA, length);
    pci_function_region_write(function, CONFIG_BAR, at, length, value);
}

static const struct pci_function_ops function_ops = {
    .region_read = region_read,
    .region_write = region_write,
    .config_written = config_written,
    .config_read = config_read,
};

/* ---- lifecycle ---- */

static struct virtio_pci *device_to_vpci(struct device *device)
{
    return (struct virtio_pci *)device; /* first member of the first member */
}

static void quiesce(struct device *device)
{
    virtio_device_quiesce(device_to_vpci(device)->vdev);
}

static bool quiesced(struct device *device)
{
    return virtio_device_quiesced(device_to_vpci(device)->vdev);
}

static void resume(struct device *device)
{
    virtio_device_resume(device_to_vpci(device)->vdev);
}

static void reset(struct device *device)
{
    struct virtio_pci *vpci = device_to_vpci(device);

    virtio_device_reset(vpci->vdev);
    pci_function_reset(&vpci->function, true);
}

static void before_save(struct device *device)
{
    struct virtio_pci *vpci = device_to_vpci(device);

    pci_function_before_save(&vpci->function);
    virtio_device_before_save(vpci->vdev);
}

static bool after_load(struct device *device, GError **error)
{
    struct virtio_pci *vpci = device_to_vpci(device);
    struct virtio_device *vdev = vpci->vdev;

    if (!pci_function_after_load(&vpci->function, error) || !virtio_device_after_load(vdev, error))
        return false;
    set_vector(vpci, &vpci->config_vector, vpci->config_vector);
    for (unsigned i = 0; i < vdev->queue_count; i++)
        set_vector(vpci, &vdev->queues[i].vector, vdev->queues[i].vector);
    if (!pci_function_msix_enabled(&vpci->function))
        pci_function_set_intx(&vpci->function, vpci->isr != 0);
    return true;
}

static const struct device_ops lifecycle_ops = {
    .quiesce = quiesce,
    .quiesced = quiesced,
    .resume = resume,
    .reset = reset,
    .before_save = before_save,
    .after_load = after_load,
};

/* The table is made for each device, since the part of the device type is its own. */
static void make_state_table(struct virtio_pci *vpci)
{
    const struct state_field own[] = {
        STATE_STRUCT(struct virtio_pci, function, &pci_function_state, 1),
        STATE_U32(struct virtio_pci, device_feature_select, 1),
        STATE_U32(struct virtio_pci, driver_feature_select, 1),
        STATE_U16(struct virtio_pci, config_vector, 1),
        STATE_U16(struct virtio_pci, queue_select, 1),
        STATE_U8(struct virtio_pci, isr, 1),
        {.name = "virtio",
         .kind = STATE_KIND_TABLE,
         .offset = offsetof(struct virtio_pci, vdev),
         .count = 1,
         .stride = sizeof(struct virtio_device),
         .since = 1,
         .table = &virtio_device_state,
         .count_offset = -1,
         .indirect = true},
    };
    unsigned count = G_N_ELEMENTS(own);

    memcpy(vpci->state_fields, own, sizeof(own));
    if (vpci->vdev->class->state_table) {
        vpci->state_fields[count] = own[count - 1];
        vpci->state_fields[count].name = "type";
        vpci->state_fields[count++].table = vpci->vdev->class->state_table;
    }
    vpci->state_fields[count] = (struct state_field)STATE_END;
    vpci->state_table = (struct state_table){"virtio-pci", 1, 1, vpci->state_fields};
    vpci->function.device.state_table = &vpci->state_table;
    vpci->function.device.state_base = vpci;
}

/* ---- creation ---- */

static bool set_error(struct virtio_pci *vpci, GError **error, const char *what, int code)
{
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(code), "%s: %s: %s",
                vpci->function.device.name, what, g_strerror(code));
    return false;
}

static int add_capability(struct virtio_pci *vpci, uint8_t type, unsigned cap_size, uint32_t offset,
                          uint32_t length)
{
    int at = pci_function_add_capability(&vpci->function, PCI_CAP_ID_VNDR, cap_size);
    uint8_t *cap = vpci->function.config + at;

    if (at < 0)
        return at;
    cap[VIRTIO_PCI_CAP_LEN] = cap_size;
    cap[VIRTIO_PCI_CAP_CFG_TYPE] = type;
    cap[VIRTIO_PCI_CAP_BAR] = CONFIG_BAR;
    memcpy(cap + VIRTIO_PCI_CAP_OFFSET, &offset, sizeof(offset));
    memcpy(cap + VIRTIO_PCI_CAP_LENGTH, &length, sizeof(length));
    return at;
}

static bool add_capabilities(struct virtio_pci *vpci, GError **error)
{
    const uint32_t multiplier = NOTIFY_MULTIPLIER;
    int common = add_capability(vpci, VIRTIO_PCI_CAP_COMMON_CFG, sizeof(struct virtio_pci_cap),
                                COMMON_OFFSET, COMMON_SIZE);
    int isr =
        add_capability(vpci, VIRTIO_PCI_CAP_ISR_CFG, sizeof(struct virtio_pci_cap), ISR_OFFSET, 1);
    int config = 0, notify, window;

    if (vpci->vdev->class->config_size)
        config = add_capability(vpci, VIRTIO_PCI_CAP_DEVICE_CFG, sizeof(struct virtio_pci_cap),
                                DEVICE_OFFSET, vpci->vdev->class->config_size);
    notify = add_capability(vpci, VIRTIO_PCI_CAP_NOTIFY_CFG, sizeof(struct virtio_pci_notify_cap),
                            NOTIFY_OFFSET, MAX(1, vpci->vdev->queue_count) * NOTIFY_MULTIPLIER);
    window = add_capability(vpci, VIRTIO_PCI_CAP_PCI_CFG, sizeof(struct virtio_pci_cfg_cap), 0, 0);
    if (common < 0 || isr < 0 || config < 0 || notify < 0 || window < 0)
        return set_error(vpci, error, "virtio capabilities", ENOSPC);
    memcpy(vpci->function.config + notify + VIRTIO_PCI_NOTIFY_CAP_MULT, &multiplier,
           sizeof(multiplier));
    vpci->window = window;
    vpci->function.writable[window + VIRTIO_PCI_CAP_BAR] = 0xff;
    memset(vpci->function.writable + window + VIRTIO_PCI_CAP_OFFSET, 0xff, 4);
    memset(vpci->function.writable + window + VIRTIO_PCI_CAP_LENGTH, 0xff, 4);
    memset(vpci->function.writable + window + WINDOW_DATA, 0xff, 4);
    return true;
}

static bool add_msix(struct virtio_pci *vpci, GError **error)
{
    unsigned vectors = vpci->vdev->queue_count + 1;
    uint32_t table = (uint32_t)vectors * 16;
    uint32_t pba = (vectors + 63) / 64 * 8;
    uint64_t size = 4096;
    int ret;

    while (size < table + pba)
        size *= 2;
    pci_function_add_bar(&vpci->function, MSIX_BAR, size, PCI_BAR_64);
    ret = pci_function_add_msix(&vpci->function, vectors, MSIX_BAR, 0, size - pba);
    return !ret || set_error(vpci, error, "MSI-X", -ret);
}

static bool add_doorbells(struct virtio_pci *vpci, GError **error)
{
    for (unsigned i = 0; i < vpci->vdev->queue_count; i++) {
        /* Any width: whatever is written there can only mean this queue. */
        int ret = pci_function_add_doorbell(&vpci->function, CONFIG_BAR,
                                            NOTIFY_OFFSET + i * NOTIFY_MULTIPLIER, 0, false, 0,
                                            vpci->vdev->queue_events[i]);
        if (ret)
            return set_error(vpci, error, "doorbell", -ret);
    }
    return true;
}

static void remove_doorbells(struct virtio_pci *vpci)
{
    for (unsigned i = 0; i < vpci->vdev->queue_count; i++)
        pci_function_remove_doorbell(&vpci->function, CONFIG_BAR,
                                     NOTIFY_OFFSET + i * NOTIFY_MULTIPLIER, 0, false, 0,
                                     vpci->vdev->queue_events[i]);
}

static void free_vpci(struct virtio_pci *vpci)
{
    pci_function_finish(&vpci->function);
    pthread_mutex_destroy(&vpci->isr_lock);
    g_free(vpci);
}

struct virtio_pci *virtio_pci_create(struct virtio_device *vdev, const char *name,
                                     const struct pci_environment *env, bool msix, GError **error)
{
    struct virtio_pci *vpci = g_new0(struct virtio_pci, 1);
    const struct pci_identity identity = {
        .vendor_id = VIRTIO_VENDOR_ID,
        .device_id = VIRTIO_DEVICE_ID + vdev->class->id,
        .subsystem_vendor_id = VIRTIO_VENDOR_ID,
        .subsystem_id = VIRTIO_DEVICE_ID + vdev->class->id,
        .revision = 1,
        .class_code = vdev->class->pci_class,
    };

    vpci->vdev = vdev;
    pthread_mutex_init(&vpci->isr_lock, NULL);
    vpci->config_vector = VIRTIO_MSI_NO_VECTOR;
    pci_function_init(&vpci->function, name, vdev->class->type, &lifecycle_ops, &function_ops,
                      &identity, env);
    pci_function_add_bar(&vpci->function, CONFIG_BAR, CONFIG_BAR_SIZE, PCI_BAR_64);
    pci_function_add_intx(&vpci->function, 1);
    if (!add_capabilities(vpci, error) || (msix && !add_msix(vpci, error)) ||
        !add_doorbells(vpci, error)) {
        remove_doorbells(vpci);
        free_vpci(vpci);
        return NULL;
    }
    make_state_table(vpci);
    virtio_device_connect(vdev, &vpci->function.device, &vpci->function.dma, &transport_ops, vpci);
    return vpci;
}

void virtio_pci_destroy(struct virtio_pci *vpci)
{
    if (!vpci)
        return;
    virtio_device_reset(vpci->vdev);
    remove_doorbells(vpci);
    vpci->vdev->class->destroy(vpci->vdev);
    free_vpci(vpci);
}

struct pci_function *virtio_pci_function(struct virtio_pci *vpci)
{
    return &vpci->function;
}
