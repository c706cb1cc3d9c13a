#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vmxnet3 with its stock driver on user networking, and between two guests: addresses, data both ways
# compared by checksum, counters. In a network namespace of its own.
. "$(dirname "$0")/network.sh"
. "$(dirname "$0")/lib.sh"
need_network 'vmxnet3'
. "$(dirname "$0")/vmxnet3.sh"

in_guest user --net=type=user,model=vmxnet3 -esum -efunctions <<'END'
HOST=10.0.2.2
. "$functions"
check 'the stock driver' 'ethtool -i eth0 | grep "^driver: vmxnet3"'
check 'MSI-X, a vector for a pair of queues and one for events' 'grep -c eth0-rxtx-0 /proc/interrupts && grep -c eth0-event /proc/interrupts'
check 'the address that init gave' reach
check 'an address by DHCP' 'busybox udhcpc -i eth0 -n -q -f -t 5 -s /bin/true 2>&1 | tee /dev/stderr | grep "lease of 10.0.2.15"'
check 'data in' take
check 'data out' give
check 'a second of iperf3 out' 'iperf3 -c $HOST -t 1'
check 'a second of iperf3 in' 'iperf3 -c $HOST -t 1 -R'
check 'the counters count, and no errors' '
    [ "$(counter "TSO pkts tx")" -gt 100 ] && [ "$(counter "ucast pkts rx")" -gt 100 ] && same 0 "$(counter "pkts tx err")" && same 0 "$(counter "pkts rx err")"'
check 'the kernel is content' quiet
END

# The other guest is told to serve as the host does.
other_guest --net=type=stream,path="$work/wire",server=on,model=vmxnet3 -plodge.ip=eth0:10.79.0.1/24 -- sh -c "
    socat -t 20 TCP-LISTEN:5001,fork,reuseaddr SYSTEM:sha256sum & socat -U TCP-LISTEN:5002,fork,reuseaddr OPEN:$work/data,rdonly & sleep 1000"
wait_for 30 test -S wire
in_guest 'two guests' --net=type=stream,path="$work/wire",model=vmxnet3 -plodge.ip=eth0:10.79.0.2/24 -esum -efunctions <<'END'
HOST=10.79.0.1
. "$functions"
check 'they reach each other' 'wait_for 40 reach && wait_for 10 take'
check 'data in' take
check 'data out' give
check 'the kernel is content' quiet
END

finish
