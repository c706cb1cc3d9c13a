#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Snapshots, one after the other, of a guest whose disk fio writes and verifies; then from the last one, in
# another process, fio goes on and finds every byte as it left it. LODGE_CYCLES: how many (default 6).
. "$(dirname "$0")/../lib.sh"
cycles=${LODGE_CYCLES:-6}

truncate -s 16M "$work/disk"
fio='fio --name=v --filename=/dev/vda --size=16m --bs=4k --rw=randwrite --direct=1 --ioengine=psync --loops=200 --verify=crc32c --verify_fatal=1 --verify_backlog=256 --randseed=5 --time_based --runtime=70 --minimal --status-interval=1 --output=/dev/null'
"$lodge" run -m 256M --timeout 160 --control "$work/c" --disk "path=$work/disk" --share path=/,tag=lodge-root,readonly=on \
    -p "quiet \"lodge.exec=echo begun; $fio && echo verified; echo status \$?\"" -p lodge.root=9p:lodge-root,ro </dev/null >"$work/out" 2>"$work/err" &
guest=$!
check 'fio begins' 'wait_for 90 grep -q begun "$work/out" || { tail -n 5 "$work/out" "$work/err"; exit 1; }'
[ $failures = 0 ] || { kill $guest; finish; }
check "$cycles snapshots while it writes and verifies" '
    for i in $(seq "$cycles"); do
        rm -rf "$work/snap"; "$lodge" ctl "$work/c" snapshot "$work/snap" || exit 1
        ! grep -E "verify|status" "$work/out" || exit 1
        sleep 1
    done'
check 'the last one stops it' 'rm -rf "$work/snap"; "$lodge" ctl "$work/c" snapshot "$work/snap" stop=on'
"$lodge" ctl "$work/c" quit; wait $guest
check 'from there it goes on, and verifies all that was written' '
    "$lodge" restore "$work/snap" --timeout 120 --control "$work/c2" </dev/null >"$work/out2" 2>"$work/err2" & pid=$!
    wait_for 110 grep -q "status" "$work/out2"; cat "$work/out2" "$work/err2" | tail -n 5
    grep -q verified "$work/out2" && grep -q "status 0" "$work/out2"; ok=$?; kill $pid; wait $pid; exit $ok'
finish
