#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# backends/rdma over verbs: the behaviours of tests/unit/rdma_behaviours.c between two queue pairs on one soft
# RoCE device of this machine, and what doctor says of it. No guest.
. "$(dirname "$0")/../lib.sh"

behaviours=$LODGE_BUILD/tests/unit/unit-rdma_behaviours
set_up() {
    [ -e /sys/class/infiniband/rxe0 ] && return
    modprobe -a veth rdma_rxe ib_uverbs && ip link add v0 type veth peer name v1 &&
        ip link set v0 mtu 4200 up && ip link set v1 mtu 4200 up && ip addr add 10.9.0.1/24 dev v0 &&
        rdma link add rxe0 type rxe netdev v0
}
if [ ! -x "$behaviours" ] || ! set_up >"$work/log" 2>&1; then
    echo "1..0 # SKIP no soft RoCE: $(tail -n 1 "$work/log" 2>/dev/null)"
    exit 0
fi
ulimit -l unlimited

check 'doctor lists the port and its GIDs' '"$lodge" doctor | grep -E "^ok +rdma +rxe0 port 1: .*10\.9\.0\.1"'
for path in $("$behaviours" -l | grep '^/'); do
    check "${path#/rdma/}" "LODGE_RDMA=backend=verbs,device=rxe0 timeout 30 $behaviours -p $path"
done
finish
