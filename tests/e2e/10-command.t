#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# One command in a guest: streams, exit statuses, signals, environment, files.
. "$(dirname "$0")/lib.sh"

check 'the command runs on the stock kernel' 'same "$release" "$(guest uname -r)"'
check 'true gives 0' 'is 0 guest true'
check 'an exit status is passed through' 'is 22 guest sh -c "exit 22"'
check 'death by a signal is 128 and its number' 'is 137 guest sh -c "kill -9 \$\$"'
check 'a command that is not there gives 127' 'is 127 guest /no/such/command'
check 'a file that is not executable gives 126' 'is 126 guest /etc/passwd'
check 'stdout and stderr are apart' '
    guest sh -c "echo out; echo err >&2" >"$work/out" 2>"$work/err"
    same out "$(cat "$work/out")" && same err "$(cat "$work/err")"'
check 'streams are binary-safe, end of input is seen' '
    head -c 1M /dev/urandom >"$work/data"
    guest cat <"$work/data" | cmp - "$work/data"'
check 'no input at all' 'same 0 "$(guest sh -c "wc -c" </dev/null)"'
check 'without a terminal and in a session of its own' 'same fine "$(setsid "$lodge" run --timeout $guest_timeout -- echo fine </dev/null)"'
check 'output of a command that does not read is whole' '
    same "$(seq 100000 | md5sum)" "$(guest seq 100000 | md5sum)"'
check 'the environment and the folder are ours' '
    cd "$work" && same "$work:there" "$(WHERE=there guest -eWHERE sh -c "echo \$PWD:\$WHERE")"'
check 'what it writes is gone, the host keeps its files' '
    echo host >"$work/file" && guest sh -c "echo guest >$work/file && cat $work/file" | grep -q guest && same host "$(cat "$work/file")"'
check 'what it writes below --rwdir stays' '
    mkdir "$work/rw" && guest --rwdir="$work/rw" sh -c "echo stays >$work/rw/file" && same stays "$(cat "$work/rw/file")"'
check 'a panic gives 34 and its message' '
    is 34 guest sh -c "echo c >/proc/sysrq-trigger" 2>"$work/err" </dev/null && grep -q "Kernel panic - not syncing" "$work/err"'
check 'a time-out gives 124' '
    guest_timeout=8 is 124 guest sleep 1000 </dev/null'
check 'SIGTERM reaches the command' '
    "$lodge" run --timeout $guest_timeout -- sh -c "trap \"echo got it; exit 3\" TERM; echo ready; while :; do sleep 0.1; done" </dev/null >"$work/out" &
    pid=$!
    wait_for 60 grep -q ready "$work/out" && kill -TERM $pid && is 3 wait $pid && grep -q "got it" "$work/out"'
check 'a reader that goes away ends the command' 'is 0 sh -c "$lodge run --timeout 90 -- yes 2>/dev/null | head -n 1 | grep -q y"'
check 'the result file says it all' '
    guest --result="$work/r.json" sh -c "exit 5" </dev/null
    python3 -c "
import json
r = json.load(open(\"$work/r.json\"))
assert r[\"exit-code\"] == 5 and r[\"reason\"] == \"command-done\", r
assert r[\"stats\"][\"exits\"][\"total\"] > 0
assert r[\"kernel\"].startswith(\"$release\")"'
finish
