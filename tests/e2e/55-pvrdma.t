#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter with its stock driver, over loopback: the tools of libibverbs, librdmacm and perftest, each
# with a server and a client in one guest; then the driver goes and comes back, also under traffic.
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
guest_timeout=300
need_pvrdma 'the stock driver'

pvrdma_guest pvrdma --memory=1G --rdma=backend=loopback <<'END'
check 'the port is active, with RoCE v2 GIDs' '
    ibv_devinfo -v | grep -q "PORT_ACTIVE" && grep -qx "RoCE v2" /sys/class/infiniband/$dev/ports/1/gid_attrs/types/$gid'
check_tools
check 'the driver goes and comes back' '
    rmmod vmw_pvrdma && insmod $pvrdma_module && pair ibv_rc_pingpong -g $gid -n 20'
END
finish
