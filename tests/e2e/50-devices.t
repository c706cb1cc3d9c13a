#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Other devices with their stock drivers: each combination of ring features, serial ports, entropy, clock, panic and
# generation id, the power button, interrupt lines only, drivers taken off and put on.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
guest_timeout=200

# ---- ring features: a disk for each combination, named for what it has, and a network interface ----

disks=()
for features in {0,1}{0,1}{0,1}{0,1}; do # packed, indirect, event index, in-order
    truncate -s 1M "ring$features"
    read -r packed indirect event order <<<"$(sed 's/./& /g; s/0/off/g; s/1/on/g' <<<"$features")"
    disks+=("--disk=ring$features,serial=$features,packed=$packed,indirect=$indirect,event-idx=$event,in-order=$order,ring-reset=$order")
done
in_guest 'rings' -eLODGE_E2E_TIMES "${disks[@]}" --net=type=user --params=lodge.ip=eth0:10.0.2.15/24:10.0.2.2 --trace='virtio_queue_reset' --trace-file=trace <<'END'
head -c 256k /dev/urandom >data
has() { cut -c $(($2 + 1)) <"$1/device/features"; } # DISK BIT
for path in /sys/block/vd*; do
    read -r wanted <"$path/serial"
    case $wanted in 0*) layout=split ;; *) layout=packed ;; esac
    # The driver of Linux 6.1 does not take in-order completion, later ones may: not compared.
    check "$layout ring, indirect ${wanted:1:1}, event index ${wanted:2:1}, in-order and ring reset ${wanted:3:1}: negotiated, and data is right" '
        same "${wanted:0:3}" "$(has $path 34)$(has $path 28)$(has $path 29)" && same "${wanted:3:1}" "$(has $path 40)" &&
        dd if=data of=/dev/${path##*/} bs=32k seek=3 oflag=direct status=none && dd if=/dev/${path##*/} bs=32k skip=3 count=8 iflag=direct status=none | cmp - data'
done
check 'a driver that resets single rings: other sizes of the network rings, with frames before and after' '
    busybox ping -c 2 -w 10 10.0.2.2 && ethtool -G eth0 tx 64 rx 128 && ethtool -g eth0 | grep -A 9 Current | grep -E "^RX:[[:space:]]*128$" && busybox ping -c 3 -w 10 10.0.2.2 &&
    ethtool -G eth0 tx 256 rx 256 && busybox ping -c 3 -w 10 10.0.2.2'
END
check 'rings: the device saw the resets' '[ "$(grep -c "virtio_queue_reset net0" trace)" -ge 4 ] || { cat trace; exit 1; }'

# ---- serial ports, consoles, and the small devices ----

# An echo behind a port; socat, when the guest's monitor has made its end
echo_on() { wait_for 60 test -e "$2" && exec socat "$1" EXEC:cat; }
echo_on FILE:serial.pty,raw,echo=0 serial.pty 2>/dev/null &
in_guest 'devices' -eLODGE_E2E_TIMES --serial=type=file,path=serial.file --serial=type=pty,path=serial.pty \
    --device=virtio-rng,packed=off,max-bytes=64K,period=100 --device=virtio-rng,msix=off <<'END'
# Does what we send come back?
echoes() { # DEVICE BYTES
    local i piece=1024
    stty -F "$1" raw -echo && exec 3<>"$1" || return 1
    for i in $(seq $(($2 / piece))); do
        head -c $((piece * 3 / 4)) /dev/urandom | base64 -w 0 >sent && cat sent >&3 && timeout 20 head -c $piece <&3 >back
        cmp sent back || return 1
    done
}
check 'serial port to a file: what is written' 'stty -F /dev/ttyS0 raw -echo; echo "written to the first port" >/dev/ttyS0'
check 'serial port to a pty: an echo of 4 KiB' 'echoes /dev/ttyS1 4096'
check 'named ports' 'cat /sys/class/virtio-ports/*/name | sort >names; same "org.lodge.control org.lodge.stderr org.lodge.stdin org.lodge.stdout" "$(xargs <names)"'

rng=/sys/class/misc/hw_random
check 'entropy: two sources' 'same 2 "$(grep -o "virtio_rng\.[0-9]*" $rng/rng_available | sort -u | wc -l)"'
for one in $(grep -o 'virtio_rng\.[0-9]*' $rng/rng_available | sort -u); do
    check "entropy: $one gives bytes that differ" 'echo $one >$rng/rng_current && head -c 32K /dev/hwrng >a && head -c 32K /dev/hwrng >b && same 32768 "$(stat -c %s a)" && ! cmp -s a b && [ "$(gzip -c a | wc -c)" -gt 32000 ]'
done

check 'clock: the time' 'now=$(date +%s); then=$(cat /sys/class/rtc/rtc0/since_epoch); [ $((now - then)) -le 3 ] && [ $((then - now)) -le 3 ] || { echo $now $then; exit 1; }'
check 'clock: set, and read again' 'now=$(date +%s); date -s "2031-02-28 23:59:58" && busybox hwclock -w -u && sleep 3 && same 2031-03-01 "$(cat /sys/class/rtc/rtc0/date)" && date -s "@$now" && busybox hwclock -w -u'
check 'clock: an alarm' '
    count() { awk "/rtc0/ { print \$2 }" /proc/interrupts; }
    before=$(count) && echo +2 >/sys/class/rtc/rtc0/wakealarm && sleep 4 && [ "$(count)" -gt "$before" ] || { echo "$before"; cat /proc/interrupts; exit 1; }'
check 'panic device: its driver knows what can be told' 'cat /sys/bus/pci/drivers/pvpanic-pci/0000:*/capability'
check 'generation id: the driver has it' 'ls /sys/bus/acpi/drivers/vmgenid | grep -i ":"'

loop_driver() { # BUS DRIVER COUNT
    local i device devices=$(cd "/sys/bus/$1/drivers/$2" && ls -d *[0-9])
    for i in $(seq "$3"); do
        for device in $devices; do
            echo "$device" >"/sys/bus/$1/drivers/$2/unbind" && [ ! -e "/sys/bus/$1/drivers/$2/$device" ] && echo "$device" >"/sys/bus/$1/drivers/$2/bind" || return 1
        done
    done
}
check 'entropy: the driver off and on' 'loop_driver virtio virtio_rng 5 && head -c 4K /dev/hwrng >a && same 4096 "$(stat -c %s a)"'
check 'panic device: the driver off and on' 'loop_driver pci pvpanic-pci 5'
check 'PCI: virtio-pci off and on below a driver' '
    device=$(basename "$(dirname "$(realpath /sys/bus/virtio/drivers/virtio_rng/virtio* | head -n 1)")")
    for i in 1 2 3; do echo $device >/sys/bus/pci/drivers/virtio-pci/unbind && echo $device >/sys/bus/pci/drivers/virtio-pci/bind || exit 1; done
    head -c 4K /dev/hwrng >a && same 4096 "$(stat -c %s a)"'
check 'PCI: a device removed, and found again by a scan' '
    device=$(basename "$(dirname "$(realpath /sys/bus/virtio/drivers/virtio_rng/virtio* | head -n 1)")")
    for i in 1 2; do echo 1 >/sys/bus/pci/devices/$device/remove && [ ! -e /sys/bus/pci/devices/$device ] && echo 1 >/sys/bus/pci/rescan && ls /sys/bus/pci/drivers/virtio-pci/$device || exit 1; done
    head -c 4K /dev/hwrng >a && same 4096 "$(stat -c %s a)"'
check 'nothing is wrong with the kernel' '! dmesg | grep -E "BUG:|WARNING: |Oops|hung task|is not a head|can.t (claim|assign)" | grep -v "Return Stack Overflow: WARNING"'
END
check 'serial port to a file: it is in the file' 'grep "written to the first port" serial.file'
check 'no link to a pty stays behind' '! ls serial.pty 2>/dev/null'

# ---- a kernel without MSI ----

cp ring0000 line.img
in_guest 'interrupt lines only' --params=pci=nomsi --disk=line.img --net=type=user --params=lodge.ip=eth0:10.0.2.15/24:10.0.2.2 <<'END'
check 'no device has MSI' '! grep MSI /proc/interrupts && grep -q "IO-APIC.*virtio" /proc/interrupts'
check 'disk' 'head -c 1M /dev/urandom >data && dd if=data of=/dev/vda bs=4k oflag=direct status=none && dd if=/dev/vda bs=16k iflag=direct status=none | cmp - data'
check 'network' 'busybox ping -c 3 -w 20 10.0.2.2'
check 'entropy' 'head -c 4K /dev/hwrng >a && same 4096 "$(stat -c %s a)"'
check 'all at once, on lines that are shared' '
    for i in 1 2 3 4; do dd if=/dev/vda of=/dev/null bs=4k iflag=direct status=none; done & disk=$!
    head -c 64K /dev/hwrng >a & rng=$!
    busybox ping -c 5 -i 0.2 -w 20 10.0.2.2 && wait $disk && wait $rng'
check 'no interrupt that nobody wanted' '! dmesg | grep -iE "nobody cared|spurious|disabling IRQ"'
END

# ---- the power button, as a guest without a command hears it ----

busybox_initrd initrd '
mount -t devtmpfs dev /dev 2>/dev/null; mount -t sysfs sys /sys 2>/dev/null
echo LISTENING
# struct input_event: time (16 bytes), type 1 (key), code 116 (power), value 1 (pressed)
set -- $(dd if=/dev/input/event0 bs=24 count=1 2>/dev/null | od -An -tu2 -j16)
echo "event $1 $2 $3"
poweroff -f' virtio_pci button evdev
check 'the power button is a key to the guest, which powers off' '
    classic initrd --control=control </dev/null >out & pid=$!
    wait_for 60 grep -q LISTENING out && "$lodge" ctl control system_powerdown && is 0 wait $pid && grep "event 1 116 1" out || { cat out; exit 1; }'
finish
