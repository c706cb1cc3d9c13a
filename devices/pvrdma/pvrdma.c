/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvrdma - the PCI function: registers, shared region, reset, lifecycle (contract: pvrdma.h; what
 * the driver expects: interface.h)
 *
 * Driven by vmw_pvrdma (Linux; built from the kernel's source where a distribution leaves it out)
 * and, in processes, by libibverbs' provider of that name. Device version 20; a driver of version
 * 17 to 20 gets what its version knows (17: RoCE v1; up to 19: handles of queue pairs are their
 * QPNs), any other one finds no capabilities and an error.
 *
 * Life: the driver writes the address of the device shared region; it is read, checked and filled
 * in while that register is written. A new address is a reset: there is no other sign of a kernel
 * that was replaced under the device. After ACTIVATE commands and doorbells work. RESET forgets
 * everything, and no DMA happens afterwards.
 *
 * Limits: MSI-X only, three vectors; one port, one P_Key; no multicast, no memory windows, no
 * resizing of queues, no inline data, no masked atomics: the stock driver has none of them either.
 */
#include "devices/pvrdma/private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "vmm/log.h"
#include "vmm/trace.h"

TRACE_EVENT(pvrdma_register, "%s offset=0x%02x value=0x%x",
            (const char *device, unsigned offset, unsigned value), device, offset, value)
TRACE_EVENT(pvrdma_shared_region, "%s address=0x%" PRIx64 " driver version %u result=%d",
            (const char *device, uint64_t address, unsigned version, int result), device, address,
            version, result)

#define MSIX_BAR_SIZE  0x4000u
#define MSIX_PBA       0x2000u
#define REGISTERS_SIZE 0x100u
#define NOT_ACTIVATED  0xffffu /* ERR before the first ACTIVATE */
#define MAX_RING_PAGES PVR_PAGES_A_TABLE

static struct pvrdma *to_pvrdma(struct pci_function *function)
{
    return (struct pvrdma *)function;
}

struct dma *pvrdma_dma(struct pvrdma *pvrdma)
{
    return &pvrdma->function.dma;
}

void pvrdma_guest_error(struct pvrdma *pvrdma, const char *format, ...)
{
    struct device *device = &pvrdma->function.device;
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    log_guest(&device->guest_errors, device->name, "%s", text);
}

void pvrdma_fire(struct pvrdma *pvrdma, enum pvr_vector vector)
{
    if (pvrdma->imr & 1u << vector)
        pvrdma->icr |= 1u << vector;
    else
        pci_function_fire(&pvrdma->function, vector);
}

static void set_imr(struct pvrdma *pvrdma, uint32_t value)
{
    uint32_t open = pvrdma->icr & ~value;

    pvrdma->imr = value;
    pvrdma->icr &= value;
    for (unsigned i = 0; i < PVR_VECTORS; i++)
        if (open & 1u << i)
            pci_function_fire(&pvrdma->function, i);
}

/* ---- the shared region ---- */

void pvrdma_drop(struct pvrdma *pvrdma)
{
    pvr_command_forget(pvrdma);
    for (guint i = 0; i < pvrdma->creations->len; i++)
        pvr_command_abandon(g_ptr_array_index(pvrdma->creations, i));
    pvrdma->ready = pvrdma->active = false;
    rdma_reset(pvrdma->rdma, pvr_command_cancelled);
    pvr_resources_forget(pvrdma);
    guest_pages_clear(&pvrdma->async_pages);
    guest_pages_clear(&pvrdma->notify_pages);
    pvrdma->async_ring = pvrdma->notify_ring = (struct ring){0};
    pvrdma->command_slot = pvrdma->response_slot = 0;
    pvrdma->version = 0;
    pvrdma->request_latched = false;
    pvrdma->icr = 0; /* a new driver is not ready for the interrupts of the one before */
}

static int map_ring(struct pvrdma *pvrdma, const struct pvr_ring_info *info, uint32_t stride,
                    struct guest_pages *pages, struct ring *ring)
{
    int ret;

    if (info->num_pages < 2 || info->num_pages > MAX_RING_PAGES)
        return -EINVAL;
    ret = guest_pages_map(pages, pvrdma_dma(pvrdma), info->pdir_dma, info->num_pages);
    if (!ret)
        *ring = (struct ring){pages, 1, (info->num_pages - 1) * (PVR_PAGE_SIZE / stride), stride,
                              false};
    return ret;
}

static bool is_slot(struct pvrdma *pvrdma, uint64_t gpa)
{
    return gpa && !(gpa % PVR_PAGE_SIZE) && dma_map_ring(pvrdma_dma(pvrdma), gpa, PVR_PAGE_SIZE);
}

static int take_region(struct pvrdma *pvrdma, const struct pvr_dsr *dsr)
{
    int ret;

    if (dsr->driver_version < PVR_VERSION_MIN || dsr->driver_version > PVR_VERSION)
        return -EPROTONOSUPPORT;
    if (!is_slot(pvrdma, dsr->cmd_slot_dma) || !is_slot(pvrdma, dsr->resp_slot_dma))
        return -EFAULT;
    ret = map_ring(pvrdma, &dsr->async_ring_pages, sizeof(struct pvr_eqe), &pvrdma->async_pages,
                   &pvrdma->async_ring);
    if (!ret)
        ret = map_ring(pvrdma, &dsr->cq_ring_pages, sizeof(struct pvr_cqne), &pvrdma->notify_pages,
                       &pvrdma->notify_ring);
    if (ret)
        return ret;
    pvrdma->version = dsr->driver_version;
    pvrdma->command_slot = dsr->cmd_slot_dma;
    pvrdma->response_slot = dsr->resp_slot_dma;
    return 0;
}

/* The whole of it, whatever it was before: the capabilities are written, or zero when it is
 * refused. */
static void read_region(struct pvrdma *pvrdma)
{
    uint64_t address = (uint64_t)pvrdma->dsr_high << 32 | pvrdma->dsr_low;
    struct dma *dma = pvrdma_dma(pvrdma);
    struct pvr_dsr dsr = {0};
    int ret;

    pvrdma_drop(pvrdma);
    pvrdma->error = 0;
    if (!address)
        return;
    ret = dma_read(dma, address, &dsr, sizeof(dsr));
    if (!ret) {
        memset(&dsr.caps, 0, sizeof(dsr.caps));
        ret = take_region(pvrdma, &dsr);
        if (!ret)
            pvr_command_fill_caps(pvrdma, &dsr.caps, dsr.driver_version);
        if (dma_write(dma, address + offsetof(struct pvr_dsr, caps), &dsr.caps, sizeof(dsr.caps)))
            ret = -EFAULT;
    }
    trace_pvrdma_shared_region(pvrdma->function.device.name, address, dsr.driver_version, ret);
    if (ret) {
        pvrdma_drop(pvrdma);
        pvrdma->error = (uint32_t)-ret;
        pvrdma_guest_error(pvrdma, "the driver's shared region (driver version %u) is refused: %s",
                           dsr.driver_version, g_strerror(-ret));
        return;
    }
    pvrdma->ready = true;
}

/* ---- registers ---- */

static void control(struct pvrdma *pvrdma, uint32_t value)
{
    pvrdma->error = 0;
    switch (value) {
    case PVR_CTL_ACTIVATE:
        if (!pvrdma->ready)
            pvrdma->error = EINVAL;
        else if (!pvrdma->active)
            pvrdma->error = (uint32_t)-pvr_doorbell_open_context(pvrdma, 0);
        pvrdma->active = !pvrdma->error;
        break;
    case PVR_CTL_UNQUIESCE:
        pvrdma->error = pvrdma->active ? 0 : EINVAL;
        break;
    case PVR_CTL_RESET:
        pvrdma_drop(pvrdma);
        break;
    default:
        pvrdma->error = EINVAL;
        break;
    }
}

static void write_register(struct pvrdma *pvrdma, uint64_t offset, uint32_t value)
{
    trace_pvrdma_register(pvrdma->function.device.name, (unsigned)offset, value);
    switch (offset) {
    case PVR_REG_DSRLOW:
        pvrdma->dsr_low = value;
        break;
    case PVR_REG_DSRHIGH:
        pvrdma->dsr_high = value;
        pvrdma->dsr_latched = !pvrdma->running;
        if (pvrdma->running)
            read_region(pvrdma);
        break;
    case PVR_REG_CTL:
        control(pvrdma, value);
        break;
    case PVR_REG_REQUEST:
        pvrdma->error = value ? EINVAL : 0;
        pvrdma->request_latched = !value && !pvrdma->running;
        if (!value && pvrdma->running)
            pvr_command_run(pvrdma);
        break;
    case PVR_REG_IMR:
        set_imr(pvrdma, value);
        break;
    default:
        break;
    }
}

static void region_write(struct pci_function *function, unsigned region, uint64_t offset,
                         unsigned size, uint64_t value)
{
    struct pvrdma *pvrdma = to_pvrdma(function);

    if (region == PVR_BAR_UAR) {
        pvr_doorbell_write(pvrdma, offset, size, (uint32_t)value);
    } else if (region == PVR_BAR_REGISTERS && size == 4) {
        pthread_mutex_lock(&pvrdma->lock);
        write_register(pvrdma, offset, (uint32_t)value);
        pthread_mutex_unlock(&pvrdma->lock);
        if (offset == PVR_REG_CTL)
            pvrdma_nic_changed(pvrdma);
    }
}

static uint32_t read_mac(struct pvrdma *pvrdma, unsigned first, unsigned count)
{
    uint32_t value = 0;
    uint8_t mac[6];

    pvrdma->nic.mac(pvrdma->nic.opaque, mac);
    memcpy(&value, mac + first, count);
    return value;
}

/* Doorbell pages are write-only; reading one is no error. */
static uint64_t region_read(struct pci_function *function, unsigned region, uint64_t offset,
                            unsigned size)
{
    struct pvrdma *pvrdma = to_pvrdma(function);
    uint32_t value = 0;

    if (region != PVR_BAR_REGISTERS || size != 4)
        return 0;
    pthread_mutex_lock(&pvrdma->lock);
    switch (offset) {
    case PVR_REG_VERSION:
        value = PVR_VERSION;
        break;
    case PVR_REG_DSRLOW:
        value = pvrdma->dsr_low;
        break;
    case PVR_REG_DSRHIGH:
        value = pvrdma->dsr_high;
        break;
    case PVR_REG_ERR:
        value = pvrdma->error;
        break;
    case PVR_REG_ICR:
        value = pvrdma->icr;
        break;
    case PVR_REG_IMR:
        value = pvrdma->imr;
        break;
    case PVR_REG_MACL:
        value = read_mac(pvrdma, 0, 4);
        break;
    case PVR_REG_MACH:
        value = read_mac(pvrdma, 4, 2);
        break;
    default:
        break;
    }
    pthread_mutex_unlock(&pvrdma->lock);
    return value;
}

/* What was posted or completed while bus mastering was off has been passed by. */
static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
    struct pvrdma *pvrdma = to_pvrdma(function);

    if (!pci_function_mastering_written(function, offset, size))
        return;
    pthread_mutex_lock(&pvrdma->lock);
    pvr_doorbell_ring_all(pvrdma);
    pthread_mutex_unlock(&pvrdma->lock);
    rdma_look_again(pvrdma->rdma);
}

