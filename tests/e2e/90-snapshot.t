#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Snapshots: a guest with disk, network, entropy and console that counts and verifies goes on from a folder.
. "$(dirname "$0")/lib.sh"

# Each round writes its number to a place of the disk, reads back what the round before wrote, reads
# random numbers, and counts on an open file of a shared folder; "count N" is written only if all was right.
busybox_initrd "$work/initrd" '
    mount -t proc proc /proc 2>/dev/null; mount -t sysfs sys /sys 2>/dev/null; mount -t devtmpfs dev /dev 2>/dev/null
    mkdir -p /mnt && mount -t 9p -o trans=virtio,version=9p2000.L,cache=none t /mnt && exec 3>>/mnt/log
    cat /proc/sys/kernel/random/boot_id
    i=0
    while :; do
        i=$((i + 1))
        '"$disk_round"'
        [ $i -lt 2 ] || [ "$(dd if=/dev/vda bs=512 skip=$(((i - 1) % 64)) count=1 2>/dev/null | head -c 14)" = "$(printf "round %08d" $((i - 1)))" ] || { echo "wrong data before round $i"; break; }
        [ "$(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c)" = 16 ] || { echo "no entropy in round $i"; break; }
        echo "count $i." >&3 || { echo "share failed in round $i"; break; }
        echo "count $i."
    done
    sleep 1000' virtio_pci virtio_blk virtio_net virtio-rng 9pnet_virtio 9p '?vmgenid' || echo "Bail out! no initramfs"

truncate -s 1M "$work/disk"; mkdir "$work/share"
"$lodge" run -k "$kernel" -i "$work/initrd" -m 192M --timeout 150 --control "$work/c" --disk "path=$work/disk" \
    --net type=user --share "path=$work/share,tag=t" -p 'lodge.init=/script quiet' </dev/null >"$work/out" 2>"$work/err" &
guest=$!
leftover_folders() { find "$work" -name 'snap*.??????' | grep .; }

check 'the guest counts' 'wait_for 60 counted "$work/out" 3 || { tail -n 5 "$work/out" "$work/err"; exit 1; }'
[ $failures = 0 ] || give_up $guest "$work/c"
check 'a snapshot of a running guest, which goes on' '
    "$lodge" ctl "$work/c" snapshot "$work/snap1" && n=$(rounds "$work/out") && wait_for 30 counted "$work/out" $((n + 3)) &&
    [ -s "$work/snap1/state" ] && [ "$(stat -c %s "$work/snap1/memory")" = $((192 << 20)) ]'
check 'pages of zeroes take no room' '[ $(($(stat -c %b "$work/snap1/memory") * 512)) -lt $((150 << 20)) ]'
check 'the shared folder has each number once' 'cp "$work/share/log" "$work/log" && counted "$work/log" 3 && in_turn "$work/log"'
check 'a folder that has something in it is refused, and the guest runs on' '
    is 1 "$lodge" ctl "$work/c" snapshot "$work/snap1" 2>"$work/e" && grep -q "new or empty" "$work/e" && ! leftover_folders &&
    n=$(rounds "$work/out") && wait_for 30 counted "$work/out" $((n + 1))'
check 'a folder that can not be made is refused, and the guest runs on' '
    is 1 "$lodge" ctl "$work/c" snapshot "$work/none/snap" 2>"$work/e" && grep -q "none/snap" "$work/e" &&
    n=$(rounds "$work/out") && wait_for 30 counted "$work/out" $((n + 1))'
check 'with stop=on the guest stays stopped' '
    "$lodge" ctl "$work/c" snapshot "$work/snap" stop=on && "$lodge" ctl "$work/c" query-status | grep -q paused &&
    n=$(rounds "$work/out") && sleep 1 && same "$n" "$(rounds "$work/out")"'
cp "$work/disk" "$work/disk.saved"
kill -9 $guest; wait $guest 2>/dev/null

