#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter over verbs between two guests on one soft RoCE device, each with an address of it: the tools of
# libibverbs, librdmacm and perftest with a server in one guest and a client in the other; then one of them dies.
# lab: --rdma
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
guest_timeout=300
need_pvrdma 'two guests'
need_soft_roce

# The other guest carries out the lines that come to port 7000; "die" on its output has it killed.
cat >"$work/carry-out" <<END
$guest_rdma
read -r line
eval "\$line" &
case \$line in *rping* | *ucmatose*) sleep 2 ;; *) listening ;; esac
echo listening
wait
END
cat >"$work/other" <<END
$guest_rdma
load_pvrdma || exit
export dev gid
socat -t 60 TCP-LISTEN:7000,fork,reuseaddr 'EXEC:bash $work/carry-out' &
echo ready
sleep 300
END
other_guest -m 512M --rdma=backend=verbs,device=rxe0,net=type=stream,path="$work/wire",server=on \
    -p lodge.ip=eth0:10.9.0.2/24 -e pvrdma_module="$pvrdma_module" -- bash "$work/other"
wait_for 40 test -S "$work/wire"
(until grep -q '^die' "$work/other.err"; do sleep 0.2; done; kill -9 $other) 2>/dev/null &

pvrdma_guest 'two guests' --memory=512M --rdma=backend=verbs,device=rxe0,net=type=stream,path="$work/wire" \
    -plodge.ip=eth0:10.9.0.1/24 <<'END'
remote() { echo "$*" | timeout 60 socat -t 60 - TCP:10.9.0.2:7000 >server.out 2>&1 & server=$!; wait_for 20 grep listening server.out; }
# The tool in both guests, its server in the other.
pair() {
    remote "timeout 50 $* 2>&1 || echo FAILED"
    timeout 40 "$@" 10.9.0.2 || { cat server.out; return 1; }
    wait $server; ! grep FAILED server.out || { cat server.out; return 1; }
}
check 'the other guest is ready' 'wait_for 60 socat -u /dev/null TCP:10.9.0.2:7000'
check 'RC' 'pair ibv_rc_pingpong -g $gid -n 50'
check 'RC with events' 'pair ibv_rc_pingpong -g $gid -n 50 -e'
check 'UD' 'pair ibv_ud_pingpong -g $gid -n 50'
check 'SRQ' 'pair ibv_srq_pingpong -g $gid -n 50 -q 4'
check 'perftest: send' 'bandwidth ib_send_bw -s 65536'
check 'perftest: send, with events' 'bandwidth ib_send_bw -s 4096 -e'
check 'perftest: send latency, with events, each waiting for the other' 'bandwidth ib_send_lat -s 8 -e -n 200'
check 'perftest: write' 'bandwidth ib_write_bw -s 65536'
check 'perftest: read' 'bandwidth ib_read_bw -s 65536'
check 'perftest: atomics' 'bandwidth ib_atomic_bw'
check 'rping' '
    remote "timeout 50 rping -s -a 10.9.0.2 -C 3 -V || echo FAILED"
    timeout 40 rping -c -a 10.9.0.2 -C 3 -V && wait $server && ! grep FAILED server.out'
check 'ucmatose' '
    remote "timeout 50 ucmatose -b 10.9.0.2 || echo FAILED"
    timeout 40 ucmatose -b 10.9.0.1 -s 10.9.0.2 && wait $server && ! grep FAILED server.out'
# Writes: a side that only waits for a message would wait for ever.
stream() { echo "ib_write_bw -d $1 -x $2 -F --use_old_post_send -s 4096 -n 1000000"; }
fails() { timeout 40 "$@"; local status=$?; [ $status != 0 ] && [ $status != 124 ]; }
check 'a killed peer ends the other side, not the guest' '
    remote "$(stream "\$dev" "\$gid") >/dev/null & sleep 5; kill -9 \$!"
    fails $(stream $dev $gid) 10.9.0.2 && wait && pair ibv_rc_pingpong -g $gid -n 20'
check 'a guest that is killed, too' '
    remote "$(stream "\$dev" "\$gid") >/dev/null & sleep 5; echo die >&2"
    fails $(stream $dev $gid) 10.9.0.2 && ls /sys/class/infiniband/$dev'
END
check 'the killed guest left nothing on the host' 'wait_for 10 nothing_left'
finish
