/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verbs_gid - the guest's GIDs on the host's port (backends/rdma/verbs.h)
 *
 * A GID of RoCE is an address of the port's network interface: the kernel makes the one from the other.
 * One that the guest asks for and the port lacks is added to the interface as a host address (/32, /128),
 * and taken away with it; that needs CAP_NET_ADMIN. Without it, the one that gid_index= names is used in
 * its place, or the guest's request is refused, and the log says what to do.
 *
 * An address of the host is not reached through any interface any more. So one that the host reaches
 * directly through another interface, as it does a guest on a tap, is not added: the host could no longer
 * talk to that guest. Such a guest takes a further address for RDMA.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/rdma/verbs.h"

#define MAX_HOST_GIDS 256
#define PATIENCE_US   200000 /* from an address to its GID */

/* The index in the host's table, or -1. */
static int find_host_gid(struct verbs *verbs, const struct rdma_gid_entry *entry,
                         uint32_t *interface)
{
    g_autofree struct ibv_gid_entry *list = g_new0(struct ibv_gid_entry, MAX_HOST_GIDS);
    ssize_t count = ibv_query_gid_table(verbs->ib, list, MAX_HOST_GIDS, 0);
    uint32_t type = entry->type == RDMA_GID_ROCE_V1 ? IBV_GID_TYPE_ROCE_V1 : IBV_GID_TYPE_ROCE_V2;

    for (ssize_t i = 0; i < count; i++) {
        if (list[i].port_num != verbs->port)
            continue;
        *interface = list[i].ndev_ifindex;
        if (list[i].gid_type == type && list[i].gid_index <= UINT8_MAX &&
            !memcmp(list[i].gid.raw, entry->gid.raw, sizeof(entry->gid.raw)))
            return (int)list[i].gid_index;
    }
    return -1;
}

struct request {
    struct nlmsghdr head;
    union {
        struct ifaddrmsg address;
        struct rtmsg route;
    };
    uint8_t attributes[64];
};

struct answer {
    struct nlmsghdr head;
    union {
        struct nlmsgerr error;
        struct rtmsg route;
    };
    uint8_t attributes[1024];
};

static void add_attribute(struct request *request, int type, const void *data, size_t size)
{
    struct rtattr *attribute =
        (struct rtattr *)((uint8_t *)request + NLMSG_ALIGN(request->head.nlmsg_len));

    attribute->rta_type = type;
    attribute->rta_len = RTA_LENGTH(size);
    memcpy(RTA_DATA(attribute), data, size);
    request->head.nlmsg_len = NLMSG_ALIGN(request->head.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
}

static void add_address(struct request *request, int type, const union rdma_gid *gid)
{
    bool ipv4 = rdma_gid_is_ipv4(gid);

    add_attribute(request, type, gid->raw + (ipv4 ? 12 : 0), ipv4 ? 4 : 16);
}

/* The kernel's @answer to @request; 0, or -errno if that is an error. */
static int ask(const struct request *request, struct answer *answer)
{
    int error = -EIO;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (fd < 0)
        return -errno;
    memset(answer, 0, sizeof(*answer));
    ssize_t got = send(fd, request, request->head.nlmsg_len, 0);
    if (got >= 0)
        got = recv(fd, answer, sizeof(*answer), 0);
    if (got < 0)
        error = -errno;
    else if (got >= (ssize_t)NLMSG_LENGTH(sizeof(answer->route)) &&
             answer->head.nlmsg_len <= (size_t)got)
        error = answer->head.nlmsg_type == NLMSG_ERROR ? answer->error.error : 0;
    close(fd);
    return error;
}

/* Adds or removes the address of @gid. 0 or -errno. */
static int change_address(uint32_t interface, const union rdma_gid *gid, bool add)
{
    bool ipv4 = rdma_gid_is_ipv4(gid);
    struct request request = {
        .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)),
                 .nlmsg_type = add ? RTM_NEWADDR : RTM_DELADDR,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0)},
        .address = {.ifa_family = ipv4 ? AF_INET : AF_INET6,
                    .ifa_prefixlen = ipv4 ? 32 : 128,
                    .ifa_flags = ipv4 ? 0 : IFA_F_NODAD,
                    .ifa_index = interface},
    };
    struct answer answer;

    add_address(&request, IFA_LOCAL, gid);
    add_address(&request, IFA_ADDRESS, gid);
    return ask(&request, &answer);
}