static const struct pci_function_ops function_ops = {
    .region_read = region_read,
    .region_write = region_write,
    .config_written = config_written,
};

/* With the lock over both: of two threads that tell of it, the later one has the truth. */
void pvrdma_nic_changed(struct pvrdma *pvrdma)
{
    pthread_mutex_lock(&pvrdma->lock);
    rdma_set_link(pvrdma->rdma, pvrdma->nic.active(pvrdma->nic.opaque),
                  pvrdma->nic.mtu(pvrdma->nic.opaque));
    pthread_mutex_unlock(&pvrdma->lock);
}

/* ---- lifecycle ---- */

static void set_running(struct pvrdma *pvrdma, bool running)
{
    pthread_mutex_lock(&pvrdma->lock);
    pvrdma->running = running;
    pthread_mutex_unlock(&pvrdma->lock);
    rdma_set_running(pvrdma->rdma, running);
}

static void quiesce(struct device *device)
{
    set_running((struct pvrdma *)device, false);
}

static void resume(struct device *device)
{
    struct pvrdma *pvrdma = (struct pvrdma *)device;

    set_running(pvrdma, true);
    pthread_mutex_lock(&pvrdma->lock);
    if (pvrdma->dsr_latched)
        read_region(pvrdma);
    if (pvrdma->request_latched)
        pvr_command_run(pvrdma);
    pvrdma->dsr_latched = pvrdma->request_latched = false;
    pvr_command_resume(pvrdma);
    pvr_doorbell_ring_all(pvrdma);
    pthread_mutex_unlock(&pvrdma->lock);
    pvrdma_nic_changed(pvrdma);
}

