/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pvrdma: probe, versions, and every command with good and malformed input. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "backends/rdma/driver.h"
#include "devices/pvrdma/private.h"
#include "tests/device/pvrdma_driver.h"
#include "tests/device/sample.h"

static void setup(struct pvd *d, gconstpointer data)
{
    pvd_create(d, "backend=loopback");
}

static void setup_started(struct pvd *d, gconstpointer data)
{
    pvd_create(d, "backend=loopback");
    pvd_start(d, PVR_VERSION);
}

static void teardown(struct pvd *d, gconstpointer data)
{
    pvd_destroy(d);
}

/* ---- PCI and probe ---- */

static void test_identity(struct pvd *d, gconstpointer data)
{
    g_assert_cmphex(harness_config_read(d->h, d->slot, PCI_VENDOR_ID, 4), ==, 0x082015ad);
    g_assert_cmpuint(pvd_read(d, PVR_REG_VERSION), ==, 20);
    g_assert_cmphex(pvd_read(d, PVR_REG_MACL), ==, 0x12005452);
    g_assert_cmphex(pvd_read(d, PVR_REG_MACH), ==, 0x5634);
}

static void test_second_function(struct pvd *d, gconstpointer data)
{
    struct sample *nic = sample_create(d->h, "nic0");
    GError *error = NULL;
    unsigned slot = harness_attach(d->h, &nic->function);
    struct pci_function *function = pvrdma_function(d->pvrdma);

    harness_detach(d->h, function);
    g_assert_true(pci_host_attach(d->h->host, function, (int)slot, 1, &error));
    g_assert_no_error(error);
    g_assert_cmphex(harness_ecam_read(d->h, slot * 8, PCI_HEADER_TYPE, 1), ==, 0x80);
    g_assert_cmphex(harness_ecam_read(d->h, slot * 8 + 1, PCI_VENDOR_ID, 4), ==, 0x082015ad);
    pci_host_detach(d->h->host, function);
    harness_detach(d->h, &nic->function);
    sample_destroy(nic);
    d->slot = harness_attach(d->h, function);
}

/* CVE-2018-20123: a device that can't be made leaves nothing behind. */
static void test_creation_fails(struct pvd *d, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options =
        options_parse(pvrdma_options, "--rdma", "backend=verbs,device=no-such-device", &error);
    struct pvrdma_nic nic = {0}; /* not asked before there is a backend */

    g_assert_no_error(error);
    g_assert_null(pvrdma_create("rdma1", options, &nic, &d->h->env, d->h->loop, &error));
    g_assert_nonnull(error);
}

static void test_capabilities(struct pvd *d, gconstpointer data)
{
    const struct pvr_caps *caps = &pvd_region(d, PVR_VERSION)->caps;

    pvd_tell_region(d);
    g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), ==, 0);
    g_assert_cmpuint(caps->mode, ==, PVR_MODE_ROCE);
    g_assert_cmpuint(caps->gid_types, ==, PVR_GID_ROCE_V2);
    g_assert_cmpuint(caps->phys_port_cnt, ==, 1);
    g_assert_cmpuint(caps->max_pkeys, >=, 1);
    g_assert_cmpuint(caps->max_uar & (caps->max_uar - 1), ==, 0);
    g_assert_cmpuint(caps->max_cqe & (caps->max_cqe - 1), ==, 0);
    g_assert_cmpuint(caps->max_cq, <=, 1024);
    g_assert_cmpuint(caps->max_qp, <=, 65535);
    g_assert_cmpuint(caps->gid_tbl_len, <=, 256);
    g_assert_cmpuint(caps->max_qp_rd_atom, >, 0);
    g_assert_cmpuint(caps->max_qp_init_rd_atom, >, 0);
    g_assert_cmpuint(caps->page_size_cap, >=, 4096);
    g_assert_cmpuint(caps->vendor_id, !=, 0);
    g_assert_cmpuint(caps->bmme_flags == 0 || caps->bmme_flags == 7, ==, true);
    g_assert_cmpuint(caps->max_fast_reg_page_list_len, <=, 128);
    g_assert_cmpuint(caps->node_guid[3], ==, 0xff);
    g_assert_cmpmem(caps->node_guid, 8, caps->sys_image_guid, 8);
}

static void test_versions(struct pvd *d, gconstpointer data)
{
    static const uint32_t refused[] = {0, 16, 21, UINT32_MAX};
    static const struct pvr_caps none;

    for (uint32_t version = PVR_VERSION_MIN; version <= PVR_VERSION; version++) {
        struct pvr_dsr *dsr = pvd_region(d, version);

        pvd_tell_region(d);
        g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), ==, 0);
        g_assert_cmpuint(dsr->caps.gid_types, ==, version == 17 ? 1 : 2);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++) {
        struct pvr_dsr *dsr = pvd_region(d, refused[i]);

        memset(&dsr->caps, 0xff, sizeof(dsr->caps));
        pvd_tell_region(d);
        g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), ==, EPROTONOSUPPORT);
        g_assert_cmpmem(&dsr->caps, sizeof(none), &none, sizeof(none));
        pvd_write(d, PVR_REG_CTL, PVR_CTL_ACTIVATE);
        g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), !=, 0);
    }
}

