#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter over verbs, on soft RoCE: the same tools between two programs of one guest as over loopback
# (55-pvrdma.t), events too, and the host's objects gone with the guest.
# lab: --rdma
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
guest_timeout=300
need_pvrdma 'the stock driver over verbs'
need_soft_roce

pvrdma_guest verbs --memory=1G --rdma=backend=verbs,device=rxe0 <<'END'
check 'ibv_devinfo: active, the MTU of the host' '
    ibv_devinfo -v >info && grep -q "PORT_ACTIVE" info && grep -q "active_mtu:.*4096" info || { cat info; false; }'
check_tools
END
check 'nothing of the guest is left on the host' nothing_left
finish