static void power_on(struct pvrdma *pvrdma)
{
    pvrdma->dsr_low = pvrdma->dsr_high = 0;
    pvrdma->imr = pvrdma->icr = 0;
    pvrdma->error = NOT_ACTIVATED;
    pvrdma->dsr_latched = pvrdma->request_latched = false;
}

static void reset(struct device *device)
{
    struct pvrdma *pvrdma = (struct pvrdma *)device;

    pthread_mutex_lock(&pvrdma->lock);
    pvrdma_drop(pvrdma);
    power_on(pvrdma);
    pthread_mutex_unlock(&pvrdma->lock);
    pci_function_reset(&pvrdma->function, true);
    set_running(pvrdma, true);
}

static const struct device_ops device_ops = {
    .quiesce = quiesce,
    .resume = resume,
    .reset = reset,
    .before_save = pvrdma_before_save,
    .after_load = pvrdma_after_load,
};

/* ---- making one ---- */

const struct option_spec pvrdma_options[] = {
    RDMA_OPTIONS,
    {"nic", OPTION_STRING, .help = "id of the vmxnet3 whose slot it shares (default: the last)"},
    {},
};

static const struct pci_identity identity = {
    .vendor_id = PVR_VENDOR_ID,
    .device_id = PVR_DEVICE_ID,
    .subsystem_vendor_id = PVR_VENDOR_ID,
    .subsystem_id = PVR_DEVICE_ID,
    .revision = 0,
    .class_code = 0x028000, /* network controller, other */
};

