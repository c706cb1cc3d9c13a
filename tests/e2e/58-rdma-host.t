#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter over verbs between a guest and the host itself: programs of libibverbs and perftest with one end in
# the guest and the other on the host's soft RoCE, client and server either way; then the host's end is killed. What
# they tell each other goes over TCP through the guest's NIC in user mode; what they send is between the guest's
# address, which lodge gives to the port, and the host's.
# lab: --rdma
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
guest_timeout=250
need_pvrdma 'guest and host'
need_soft_roce

# For both sides. program NAME DEVICE GID: its words, to which come a port and, for a client, an address.
both_sides=$(cat <<'END'
programs='rc rc-events ud srq send send-events write read atomic'
program() {
    local perftest="-F --use_old_post_send -n 20 -d $2 -x $3" pingpong="-n 50 -d $2 -g $3"
    case $1 in
    rc) echo ibv_rc_pingpong $pingpong ;;
    rc-events) echo ibv_rc_pingpong $pingpong -e ;;
    ud) echo ibv_ud_pingpong $pingpong ;;
    srq) echo ibv_srq_pingpong $pingpong -q 4 ;;
    send) echo ib_send_bw $perftest -s 65536 ;;
    send-events) echo ib_send_bw $perftest -s 4096 -e ;;
    write) echo ib_write_bw $perftest -s 65536 ;;
    read) echo ib_read_bw $perftest -s 65536 ;;
    atomic) echo ib_atomic_bw $perftest ;;
    endless) echo ib_write_bw -F --use_old_post_send -d $2 -x $3 -s 4096 -n 1000000 ;;
    esac
}
END
)
eval "$both_sides"
host_gid=$(grep -il ':ffff:0a09:0001' /sys/class/infiniband/rxe0/ports/1/gids/* | head -n 1)
host_gid=${host_gid##*/}

# The host's servers wait from the start, each for one client; its one client goes from one server of the guest to the
# next, trying until it is there.
port=18600
for name in $programs; do
    port=$((port + 1))
    (timeout 120 $(program $name rxe0 $host_gid) -p $port; echo "status $?") >"$work/server-$name" 2>&1 &
done
for name in $programs; do
    until timeout 30 $(program $name rxe0 $host_gid) -p 18700 127.0.0.1; do sleep 0.5; done >"$work/client-$name" 2>&1
    echo "status 0" >>"$work/client-$name"
done &
$(program endless rxe0 $host_gid) -p 18800 >/dev/null 2>&1 & endless=$!
socat TCP-LISTEN:18801,bind=127.0.0.1,reuseaddr SYSTEM:"kill -9 $endless" &

pvrdma_guest host --memory=512M -eboth_sides="$both_sides" \
    --rdma=backend=verbs,device=rxe0,net=type=user,hostfwd=tcp:127.0.0.1:18700-10.0.2.15:18700 <<'END'
eval "$both_sides"
port=18600
for name in $programs; do
    port=$((port + 1))
    check "to a server on the host: $name" 'timeout 30 $(program $name $dev $gid) -p $port 10.0.2.2'
done
for name in $programs; do
    check "to a client on the host: $name" 'timeout 30 $(program $name $dev $gid) -p 18700'
done
check 'an end on the host that is killed ends that of the guest' '
    timeout 40 $(program endless $dev $gid) -p 18800 10.0.2.2 & client=$!
    sleep 4; kill -0 $client && socat -u /dev/null TCP:10.0.2.2:18801; wait $client; status=$?
    echo "status $status"; [ $status != 0 ] && [ $status != 124 ]'
END
for name in $programs; do
    check "the host's ends agree: $name" '
        wait_for 5 grep -qx "status 0" "$work/server-$name" && wait_for 5 grep -qx "status 0" "$work/client-$name" ||
        { cat "$work/server-$name" "$work/client-$name"; false; }'
done
check 'nothing of the guest is left on the host' nothing_left
finish