/* CVE-2021-3607, CVE-2021-3608, CVE-2023-1544: sizes and pages of the device's own rings. */
static void test_bad_device_rings(struct pvd *d, gconstpointer data)
{
    static const uint32_t sizes[] = {0, 1, 5, 513, 0x80000000, UINT32_MAX};

    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(sizes); i++) {
        struct pvr_dsr *dsr = pvd_region(d, PVR_VERSION);

        *(i % 2 ? &dsr->async_ring_pages.num_pages : &dsr->cq_ring_pages.num_pages) = sizes[i / 2];
        pvd_tell_region(d);
        g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), !=, 0);
        g_assert_cmpuint(dsr->caps.max_qp, ==, 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        struct pvr_dsr *dsr = pvd_region(d, PVR_VERSION);
        uint64_t *fields[] = {&dsr->cmd_slot_dma, &dsr->resp_slot_dma,
                              &dsr->async_ring_pages.pdir_dma, &dsr->cq_ring_pages.pdir_dma};
        static const uint64_t addresses[] = {0, 0x1001, UINT64_C(1) << 40, UINT64_MAX & ~0xfffull};
        uint64_t good = *fields[i];

        for (unsigned j = 0; j < G_N_ELEMENTS(addresses); j++) {
            *fields[i] = addresses[j];
            pvd_tell_region(d);
            g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), !=, 0);
        }
        *fields[i] = good;
        pvd_tell_region(d);
        g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), ==, 0);
    }
}

/* CVE-2022-1050: commands before there are slots and rings, and after they are gone. */
static void test_commands_out_of_order(struct pvd *d, gconstpointer data)
{
    pvd_write(d, PVR_REG_REQUEST, 0);
    g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), !=, 0);
    pvd_write(d, PVR_REG_CTL, PVR_CTL_ACTIVATE);
    g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), !=, 0);
    pvd_region(d, PVR_VERSION);
    pvd_tell_region(d);
    pvd_write(d, PVR_REG_REQUEST, 0);
    g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), !=, 0);
    pvd_start(d, PVR_VERSION);
    pvd_create_pd(d, 0);
    pvd_write(d, PVR_REG_CTL, PVR_CTL_RESET);
    pvd_write(d, PVR_REG_REQUEST, 0);
    g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), !=, 0);
    pvd_write(d, PVR_REG_CTL, PVR_CTL_UNQUIESCE);
    g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), !=, 0);
}

static void test_new_region_is_a_reset(struct pvd *d, gconstpointer data)
{
    pvd_start(d, PVR_VERSION);
    pvd_create_cq(d, 0, 64);
    g_assert_cmpuint(pvd_create_pd(d, 0), ==, 0);
    pvd_start(d, PVR_VERSION);
    g_assert_cmpuint(pvd_create_pd(d, 0), ==, 0);
}

/* CVE-2018-20191: doorbell pages are only written, but reading one must not hurt. */
static void test_odd_accesses(struct pvd *d, gconstpointer data)
{
    static const unsigned sizes[] = {1, 2, 4, 8};

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
        for (uint64_t at = 0; at < 64; at += sizes[i]) {
            g_assert_cmphex(harness_bar_read(d->h, d->slot, PVR_BAR_UAR, at, sizes[i]), ==, 0);
            harness_bar_write(d->h, d->slot, PVR_BAR_UAR, 255 * 4096 + at, sizes[i], UINT64_MAX);
            harness_bar_write(d->h, d->slot, PVR_BAR_UAR, at, sizes[i], UINT64_MAX);
            harness_bar_read(d->h, d->slot, PVR_BAR_REGISTERS, at, sizes[i]);
        }
}

/* ---- commands ---- */

static void test_port(struct pvd *d, gconstpointer data)
{
    union pvr_request req = {.query_port.port_num = 1};
    union pvr_response resp;
    const struct pvr_port_attr *attrs = &resp.query_port.attrs;

    g_assert_cmpuint(pvd_command(d, PVR_CMD_QUERY_PORT, &req, &resp), ==, 0);
    g_assert_cmpuint(attrs->state, ==, PVR_PORT_ACTIVE);
    g_assert_cmpuint(attrs->active_mtu, ==, RDMA_MTU_4096);
    g_assert_cmpuint(attrs->max_msg_sz, >, 0x1000);
    g_assert_cmpuint(attrs->pkey_tbl_len, ==, 1);
    g_assert_cmphex(attrs->port_cap_flags & PVR_PORT_IP_BASED_GIDS, !=, 0);
    d->nic_active = false;
    pvrdma_nic_changed(d->pvrdma);
    g_assert_cmpuint(pvd_command(d, PVR_CMD_QUERY_PORT, &req, &resp), ==, 0);
    g_assert_cmpuint(attrs->state, ==, PVR_PORT_DOWN);
    g_assert_cmpuint(pvd_wait_event(d).type, ==, PVR_EVENT_PORT_ERR);
    g_assert_cmpuint(pvd_interrupts(d, PVR_VECTOR_ASYNC), ==, 1);
    for (unsigned port = 0; port < 256; port += 2) {
        req.query_port.port_num = (uint8_t)port;
        g_assert_cmpuint(pvd_command(d, PVR_CMD_QUERY_PORT, &req, &resp), ==, EINVAL);
    }
}

static void test_pkey(struct pvd *d, gconstpointer data)
{
    union pvr_request req = {.query_pkey = {.port_num = 1}};
    union pvr_response resp;

    g_assert_cmpuint(pvd_command(d, PVR_CMD_QUERY_PKEY, &req, &resp), ==, 0);
    g_assert_cmphex(resp.query_pkey.pkey, ==, 0xffff);
    req.query_pkey.index = 1;
    g_assert_cmpuint(pvd_command(d, PVR_CMD_QUERY_PKEY, &req, &resp), ==, EINVAL);
}

