#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Several queues a device, with as many CPUs: a disk and a tap. In the lab it may run into the emulator's fault
# (docs/testing.md).
. "$(dirname "$0")/network.sh"
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
serve_transfers
tap=
if [ -w /dev/net/tun ] && [ -n "$own_network" ]; then
    tap=lodge-tap
    (wait_for 60 ip link show $tap && ip addr add 10.77.0.1/24 dev $tap && ip link set $tap up) >/dev/null 2>&1 &
fi
export tap
truncate -s 32M disk.img

in_guest 'two queues' --cpus=2 -epeer -etap --disk=disk.img,queues=2 ${tap:+--net=type=tap,ifname=$tap,queues=2 --params=lodge.ip=eth0:10.77.0.2/24} <<'END'
check 'disk: a queue for each CPU, with an interrupt of its own' 'same "0 1" "$(ls /sys/block/vda/mq | xargs)" && same 2 "$(grep -c "virtio[0-9]*-req[.]" /proc/interrupts)"'
check 'disk: both queues work, data is right' '
    fio --name=verify --filename=/dev/vda --size=8M --offset_increment=8M --numjobs=2 --direct=1 --rw=randwrite --bs=16k --verify=crc32c --verify_fatal=1 --iodepth=8 --ioengine=libaio --cpus_allowed=0,1 --cpus_allowed_policy=split &&
    [ "$(awk "/virtio[0-9]*-req[.]/ { for (i = 2; i <= 3; i++) n += \$i > 0 } END { print n }" /proc/interrupts)" -ge 2 ]'
if [ -n "$tap" ]; then
    check 'tap: two pairs, in use' 'ethtool -l eth0 | tail -n 5 | grep -E "^Combined:[[:space:]]*2$"'
    check 'tap: transfers' '"$peer" at-once 10.77.0.1 7001 8000000,8000000,8000000,8000000'
    check 'tap: one pair, and two again' 'ethtool -L eth0 combined 1 && "$peer" get 10.77.0.1 7001 4000000 && ethtool -L eth0 combined 2 && "$peer" at-once 10.77.0.1 7001 4000000,4000000'
fi
END
finish
