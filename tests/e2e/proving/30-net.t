#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Network interfaces with the stock virtio_net driver: user mode, a tap, two guests on sockets; transfers with
# every byte checked (net-peer), in every ring layout, over pauses, unplugged cables and drivers taken off.

# All in a network namespace of its own: no interface, address or port of this machine is touched.
if [ "$(id -u)" = 0 ] && [ -z "${LODGE_E2E_NAMESPACE-}" ]; then
    LODGE_E2E_NAMESPACE=1 exec unshare --net "$0" "$@"
fi
. "$(dirname "$0")/../lib.sh"
[ -z "${LODGE_E2E_NAMESPACE-}" ] || ip link set lo up
# Guests with a single CPU, too, have died here of what looks like the emulator's fault (docs/testing.md), with others as
# busy as they are; with all on one CPU none has yet.
[ -z "${LODGE_LAB-}" ] || taskset -pc 0 $$ >/dev/null
cd "$work" || exit 1
export peer=$(realpath "$here/../net-peer")
# Bytes of the largest transfers, from the host and to it; in the lab, the way to it is the slow one.
export from=${LODGE_E2E_TRANSFER:-$((1 << 30))}
export to=${LODGE_E2E_TRANSFER:-$([ -n "${LODGE_LAB-}" ] && echo $((1 << 28)) || echo $((1 << 30)))}
guest_timeout=250
mib=$((1 << 20))

"$peer" serve 7001 >server.log 2>&1 &
iperf3 -s -p 7002 >iperf.log 2>&1 &
tap=
if [ -w /dev/net/tun ] && [ -n "${LODGE_E2E_NAMESPACE-}" ]; then
    # The interface is made by lodge; then it gets its address, and frames of all sorts (net-peer frames).
    tap=lodge-tap
    (wait_for 60 ip link show $tap && ip addr add 10.77.0.1/24 dev $tap && ip link set $tap up &&
        exec "$peer" frames $tap mine=02:00:00:00:00:01 other=02:00:00:00:00:02 second=02:00:00:00:00:03 \
            group=03:00:00:00:00:04 another-group=03:00:00:00:00:05 all=ff:ff:ff:ff:ff:ff vlan=02:00:00:00:00:01.7) >frames.log 2>&1 &
fi
export tap

# ---- one guest with many interfaces: eth0 for the host's user mode, eth1 to eth6 other rings, eth7 a tap ----

in_guest 'interfaces' -v -eLODGE_E2E_TIMES -epeer -efrom -eto -etap \
    --params='lodge.ip=eth0:10.0.2.15/24:10.0.2.2:10.0.2.3' ${tap:+--params=lodge.ip=eth7:10.77.0.2/24} \
    --net=type=user,mtu=9000,pcap=user.pcap,mac=02:00:00:00:00:0a \
    --net=type=user,packed=off,event-idx=off,indirect=off --net=type=user,packed=off --net=type=user,event-idx=off,indirect=off \
    --net=type=user,queue-size=32 --net=type=user,offloads=off --net=type=user,msix=off,ring-reset=off \
    ${tap:+--net=type=tap,ifname=$tap,mac=02:00:00:00:00:01} <<'END'
# feature INTERFACE BIT: was it negotiated?
feature() { [ "$(cut -c $(($2 + 1)) <"/sys/class/net/$1/device/features")" = 1 ]; }
mib=$((1 << 20))
iperf() { # ADDRESS [OPTION]: was something received?
    iperf3 -c "$1" -p 7002 -t 1 -f m -J $2 | python3 -c '
import json, sys
end = json.load(sys.stdin)["end"]
assert end["sum_received"]["bytes"] > 1 << 20 and end["sum_received"]["bits_per_second"] > 1e6, end'
}
small=1,1447,1448,1449,65535,65536,65537,200000

check 'the address that was asked for, and a link' 'wait_for 10 grep -q up /sys/class/net/eth0/operstate && same 02:00:00:00:00:0a "$(cat /sys/class/net/eth0/address)" && ip -br addr show dev eth0 | grep 10.0.2.15/24'
check 'user mode: the host answers a ping' 'busybox ping -c 2 -w 20 10.0.2.2'
check 'user mode: DHCP gives the address' 'busybox udhcpc -i eth0 -n -q -f -s /bin/true 2>&1 | grep "lease of 10.0.2.15 obtained"'
mtu=9000
check 'user mode: the MTU that the host says' 'same $mtu "$(cat /sys/class/net/eth0/mtu)"'
check 'user mode: a smaller MTU, and transfers with it' 'ip link set eth0 mtu 1400 && "$peer" get 10.0.2.2 7001 $((2 * mib)) && "$peer" put 10.0.2.2 7001 $((2 * mib)) && ip link set eth0 mtu $mtu'
check 'user mode: 32 MiB from the host' '"$peer" get 10.0.2.2 7001 $((32 * mib))'
check 'user mode: 32 MiB to the host' '"$peer" put 10.0.2.2 7001 $((32 * mib))'
check 'user mode: small transfers' '"$peer" get 10.0.2.2 7001 $small && "$peer" put 10.0.2.2 7001 $small'
check 'user mode: eight connections at once' '"$peer" at-once 10.0.2.2 7001 $mib,$mib,$mib,$mib,$mib,$mib,$mib,$mib'
check 'user mode: iperf3 to the host' 'iperf 10.0.2.2'
check 'user mode: iperf3 from the host' 'iperf 10.0.2.2 -R'

