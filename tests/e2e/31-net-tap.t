#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A network interface on a tap with the stock virtio_net driver: a gigabyte with every byte checked, offloads, what
# the filter lets through, the driver off and on.
. "$(dirname "$0")/network.sh"
. "$(dirname "$0")/lib.sh"
need_network 'a tap'
[ -w /dev/net/tun ] || { skip 'a tap' 'no /dev/net/tun'; finish; }
cd "$work" || exit 1
guest_timeout=400
serve_transfers
# Bytes of the largest transfers, from the host and to it; in the lab, the way to it is the slow one.
export from=${LODGE_E2E_TRANSFER:-$((1 << 30))}
export to=${LODGE_E2E_TRANSFER:-$([ -n "${LODGE_LAB-}" ] && echo $((1 << 27)) || echo $((1 << 30)))}
# The interface is made by lodge; then it gets its address, and frames of all sorts (net-peer frames).
tap=lodge-tap
(wait_for 60 ip link show $tap && ip addr add 10.77.0.1/24 dev $tap && ip link set $tap up &&
    exec "$peer" frames $tap mine=02:00:00:00:00:01 other=02:00:00:00:00:02 second=02:00:00:00:00:03 \
        group=03:00:00:00:00:04 another-group=03:00:00:00:00:05 all=ff:ff:ff:ff:ff:ff vlan=02:00:00:00:00:01.7) >frames.log 2>&1 &

in_guest 'tap' -epeer -emib -esmall -efunctions -efrom -eto --params=lodge.ip=eth0:10.77.0.2/24 --net=type=tap,ifname=$tap,mac=02:00:00:00:00:01 <<'END'
. "$functions"
check 'segments come and go whole' 'feature eth0 7 && feature eth0 8 && feature eth0 11'
check "$((from >> 20)) MiB from the host" '"$peer" get 10.77.0.1 7001 $from'
check "$((to >> 20)) MiB to the host" '"$peer" put 10.77.0.1 7001 $to'
check 'small transfers' '"$peer" get 10.77.0.1 7001 $small && "$peer" put 10.77.0.1 7001 $small'
check 'eight connections at once' '"$peer" at-once 10.77.0.1 7001 $mib,$mib,$mib,$mib,$mib,$mib,$mib,$mib'
check 'iperf3 to the host' 'iperf 10.77.0.1'
check 'iperf3 from the host' 'iperf 10.77.0.1 -R'
check 'offloads off and on again' '
    ethtool -K eth0 rx-gro-hw off tso off tx off && ethtool -k eth0 | grep "tcp-segmentation-offload: off" && "$peer" get 10.77.0.1 7001 $((4 * mib)) && "$peer" put 10.77.0.1 7001 $((4 * mib)) &&
    ethtool -K eth0 rx-gro-hw on tso on tx on && "$peer" get 10.77.0.1 7001 $((4 * mib)) && "$peer" put 10.77.0.1 7001 $((4 * mib))'
heard() { same "$1" "$("$peer" heard eth0 1)"; }
check 'filter: what is for this interface, and for all' 'heard "all mine"'
check 'filter: a promiscuous interface gets everything' 'ip link set eth0 promisc on && heard "all another-group group mine other second vlan" && ip link set eth0 promisc off && heard "all mine"'
check 'filter: a group that was joined, and no other' 'ip maddr add 03:00:00:00:00:04 dev eth0 && heard "all group mine" && ip maddr del 03:00:00:00:00:04 dev eth0 && heard "all mine"'
check 'filter: all groups' 'ip link set eth0 allmulticast on && heard "all another-group group mine" && ip link set eth0 allmulticast off && heard "all mine"'
check 'filter: a second address' 'ip link add link eth0 name second address 02:00:00:00:00:03 type macvlan mode bridge && ip link set second up && heard "all mine second" && ip link del second && heard "all mine"'
check 'filter: another address' 'ip link set eth0 address 02:00:00:00:00:02 && heard "all other" && ip link set eth0 address 02:00:00:00:00:01 && heard "all mine"'
check 'filter: a VLAN' 'ip link add link eth0 name vlan type vlan id 7 && ip link set vlan up && heard "all mine vlan" && ip link del vlan && heard "all mine"'
check 'the driver off and on, with transfers each time' 'again eth0 10.77.0.2 10.77.0.1 3 && heard "all mine"'
check 'nothing is wrong with the kernel' content
END
check 'the server found nothing damaged' '! grep damaged server.log'
check 'the tap that lodge made went with it' '! ip link show $tap'
finish