# resume FILE: restores until it has counted 5 more, each in turn, then ends it
resume() {
    cp "$work/disk.saved" "$work/disk"; rm -f "$work/c2"
    "$lodge" restore "$work/snap" --control "$work/c2" --timeout 60 </dev/null >"$1" 2>"$1.err" & local pid=$!
    wait_for 50 counted "$1" $(($(rounds "$work/out") + 5)); local ok=$? at
    [ $ok = 0 ] || at=$(registers "$work/c2")
    "$lodge" ctl "$work/c2" quit; wait $pid
    [ $ok = 0 ] && in_turn "$work/out" "$1" || { head -n 12 "$1" "$1.err"; echo "$at"; return 1; }
}
check 'inspect tells what is in it' '
    "$lodge" inspect "$work/snap" >"$work/json" && python3 -c "
import json
s = json.load(open(\"$work/json\"))
names = {(x[\"type\"], x[\"name\"]) for x in s[\"sections\"]}
assert {(\"CONFIG\", \"config\"), (\"VM\", \"vm\"), (\"VCPU\", \"vcpu0\"), (\"DEV\", \"disk0\"), (\"DEV\", \"net0\")} <= names, names
assert s[\"memory\"][\"size\"] == 192 << 20 and s[\"config\"][\"memory\"] == \"192M\" and \"control\" not in s[\"config\"]
"'
check 'it goes on in another process, data right, no count lost' 'resume "$work/out1"'
check 'and again from the same folder' '
    before=$(cat "$work/snap/state" "$work/snap/memory" | sha256sum) && resume "$work/out2" &&
    same "$before" "$(cat "$work/snap/state" "$work/snap/memory" | sha256sum)"'

# refused WORDS FOLDER OPTION...: does restore end with 125 and say so?
refused() {
    local words=$1; shift
    is 125 "$lodge" restore "$@" </dev/null >"$work/o" 2>"$work/e" && grep -q -- "$words" "$work/e" || { cat "$work/e"; return 1; }
}
copy() { rm -rf "$work/bad"; mkdir "$work/bad"; cp "$work/snap/state" "$work/bad/"; ln "$work/snap/memory" "$work/bad/memory"; }
check 'no such folder' 'refused "No such file" "$work/nothing"'
check 'a truncated stream' 'copy; truncate -s -1 "$work/bad/state"; refused truncated "$work/bad"'
check 'a damaged stream names the section' 'copy; printf X | dd of="$work/bad/state" bs=1 seek=200 conv=notrunc 2>/dev/null; refused "section 0 (CONFIG)" "$work/bad"'
check 'a foreign file' 'copy; echo "not one of ours" >"$work/bad/state"; refused "not a Lodge snapshot" "$work/bad"'
check 'a memory file that is too short' 'copy; rm "$work/bad/memory"; truncate -s 1M "$work/bad/memory"; refused "section RAM" "$work/bad"'
check 'another amount of memory' 'refused "snapshot has 192M" "$work/snap" -m 256M'
check 'another device' 'refused "devices" "$work/snap" --rng'
rm -rf "$work/snap" "$work/snap1" "$work/bad"

check 'temporary disk writes keep a guest from being saved, and the disk is named' '
    "$lodge" run -k "$kernel" -i "$work/initrd" -m 192M --timeout 60 --control "$work/c3" --disk "path=$work/disk,snapshot=on" \
        -p lodge.init=/script </dev/null >"$work/out3" 2>&1 & pid=$!
    wait_for 30 "$lodge" ctl "$work/c3" query-status && is 1 "$lodge" ctl "$work/c3" snapshot "$work/snap3" 2>"$work/e"
    ok=$?; "$lodge" ctl "$work/c3" quit; wait $pid; [ $ok = 0 ] && grep -q "disk0 can.t be saved" "$work/e" && [ ! -e "$work/snap3" ] && ! leftover_folders'
finish
