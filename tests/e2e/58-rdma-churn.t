#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter over verbs, on soft RoCE, when much changes: its link, its driver, many queue pairs, much memory.
# lab: --rdma
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
guest_timeout=250
need_pvrdma 'the driver comes and goes'
need_soft_roce

churn verbs backend=verbs,device=rxe0
check 'nothing of the guest is left on the host' nothing_left
finish
