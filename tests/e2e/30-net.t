#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Network interfaces in user mode with the stock virtio_net driver: transfers with every byte checked (net-peer) in
# every ring layout, DHCP, MTU, a recording, the driver and the module taken off and put on.
. "$(dirname "$0")/network.sh"
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
guest_timeout=400
serve_transfers

# One guest with many interfaces: eth0, and eth1 to eth6 with other rings
in_guest 'interfaces' -epeer -emib -esmall -efunctions --params='lodge.ip=eth0:10.0.2.15/24:10.0.2.2:10.0.2.3' \
    --net=type=user,mtu=9000,pcap=user.pcap,mac=02:00:00:00:00:0a \
    --net=type=user,packed=off,event-idx=off,indirect=off --net=type=user,packed=off --net=type=user,event-idx=off,indirect=off \
    --net=type=user,queue-size=32 --net=type=user,offloads=off --net=type=user,msix=off,ring-reset=off <<'END'
. "$functions"
check 'the address that was asked for, and a link' 'wait_for 10 grep -q up /sys/class/net/eth0/operstate && same 02:00:00:00:00:0a "$(cat /sys/class/net/eth0/address)" && ip -br addr show dev eth0 | grep 10.0.2.15/24'
check 'user mode: the host answers a ping' 'busybox ping -c 2 -w 20 10.0.2.2'
check 'user mode: DHCP gives the address' 'busybox udhcpc -i eth0 -n -q -f -s /bin/true 2>&1 | grep "lease of 10.0.2.15 obtained"'
mtu=9000
check 'user mode: the MTU that the host says' 'same $mtu "$(cat /sys/class/net/eth0/mtu)"'
check 'user mode: a smaller MTU, and transfers with it' 'ip link set eth0 mtu 1400 && "$peer" get 10.0.2.2 7001 $((2 * mib)) && "$peer" put 10.0.2.2 7001 $((2 * mib)) && ip link set eth0 mtu $mtu'
check 'user mode: 24 MiB from the host' '"$peer" get 10.0.2.2 7001 $((24 * mib))'
check 'user mode: 24 MiB to the host' '"$peer" put 10.0.2.2 7001 $((24 * mib))'
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
    check "$name: transfers both ways" '"$peer" get 10.0.2.2 7001 $small,$((2 * mib + 1)) $interface && "$peer" put 10.0.2.2 7001 $small,$((2 * mib + 1)) $interface'
    ip addr flush dev $interface; ip link set $interface down
done

check 'the driver off and on, with transfers each time' 'again eth0 10.0.2.15 10.0.2.2 4'
check 'the driver off in the middle of a transfer, and on again' '
    "$peer" put 10.0.2.2 7001 $((48 * mib)) & sleep 1; unbind "$(virtio eth0)"; kill $!; wait $!; bind "$(cd /sys/bus/virtio/devices && for i in *; do grep -q 0x0001 $i/device && [ ! -e $i/net ] && echo $i; done)" &&
    wait_for 10 test -e /sys/class/net/eth0 && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && "$peer" get 10.0.2.2 7001 $mib'
check 'the module out and in, with all interfaces' '
    ls /sys/class/net >before; modprobe -r virtio_net && ! ls /sys/class/net | grep eth && modprobe virtio_net && ls /sys/class/net >after && diff before after &&
    ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && "$peer" get 10.0.2.2 7001 $mib'
check 'nothing is wrong with the kernel' content
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
assert frames > 1000 and size > 48 << 20, (frames, size)
PY'
if command -v tcpdump >/dev/null; then
    check 'tcpdump reads the recording' 'tcpdump -r user.pcap -c 200 2>/dev/null | grep "10.0.2.15.*10.0.2.2.*ICMP echo request"; tcpdump -r user.pcap icmp 2>/dev/null | grep "ICMP echo reply"'
else
    skip 'tcpdump reads the recording' 'tcpdump is not installed'
fi
finish