static void test_unknown_commands(struct pvd *d, gconstpointer data)
{
    static const uint32_t unknown[] = {PVR_CMD_RESIZE_CQ, PVR_COMMANDS, 1000, 0x80000000,
                                       UINT32_MAX};
    union pvr_request req = {0};
    union pvr_response resp;

    for (unsigned i = 0; i < G_N_ELEMENTS(unknown); i++)
        g_assert_cmpuint(pvd_command(d, unknown[i], &req, &resp), ==, EOPNOTSUPP);
    pvd_write(d, PVR_REG_REQUEST, 1);
    g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), ==, EINVAL);
}

static void test_contexts(struct pvd *d, gconstpointer data)
{
    uint64_t first = harness_bar_address(d->h, d->slot, PVR_BAR_UAR) / PVR_PAGE_SIZE;
    const uint64_t bad[] = {0, first, first - 1, first + 256, UINT64_MAX};
    union pvr_request req = {0};
    union pvr_response resp;
    uint32_t context = pvd_open_context(d, 3);

    g_assert_cmpuint(context, !=, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        req.create_uc.pfn = bad[i];
        g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_UC, &req, &resp), !=, 0);
    }
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_UC, context), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_UC, context), ==, ENOENT);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_UC, 0), ==, ENOENT);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_UC, UINT32_MAX), ==, ENOENT);
    g_assert_cmpuint(pvd_open_context(d, 3), ==, context);
}

static void test_domains(struct pvd *d, gconstpointer data)
{
    union pvr_request req = {.handle.handle = 7}; /* no such context */
    union pvr_response resp;
    uint32_t pd = pvd_create_pd(d, 0), other = pvd_create_pd(d, 0);

    g_assert_cmpuint(pd, !=, other);
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_PD, &req, &resp), ==, EINVAL);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_PD, pd), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_PD, pd), ==, ENOENT);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_PD, UINT32_MAX), ==, ENOENT);
}

/* CVE-2021-3582: a region's length and its number of pages must agree, with the offset counted in.
 * */
static void test_region_lengths(struct pvd *d, gconstpointer data)
{
    static const struct {
        uint64_t start, length;
        uint32_t pages;
        bool good;
    } cases[] = {
        {0x10000, 0x3000, 3, true},
        {0x10010, 0x3000, 4, true},
        {0x10fff, 2, 2, true},
        {0x10fff, 1, 1, true},
        {0x10000, 0x3000, 2, false},
        {0x10000, 0x3000, 4, false},
        {0x10010, 0x3000, 3, false},
        {0x10000, 0, 1, false},
        {0x10000, 0, 0, false},
        {0x10000, 0x3000, 0, false},
        {0, 1u << 31, 1u << 19, false},
        {0, UINT64_MAX, 4, false},
        {UINT64_MAX - 1, 4, 2, false},
        {0, 1, UINT32_MAX, false},
        {UINT64_MAX - 4095, 4096, 1, true},
    };
    uint32_t pd = pvd_create_pd(d, 0);
    struct pvd_buffer buffer = pvd_alloc(d, 4);

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        union pvr_request req = {.create_mr = {.start = cases[i].start,
                                               .length = cases[i].length,
                                               .pdir_dma = buffer.pdir,
                                               .pd_handle = pd,
                                               .access_flags = PVR_ACCESS_ALL | 1u << 20,
                                               .nchunks = cases[i].pages}};
        union pvr_response resp;

        g_assert_cmpint(pvd_command(d, PVR_CMD_CREATE_MR, &req, &resp) == 0, ==, cases[i].good);
        if (cases[i].good)
            g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_MR, resp.create_mr.mr_handle),
                             ==, 0);
    }
}

static void test_regions(struct pvd *d, gconstpointer data)
{
    uint32_t context = pvd_open_context(d, 1), pd = pvd_create_pd(d, 0);
    uint32_t user_pd = pvd_create_pd(d, context);
    struct pvd_buffer buffer = pvd_alloc(d, 2);
    struct pvd_mr mr = pvd_register(d, pd, &buffer, 0x7000, 0x2000, PVR_ACCESS_ALL);
    struct pvd_mr dma = pvd_dma_mr(d, pd);
    union pvr_request req = {0};
    union pvr_response resp;

    g_assert_cmpuint(mr.handle, !=, dma.handle);
    g_assert_cmphex(mr.lkey, !=, dma.lkey);
    /* All of memory is not for processes. */
    req.create_mr = (struct pvr_cmd_create_mr){.pd_handle = user_pd, .flags = PVR_MR_DMA};
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_MR, &req, &resp), ==, EPERM);
    for (uint32_t pages = 0; pages <= 129; pages += 129) {
        req.create_mr =
            (struct pvr_cmd_create_mr){.pd_handle = pd, .flags = PVR_MR_FRMR, .nchunks = pages};
        g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_MR, &req, &resp), ==, EINVAL);
    }
    req.create_mr =
        (struct pvr_cmd_create_mr){.pd_handle = pd, .flags = PVR_MR_FRMR, .nchunks = 128};
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_MR, &req, &resp), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_MR, resp.create_mr.mr_handle), ==, 0);
    req.create_mr = (struct pvr_cmd_create_mr){.pd_handle = 99, .flags = PVR_MR_DMA};
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_MR, &req, &resp), ==, EINVAL);
    req.create_mr = (struct pvr_cmd_create_mr){.pd_handle = pd, .flags = 3};
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_MR, &req, &resp), ==, EINVAL);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_MR, dma.handle), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_MR, dma.handle), ==, ENOENT);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_MR, mr.handle), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_PD, pd), ==, 0);
}

