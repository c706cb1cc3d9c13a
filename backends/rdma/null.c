/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * null - an adapter that nobody answers: loopback without peers
 *
 * Work is taken and checked as ever; datagrams are lost, and what needs an answer of a peer is retried
 * and ends in RETRY_EXC_ERR. For tests of what a guest does then, and of a device's own overhead.
 */
#include "backends/rdma/loopback.h"

struct rdma *rdma_null_open(const struct options *options, struct dma *dma, struct loop *loop,
                            GError **error)
{
    return loopback_open("null", true, dma, loop);
}
