#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two guests with the stock virtio_net driver, on a stream socket and on a pair of datagram sockets; the host gets into
# one by a port, and pauses it or pulls its cable during transfers.
. "$(dirname "$0")/network.sh"
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
guest_timeout=400
serve_transfers

ctl() { "$lodge" ctl other.control "$@"; }
other_guest --net=type=stream,path=stream,server=on,mtu=1500 --net=type=dgram,local=one,path=two --net=type=user,id=card,hostfwd=tcp::7003-:7001 \
    --params=lodge.ip=eth0:10.78.0.1/24 --params=lodge.ip=eth1:10.79.0.1/24 --params=lodge.ip=eth2:10.0.2.15/24:10.0.2.2 \
    -- "$peer" serve 7001
check 'a port of the host leads into a guest' 'wait_for 60 grep listening other.out && "$peer" get 127.0.0.1 7003 1,$((8 * mib)) && "$peer" put 127.0.0.1 7003 1,$((8 * mib))'
check 'stop and cont, ten times during a transfer: every byte is right' '
    "$peer" get 127.0.0.1 7003 $((32 * mib)) & transfer=$!
    for i in 1 2 3 4 5 6 7 8 9 10; do ctl stop && sleep 0.1 && ctl cont || exit 1; sleep 0.1; done
    wait $transfer'
check 'the cable is unplugged and plugged in during a transfer' '
    "$peer" put 127.0.0.1 7003 $((24 * mib)) & transfer=$!
    for i in 1 2 3; do ctl set-link card up=off && sleep 0.3 && ctl set-link card up=on && sleep 0.5 || exit 1; done
    wait $transfer'

in_guest 'two guests' -epeer -emib -esmall --net=type=stream,path=stream,mtu=1500 --net=type=dgram,local=two,path=one \
    --params=lodge.ip=eth0:10.78.0.2/24 --params=lodge.ip=eth1:10.79.0.2/24 <<'END'
for kind in stream dgram; do
    case $kind in stream) other=10.78.0.1 size=$((12 * mib)) ;; dgram) other=10.79.0.1 size=$((12 * mib)) ;; esac
    check "$kind: small transfers" '"$peer" get $other 7001 $small && "$peer" put $other 7001 $small'
    check "$kind: 12 MiB from the other guest" '"$peer" get $other 7001 $size'
    check "$kind: 12 MiB to the other guest" '"$peer" put $other 7001 $size'
    check "$kind: four connections at once" '"$peer" at-once $other 7001 $mib,$mib,$mib,$mib'
done
END
check 'the first guest is still there' 'kill -0 $other'
kill $other 2>/dev/null
wait $other
other=
check 'no socket stays behind' '! ls stream one two other.control 2>/dev/null'
finish
