#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Disks with the stock virtio_blk driver: data in every ring layout and by each engine, on both sides;
# discard, zeroes, flush, read-only, faults; a block device behind it; the driver taken off and put on.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
guest_timeout=400
mib=$((1 << 20))

# pattern MIB START: data that differs everywhere, and that can be made again
pattern() { seq "$2" 99999999 2>/dev/null | head -c $(($1 * mib)); }
blocks() { stat -c %b "$1"; } # of 512 bytes

pattern 8 10000000 >ours
for disk in uring threads bare packed intx; do cp ours $disk.img; truncate -s 40M $disk.img; done
head -c 16M /dev/urandom >sparse.img && cp sparse.img sparse.before
cp ours fixed.img && cp ours kept.img
truncate -s 40M ext4.img
head -c 2M /dev/urandom >shrinks.img && cp shrinks.img faulty.img && cp shrinks.img flush.img
mkdir signals

# A block device of the host's, without its page cache
loop=
if [ "$(id -u)" = 0 ] && modprobe loop 2>/dev/null; then
    cp ours loop.img && truncate -s 40M loop.img
    loop=$(losetup --find --show loop.img) && trap 'losetup --detach "$loop"; cleanup' EXIT
fi
export loop

# The image that shrinks, when the guest says so
(wait_for $guest_timeout [ -e signals/shrink ] && truncate -s 1M shrinks.img && touch signals/shrunk) &

# ---- a guest with a disk of each kind; what runs in it finds them by their serial numbers ----

in_guest 'disks' -eLODGE_E2E_TIMES --env=ours="$work/ours" --env=signals="$work/signals" -eloop --rwdir="$work/signals" ${loop:+--disk=$loop,serial=loop,direct=on} \
    --disk=uring.img,serial=uring,engine=uring,queues=4 \
    --disk=threads.img,serial=threads,engine=threads,packed=off \
    --disk=bare.img,serial=bare,packed=off,event-idx=off,indirect=off \
    --disk=packed.img,serial=packed,event-idx=off,indirect=off,queue-size=16 \
    --disk=intx.img,serial=intx,msix=off,ring-reset=off,in-order=on \
    --disk=sparse.img,serial=sparse \
    --disk=fixed.img,serial=fixed,readonly=on \
    --disk=kept.img,serial=kept,snapshot=on \
    --disk=ext4.img,serial=12345678901234567890 \
    --disk=faulty.img,serial=faulty,fault-errors=1000,fault-operation=read,fault-start=512K,fault-size=4K \
    --disk=flush.img,serial=flush,fault-errors=1000,fault-operation=flush \
    --disk=shrinks.img,serial=shrinks \
    --disk=type=null,size=1G,serial=null <<'END'
disk() { # SERIAL: its device
    local path serial
    for path in /sys/block/vd*; do
        serial=
        read -r serial <"$path/serial" # without a newline at its end
        [ "$serial" = "$1" ] && echo "/dev/${path##*/}" && return
    done
    echo "no disk with the serial number $1"
    return 1
}
of() { local path; path=$(disk "$1") && cat "/sys/block/${path#/dev/}/$2"; } # SERIAL ATTRIBUTE
feature() { [ "$(of "$1" device/features | cut -c $(($2 + 1)))" = "$3" ]; }     # SERIAL BIT 0|1
mib=$((1 << 20))
verify() { # SERIAL OPTION...: fio writes at random, and reads back what it wrote
    local path
    path=$(disk "$1") || return 1
    shift
    fio --name=verify --filename="$path" --offset=16M --size=8M --direct=1 --rw=randwrite --verify=crc32c \
        --verify_fatal=1 --iodepth=16 --ioengine=libaio "$@"
}

check 'a serial number of 20 characters' 'disk 12345678901234567890'
check 'the size is that of the image' 'same $((40 * mib)) "$(blockdev --getsize64 "$(disk uring)")" && same $((1 << 30)) "$(blockdev --getsize64 "$(disk null)")"'
check 'rings and features are as the options say' '
    feature uring 34 1 && feature uring 28 1 && feature uring 29 1 && feature uring 12 1 &&
    feature threads 34 0 && feature threads 28 1 && feature threads 29 1 && feature threads 12 0 &&
    feature bare 34 0 && feature bare 28 0 && feature bare 29 0 && feature packed 34 1 && feature packed 28 0 && feature packed 29 0 &&
    feature intx 40 0 && feature uring 40 1'
