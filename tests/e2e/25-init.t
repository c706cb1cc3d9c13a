#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The guest's init without a command from the host: a disk's own init, commands and shells on the console,
# mounts, ends (guest-images/protocol.md).
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1

# boot OPTION...: a guest on the terminal; its output in out
boot() { "$lodge" run --timeout "$guest_timeout" -k "$kernel" "$@" </dev/null >out 2>err; }
says() { tr -d '\r' <out | grep -q -- "$1" || { tail -n 20 out err; return 1; }; }

# A disk that is as small as one that boots can be: busybox, and its init
mkdir -p root/{sbin,bin,dev,proc,sys,tmp,etc/init.d} && cp "$(command -v busybox)" root/bin/busybox
for name in sh echo mount cat poweroff uname df; do ln -s busybox root/bin/$name; done
ln -s ../bin/busybox root/sbin/init
cat >root/etc/inittab <<'END'
::sysinit:/bin/sh /etc/init.d/all
END
cat >root/etc/init.d/all <<'END'
echo "process $$ of $(cat /proc/1/comm), root $(cat /proc/mounts | grep " / " | tail -n 1)"
echo kept >/kept && poweroff
END
check "a disk's own init is the guest's first process, on a root that can be written" '
    truncate -s 16M root.img && mkfs.ext4 -q -d root root.img && is 0 boot --disk=path=root.img --result=result &&
    says "of init, root /dev/vda / ext4 rw" && same power-off "$(result result reason)"'
check 'what it wrote is on the disk' 'debugfs -R "cat /kept" root.img 2>/dev/null | grep kept && fsck.ext4 -fn root.img'
check 'a disk without an init is one line' '
    rm root/sbin/init && rm -f bare.img && truncate -s 16M bare.img && mkfs.ext4 -q -d root bare.img &&
    boot --disk=path=bare.img --no-reboot; says "/sbin/init.*No such file"'
check 'a disk without a file system is one line' 'truncate -s 4M empty.img && boot --disk=path=empty.img --no-reboot; says "vda"'

check 'a command on the console' 'is 0 boot -p "lodge.exec=\"echo in \$((6 * 7)) as \$(id -u); mount\"" && says "in 42 as 0"'
check 'a shell on the console takes commands' '
    { wait_for 60 grep -q "[#\$] " out; echo "echo in \$((6 * 7))"; echo exit; sleep 20; } | is 0 "$lodge" run --timeout "$guest_timeout" -k "$kernel" >out 2>err; says "^in 42"'
mkdir shared && echo shared >shared/file
check 'a name for the host, a mount that can be written, and one that can not' '
    is 0 boot --share=path=$work/shared,tag=one --share=path=$work/shared,tag=two -p lodge.hostname=there -p lodge.mount=one,/mnt/one,rw -p lodge.mount=two,/mnt/two \
        -p "lodge.exec=\"uname -n; cat /mnt/two/file; echo new >/mnt/one/new; echo new >/mnt/two/newer\"" &&
    says "^there" && says "^shared" && same new "$(cat shared/new)" && [ ! -e shared/newer ]'
check 'the end by a reset' 'is 32 boot --no-reboot -p lodge.end=reboot -p "lodge.exec=true"'
check 'the end by a port, with the status' 'is $((5 << 1 | 1)) boot -p lodge.end=port:0xf4 -p "lodge.exec=\"exit 5\""'
check 'an unknown setting is named' 'boot --no-reboot -p lodge.rot=none -p lodge.exec=true; says "lodge.rot"'
check 'a mount that is not there is named' 'boot --no-reboot -p lodge.mount=none,/mnt/none -p lodge.exec=true; says "none"'
finish
