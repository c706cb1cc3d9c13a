#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The control socket: queries, stop and go on under load, traces, the power button, hostile clients.
. "$(dirname "$0")/lib.sh"

sock=$work/control
ctl() { "$lodge" ctl "$sock" "$@"; }
status_is() { ctl query-status | grep -q "\"status\" : \"$1\""; }

# raw TEXT: what the socket answers to these bytes, as a client that knows no better would see it.
raw() {
    python3 -c '
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.settimeout(5)
client.connect(sys.argv[1])
client.recv(4096)
try:
    client.sendall(sys.argv[2].encode("latin-1") * int(sys.argv[3]) + b"\n")
    print(client.recv(65536).decode())
except OSError as error:
    print("closed:", error)' "$sock" "$1" "${2:-1}"
}

# One guest for all: it writes a pattern to its disk again and again, verifies each, and counts.
truncate -s 64M "$work/disk"
"$lodge" run --timeout 900 --disk path="$work/disk" --net type=user,id=card --control "$sock" --result "$work/result" -- sh -c '
    count=0
    trap "echo stopping; exit 7" TERM
    while :; do
        head -c 1M /dev/urandom >/tmp/a
        dd if=/tmp/a of=/dev/vda bs=64k oflag=direct status=none && dd if=/dev/vda bs=64k count=16 iflag=direct status=none | cmp - /tmp/a || { echo CORRUPT; exit 1; }
        count=$((count + 1)); echo "round $count"
    done' </dev/null >"$work/out" 2>"$work/err" &
pid=$!

check 'a guest works on its disk' 'wait_for 90 grep -q "round 2" "$work/out"'
check 'query-status: running' 'status_is running'
check 'query-devices lists devices, addresses and states' '
    ctl query-devices >"$work/devices"
    python3 -c "
import json
devices = {d[\"id\"]: d for d in json.load(open(\"$work/devices\"))}
assert devices[\"disk0\"][\"type\"] == \"virtio-blk\" and devices[\"disk0\"][\"state\"] == \"RUNNING\", devices[\"disk0\"]
assert devices[\"card\"][\"pci-address\"].startswith(\"0000:00:\"), devices[\"card\"]
assert devices[\"disk0\"][\"options\"][\"path\"] == \"$work/disk\""'
check 'stop stops vCPUs and devices; the guest stands still' '
    ctl stop && status_is paused && ctl query-devices | grep -q "\"state\" : \"STOP\"" &&
        sleep 1 && before=$(wc -l <"$work/out") && sleep 2 && same "$before" "$(wc -l <"$work/out")"'
check 'stop twice is stop' 'ctl stop && status_is paused'
check 'cont: it goes on, with every byte right' '
    ctl cont && status_is running && before=$(wc -l <"$work/out") &&
        wait_for 60 sh -c "[ \$(wc -l <\"$work/out\") -gt $((before + 1)) ]" && ! grep CORRUPT "$work/out"'
check 'stop and cont, ten times under load' '
    for i in 1 2 3 4 5 6 7 8 9 10; do ctl stop && ctl cont || exit 1; done
    before=$(wc -l <"$work/out")
    wait_for 60 sh -c "[ \$(wc -l <\"$work/out\") -gt $((before + 1)) ]" && ! grep CORRUPT "$work/out"'
check 'query-vcpus shows registers and lets the guest go on' 'ctl query-vcpus | grep -q rip && status_is running'
check 'query-buses shows what answers where' 'ctl query-buses | grep -q 0x3f8'
check 'stats count exits and interrupts' '
    ctl stats | python3 -c "
import json, sys
stats = json.load(sys.stdin)
assert stats[\"exits\"][\"total\"] > 0 and stats[\"devices\"][\"disk0\"][\"interrupts\"] > 0
assert 0 < stats[\"memory-overhead-bytes\"] < 32 << 20, stats[\"memory-overhead-bytes\"]"'
check 'set-trace turns events on and off' '
    ctl set-trace "virtio_blk_*" | grep -q events && wait_for 20 grep -q "virtio_blk_request disk0" "$work/err" &&
        ctl set-trace events="virtio_blk_*" enable=off'
check 'a trace pattern that matches nothing is an error' 'is 1 ctl set-trace no_such_event'
check 'set-log checks its levels' 'ctl set-log info,pci=debug && is 1 ctl set-log loud'
check 'set-link takes the id of a network interface only' '
    ctl set-link card up=off && ctl set-link card up=on && is 1 ctl set-link disk0'
check 'every command and event is in the schema' '
    ctl query-schema | python3 -c "
import json, sys
schema = json.load(sys.stdin)
names = {c[\"name\"] for c in schema[\"commands\"]}
listed = {c[\"name\"] for c in json.loads(\"\"\"$(ctl query-commands)\"\"\")}
assert names == listed and \"query-schema\" in names, names ^ listed
assert all(c[\"help\"] and c[\"returns\"] for c in schema[\"commands\"])
assert {\"STOP\", \"RESUME\", \"SHUTDOWN\"} <= {e[\"name\"] for e in schema[\"events\"]}"'
check 'an unknown command is said to be one' 'ctl no-such-command 2>&1 | grep -q query-commands; is 1 ctl no-such-command'
check 'a wrong argument is named' 'ctl quit stats=1 2>&1 | grep -q "unknown key .stats."'
check 'garbage gets an error, and the socket lives' 'raw "not json" | grep -q error && status_is running'
check 'deep nesting gets an error' 'raw "[" 5000 | grep -q "nested" && status_is running'
check 'a line without an end is cut off' 'raw "aaaaaaaaaaaaaaaa" 200000 | grep -qE "longer than|closed" && status_is running'
check 'a client that goes away mid-line is no harm' '
    python3 -c "
import socket
client = socket.socket(socket.AF_UNIX); client.connect(\"$sock\"); client.sendall(b\"{\\\"exec\"); client.close()" && status_is running'
check 'two clients are served at once; both get events' '
    "$lodge" ctl "$sock" events >"$work/events1" & one=$!
    "$lodge" ctl "$sock" events >"$work/events2" & two=$!
    sleep 1; ctl stop; ctl cont; sleep 1; kill $one $two
    for file in "$work/events1" "$work/events2"; do grep -q "\"STOP\"" $file && grep -q "\"RESUME\"" $file || { cat $file; exit 1; }; done'
check 'a second lodge cannot take the socket' '
    "$lodge" run --control "$sock" -- true 2>&1 </dev/null | grep -q "another program serves this socket"; status_is running'
"$lodge" ctl "$sock" events >"$work/events" &
sleep 1
check 'SIGTERM goes to the command, and its status comes back' '
    kill -TERM $pid; wait_for 60 grep -q stopping "$work/out"'
wait $pid
got=$?
check 'its exit status is ours' 'same 7 "$got"'
check 'SHUTDOWN was told before the end' 'wait_for 5 grep -q "\"SHUTDOWN\"" "$work/events"'
check 'the socket is gone' '[ ! -e "$sock" ]'
check 'ctl says what to do when nobody listens' 'is 125 ctl query-status 2>"$work/why"; grep -q -- "--control" "$work/why"'

check 'quit ends the guest with the status given' '
    "$lodge" run --timeout 120 --control "$sock" -- sleep 1000 </dev/null &
    last=$!
    wait_for 30 status_is running && ctl quit status=9; is 9 wait $last'
finish