/* ---- regions that take long ---- */

static struct rdma_ops slow_ops; /* the backend's, but for its first function */
static int (*quick_create)(struct rdma_mr *mr);
static struct rdma_mr *held;

/* It is there, but nobody is told. */
static int hold(struct rdma_mr *mr)
{
    g_assert_cmpint(quick_create(mr), ==, 0);
    held = mr;
    return 1;
}

static void release(struct pvd *d, int error)
{
    struct rdma *rdma = pvrdma_backend(d->pvrdma);

    g_mutex_lock(&rdma->lock);
    rdma_mr_created(held, error);
    g_mutex_unlock(&rdma->lock);
}

/* Leaves a CREATE_MR under way; returns its domain. */
static uint32_t begin_slow_region(struct pvd *d)
{
    struct rdma *rdma = pvrdma_backend(d->pvrdma);
    uint32_t pd = pvd_create_pd(d, 0);
    union pvr_request req = {.create_mr = {.pd_handle = pd, .flags = PVR_MR_FRMR, .nchunks = 8}};
    union pvr_response resp;

    quick_create = rdma->ops->create_mr;
    slow_ops = *rdma->ops;
    slow_ops.create_mr = hold;
    rdma->ops = &slow_ops;
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_MR, &req, &resp), ==, 0);
    g_assert_cmphex(resp.hdr.ack, ==, 0); /* no answer yet */
    return pd;
}

static void test_slow_region(struct pvd *d, gconstpointer data)
{
    union pvr_response resp;

    begin_slow_region(d);
    release(d, 0);
    g_assert_cmpuint(pvd_interrupts(d, PVR_VECTOR_RESPONSE), ==, d->responses + 1);
    harness_read(d->h, d->response_slot, &resp, sizeof(resp));
    g_assert_cmphex(resp.hdr.ack, ==, PVR_ACK(PVR_CMD_CREATE_MR));
    g_assert_cmphex(resp.create_mr.rkey, !=, 0);
    d->responses++;
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_MR, resp.create_mr.mr_handle), ==, 0);
}

static void test_slow_region_fails(struct pvd *d, gconstpointer data)
{
    uint32_t pd = begin_slow_region(d);
    union pvr_response resp;

    release(d, -ENOMEM);
    g_assert_cmpuint(pvd_interrupts(d, PVR_VECTOR_RESPONSE), ==, d->responses + 1);
    harness_read(d->h, d->response_slot, &resp, sizeof(resp));
    g_assert_cmphex(resp.hdr.ack, ==, 0); /* which the driver takes for a failure */
    d->responses++;
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_PD, pd), ==, 0);
}

static void pause_device(struct pvd *d, bool pause)
{
    g_assert_true(
        devices_set_state(&d->h->devices, pause ? DEVICE_STOP : DEVICE_RUNNING, 1000, NULL));
}

/* The answer to a region that is there while the device is paused waits until it runs again. */
static void test_slow_region_while_paused(struct pvd *d, gconstpointer data)
{
    union pvr_response resp;

    begin_slow_region(d);
    pause_device(d, true);
    release(d, 0);
    g_assert_cmpuint(pvd_interrupts(d, PVR_VECTOR_RESPONSE), ==, d->responses);
    pause_device(d, false);
    g_assert_cmpuint(pvd_interrupts(d, PVR_VECTOR_RESPONSE), ==, d->responses + 1);
    harness_read(d->h, d->response_slot, &resp, sizeof(resp));
    g_assert_cmphex(resp.hdr.ack, ==, PVR_ACK(PVR_CMD_CREATE_MR));
    d->responses++;
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_MR, resp.create_mr.mr_handle), ==, 0);
    g_assert_cmpuint(d->pvrdma->creations->len, ==, 0);
}

static void test_slow_region_fails_while_paused(struct pvd *d, gconstpointer data)
{
    begin_slow_region(d);
    pause_device(d, true);
    release(d, -ENOMEM);
    g_assert_cmpuint(pvd_interrupts(d, PVR_VECTOR_RESPONSE), ==, d->responses);
    pause_device(d, false);
    g_assert_cmpuint(pvd_interrupts(d, PVR_VECTOR_RESPONSE), ==, d->responses + 1);
    g_assert_cmphex(harness_load(d->h, d->response_slot + 8, 4), ==, 0); /* no acknowledgement */
    g_assert_cmpuint(d->pvrdma->mrs.used, ==, 0);
}

