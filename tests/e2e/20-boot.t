#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Boots: each protocol, a classic initrd, Debian's own, sizes of memory, a quiet kernel log.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
export XDG_CACHE_HOME=$work/cache

boots() { # boots PROTOCOL OPTION...: and says so
    local wanted=$1; shift
    same "$release" "$(guest --result=r.json "$@" uname -r)" && same "$wanted" "$(result r.json boot-protocol)"
}
check 'bzImage by its 64-bit entry' 'boots linux64 --boot=linux64'
check 'bzImage, unpacked on the host, by PVH' 'boots pvh-unpacked --boot=pvh-unpacked'
check 'the unpacked kernel is kept' 'ls cache/lodge/kernels/*.vmlinux'
check 'vmlinux by PVH' 'cp cache/lodge/kernels/*.vmlinux vmlinux && boots pvh --kernel=vmlinux --boot=pvh'
check 'the protocol chosen by itself' 'boots pvh-unpacked --boot=auto && grep -q "\"kernel-unpack-ns\" : [1-9]" r.json'
check 'a vmlinux that is told to boot as bzImage' 'is 125 guest --kernel=vmlinux --boot=linux64 true 2>err && grep -q "protocol linux64: use pvh" err'

busybox_initrd initrd '
for word in $(cat /proc/cmdline); do case $word in say=*) echo "script says ${word#say=} on $(cat /sys/class/tty/console/active)";; esac; done
poweroff -f' virtio_pci virtio_console
check 'a classic initrd, serial console' 'classic initrd -p say=hello </dev/null >out && grep -q "script says hello on ttyS0" out'
check 'a classic initrd, virtio console' 'classic initrd -p say=hello --console virtio </dev/null >out; cat out; grep -q "script says hello on hvc0" out'
check 'the kernel speaks on the serial console' '
    "$lodge" run --timeout 60 -k "$kernel" -i initrd -p lodge.init=/script </dev/null >out && grep -q "Linux version $release" out'
check 'no defaults: no device but the disk, no console' '
    truncate -s 1M disk.img && classic initrd --defaults off --console off --disk disk.img --result r.json </dev/null &&
    python3 -c "
import json; d = json.load(open(\"r.json\"))[\"stats\"][\"devices\"]
assert sorted(d) == [\"acpi0\", \"boot-timing0\", \"debug-exit0\", \"disk0\"], sorted(d)"'

if [ -r "/boot/initrd.img-$release" ]; then
    check "the distribution's own initrd, driven over its serial console" '
        { wait_for 80 grep -q "(initramfs)" out; echo "echo in \$((6 * 7)); uname -r; poweroff -f"; sleep 60; } |
            is 0 "$lodge" run --timeout 100 -k "$kernel" -i /boot/initrd.img-$release -p "break=top panic=" >out
        grep -q "in 42" out && grep -q "^$release" out || { tail out; exit 1; }'
else
    skip "the distribution's own initrd, driven over its serial console" 'there is none in /boot'
fi

in_guest '128 MiB' --memory=128M <<'END'
total=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
check 'the kernel has what was given' '[ $total -gt $((75 << 10)) ] && [ $total -lt $((128 << 10)) ] || { echo $total; exit 1; }'
check 'and can use it' 'head -c 40M /dev/zero | tail -c 30M | wc -c'
END

in_guest '6 GiB' --memory=6G <<'END'
total=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
check 'the kernel has what was given' '[ $total -gt $((5700 << 10)) ] && [ $total -lt $((6144 << 10)) ] || { echo $total; exit 1; }'
check 'half of it lies above 4 GiB' 'grep "^100000000-1bfffffff : System RAM" /proc/iomem || { cat /proc/iomem; exit 1; }'
check 'and can be used' 'head -c 64M /dev/urandom >/run/data && cp /run/data /run/copy && cmp /run/data /run/copy'
END

in_guest 'one CPU' -ploglevel=7 <<'END'
check 'one CPU' 'same 1 "$(nproc)"'
check 'KVM is found, its clock is used' 'dmesg | grep "Hypervisor detected: KVM" && same kvm-clock "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"'
check 'nothing is calibrated' '! dmesg | grep -iE "calibrat|unstable|Refined TSC" | grep -v "lpj="'
check 'ACPI is content' '! dmesg | grep -E "ACPI (Error|Warning|BIOS)|ACPI: .*(fail|invalid)|AE_"'
check 'PCI is content' '! dmesg | grep -E "pci.*(can.t|failed|conflict|no compatible|disabled|BAR.*error)"'
# What kernels say of the host's CPU and its bugs is not ours.
check 'no error, no warning' '! dmesg -l emerg,alert,crit,err,warn | grep -vE "hrtimer: interrupt took|Speculative|Spectre|RETBleed|MDS|TAA|MMIO Stale|SRSO|ITS|[mM]itigation|microcode"'
END

finish
