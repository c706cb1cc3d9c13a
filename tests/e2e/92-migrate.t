#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Live migration: a guest that counts, and verifies its disk, moves from one lodge to another.
. "$(dirname "$0")/lib.sh"

busybox_initrd "$work/initrd" '
    mount -t proc proc /proc 2>/dev/null; mount -t devtmpfs dev /dev 2>/dev/null
    dd if=/dev/urandom of=/ram bs=64k count=64 2>/dev/null; sum=$(md5sum </ram)
    i=0
    while :; do
        i=$((i + 1))
        '"$disk_round"'
        [ $((i % 8)) != 0 ] || [ "$(md5sum </ram)" = "$sum" ] || { echo "wrong memory in round $i"; break; }
        dd if=/dev/urandom of=/dirty bs=4k seek=$((i % 256)) count=8 conv=notrunc 2>/dev/null
        echo "count $i."
    done
    sleep 1000' virtio_pci virtio_blk virtio_net virtio-rng '?vmgenid' || echo "Bail out! no initramfs"

truncate -s 1M "$work/disk"
source_lodge() { # source_lodge OUT CONTROL
    "$lodge" run -k "$kernel" -i "$work/initrd" -m 128M --timeout 170 --control "$2" --disk "path=$work/disk" \
        --net type=user -p 'lodge.init=/script quiet' </dev/null >"$1" 2>"$1.err" &
}
target_lodge() { # target_lodge OUT CONTROL ADDRESS OPTION...
    local out=$1 control=$2 address=$3; shift 3
    "$lodge" restore --listen "$address" --control "$control" --timeout 150 "$@" </dev/null >"$out" 2>"$out.err" &
}
# goes_on OUT CONTROL
goes_on() { local n; n=$(rounds "$1"); wait_for 30 counted "$1" $((${n:-0} + 3)) || { registers "$2"; return 1; }; }
ctl() { "$lodge" ctl "$@"; }
status() { ctl "$1" query-migrate | sed -n 's/.*"status" *: *"\([a-z]*\)".*/\1/p'; }
over() { case $(status "$1") in completed | failed | cancelled | lost) true ;; *) false ;; esac; }

source_lodge "$work/out1" "$work/c1"; one=$!
check 'the guest counts' 'wait_for 60 counted "$work/out1" 3 || { tail -n 5 "$work/out1" "$work/out1.err"; exit 1; }'
[ $failures = 0 ] || give_up $one "$work/c1"

check 'nobody there: the guest goes on' '
    ctl "$work/c1" migrate "unix:$work/nobody" && wait_for 20 over "$work/c1" && same failed "$(status "$work/c1")" && goes_on "$work/out1" "$work/c1"'
check 'an address that is none' '
    ctl "$work/c1" migrate "nonsense" && wait_for 20 over "$work/c1" && ctl "$work/c1" query-migrate | grep -q "must be unix:PATH" && goes_on "$work/out1" "$work/c1"'

target_lodge "$work/out2" "$work/c2" "unix:$work/m"; two=$!
check 'a target that is refused by its options says so on both sides' '
    "$lodge" restore --listen "unix:$work/m2" -m 256M >"$work/o" 2>"$work/e" & pid=$!
    wait_for 10 test -S "$work/m2" && ctl "$work/c1" migrate "unix:$work/m2" && is 125 wait $pid && grep -q "snapshot has 128M" "$work/e" &&
    wait_for 20 over "$work/c1" && ctl "$work/c1" query-migrate | grep -q "snapshot has 128M" && goes_on "$work/out1" "$work/c1"'
check 'cancelled, the guest goes on, and the target ends' '
    "$lodge" restore --listen "unix:$work/m3" >"$work/o" 2>"$work/e" & pid=$!
    wait_for 10 test -S "$work/m3" && ctl "$work/c1" migrate "unix:$work/m3" bandwidth=100K && sleep 2 && same active "$(status "$work/c1")" &&
    is 1 ctl "$work/c1" stop 2>"$work/e2" && grep -q "being migrated" "$work/e2" &&
    ctl "$work/c1" migrate_cancel && is 125 wait $pid && wait_for 20 over "$work/c1" && same cancelled "$(status "$work/c1")" && goes_on "$work/out1" "$work/c1"'
ctl "$work/c1" events >"$work/events" & events=$!
check 'the guest moves; the source ends with 0' '
    wait_for 10 test -S "$work/m" && ctl "$work/c1" migrate "unix:$work/m" && wait_for 60 counted "$work/out2" 1 ||
    { cat "$work/out1.err" "$work/out2.err"; ctl "$work/c1" query-migrate; registers "$work/c1"; registers "$work/c2"; exit 1; }'
wait $one; source_status=$?
check 'its exit code' 'same 0 $source_status'
check 'it goes on in the target, no count lost or doubled' '
    goes_on "$work/out2" "$work/c2" && in_turn "$work/out1" "$work/out2"'
check 'events told of it' 'grep -q "\"MIGRATION\"" "$work/events" && grep -q "migrated" "$work/events"'
sed -n 's/.*"expected-downtime-ms":\([0-9]*\).*"downtime-ms":\([0-9]*\).*/# downtime \2 ms/p' "$work/events" | tail -n 1
check 'from there to a third, by tcp' '
    port=$((20000 + RANDOM % 20000))
    target_lodge "$work/out3" "$work/c3" "tcp:127.0.0.1:$port" --disk "path=$work/disk" --console serial; pid=$!
    sleep 1; ctl "$work/c2" migrate "tcp:127.0.0.1:$port" && wait_for 60 counted "$work/out3" 1 ||
        { cat "$work/out2.err" "$work/out3.err"; ctl "$work/c2" query-migrate; registers "$work/c2"; registers "$work/c3"; exit 1; }
    goes_on "$work/out3" "$work/c3" && in_turn "$work/out2" "$work/out3"
    ok=$?; ctl "$work/c3" quit; exit $ok'
finish
