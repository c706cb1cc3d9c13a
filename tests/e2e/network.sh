# SPDX-License-Identifier: GPL-2.0-or-later
# What the scripts about networks share. Sourced before lib.sh: the script starts again in a network namespace
# of its own, so that no interface, address or port of this machine is touched. Where that can't be had
# (not root), $own_network is empty.
if [ -z "${LODGE_E2E_NET-}" ] && unshare --net true 2>/dev/null; then
    LODGE_E2E_NET=1 exec unshare --net -- "$0" "$@"
fi
own_network=${LODGE_E2E_NET-}
[ -z "$own_network" ] || ip link set lo up

# need_network WHAT: skips the whole script without one.
need_network() { [ -n "$own_network" ] || { skip "$1" 'no network namespace of its own (not root?)'; finish; }; }

# serve_transfers: net-peer at port 7001, iperf3 at 7002; transfers of the sizes $small and of $mib bytes.
serve_transfers() {
    export peer=$(realpath "$(dirname "${BASH_SOURCE[0]}")/net-peer") mib=$((1 << 20)) small=1,1447,1448,1449,65535,65536,65537,200000
    "$peer" serve 7001 >"$work/server.log" 2>&1 &
    iperf3 -s -p 7002 >"$work/iperf.log" 2>&1 &
    export functions=$work/functions
    cat >"$functions" <<'END'
# feature INTERFACE BIT: was it negotiated?
feature() { [ "$(cut -c $(($2 + 1)) <"/sys/class/net/$1/device/features")" = 1 ]; }
iperf() { # ADDRESS [OPTION]: was something received?
    iperf3 -c "$1" -p 7002 -t 1 -f m -J $2 | python3 -c '
import json, sys
end = json.load(sys.stdin)["end"]
assert end["sum_received"]["bytes"] > 1 << 20 and end["sum_received"]["bits_per_second"] > 1e6, end'
}
virtio() { basename "$(realpath "/sys/class/net/$1/device")"; }
unbind() { echo "$1" >/sys/bus/virtio/drivers/virtio_net/unbind; }
bind() { echo "$1" >/sys/bus/virtio/drivers/virtio_net/bind; }
again() { # INTERFACE ADDRESS PEER COUNT: the driver off and on, and transfers
    local i device=$(virtio "$1")
    for i in $(seq "$4"); do
        unbind "$device" && [ ! -e "/sys/class/net/$1" ] && bind "$device" && wait_for 10 test -e "/sys/class/net/$1" &&
            ip link set "$1" up && ip addr add "$2/24" dev "$1" && "$peer" get "$3" 7001 $((i * mib)) && "$peer" put "$3" 7001 $((i * mib)) || return 1
    done
}
content() { ! dmesg | grep -E "BUG:|WARNING: |Oops|NETDEV WATCHDOG|hung task|output.*id .* is not a head" | grep -v "Return Stack Overflow: WARNING"; }
END
}