check 'rings and offloads are as the options say' '
    feature eth0 34 && feature eth0 28 && feature eth0 29 && feature eth0 0 && feature eth0 1 && feature eth0 11 && feature eth0 15 &&
    ! feature eth1 34 && ! feature eth1 28 && ! feature eth1 29 && ! feature eth2 34 && feature eth2 29 && feature eth3 34 && ! feature eth3 28 && ! feature eth3 29 &&
    ! feature eth5 0 && ! feature eth5 1 && ! feature eth5 11 && feature eth0 40 && ! feature eth6 40 && [ -z "$(ls /sys/class/net/eth6/device/../msi_irqs 2>/dev/null)" ]'
check 'the ring has the size that was asked for' 'ethtool -g eth4 | grep -E "^TX:[[:space:]]*32$"'
number=0
for name in 'split ring, plain' 'split ring' 'packed ring, plain' 'a small ring' 'no offloads' 'an interrupt line'; do
    number=$((number + 1))
    interface=eth$number
    ip addr flush dev eth0; ip link set $interface up; ip addr add 10.0.2.15/24 dev $interface
    check "$name: transfers both ways" '"$peer" get 10.0.2.2 7001 $small,$((6 * mib + 1)) $interface && "$peer" put 10.0.2.2 7001 $small,$((6 * mib + 1)) $interface'
    ip addr flush dev $interface; ip link set $interface down
done

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
check 'the driver off and on, with transfers each time' 'again eth0 10.0.2.15 10.0.2.2 4'
check 'the driver off in the middle of a transfer, and on again' '
    "$peer" put 10.0.2.2 7001 $((64 * mib)) & sleep 1; unbind "$(virtio eth0)"; kill $!; wait $!; bind "$(cd /sys/bus/virtio/devices && for i in *; do grep -q 0x0001 $i/device && [ ! -e $i/net ] && echo $i; done)" &&
    wait_for 10 test -e /sys/class/net/eth0 && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && "$peer" get 10.0.2.2 7001 $mib'

if [ -n "$tap" ]; then
    check 'tap: segments come and go whole' 'feature eth7 7 && feature eth7 8 && feature eth7 11'
    check "tap: $((from >> 20)) MiB from the host" '"$peer" get 10.77.0.1 7001 $from'
    check "tap: $((to >> 20)) MiB to the host" '"$peer" put 10.77.0.1 7001 $to'
    check 'tap: small transfers' '"$peer" get 10.77.0.1 7001 $small && "$peer" put 10.77.0.1 7001 $small'
    check 'tap: eight connections at once' '"$peer" at-once 10.77.0.1 7001 $mib,$mib,$mib,$mib,$mib,$mib,$mib,$mib'
    check 'tap: iperf3 to the host' 'iperf 10.77.0.1'
    check 'tap: iperf3 from the host' 'iperf 10.77.0.1 -R'
    check 'tap: offloads off and on again' '
        ethtool -K eth7 rx-gro-hw off tso off tx off && ethtool -k eth7 | grep "tcp-segmentation-offload: off" && "$peer" get 10.77.0.1 7001 $((4 * mib)) && "$peer" put 10.77.0.1 7001 $((4 * mib)) &&
        ethtool -K eth7 rx-gro-hw on tso on tx on && "$peer" get 10.77.0.1 7001 $((4 * mib)) && "$peer" put 10.77.0.1 7001 $((4 * mib))'
    heard() { same "$1" "$("$peer" heard eth7 1)"; }
    check 'filter: what is for this interface, and for all' 'heard "all mine"'
    check 'filter: a promiscuous interface gets everything' 'ip link set eth7 promisc on && heard "all another-group group mine other second vlan" && ip link set eth7 promisc off && heard "all mine"'
    check 'filter: a group that was joined, and no other' 'ip maddr add 03:00:00:00:00:04 dev eth7 && heard "all group mine" && ip maddr del 03:00:00:00:00:04 dev eth7 && heard "all mine"'
    check 'filter: all groups' 'ip link set eth7 allmulticast on && heard "all another-group group mine" && ip link set eth7 allmulticast off && heard "all mine"'
    check 'filter: a second address' 'ip link add link eth7 name second address 02:00:00:00:00:03 type macvlan mode bridge && ip link set second up && heard "all mine second" && ip link del second && heard "all mine"'
    check 'filter: another address' 'ip link set eth7 address 02:00:00:00:00:02 && heard "all other" && ip link set eth7 address 02:00:00:00:00:01 && heard "all mine"'
    check 'filter: a VLAN' 'ip link add link eth7 name vlan type vlan id 7 && ip link set vlan up && heard "all mine vlan" && ip link del vlan && heard "all mine"'
    check 'tap: the driver off and on, with transfers each time' 'again eth7 10.77.0.2 10.77.0.1 3 && heard "all mine"'
