#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A user of RDMA in the guest's own kernel, over the adapter with loopback: NVMe over fabrics, target and host in one
# guest. Its queue pairs, connection manager and memory keys are the kernel's: fast registration, invalidation.
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
guest_timeout=250
need_pvrdma 'NVMe over RDMA'

pvrdma_guest nvme --memory=1G --rdma=backend=loopback <<'END'
target=/sys/kernel/config/nvmet
offer() {
    mount -t configfs none /sys/kernel/config 2>/dev/null
    modprobe -a nvmet_rdma nvme_rdma && modprobe brd rd_nr=1 rd_size=65536 &&
    mkdir $target/subsystems/lodge && echo 1 >$target/subsystems/lodge/attr_allow_any_host &&
    mkdir $target/subsystems/lodge/namespaces/1 && echo /dev/ram0 >$target/subsystems/lodge/namespaces/1/device_path &&
    echo 1 >$target/subsystems/lodge/namespaces/1/enable && mkdir $target/ports/1 && cd $target/ports/1 &&
    echo rdma >addr_trtype && echo ipv4 >addr_adrfam && echo 10.0.2.15 >addr_traddr && echo 4420 >addr_trsvcid &&
    ln -s $target/subsystems/lodge subsystems/lodge
}
connect() { echo transport=rdma,traddr=10.0.2.15,trsvcid=4420,nqn=lodge >/dev/nvme-fabrics && wait_for 10 test -b /dev/nvme0n1; }
check 'the target listens' 'offer || { dmesg | tail -n 20; false; }'
check 'the host connects' 'connect || { dmesg | tail -n 20; false; }'
check 'data out and back' '
    head -c 16M /dev/urandom >data && dd if=data of=/dev/nvme0n1 bs=256k oflag=direct status=none conv=fsync &&
    dd if=/dev/nvme0n1 bs=64k iflag=direct count=256 status=none | cmp data && cmp -n 16777216 data /dev/ram0'
check 'a file system' '
    mkfs.ext4 -q /dev/nvme0n1 && mkdir fs && mount /dev/nvme0n1 fs && cp -r /etc/apt fs && cp data fs && umount fs &&
    mount /dev/nvme0n1 fs && cmp data fs/data && diff -r /etc/apt fs/apt; umount fs'
check 'it disconnects and connects again' '
    echo 1 >/sys/class/nvme/nvme0/delete_controller && [ ! -e /dev/nvme0n1 ] && connect && dd if=/dev/nvme0n1 of=/dev/null bs=64k count=16 iflag=direct status=none'
check 'the driver is taken off under it, and comes back' '
    rmmod vmw_pvrdma && insmod $pvrdma_module && pair ibv_rc_pingpong -g $gid -n 20'
END
finish