check 'interrupts: MSI-X, or a line where there is none' '
    address() { basename "$(dirname "$(realpath "/sys/block/$(basename "$(disk $1)")/device")")"; }
    [ -n "$(ls /sys/bus/pci/devices/$(address uring)/msi_irqs)" ] && [ -z "$(ls /sys/bus/pci/devices/$(address intx)/msi_irqs 2>/dev/null)" ] &&
    grep -E "IO-APIC.*$(basename "$(realpath "/sys/block/$(basename "$(disk intx)")/device")")" /proc/interrupts'
for one in uring threads bare packed intx ${loop:+loop}; do
    export one
    check "$one: what the host wrote is read" 'head -c 8M "$(disk $one)" | cmp - $ours'
done
check 'uring: random blocks of random sizes, verified' 'verify uring --bsrange=512-64k --bs_unaligned=0'
check 'uring: large blocks, verified' 'verify uring --bs=1M --rw=write'
check 'threads: random blocks of random sizes, verified' 'verify threads --bsrange=512-64k'
check 'bare: split ring without indirect descriptors and event index' 'verify bare --bsrange=4k-128k'
check 'packed: small packed ring without indirect descriptors and event index' 'verify packed --bsrange=4k-128k'
check 'intx: reads and writes mixed, verified' 'verify intx --bs=8k --rw=randrw'
[ -z "$loop" ] || check 'loop: a block device of the host, without its page cache' 'verify loop --bsrange=512-64k'
check 'what was written around is still there' 'for one in uring threads bare packed intx ${loop:+loop}; do head -c 8M "$(disk $one)" | cmp - $ours || exit 1; done'
check 'the guest leaves data of its own' '
    seq 20000000 99999999 2>/dev/null | head -c 4M >from-guest
    for one in uring threads bare packed intx ${loop:+loop}; do dd if=from-guest of="$(disk $one)" bs=64k seek=$((32 * 16)) oflag=direct status=none || exit 1; done'

check 'discarded blocks read as zeroes' 'blkdiscard -o 2M -l 6M "$(disk sparse)" && tail -c +$((2 * mib + 1)) "$(disk sparse)" | head -c 6M | cmp - <(head -c 6M /dev/zero)'
check 'zeroed blocks read as zeroes' 'blkdiscard -z -o 10M -l 2M "$(disk sparse)" && tail -c +$((10 * mib + 1)) "$(disk sparse)" | head -c 2M | cmp - <(head -c 2M /dev/zero)'

check 'space is given back' 'fallocate --punch-hole -o 12M -l 2M "$(disk sparse)" && tail -c +$((12 * mib + 1)) "$(disk sparse)" | head -c 2M | cmp - <(head -c 2M /dev/zero)'

check 'readonly: it can be read' 'cmp "$(disk fixed)" $ours'
check 'readonly: the kernel knows' 'same 1 "$(of fixed ro)"'
check 'readonly: a write is refused' '! dd if=/dev/zero of="$(disk fixed)" bs=4k count=1 oflag=direct'
check 'snapshot: what is written is read' 'dd if=/dev/zero of="$(disk kept)" bs=64k count=16 oflag=direct && head -c 1M "$(disk kept)" | cmp - <(head -c 1M /dev/zero) && cmp -i 1M "$(disk kept)" $ours'
check 'null: reads are zeroes, writes go nowhere' 'path=$(disk null); dd if=$ours of=$path bs=1M oflag=direct && head -c 8M $path | cmp - <(head -c 8M /dev/zero)'
check 'faults: an I/O error where it was asked for' '! dd if="$(disk faulty)" of=/dev/null bs=4k skip=128 count=1 iflag=direct && dmesg | grep "I/O error, dev $(basename "$(disk faulty)"), sector 1024 "'
check 'faults: none around, and the disk works on' 'path=$(disk faulty); dd if=$path of=/dev/null bs=4k count=128 iflag=direct && dd if=$path of=/dev/null bs=4k skip=129 iflag=direct'
check 'fsync ends in a flush on the host' '! dd if=/dev/zero of="$(disk flush)" bs=4k count=1 oflag=direct conv=fsync && dd if=/dev/zero of="$(disk flush)" bs=4k count=1 oflag=direct'
check 'write-back, and write-through when the guest wants it' '
    path=$(basename "$(disk uring)")
    same "write back" "$(cat /sys/block/$path/cache_type)" && echo "write through" >/sys/block/$path/cache_type &&
    same "write through" "$(cat /sys/block/$path/cache_type)" && dd if=/dev/zero of=/dev/$path bs=4k count=4 seek=6000 oflag=direct conv=fsync &&
    echo "write back" >/sys/block/$path/cache_type && same "write back" "$(cat /sys/block/$path/cache_type)"'