fi
check 'the module out and in, with all interfaces' '
    ls /sys/class/net >before; modprobe -r virtio_net && ! ls /sys/class/net | grep eth && modprobe virtio_net && ls /sys/class/net >after && diff before after &&
    ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && "$peer" get 10.0.2.2 7001 $mib'
check 'nothing is wrong with the kernel' '! dmesg | grep -E "BUG:|WARNING: |Oops|NETDEV WATCHDOG|hung task|output.*id .* is not a head" | grep -v "Return Stack Overflow: WARNING"'
END
check 'the server found nothing damaged' '! grep damaged server.log'
check 'the recording is one, and holds what went by' '
    python3 - user.pcap <<PY
import struct, sys
data = open(sys.argv[1], "rb").read()
magic, major, minor, _, _, snap, link = struct.unpack_from("<IHHiIII", data)
assert (magic in (0xa1b2c3d4, 0xa1b23c4d)) and (major, minor, link) == (2, 4, 1), (hex(magic), major, minor, link)
at, frames, size, last = 24, 0, 0, 0
while at < len(data):
    seconds, fraction, kept, length = struct.unpack_from("<IIII", data, at)
    assert kept <= length and at + 16 + kept <= len(data), (frames, kept, length)
    at, frames, size, last = at + 16 + kept, frames + 1, size + length, seconds
assert frames > 1000 and size > 64 << 20, (frames, size)
PY'
if command -v tcpdump >/dev/null; then
    check 'tcpdump reads the recording' 'tcpdump -r user.pcap -c 200 2>/dev/null | grep "10.0.2.15.*10.0.2.2.*ICMP echo request"; tcpdump -r user.pcap icmp 2>/dev/null | grep "ICMP echo reply"'
else
    skip 'tcpdump reads the recording' 'tcpdump is not installed'
fi
[ -z "$tap" ] || check 'the tap that lodge made went with it' '! ip link show $tap'
rm -f user.pcap

# ---- two guests, on a stream socket and on a pair of datagram sockets; the host gets into one by a port ----

ctl() { "$lodge" ctl control "$@"; }
guest --net=type=stream,path=stream,server=on,mtu=1500 --net=type=dgram,local=one,path=two --net=type=user,id=card,hostfwd=tcp::7003-:7001 \
    --params=lodge.ip=eth0:10.78.0.1/24 --params=lodge.ip=eth1:10.79.0.1/24 --params=lodge.ip=eth2:10.0.2.15/24:10.0.2.2 \
    --control=control "$peer" serve 7001 </dev/null >first.out 2>first.err &
first=$!
check 'a port of the host leads into a guest' 'wait_for 60 grep listening first.out && "$peer" get 127.0.0.1 7003 1,$((16 * mib)) && "$peer" put 127.0.0.1 7003 1,$((16 * mib))'
check 'stop and cont, ten times during a transfer: every byte is right' '
    "$peer" get 127.0.0.1 7003 $((32 * mib)) & transfer=$!
    for i in 1 2 3 4 5 6 7 8 9 10; do ctl stop && sleep 0.1 && ctl cont || exit 1; sleep 0.1; done
    wait $transfer'
check 'the cable is unplugged and plugged in during a transfer' '
    "$peer" put 127.0.0.1 7003 $((24 * mib)) & transfer=$!
    for i in 1 2 3; do ctl set-link card up=off && sleep 0.3 && ctl set-link card up=on && sleep 0.5 || exit 1; done
    wait $transfer'

in_guest 'two guests' -v -epeer --net=type=stream,path=stream,mtu=1500 --net=type=dgram,local=two,path=one \
    --params=lodge.ip=eth0:10.78.0.2/24 --params=lodge.ip=eth1:10.79.0.2/24 <<'END'
mib=$((1 << 20))
small=1,1447,1448,1449,65535,65536,65537,200000
for kind in stream dgram; do
    case $kind in stream) other=10.78.0.1 size=$((32 * mib)) ;; dgram) other=10.79.0.1 size=$((32 * mib)) ;; esac
    check "$kind: small transfers" '"$peer" get $other 7001 $small && "$peer" put $other 7001 $small'
    check "$kind: 32 MiB from the other guest" '"$peer" get $other 7001 $size'
    check "$kind: 32 MiB to the other guest" '"$peer" put $other 7001 $size'
    check "$kind: four connections at once" '"$peer" at-once $other 7001 $((2 * mib)),$((2 * mib)),$((2 * mib)),$((2 * mib))'
done
END
check 'the first guest is still there' 'kill -0 $first || { cat first.err; exit 1; }'
kill $first 2>/dev/null
wait $first
check 'no socket stays behind' '! ls stream one two control 2>/dev/null'
finish
