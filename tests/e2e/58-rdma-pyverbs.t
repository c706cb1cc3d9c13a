#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter under rdma-core's own tests (pyverbs), over verbs on soft RoCE.
# lab: --rdma
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
guest_timeout=300
need_pvrdma 'rdma-core'"'"'s tests'
need_soft_roce

pyverbs pyverbs backend=verbs,device=rxe0
finish
