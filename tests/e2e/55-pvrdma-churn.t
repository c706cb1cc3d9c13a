#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter over loopback when much changes: its link, its driver, many queue pairs, much memory.
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
guest_timeout=250
need_pvrdma 'the driver comes and goes'

churn loopback backend=loopback
finish
