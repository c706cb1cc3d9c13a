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

# Guest side, for in_guest: loads the driver; $dev and $gid are its device and the index of the IPv4 GID.
guest_rdma=$(cat <<'END'
load_pvrdma() {
    ip link set lo up && ip link set eth0 up
    modprobe -a ib_uverbs ib_umad rdma_ucm && insmod "$pvrdma_module" || return
    dev=$(ls /sys/class/infiniband | head -n 1)
    [ -n "$dev" ] || return
    for gid in 0 1 2 3 4 5; do
        case $(cat "/sys/class/infiniband/$dev/ports/1/gids/$gid") in *:ffff:0a00:*) return 0 ;; esac
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
bandwidth() { local tool=$1; shift; pair "$tool" -d "$dev" -x "$gid" -F --use_old_post_send -n 20 "$@"; }
END
)
