/* SPDX-License-Identifier: GPL-2.0-or-later */
/* datagram - the network header that a received datagram begins with (IBTA annex A17.4.5.2) */
#include <arpa/inet.h>
#include <string.h>

#include "backends/rdma/driver.h"

static uint16_t ip_checksum(const uint8_t *header, size_t size)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < size; i += 2)
        sum += header[i] << 8 | header[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

void rdma_network_header(uint8_t grh[RDMA_GRH_SIZE], const struct rdma_gid_entry *from,
                         const struct rdma_av *av, uint32_t size, uint8_t *network_type)
{
    uint16_t length = 12 + 8 + size + 4; /* BTH, DETH, payload, ICRC */

    memset(grh, 0, RDMA_GRH_SIZE);
    if (from->type == RDMA_GID_ROCE_V2 && rdma_gid_is_ipv4(&from->gid) &&
        rdma_gid_is_ipv4(&av->dgid)) {
        uint8_t *ip = grh + 20;
        uint16_t total = htons(20 + 8 + length), checksum;
        ip[0] = 0x45;
        ip[1] = av->traffic_class;
        memcpy(ip + 2, &total, 2);
        ip[6] = 0x40; /* do not fragment */
        ip[8] = av->hop_limit ? av->hop_limit : 64;
        ip[9] = 17;
        memcpy(ip + 12, from->gid.raw + 12, 4);
        memcpy(ip + 16, av->dgid.raw + 12, 4);
        checksum = htons(ip_checksum(ip, 20));
        memcpy(ip + 10, &checksum, 2);
        *network_type = RDMA_NETWORK_IPV4;
        return;
    }
    bool v2 = from->type == RDMA_GID_ROCE_V2;
    uint32_t first = htonl(6u << 28 | (uint32_t)av->traffic_class << 20 | av->flow_label);
    uint16_t payload = htons(length + (v2 ? 8 : 0));
    memcpy(grh, &first, 4);
    memcpy(grh + 4, &payload, 2);
    grh[6] = v2 ? 17 : 0x1b;
    grh[7] = av->hop_limit ? av->hop_limit : 64;
    memcpy(grh + 8, from->gid.raw, 16);
    memcpy(grh + 24, av->dgid.raw, 16);
    *network_type = v2 ? RDMA_NETWORK_IPV6 : RDMA_NETWORK_ROCE_V1;
}
