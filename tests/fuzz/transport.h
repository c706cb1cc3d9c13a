/* SPDX-License-Identifier: GPL-2.0-or-later */
/* transport - for a virtio device that is fuzzed without PCI: nobody hears its notifications */
#ifndef TESTS_FUZZ_TRANSPORT_H
#define TESTS_FUZZ_TRANSPORT_H

#include "virtio/device.h"

static void nothing(void *opaque)
{
}

static void nothing_queue(void *opaque, unsigned vector)
{
}

static const struct virtio_transport_ops transport = {
    .notify_queue = nothing_queue,
    .notify_config = nothing,
};

#endif
