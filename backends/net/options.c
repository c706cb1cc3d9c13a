/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options - the keys of net backends (backends/net/net.h) */
#include "backends/net/net.h"

const char *const net_types[] = {"user", "tap", "stream", "dgram", "null", NULL};

const struct option_spec net_options[] = {NET_OPTIONS, {}};