static uint32_t floor_power(uint32_t n)
{
    while (n & (n - 1))
        n &= n - 1;
    return n;
}

/* What both sides round up to a power of two has a limit that is one. */
static void choose_limits(struct pvrdma *pvrdma)
{
    struct rdma_limits *limits = &pvrdma->limits;

    *limits = *rdma_limits(pvrdma->rdma);
    limits->max_qp = MIN(limits->max_qp, PVRDMA_MAX_QP);
    limits->max_cq = MIN(limits->max_cq, PVRDMA_MAX_CQ);
    limits->max_mr = MIN(limits->max_mr, PVRDMA_MAX_MR);
    limits->max_pd = MIN(limits->max_pd, PVRDMA_MAX_PD);
    limits->max_srq = MIN(limits->max_srq, PVRDMA_MAX_SRQ);
    limits->max_qp_wr = floor_power(MIN(limits->max_qp_wr, PVRDMA_MAX_WR));
    limits->max_srq_wr = floor_power(MIN(limits->max_srq_wr, PVRDMA_MAX_WR));
    limits->max_cqe = floor_power(MIN(limits->max_cqe, PVRDMA_MAX_CQE));
    limits->max_sge = floor_power(MIN(limits->max_sge, PVRDMA_MAX_SGE));
    limits->max_sge_rd = MIN(limits->max_sge_rd, limits->max_sge);
    limits->max_srq_sge = floor_power(MIN(limits->max_srq_sge, PVRDMA_MAX_SGE));
    limits->gid_entries = MIN(limits->gid_entries, PVRDMA_MAX_GIDS);
    limits->max_mr_size = MIN(limits->max_mr_size, (uint64_t)PVR_MAX_PAGES * PVR_PAGE_SIZE);
    limits->max_fast_reg_pages = MIN(limits->max_fast_reg_pages, PVR_MAX_FAST_PAGES);
}

