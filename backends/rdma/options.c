/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options - the keys of RDMA backends (backends/rdma/rdma.h) */
#include "backends/rdma/rdma.h"

const char *const rdma_backends[] = {"loopback", "verbs", "null", NULL};

const struct option_spec rdma_options[] = {RDMA_OPTIONS, {}};