/* Its driver had given up, and gave the next command during the pause. */
static void test_region_forgotten_while_paused(struct pvd *d, gconstpointer data)
{
    union pvr_request req = {.query_pkey = {.hdr = {.cmd = PVR_CMD_QUERY_PKEY}, .port_num = 1}};
    struct rdma *rdma = pvrdma_backend(d->pvrdma);

    begin_slow_region(d);
    g_assert_true(devices_set_state(&d->h->devices, DEVICE_RUNNING_P2P, 1000, NULL));
    release(d, 0);
    harness_write(d->h, d->command_slot, &req, sizeof(req));
    pvd_write(d, PVR_REG_REQUEST, 0);
    pause_device(d, false);
    g_assert_cmpuint(pvd_interrupts(d, PVR_VECTOR_RESPONSE), ==, d->responses + 1);
    g_assert_cmphex(harness_load(d->h, d->response_slot + 8, 4), ==, PVR_ACK(PVR_CMD_QUERY_PKEY));
    g_assert_cmpuint(g_hash_table_size(rdma->objects[RDMA_OBJECT_MR]), ==, 0);
    g_assert_cmpuint(d->pvrdma->mrs.used, ==, 0);
}

static void test_reset_with_a_region_unanswered(struct pvd *d, gconstpointer data)
{
    begin_slow_region(d);
    pause_device(d, true);
    release(d, 0);
    device_reset(&pvrdma_function(d->pvrdma)->device);
    g_assert_cmpuint(d->pvrdma->creations->len, ==, 0);
    g_assert_cmpuint(pvd_interrupts(d, PVR_VECTOR_RESPONSE), ==, d->responses);
}

/* The driver gave up waiting: a signal. Its next command must not get that answer. */
static void test_forgotten_region(struct pvd *d, gconstpointer data)
{
    uint32_t pd = begin_slow_region(d);
    union pvr_request req = {.query_pkey.port_num = 1};
    union pvr_response resp;

    g_assert_cmpuint(pvd_command(d, PVR_CMD_QUERY_PKEY, &req, &resp), ==, 0);
    g_assert_cmphex(resp.query_pkey.pkey, ==, 0xffff);
    release(d, 0);
    g_assert_cmpuint(pvd_interrupts(d, PVR_VECTOR_RESPONSE), ==, d->responses);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_PD, pd), ==, 0);
}

/* A process was killed while it registered memory: what its domain had goes with it, whether the answer
 * never came or came too late, and its context can be closed. */
static void test_domain_takes_its_regions_along(struct pvd *d, gconstpointer data)
{
    uint32_t context = pvd_open_context(d, 1), pd = pvd_create_pd(d, context);
    struct pvd_buffer buffer = pvd_alloc(d, 2);
    struct pvd_mr mr = pvd_register(d, pd, &buffer, 0x7000, 0x2000, PVR_ACCESS_ALL);
    struct rdma *rdma = pvrdma_backend(d->pvrdma);
    uint32_t slow = begin_slow_region(d);

    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_PD, pd), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_UC, context), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_MR, mr.handle), ==, ENOENT);
    g_assert_cmpuint(g_hash_table_size(rdma->objects[RDMA_OBJECT_MR]), ==, 1);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_PD, slow), ==, 0);
    g_assert_cmpuint(g_hash_table_size(rdma->objects[RDMA_OBJECT_MR]), ==, 0);
    g_assert_cmpuint(g_hash_table_size(rdma->objects[RDMA_OBJECT_PD]), ==, 0);
    g_assert_cmpuint(pvd_interrupts(d, PVR_VECTOR_RESPONSE), ==, d->responses);
}

static void test_reset_during_slow_region(struct pvd *d, gconstpointer data)
{
    begin_slow_region(d);
    g_assert_cmpuint(d->pvrdma->creations->len, ==, 1);
    pvd_write(d, PVR_REG_CTL, PVR_CTL_RESET);
    g_assert_cmpuint(d->pvrdma->creations->len, ==, 0); /* no answer is waited for */
    pvd_start(d, PVR_VERSION);
    g_assert_cmpuint(pvd_create_pd(d, 0), ==, 0);
}

static void test_bad_directories(struct pvd *d, gconstpointer data)
{
    static const uint64_t bad[] = {0, 8, 0x1001, UINT64_C(1) << 40, UINT64_MAX, ~UINT64_C(0xfff)};
    uint32_t pd = pvd_create_pd(d, 0);

    for (unsigned i = 0; i < 3 * G_N_ELEMENTS(bad); i++) {
        struct pvd_buffer buffer = pvd_alloc(d, 600); /* two tables */
        uint64_t table = harness_load(d->h, buffer.pdir + 8, 8);
        union pvr_request req = {
            .create_mr = {
                .length = 600 * 4096ull, .pdir_dma = buffer.pdir, .pd_handle = pd, .nchunks = 600}};
        union pvr_response resp;

        switch (i % 3) {
        case 0:
            req.create_mr.pdir_dma = bad[i / 3];
            break;
        case 1:
            harness_store(d->h, buffer.pdir + 8, 8, bad[i / 3]);
            break;
        case 2:
            harness_store(d->h, table + 8 * 87, 8, bad[i / 3]);
            break;
        }
        g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_MR, &req, &resp), !=, 0);
        harness_store(d->h, buffer.pdir + 8, 8, table);
        harness_store(d->h, table + 8 * 87, 8, buffer.gpa);
        req.create_mr.pdir_dma = buffer.pdir;
        g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_MR, &req, &resp), ==, 0);
        if (i % 3 == 2)
            d->h->next_free = buffer.gpa; /* memory is never given back otherwise */
    }
}

