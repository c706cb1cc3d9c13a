#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vmxnet3 with its stock driver on a tap: data both ways compared by checksum, offloads, VLANs, MTU 9000,
# ring sizes, link changes and pauses under traffic, unbind and bind, the module unloaded under traffic. In
# a network namespace of its own.
. "$(dirname "$0")/network.sh"
. "$(dirname "$0")/lib.sh"
need_network 'vmxnet3'
. "$(dirname "$0")/vmxnet3.sh"

ip tuntap add lodge0 mode tap && ip link set lodge0 mtu 9000 up && ip addr add 10.77.0.1/24 dev lodge0
ip link add link lodge0 name lodge0.100 type vlan id 100 && ip addr add 10.78.0.1/24 dev lodge0.100 && ip link set lodge0.100 mtu 1500 up
cat >pauses <<END
#!/bin/sh
for i in 1 2 3; do "$lodge" ctl "$work/control" stop; sleep 0.5; "$lodge" ctl "$work/control" cont; sleep 0.5; done
END
cat >flap <<END
#!/bin/sh
"$lodge" ctl "$work/control" set-link vmxnet0 up=off; sleep 2; "$lodge" ctl "$work/control" set-link vmxnet0 up=on
END
chmod 755 pauses flap
serve 5003 "$work/pauses" && serve 5004 "$work/flap"
in_guest tap --net=type=tap,ifname=lodge0,model=vmxnet3 --control="$work/control" -esum -efunctions <<'END'
HOST=10.77.0.1
. "$functions"
nic=$(basename "$(readlink -f /sys/class/net/eth0/device)")
check 'an address, set up by hand' set_up
check 'data in' take
check 'data out' give
check 'segments came together (LRO)' '[ "$(counter "LRO pkts rx")" -gt 10 ]'
check 'without LRO' 'ethtool -K eth0 lro off && take && ethtool -K eth0 lro on'
check 'without checksum offload' 'ethtool -K eth0 rx off tx off && take && give && ethtool -K eth0 rx on tx on tso on'
check 'a VLAN' '
    modprobe 8021q && ip link add link eth0 name v100 type vlan id 100 && ip addr add 10.78.0.2/24 dev v100 && ip link set v100 up &&
    wait_for 10 reach 10.78.0.1 && HOST=10.78.0.1 take && HOST=10.78.0.1 give'
check 'a VLAN, its tags left in' 'ethtool -K eth0 rxvlan off txvlan off && reach 10.78.0.1 && HOST=10.78.0.1 take && ethtool -K eth0 rxvlan on txvlan on && reach 10.78.0.1'
check 'a VLAN that goes away' 'ip link del v100 && reach'
check 'all multicasts, everything' 'ip link set eth0 allmulticast on promisc on && reach && ip link set eth0 allmulticast off promisc off && reach'
check 'another address' 'ip link set eth0 down && ip link set eth0 address 52:54:00:77:00:02 && set_up && reach'
check 'an MTU of 9000' 'ip link set eth0 mtu 9000 && wait_for 10 reach && busybox ping -c 3 -s 8900 $HOST && take && give'
check 'an MTU of 9000, without LRO and TSO' 'ethtool -K eth0 lro off tso off && take && give && ethtool -K eth0 lro on tso on'
check 'an MTU of 1500 again' 'ip link set eth0 mtu 1500 && wait_for 10 reach && take'
check 'other ring sizes' 'ethtool -G eth0 rx 512 tx 1024 && wait_for 10 reach && take && give'
check 'pauses under traffic' 'socat - "TCP:$HOST:5003" </dev/null & for i in 1 2 3; do take && give || exit 1; done; wait'
check 'the link goes down and comes back' '
    socat -u OPEN:/dev/null "TCP:$HOST:5004"; wait_for 10 grep 0 /sys/class/net/eth0/carrier && wait_for 10 grep 1 /sys/class/net/eth0/carrier && wait_for 10 reach && take'
check 'unbound and bound' '
    echo "$nic" >/sys/bus/pci/drivers/vmxnet3/unbind && [ ! -e /sys/class/net/eth0 ] && echo "$nic" >/sys/bus/pci/drivers/vmxnet3/bind && set_up && take'
check 'the module goes and comes under traffic' '
    iperf3 -c $HOST -t 20 >/dev/null 2>&1 & iperf3 -c $HOST -p 5202 -t 20 -R >/dev/null 2>&1 & sleep 1
    modprobe -r vmxnet3 && modprobe vmxnet3 && wait_for 5 test -e /sys/class/net/eth0 && set_up && kill $(jobs -p); take && give'
check 'the kernel is content' quiet
END

finish
