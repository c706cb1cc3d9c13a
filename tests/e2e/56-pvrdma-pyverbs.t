#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter under rdma-core's own tests (pyverbs), over loopback.
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
guest_timeout=300
need_pvrdma 'rdma-core'"'"'s tests'

pyverbs pyverbs backend=loopback
finish
