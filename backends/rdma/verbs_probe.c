/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verbs_probe - which RDMA devices of the host guests can have (rdma_probe of backends/rdma/rdma.h)
 *
 * Nothing is made or locked: devices are opened, asked and closed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "backends/rdma/verbs.h"

#define MAX_GIDS 64
#define MIB      (UINT64_C(1) << 20)

/* The GIDs of a port as text: "0: fe80::1, 1: 10.0.0.1 (RoCE v2)". */
static char *list_gids(const struct ibv_gid_entry *gids, ssize_t count, unsigned port)
{
    GString *text = g_string_new(NULL);

    for (ssize_t i = 0; i < count; i++) {
        union rdma_gid gid;
        char address[INET6_ADDRSTRLEN];
        if (gids[i].port_num != port || gids[i].gid_type != IBV_GID_TYPE_ROCE_V2)
            continue;
        memcpy(gid.raw, gids[i].gid.raw, sizeof(gid.raw));
        if (rdma_gid_is_ipv4(&gid))
            inet_ntop(AF_INET, gid.raw + 12, address, sizeof(address));
        else
            inet_ntop(AF_INET6, gid.raw, address, sizeof(address));
        g_string_append_printf(text, "%s%u: %s", text->len ? ", " : "", gids[i].gid_index, address);
    }
    return g_string_free(text, FALSE);
}

static void probe_port(struct ibv_context *context, const char *name, unsigned port,
                       rdma_probe_fn found, void *opaque)
{
    g_autofree struct ibv_gid_entry *gids = g_new0(struct ibv_gid_entry, MAX_GIDS);
    struct ibv_port_attr attr;

    if (ibv_query_port(context, port, &attr))
        return;
    g_autofree char *list = list_gids(gids, ibv_query_gid_table(context, gids, MAX_GIDS, 0), port);
    g_autofree char *finding = g_strdup_printf("%s port %u: %s, MTU %u, RoCE v2 GIDs %s", name,
                                               port, ibv_port_state_str(attr.state),
                                               128u << attr.active_mtu, *list ? list : "none");
    if (attr.link_layer != IBV_LINK_LAYER_ETHERNET)
        found(opaque, false, finding, "an InfiniBand port: guests have RoCE, on Ethernet ports");
    else if (attr.state != IBV_PORT_ACTIVE)
        found(opaque, false, finding, "bring its network interface up: ip link set NAME up");
    else if (!*list)
        found(opaque, false, finding, "give its network interface an address");
    else
        found(opaque, true, finding, NULL);
}

static void probe_device(struct ibv_device *device, rdma_probe_fn found, void *opaque)
{
    const char *name = ibv_get_device_name(device);
    struct ibv_context *context = ibv_open_device(device);
    struct ibv_device_attr attr;

    if (!context) {
        g_autofree char *finding = g_strdup_printf("%s: %s", name, g_strerror(errno));
        found(opaque, false, finding, "may you open /dev/infiniband/uverbs*?");
        return;
    }
    if (!ibv_query_device(context, &attr))
        for (unsigned port = 1; port <= attr.phys_port_cnt; port++)
            probe_port(context, name, port, found, opaque);
    ibv_close_device(context);
}

static void probe_limits(rdma_probe_fn found, void *opaque)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY || !geteuid())
        return;
    g_autofree char *finding = g_strdup_printf("%" G_GUINT64_FORMAT " MiB of memory may be locked",
                                               (guint64)limit.rlim_cur / MIB);
    found(opaque, false, finding, "a guest can register no more than that: ulimit -l unlimited");
}

void rdma_verbs_probe(rdma_probe_fn found, void *opaque)
{
    int count = 0;
    struct ibv_device **list = ibv_get_device_list(&count);

    if (!list || !count) {
        found(opaque, false, "the host has no RDMA device: --rdma backend=loopback needs none",
              "modprobe rdma_rxe ib_uverbs; rdma link add rxe0 type rxe netdev NAME");
    } else {
        for (int i = 0; i < count; i++)
            probe_device(list[i], found, opaque);
        probe_limits(found, opaque);
    }
    if (list)
        ibv_free_device_list(list);
}
