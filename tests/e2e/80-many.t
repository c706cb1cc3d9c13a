#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Many guests at once from one folder, and what is left behind when they are killed: nothing.
. "$(dirname "$0")/lib.sh"

cd "$work" || exit 1
export TMPDIR=$work/tmp
mkdir tmp
truncate -s 16M shared.img

check '8 guests at once, each with its own status' '
    pids=
    for i in 1 2 3 4 5 6 7 8; do
        "$lodge" run -m 128M --timeout 150 --disk path=shared.img,readonly=on --net type=user --control c$i -- sh -c "echo guest $i; exit $i" </dev/null >out$i 2>err$i &
        pids="$pids $!"
    done
    i=0
    for pid in $pids; do
        i=$((i + 1))
        wait $pid; got=$?
        [ $got -eq $i ] && grep -q "guest $i" out$i || { echo "guest $i: status $got"; cat err$i; exit 1; }
    done'
check 'their sockets are gone' '! ls c[1-8] 2>/dev/null'

start() { # start NAME: a guest that waits; $pid
    "$lodge" run -m 128M --timeout 150 --disk path=shared.img --net type=user --control "$1" --share path="$work",tag=w -- sh -c 'echo ready; sleep 1000' </dev/null >"$1.out" 2>"$1.err" &
    pid=$!
    wait_for 90 grep -q ready "$1.out"
}

check 'a guest that is terminated ends with its status and leaves nothing' '
    touch before after; ls >before; start t || exit 1
    kill -TERM $pid; wait $pid; got=$?
    same 143 "$got" && rm -f t.out t.err && ls >after && diff before after'
check 'no process is left' '! pgrep -P $$ -x lodge'
check 'after kill -9 the disk can be used, and the stale socket is replaced' '
    start k || exit 1
    is 125 "$lodge" run --disk path=shared.img -- true 2>why </dev/null; grep -q "in use" why || { cat why; exit 1; }
    kill -9 $pid; wait $pid 2>/dev/null
    [ -S k ] || { echo "no stale socket to try with"; exit 1; }
    is 0 "$lodge" run --timeout 90 --disk path=shared.img --control k -- true </dev/null'
check 'nothing stays in the temporary folder' '[ -z "$(ls -A "$TMPDIR")" ] || { ls -lA "$TMPDIR"; exit 1; }'
finish