/* CVE-2018-20125, CVE-2018-20126: sizes of completion queues; what fails leaves nothing behind. */
static void test_bad_cqs(struct pvd *d, gconstpointer data)
{
    static const struct {
        uint32_t context, cqe, pages;
    } bad[] = {{0, 0, 2},   {0, 63, 2},       {0, 64, 1},          {0, 64, 0},
               {0, 128, 2}, {0, 1u << 31, 3}, {0, 1u << 17, 4000}, {0, 64, UINT32_MAX},
               {1, 64, 2},  {256, 64, 2},     {UINT32_MAX, 64, 2}, {0, 64, 262145}};
    struct pvd_buffer buffer = pvd_alloc(d, 3);
    union pvr_response resp;

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        union pvr_request req = {.create_cq = {.pdir_dma = buffer.pdir,
                                               .ctx_handle = bad[i].context,
                                               .cqe = bad[i].cqe,
                                               .nchunks = bad[i].pages}};

        g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_CQ, &req, &resp), !=, 0);
    }
    struct pvd_cq cq = pvd_create_cq(d, 0, 128);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_CQ, cq.handle), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_CQ, cq.handle), ==, ENOENT);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_CQ, UINT32_MAX), ==, ENOENT);
}

static void test_handles_run_out(struct pvd *d, gconstpointer data)
{
    struct pvd_buffer buffer = pvd_alloc(d, 2);
    union pvr_request req = {.create_cq = {.pdir_dma = buffer.pdir, .cqe = 1, .nchunks = 2}};
    union pvr_response resp;
    unsigned count = 0;

    while (pvd_command(d, PVR_CMD_CREATE_CQ, &req, &resp) == 0) {
        g_assert_cmpuint(resp.create_cq.cq_handle, <, 1024);
        count++;
        req.create_cq = (struct pvr_cmd_create_cq){.pdir_dma = buffer.pdir, .cqe = 1, .nchunks = 2};
    }
    g_assert_cmpuint(count, <=, 1024);
    g_assert_cmpuint(count, >=, 256);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_CQ, 17), ==, 0);
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_CQ, &req, &resp), ==, 0);
    g_assert_cmpuint(resp.create_cq.cq_handle, ==, 17);
}

static void test_queue_pairs(struct pvd *d, gconstpointer data)
{
    uint32_t pd = pvd_create_pd(d, 0);
    struct pvd_cq cq = pvd_create_cq(d, 0, 64);
    struct pvd_qp gsi = pvd_create_qp(d, 0, pd, PVR_QPT_GSI, &cq, &cq, NULL, 16);
    struct pvd_qp rc = pvd_create_qp(d, 0, pd, PVR_QPT_RC, &cq, &cq, NULL, 16);

    g_assert_cmpuint(gsi.qpn, ==, 1);
    g_assert_cmpuint(gsi.handle, >, 0);
    g_assert_cmpuint(rc.handle, <, 4096);
    g_assert_cmpuint(rc.handle, !=, gsi.handle);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_QP, rc.handle), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_QP, rc.handle), ==, ENOENT);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_QP, 0), ==, ENOENT);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_QP, gsi.handle), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_CQ, cq.handle), ==, 0);
}

static void spoil_qp(struct pvr_cmd_create_qp *cmd, unsigned how, uint32_t user_pd,
                     uint32_t user_cq)
{
    switch (how) {
    case 0:
        cmd->pd_handle = 77;
        break;
    case 1:
        cmd->send_cq_handle = UINT32_MAX;
        break;
    case 2:
        cmd->recv_cq_handle = 99;
        break;
    case 3:
        cmd->qp_type = 3;
        break;
    case 4:
        cmd->qp_type = 0;
        break;
    case 5:
        cmd->qp_type = 255;
        break;
    case 6:
        cmd->max_send_wr = 0;
        break;
    case 7:
        cmd->max_send_wr = 15;
        break;
    case 8:
        cmd->max_send_wr = 1u << 31;
        break;
    case 9:
        cmd->max_recv_wr = 0;
        break;
    case 10:
        cmd->max_recv_wr = 4096;
        break;
    case 11:
        cmd->max_send_sge = 17;
        break;
    case 12:
        cmd->max_recv_sge = UINT32_MAX;
        break;
    case 13:
        cmd->send_chunks = 0;
        break;
    case 14:
        cmd->send_chunks = UINT16_MAX;
        break;
    case 15:
        cmd->total_chunks = 0;
        break;
    case 16:
        cmd->total_chunks = 1;
        break;
    case 17:
        cmd->total_chunks--;
        break;
    case 18:
        cmd->total_chunks = UINT16_MAX;
        break;
    case 19:
        cmd->pdir_dma = 0;
        break;
    case 20:
        cmd->is_srq = 1, cmd->srq_handle = 5;
        break;
    case 21:
        cmd->pd_handle = user_pd;
        break;
    case 22:
        cmd->send_cq_handle = user_cq;
        break;
    case 23:
        cmd->recv_cq_handle = user_cq;
        break;
    case 24:
        cmd->max_inline_data = 64;
        break;
    default:
        g_assert_not_reached();
    }
}

