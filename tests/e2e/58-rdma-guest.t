#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter over verbs, on soft RoCE: the same tools between two programs of one guest as over loopback
# (55-pvrdma.t), events too, and the host's objects gone with the guest.
# lab: --rdma
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
guest_timeout=200
need_pvrdma 'the stock driver over verbs'
need_soft_roce

in_guest verbs --memory=1G --rdma=backend=verbs,device=rxe0 -epvrdma_module="$pvrdma_module" <<END
$guest_rdma
load_pvrdma; loaded=\$?
check 'vmw_pvrdma binds' '[ \$loaded = 0 ] || { dmesg | tail -n 20; false; }'
check 'ibv_devinfo: active, the MTU of the host' '
    ibv_devinfo -v >info && grep -q "PORT_ACTIVE" info && grep -q "active_mtu:.*4096" info || { cat info; false; }'
$guest_rdma_tools
check 'the kernel has nothing to complain of' quiet
END
check 'nothing of the guest is left on the host' '[ -z "$(rdma resource show qp | grep " pid ")" ] && ! ip addr show dev v0 | grep "10\.0\.2\.15"'
finish