/* The interface other than @interface through which the host has a neighbour of that address; 0: none. */
static uint32_t neighbour_on(uint32_t interface, const union rdma_gid *gid)
{
    bool ipv4 = rdma_gid_is_ipv4(gid);
    struct request request = {
        .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)),
                 .nlmsg_type = RTM_GETROUTE,
                 .nlmsg_flags = NLM_F_REQUEST},
        .route = {.rtm_family = ipv4 ? AF_INET : AF_INET6, .rtm_dst_len = ipv4 ? 32 : 128},
    };
    struct answer answer;
    uint32_t out = 0;

    if (gid->raw[0] == 0xfe && (gid->raw[1] & 0xc0) == 0x80)
        return 0; /* link-local: there is one on every interface */
    add_address(&request, RTA_DST, gid);
    if (ask(&request, &answer) || answer.head.nlmsg_type != RTM_NEWROUTE ||
        answer.route.rtm_type != RTN_UNICAST)
        return 0;
    int left = (int)RTM_PAYLOAD(&answer.head);
    for (const struct rtattr *at = RTM_RTA(&answer.route); RTA_OK(at, left);
         at = RTA_NEXT(at, left)) {
        if (at->rta_type == RTA_GATEWAY || at->rta_type == RTA_VIA)
            return 0;
        if (at->rta_type == RTA_OIF)
            memcpy(&out, RTA_DATA(at), sizeof(out));
    }
    return out == interface ? 0 : out;
}

static char *gid_text(const union rdma_gid *gid)
{
    char text[INET6_ADDRSTRLEN];

    if (rdma_gid_is_ipv4(gid))
        inet_ntop(AF_INET, gid->raw + 12, text, sizeof(text));
    else
        inet_ntop(AF_INET6, gid->raw, text, sizeof(text));
    return g_strdup(text);
}

static void say_not_added(struct verbs *verbs, const union rdma_gid *gid, uint32_t interface,
                          uint32_t neighbour, int error)
{
    g_autofree char *text = gid_text(gid);
    char name[IF_NAMESIZE] = "?", other[IF_NAMESIZE] = "?";

    if_indextoname(interface, name);
    if_indextoname(neighbour, other);
    if (neighbour)
        log_warn(
            "rdma",
            "%s: no GID for %s: the host reaches that address through %s, and would not as one "
            "of %s; give the guest another address for RDMA (ip address add), or gid_index=",
            verbs->device, text, other, name);
    else
        log_warn("rdma",
                 "%s: the port has no address %s and it can't be added (%s): ip address add %s dev "
                 "%s, or gid_index=",
                 verbs->device, text, g_strerror(error), text, name);
}

/* Adds the address and waits until the kernel made a GID of it: its index, or -1. */
static int add_host_gid(struct verbs *verbs, const struct rdma_gid_entry *entry, uint32_t interface,
                        bool *added)
{
    uint32_t neighbour = neighbour_on(interface, &entry->gid);
    int error = neighbour   ? -EADDRINUSE
                : interface ? change_address(interface, &entry->gid, true)
                            : -ENODEV;
    int index = -1;

    *added = !error;
    for (int waited = 0; !error && index < 0 && waited < PATIENCE_US; waited += 1000) {
        index = find_host_gid(verbs, entry, &interface);
        if (index < 0)
            g_usleep(1000);
    }
    if (index >= 0)
        return index;
    if (*added)
        change_address(interface, &entry->gid, false);
    *added = false;
    say_not_added(verbs, &entry->gid, interface, neighbour, error ? -error : ETIMEDOUT);
    return -1;
}

int verbs_add_gid(struct rdma *rdma, unsigned index, const struct rdma_gid_entry *entry)
{
    struct verbs *verbs = verbs_of(rdma);
    uint32_t interface = 0;
    bool added = false;
    int host = find_host_gid(verbs, entry, &interface);

    if (host < 0 && verbs->fallback_gid >= 0)
        host = verbs->fallback_gid;
    if (host < 0)
        host = add_host_gid(verbs, entry, interface, &added);
    if (host < 0)
        return -EADDRNOTAVAIL;
    verbs->gids[index].index = host;
    verbs->gids[index].added = added;
    verbs->gids[index].socket = verbs_gsi_listen(verbs, &entry->gid);
    return 0;
}

void verbs_remove_gid(struct rdma *rdma, unsigned index)
{
    struct verbs *verbs = verbs_of(rdma);
    uint32_t interface = 0;

    verbs_gsi_close(g_steal_pointer(&verbs->gids[index].socket));
    verbs_forget_handles(verbs, index);
    if (!verbs->gids[index].added)
        return;
    verbs->gids[index].added = false;
    find_host_gid(verbs, &rdma->gids[index], &interface);
    if (interface)
        change_address(interface, &rdma->gids[index].gid, false);
}
