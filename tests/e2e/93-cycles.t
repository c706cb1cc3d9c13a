#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Snapshot and restore, again and again: each cycle saves and ends the guest that the last one restored, in traffic.
# fio writes and verifies its disk, one TCP connection carries bytes to the host and back over a tap, and files on
# a shared folder are written, renamed and read again. At the end not one byte may be wrong, nor the connection or
# the open log be others than at first. LODGE_CYCLES: how many (default 50).
. "$(dirname "$0")/lib.sh"
cycles=${LODGE_CYCLES:-50}
peer=$here/net-peer
traffic=$LODGE_BUILD/tests/support/traffic
tap=lodgecycles0 host=10.93.0.1 address=10.93.0.2 port=5093

[ "$(id -u)" = 0 ] && ip tuntap add "$tap" mode tap vnet_hdr 2>/dev/null || { skip 'cycles' 'a tap needs root'; finish; }
trap 'ip tuntap del "$tap" mode tap; cleanup' EXIT
ip addr add "$host/24" dev "$tap" && ip link set "$tap" up

cat >"$work/script" <<END
#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys 2>/dev/null; mount -t devtmpfs dev /dev 2>/dev/null
ip link set lo up; ip link set eth0 up; ip addr add $address/24 dev eth0
mkdir -p /share /tmp /root && mount -t 9p -o trans=virtio,version=9p2000.L,cache=none t /share || echo failed: share
traffic echo $host $port /share/stop || echo failed: echo &
traffic files /share /share/stop || echo failed: files &
rounds=0
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro root /root || echo failed: root
mount -o bind /dev /root/dev
while [ ! -e /share/stop ]; do
    chroot /root fio --name=v --filename=/dev/vda --size=1m --bs=4k --rw=randwrite --direct=1 --ioengine=libaio --iodepth=8 \\
        --rate_iops=60 --verify=crc32c --verify_fatal=1 --verify_backlog=64 --randrepeat=0 \\
        --verify_state_save=0 --minimal >/tmp/fio ||
        { echo failed: fio; cat /tmp/fio; break; }
    rounds=\$((rounds + 1))
done
wait
echo "fio: \$rounds rounds right"
echo ended
sleep 1000
END
chmod 755 "$work/script"
"$mkinitramfs" -o "$work/initrd" --kernel "$release" --busybox --file "$traffic:/bin/traffic" \
    --file "$work/script:/script" --module virtio_pci --module virtio_blk --module virtio_net --module 9pnet_virtio --module 9p \
    --module '?vmgenid' || echo 'Bail out! no initramfs'
mkdir "$work/share"
truncate -s 1M "$work/disk"
python3 "$peer" serve "$port" >"$work/served" 2>&1 &
check 'the server answers' 'wait_for 30 grep -q listening "$work/served"'
"$lodge" run -k "$kernel" -i "$work/initrd" -m 192M --timeout 60 --control "$work/c0" --disk "path=$work/disk" \
    --net "type=tap,ifname=$tap" --share "path=$work/share,tag=t" --share path=/,tag=root,readonly=on -p 'lodge.init=/script quiet' </dev/null >"$work/out" 2>"$work/err" &
guest=$! number=0

# How many files and frames the guest has written and sent; without a program, as starting one is slow where guests are emulated.
look() {
    local lines=()
    [ ! -e "$work/share/log" ] || mapfile -t lines <"$work/share/log"
    files=${#lines[@]}
    read -r frames <"/sys/class/net/$tap/statistics/rx_packets"
}
goes_on() { local files frames; look; [ "$files" -gt "$(($1 + 1))" ] && [ "$frames" -gt "$(($2 + 20))" ]; }
tell() { echo "$1"; tail -n 8 "$work/out" "$work/err" "$work/served"; return 1; }
check 'the guest begins' 'wait_for 55 goes_on 0 0 || tell "no traffic"'
[ $failures = 0 ] || give_up $guest "$work/c0"

# Saves, ends and restores; then waits until files and connection have gone on.
cycle() {
    local snap=$work/snap$((number % 2)) socket=$work/c$number files frames
    number=$((number + 1))
    local begun=${EPOCHREALTIME/./} saved
    "$lodge" ctl "$socket" snapshot "$snap" stop=on || return 1
    kill -9 $guest; wait $guest 2>/dev/null
    saved=${EPOCHREALTIME/./}
    look
    rm -rf "$work/snap$((number % 2))" "$socket"
    "$lodge" restore "$snap" --control "$work/c$number" --timeout 60 </dev/null >>"$work/out" 2>>"$work/err" & guest=$!
    wait_for 20 goes_on "$files" "$frames" && ! grep failed "$work/out" || return 1
    saving=$((saving + saved - begun)) going=$((going + ${EPOCHREALTIME/./} - saved))
}
saving=0 going=0 # microseconds
begun=$(date +%s) problem=
while [ $number -lt "$cycles" ] && [ -z "$problem" ]; do
    cycle >"$work/cycle" 2>&1 || problem="cycle $number: $(cat "$work/cycle")"
done
echo "# $number cycles in $(($(date +%s) - begun)) s; to save $((saving / number / 1000)) ms, until traffic has gone on $((going / number / 1000)) ms"
check "$cycles cycles, and traffic goes on after each" '[ -z "$problem" ] || tell "$problem"'
[ $failures = 0 ] || give_up $guest "$work/c$number"

touch "$work/share/stop"
check 'the guest ends its traffic' 'wait_for 30 grep -q ended "$work/out" || tell "no end"'
[ $failures = 0 ] || give_up $guest "$work/c$number"
grep right "$work/out" | sed 's/^/# /'
check 'the disk was verified' 'grep -q "fio: [1-9][0-9]* rounds right" "$work/out"'
check 'every byte of the connection came back' 'grep -q "echo: [1-9][0-9]* bytes right" "$work/out" && ! grep net-peer "$work/served"'
check 'every file was read as it was written' 'grep -q "files: [1-9][0-9]* right" "$work/out"'
check 'and so the host has them, and a log without a gap' '"$traffic" check "$work/share"'
"$lodge" ctl "$work/c$number" quit; wait $guest
finish
