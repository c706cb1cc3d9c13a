# SPDX-License-Identifier: GPL-2.0-or-later
# What the scripts about RDMA share; sourced after lib.sh. vmw_pvrdma is built from the kernel's source, outside of
# the lab if need be (guest-images/modules/build); without it there is nothing to test.

pvrdma_module=$LODGE_BUILD/guest-images/modules/$release/vmw_pvrdma.ko
need_pvrdma() {
    [ -e "$pvrdma_module" ] || "$here/../../guest-images/modules/build" --kernel "$release" vmw_pvrdma >&2 2>/dev/null ||
        "$here/../../../guest-images/modules/build" --kernel "$release" vmw_pvrdma >&2
    [ -e "$pvrdma_module" ] && return
    skip "$1" 'no vmw_pvrdma for this kernel: guest-images/modules/build makes it'
    finish
}

# A soft RoCE device rxe0 on this machine, as tests/lab/enter --rdma makes it; whoever makes it, it stays.
soft_roce() {
    ulimit -l unlimited
    [ -e /sys/class/infiniband/rxe0 ] && return
    modprobe -a veth rdma_rxe ib_uverbs && ip link add v0 type veth peer name v1 && ip link set v0 mtu 4200 up &&
        ip link set v1 mtu 4200 up && ip addr add 10.9.0.1/24 dev v0 && ip addr add 10.9.0.2/24 dev v0 &&
        rdma link add rxe0 type rxe netdev v0 && return
    return 1
} >"$work/log" 2>&1
need_soft_roce() { soft_roce || { echo "1..0 # SKIP no soft RoCE: $(tail -n 1 "$work/log")"; exit 0; }; }

# Guest side, for in_guest: loads the driver; $dev and $gid are its device and the index of the IPv4 GID.
guest_rdma=$(cat <<'END'
load_pvrdma() {
    ip link set lo up && ip link set eth0 up
    modprobe -a ib_uverbs ib_umad rdma_ucm && insmod "$pvrdma_module" || return
    dev=$(ls /sys/class/infiniband | head -n 1)
    [ -n "$dev" ] || return
    for gid in 0 1 2 3 4 5; do
        case $(cat "/sys/class/infiniband/$dev/ports/1/gids/$gid") in *:ffff:0a*) return 0 ;; esac
    done
    return 1
}
# pair COMMAND...: a server and a client of the same command; fails when either does.
pair() {
    local server
    timeout 30 "$@" >server.out 2>&1 & server=$!
    sleep 1.5
    timeout 25 "$@" 127.0.0.1 || { cat server.out; return 1; }
    wait "$server" || { cat server.out; return 1; }
}
quiet() {
    ! dmesg | grep -iE "pvrdma.*(fail|error|could not|unknown)|BUG:|WARNING: |Oops|Call Trace" | grep -vE "module verification|Return Stack Overflow: WARNING"
}
bandwidth() { local tool=$1; shift; pair "$tool" -d "$dev" -x "$gid" -F --use_old_post_send -n 20 "$@"; }
END
)

# Guest side, after load_pvrdma: what every backend is to carry between two programs of one guest.
guest_rdma_tools=$(cat <<'END'
check 'RC' 'pair ibv_rc_pingpong -g $gid -n 50'
check 'RC with events' 'pair ibv_rc_pingpong -g $gid -n 50 -e'
check 'UD' 'pair ibv_ud_pingpong -g $gid -n 50'
check 'SRQ' 'pair ibv_srq_pingpong -g $gid -n 50 -q 4'
check 'UC, which the adapter lacks, is refused' '! timeout 10 ibv_uc_pingpong -g $gid -n 5 && ls /sys/class/infiniband/$dev'
check 'perftest: send' 'bandwidth ib_send_bw -s 65536'
check 'perftest: send, with events' 'bandwidth ib_send_bw -s 4096 -e'
check 'perftest: send by UD' 'bandwidth ib_send_bw -s 1024 -c UD'
check 'perftest: send to an SRQ' 'bandwidth ib_send_bw -s 4096 --use-srq'
check 'perftest: write' 'bandwidth ib_write_bw -s 65536 -q 4'
check 'perftest: read' 'bandwidth ib_read_bw -s 65536'
check 'perftest: atomics' 'bandwidth ib_atomic_bw'
check 'rping: the connection manager, and data verified' '
    timeout 30 rping -s -a 10.0.2.15 -C 3 -V & server=$!; sleep 1.5
    timeout 25 rping -c -a 10.0.2.15 -C 3 -V && wait $server'
check 'a killed process leaves nothing that hurts' '
    ibv_rc_pingpong -g $gid -n 1000000 >/dev/null & server=$!; sleep 1.5
    ibv_rc_pingpong -g $gid -n 1000000 127.0.0.1 >/dev/null & client=$!; sleep 2
    kill -9 $server $client || exit 1; wait; pair ibv_rc_pingpong -g $gid -n 20'
END
)
