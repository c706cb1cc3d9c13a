#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter over loopback when much changes: its link, its driver, many queue pairs, much memory.
here=$(dirname "$(realpath "$0")")
. "${here%/proving}/lib.sh"
. "${here%/proving}/rdma.sh"
guest_timeout=150
need_pvrdma 'the driver comes and goes'

churn loopback backend=loopback
finish