/* CVE-2018-20125, CVE-2018-20126 for queue pairs. */
static void test_bad_queue_pairs(struct pvd *d, gconstpointer data)
{
    uint32_t context = pvd_open_context(d, 1);
    uint32_t pd = pvd_create_pd(d, 0), user_pd = pvd_create_pd(d, context);
    struct pvd_cq cq = pvd_create_cq(d, 0, 64), user_cq = pvd_create_cq(d, context, 64);
    union pvr_request good = {0};
    union pvr_response resp;
    struct pvd_qp qp;

    pvd_fill_create_qp(d, &good.create_qp, &qp, 0, pd, PVR_QPT_RC, 16, false);
    good.create_qp.send_cq_handle = good.create_qp.recv_cq_handle = cq.handle;
    for (unsigned i = 0; i < 25; i++) {
        union pvr_request req = good;

        spoil_qp(&req.create_qp, i, user_pd, user_cq.handle);
        g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_QP, &req, &resp), !=, 0);
    }
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_QP, &good, &resp), ==, 0);
    g_assert_cmpuint(resp.create_qp_v2.qp_handle, ==, 1);
    /* A process can't have the port's management queue pair. */
    good.create_qp.pd_handle = user_pd;
    good.create_qp.send_cq_handle = good.create_qp.recv_cq_handle = user_cq.handle;
    good.create_qp.qp_type = PVR_QPT_GSI;
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_QP, &good, &resp), ==, EPERM);
}

static void test_states(struct pvd *d, gconstpointer data)
{
    uint32_t pd = pvd_create_pd(d, 0);
    struct pvd_cq cq = pvd_create_cq(d, 0, 64);
    struct pvd_qp qp = pvd_create_qp(d, 0, pd, PVR_QPT_RC, &cq, &cq, NULL, 16);
    union pvr_request req = {.query_qp = {.qp_handle = qp.handle}};
    union pvr_response resp;
    struct pvr_qp_attr attr = {.qp_state = RDMA_QPS_INIT, .port_num = 1};

    g_assert_cmpuint(pvd_set_state(d, &qp, RDMA_QPS_RTS), ==, EINVAL);
    g_assert_cmpuint(pvd_set_state(d, &qp, 7), ==, EINVAL);
    g_assert_cmpuint(pvd_set_state(d, &qp, UINT32_MAX), ==, EINVAL);
    g_assert_cmpuint(pvd_modify(d, &qp, &attr, PVR_QP_STATE | PVR_QP_CAP), ==, EINVAL);
    g_assert_cmpuint(pvd_modify(d, &qp, &attr, UINT32_MAX), ==, EINVAL);
    pvd_bind_gid(d, 0);
    pvd_connect(d, &qp, PVR_QPT_RC, qp.qpn);
    g_assert_cmpuint(pvd_command(d, PVR_CMD_QUERY_QP, &req, &resp), ==, 0);
    g_assert_cmpuint(resp.query_qp.attrs.qp_state, ==, RDMA_QPS_RTS);
    g_assert_cmpuint(resp.query_qp.attrs.dest_qp_num, ==, qp.qpn);
    g_assert_cmpuint(resp.query_qp.attrs.sq_psn, ==, 100);
    g_assert_cmpuint(resp.query_qp.attrs.cap.max_send_wr, ==, 16);
    g_assert_cmpuint(resp.query_qp.attrs.ah_attr.grh.hop_limit, ==, 64);
    g_assert_cmpuint(pvd_set_state(d, &qp, RDMA_QPS_ERR), ==, 0);
    g_assert_cmpuint(pvd_set_state(d, &qp, RDMA_QPS_RTS), ==, EINVAL);
    g_assert_cmpuint(pvd_set_state(d, &qp, RDMA_QPS_RESET), ==, 0);
    struct pvd_qp none = {.handle = 4000};
    g_assert_cmpuint(pvd_set_state(d, &none, RDMA_QPS_RESET), ==, ENOENT);
    req.query_qp.qp_handle = 0;
    g_assert_cmpuint(pvd_command(d, PVR_CMD_QUERY_QP, &req, &resp), ==, ENOENT);
}

static void test_shared_receive_queues(struct pvd *d, gconstpointer data)
{
    static const struct {
        uint32_t max_wr, max_sge, limit, pages;
        uint8_t type;
    } bad[] = {{0, 1, 0, 2, 0},        {3, 1, 0, 2, 0},          {64, 2, 0, 1, 0},
               {64, 17, 0, 9, 0},      {64, 2, 65, 2, 0},        {64, 2, 0, 2, 1},
               {1u << 31, 2, 0, 2, 0}, {64, 2, 0, UINT32_MAX, 0}};
    uint32_t pd = pvd_create_pd(d, 0);
    struct pvd_srq srq = pvd_create_srq(d, 0, pd, 64, 0);
    struct pvd_buffer buffer = pvd_alloc(d, 2);
    union pvr_request req;
    union pvr_response resp;

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        req = (union pvr_request){
            .create_srq = {.pdir_dma = buffer.pdir,
                           .pd_handle = pd,
                           .nchunks = bad[i].pages,
                           .attrs = {bad[i].max_wr, bad[i].max_sge, bad[i].limit, 0},
                           .srq_type = bad[i].type}};
        g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_SRQ, &req, &resp), !=, 0);
    }
    req = (union pvr_request){.modify_srq = {.srq_handle = srq.handle,
                                             .attr_mask = PVR_SRQ_MAX_WR,
                                             .attrs = {.max_wr = 128}}};
    g_assert_cmpuint(pvd_command(d, PVR_CMD_MODIFY_SRQ, &req, &resp), ==, EINVAL);
    req.modify_srq.attr_mask = PVR_SRQ_LIMIT;
    req.modify_srq.attrs.srq_limit = 65;
    g_assert_cmpuint(pvd_command(d, PVR_CMD_MODIFY_SRQ, &req, &resp), ==, EINVAL);
    req = (union pvr_request){.handle.handle = srq.handle};
    g_assert_cmpuint(pvd_command(d, PVR_CMD_QUERY_SRQ, &req, &resp), ==, 0);
    g_assert_cmpuint(resp.query_srq.attrs.max_wr, ==, 64);
    g_assert_cmpuint(resp.query_srq.attrs.max_sge, ==, 2);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_SRQ, srq.handle), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_SRQ, srq.handle), ==, ENOENT);
}

