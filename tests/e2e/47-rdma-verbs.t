#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# backends/rdma over verbs: the behaviours of tests/unit/rdma_behaviours.c and rdma_datagrams.c between two queue pairs
# on one soft RoCE device of this machine, those of memory regions (rdma_registration.c), and what doctor says of it.
# No guest.
# lab: --rdma
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"

programs=$(for name in behaviours datagrams registration; do echo "$LODGE_BUILD/tests/unit/unit-rdma_$name"; done)
ls $programs >/dev/null || { echo '1..0 # SKIP built without tests'; exit 0; }
need_soft_roce

check 'doctor lists the port and its GIDs' '"$lodge" doctor | grep -E "^ok +rdma +rxe0 port 1: .*10\.9\.0\.1"'
for program in $programs; do
    for path in $("$program" -l | grep '^/'); do
        check "${path#/rdma/}" "LODGE_RDMA=backend=verbs,device=rxe0 timeout 30 $program -p $path"
    done
done
finish