check 'an image that shrinks: errors where nothing is left, and no old data' '
    path=$(disk shrinks) && dd if=$path of=/dev/null bs=4k iflag=direct && touch $signals/shrink && wait_for 60 [ -e $signals/shrunk ] &&
    dd if=$path of=/dev/null bs=4k count=256 iflag=direct && ! dd if=$path of=/dev/null bs=4k skip=256 count=1 iflag=direct'
check 'a file system: made, filled, checked, found again' '
    path=$(disk 12345678901234567890)
    mkfs.ext4 -q $path && mkdir m && mount -o discard $path m && cp -a $ours /usr/share/zoneinfo/Europe m/ && umount m && fsck.ext4 -fn $path &&
    mount -o ro $path m && cmp $ours m/ours && diff -r --no-dereference /usr/share/zoneinfo/Europe m/Europe && umount m'

unbind() { echo "$1" >/sys/bus/virtio/drivers/virtio_blk/unbind; }
bind() { echo "$1" >/sys/bus/virtio/drivers/virtio_blk/bind; }
check 'the driver off and on, ten times, with data each time' '
    for one in uring bare; do
        virtio=$(basename "$(realpath "/sys/block/$(basename "$(disk $one)")/device")")
        for i in 1 2 3 4 5; do
            unbind $virtio && ! disk $one && bind $virtio && wait_for 10 disk $one && path=$(disk $one) && [ -b $path ] &&
            dd if=$ours of=$path bs=64k count=4 skip=$i seek=480 oflag=direct && dd if=$path bs=64k count=4 skip=480 iflag=direct | cmp - <(tail -c +$((i * 65536 + 1)) $ours | head -c 256k) || exit 1
        done
    done'
check 'the driver off in the middle of transfers, and on again' '
    virtio=$(basename "$(realpath "/sys/block/$(basename "$(disk null)")/device")")
    for i in 1 2 3; do
        dd if=/dev/zero of="$(disk null)" bs=1M count=1000 oflag=direct & sleep 0.5
        unbind $virtio; wait $!; bind $virtio && wait_for 10 disk null || exit 1
    done
    verify uring --bs=64k --size=2M'
check 'nothing is wrong with the kernel' '! dmesg | grep -E "BUG:|WARNING: |Oops|hung task|is not a head" | grep -v "Return Stack Overflow: WARNING"'
END
wait

# ---- what the host has now ----

pattern 4 20000000 >theirs
for one in uring threads bare packed intx ${loop:+loop}; do
    check "$one: what the guest wrote is in the image, and around it what was there" '
        head -c 8M $one.img | cmp - ours && tail -c +$((32 * mib + 1)) $one.img | head -c 4M | cmp - <(head -c 4M theirs)'
done
check 'what was discarded is a hole in the image, what was zeroed is zero, the rest is as it was' '
    [ $(blocks sparse.img) -le $((8 << 11)) ] && [ $(blocks sparse.img) -ge $((6 << 11)) ] || { echo "$(blocks sparse.img) blocks"; exit 1; }
    for piece in "0 2" "8 2" "14 2"; do set -- $piece; cmp -i $(($1 * mib)) -n $(($2 * mib)) sparse.img sparse.before || exit 1; done
    for piece in "2 6" "10 4"; do set -- $piece; cmp -i $(($1 * mib)):0 -n $(($2 * mib)) sparse.img /dev/zero || exit 1; done'
check 'readonly, snapshot: the images are as they were' 'cmp fixed.img ours && cmp kept.img ours'
check 'the file system is sound on the host, too' 'fsck.ext4 -fn ext4.img && debugfs -R "dump /ours from-ext4" ext4.img && cmp from-ext4 ours'
finish