static void init_function(struct pvrdma *pvrdma, const char *name,
                          const struct pci_environment *env)
{
    struct pci_function *function = &pvrdma->function;

    pci_function_init(function, name, "pvrdma", &device_ops, &function_ops, &identity, env);
    function->device.state_table = &pvrdma_state;
    function->device.state_base = pvrdma;
    pci_function_add_bar(function, PVR_BAR_MSIX, MSIX_BAR_SIZE, 0);
    pci_function_add_bar(function, PVR_BAR_REGISTERS, REGISTERS_SIZE, 0);
    pci_function_add_bar(function, PVR_BAR_UAR, PVRDMA_MAX_UAR * PVR_PAGE_SIZE, PCI_BAR_64);
}

struct pvrdma *pvrdma_create(const char *name, const struct options *options,
                             const struct pvrdma_nic *nic, const struct pci_environment *env,
                             struct loop *loop, GError **error)
{
    struct pvrdma *pvrdma = g_new0(struct pvrdma, 1);
    int ret;

    pvrdma->nic = *nic;
    pvrdma->loop = loop;
    pvrdma->running = true;
    pthread_mutex_init(&pvrdma->lock, NULL);
    pvrdma->creations = g_ptr_array_new_with_free_func(g_free);
    init_function(pvrdma, name, env);
    pvr_state_init(pvrdma);
    power_on(pvrdma);
    if (pvr_doorbell_init(pvrdma, error))
        goto fail;
    ret = pci_function_add_msix(&pvrdma->function, PVR_VECTORS, PVR_BAR_MSIX, 0, MSIX_PBA);
    if (ret) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret), "%s: MSI-X: %s", name,
                    g_strerror(-ret));
        goto fail;
    }
    pvrdma->rdma = rdma_open(options, pvrdma_dma(pvrdma), loop, error);
    if (!pvrdma->rdma)
        goto fail;
    choose_limits(pvrdma);
    pvr_resources_init(pvrdma);
    pvrdma->function.device.migration_blocker = rdma_unsaveable(pvrdma->rdma);
    rdma_set_client(pvrdma->rdma, &pvr_work_client, pvrdma);
    pvrdma_nic_changed(pvrdma);
    return pvrdma;

fail:
    pvrdma_destroy(pvrdma);
    return NULL;
}

static void finish_on_loop(void *opaque)
{
    struct pvrdma *pvrdma = opaque;

    rdma_close(pvrdma->rdma);
    pvr_doorbell_finish(pvrdma);
}

void pvrdma_destroy(struct pvrdma *pvrdma)
{
    if (!pvrdma)
        return;
    if (pvrdma->rdma) {
        pthread_mutex_lock(&pvrdma->lock);
        pvrdma_drop(pvrdma);
        pthread_mutex_unlock(&pvrdma->lock);
    }
    loop_call(pvrdma->loop, finish_on_loop, pvrdma);
    pvr_state_finish(pvrdma);
    pvr_resources_finish(pvrdma);
    g_ptr_array_unref(pvrdma->creations);
    pci_function_finish(&pvrdma->function);
    pthread_mutex_destroy(&pvrdma->lock);
    g_free(pvrdma);
}

struct pci_function *pvrdma_function(struct pvrdma *pvrdma)
{
    return &pvrdma->function;
}

struct rdma *pvrdma_backend(struct pvrdma *pvrdma)
{
    return pvrdma->rdma;
}