static void test_gids(struct pvd *d, gconstpointer data)
{
    const struct pvr_dsr *dsr = harness_ptr(d->h, d->dsr, sizeof(*dsr));
    uint32_t count = dsr->caps.gid_tbl_len;
    union pvr_request req = {0};
    union pvr_response resp;

    pvd_bind_gid(d, 0);
    pvd_bind_gid(d, count - 1);
    req.create_bind.gid_type = PVR_GID_ROCE_V2;
    req.create_bind.index = count;
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_BIND, &req, &resp), ==, EINVAL);
    req.create_bind.index = 1;
    req.create_bind.gid_type = PVR_GID_ROCE_V1; /* not offered */
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_BIND, &req, &resp), ==, EINVAL);
    req = (union pvr_request){.destroy_bind.index = count - 1};
    g_assert_cmpuint(pvd_command(d, PVR_CMD_DESTROY_BIND, &req, &resp), ==, 0);
    req = (union pvr_request){.destroy_bind.index = UINT32_MAX};
    g_assert_cmpuint(pvd_command(d, PVR_CMD_DESTROY_BIND, &req, &resp), ==, EINVAL);
}

/* Before version 20 the driver takes a QPN for a handle, an index of its table. */
static void test_old_driver(struct pvd *d, gconstpointer data)
{
    pvd_start(d, 18);
    uint32_t pd = pvd_create_pd(d, 0);
    struct pvd_cq cq = pvd_create_cq(d, 0, 64);
    struct pvd_qp qp = pvd_create_qp(d, 0, pd, PVR_QPT_RC, &cq, &cq, NULL, 16);

    g_assert_cmpuint(qp.qpn, <, 4096);
    pvd_bind_gid(d, 0);
    pvd_connect(d, &qp, PVR_QPT_RC, qp.qpn);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_QP, qp.handle), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(d, PVR_CMD_DESTROY_QP, qp.handle), ==, ENOENT);
}

#undef ADD /* of sample.h */
#define ADD(PATH, SETUP, TEST) g_test_add(PATH, struct pvd, NULL, SETUP, TEST, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL);
    ADD("/pvrdma/identity", setup, test_identity);
    ADD("/pvrdma/second-function", setup, test_second_function);
    ADD("/pvrdma/creation-fails", setup, test_creation_fails);
    ADD("/pvrdma/capabilities", setup, test_capabilities);
    ADD("/pvrdma/versions", setup, test_versions);
    ADD("/pvrdma/bad-device-rings", setup, test_bad_device_rings);
    ADD("/pvrdma/commands-out-of-order", setup, test_commands_out_of_order);
    ADD("/pvrdma/new-region", setup, test_new_region_is_a_reset);
    ADD("/pvrdma/odd-accesses", setup_started, test_odd_accesses);
    ADD("/pvrdma/port", setup_started, test_port);
    ADD("/pvrdma/pkey", setup_started, test_pkey);
    ADD("/pvrdma/unknown-commands", setup_started, test_unknown_commands);
    ADD("/pvrdma/contexts", setup_started, test_contexts);
    ADD("/pvrdma/domains", setup_started, test_domains);
    ADD("/pvrdma/regions", setup_started, test_regions);
    ADD("/pvrdma/region-lengths", setup_started, test_region_lengths);
    ADD("/pvrdma/slow-region", setup_started, test_slow_region);
    ADD("/pvrdma/slow-region-fails", setup_started, test_slow_region_fails);
    ADD("/pvrdma/slow-region-while-paused", setup_started, test_slow_region_while_paused);
    ADD("/pvrdma/slow-region-fails-while-paused", setup_started,
        test_slow_region_fails_while_paused);
    ADD("/pvrdma/region-forgotten-while-paused", setup_started, test_region_forgotten_while_paused);
    ADD("/pvrdma/reset-with-a-region-unanswered", setup_started,
        test_reset_with_a_region_unanswered);
    ADD("/pvrdma/forgotten-region", setup_started, test_forgotten_region);
    ADD("/pvrdma/domain-takes-its-regions-along", setup_started,
        test_domain_takes_its_regions_along);
    ADD("/pvrdma/reset-during-slow-region", setup_started, test_reset_during_slow_region);
    ADD("/pvrdma/bad-directories", setup_started, test_bad_directories);
    ADD("/pvrdma/bad-cqs", setup_started, test_bad_cqs);
    ADD("/pvrdma/handles-run-out", setup_started, test_handles_run_out);
    ADD("/pvrdma/queue-pairs", setup_started, test_queue_pairs);
    ADD("/pvrdma/bad-queue-pairs", setup_started, test_bad_queue_pairs);
    ADD("/pvrdma/states", setup_started, test_states);
    ADD("/pvrdma/shared-receive-queues", setup_started, test_shared_receive_queues);
    ADD("/pvrdma/gids", setup_started, test_gids);
    ADD("/pvrdma/old-driver", setup, test_old_driver);
    return g_test_run();
}
