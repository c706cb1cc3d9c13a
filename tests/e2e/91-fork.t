#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Copies of a prepared guest: each runs a command of its own, with an identity of its own.
. "$(dirname "$0")/lib.sh"

truncate -s 1M "$work/disk"; echo before | dd of="$work/disk" conv=notrunc 2>/dev/null
begun=$(date +%s%N)
check 'a guest that waits for its command is saved' '
    "$lodge" run -m 128M --timeout 90 -d "path=$work/disk" -n user --prepare "$work/ready" </dev/null && [ -s "$work/ready/state" ]'
booted=$(($(date +%s%N) - begun))
[ $failures = 0 ] || finish
copy() { "$lodge" run --from "$work/ready" --timeout 60 "$@"; }

check 'a command runs in a copy' 'same "hello there" "$(copy -- echo hello there)"'
check 'its exit status' 'is 7 copy -- sh -c "exit 7"'
check 'a command that is not there' 'is 127 copy -- /no/such/command 2>"$work/e" && grep -q "not found" "$work/e"'
check 'input, output and errors' '
    same ABC "$(echo abc | copy -- tr a-z A-Z)" && copy -- sh -c "echo out; echo err >&2" >"$work/o" 2>"$work/e" &&
    same out "$(cat "$work/o")" && same err "$(cat "$work/e")"'
check 'where it runs, and with which environment' '
    cd "$work" && same "$work 5" "$(LODGE_T=5 copy -e LODGE_T -- sh -c "echo \$PWD \$LODGE_T" | tail -n 1)"'
check 'a file that is newer than the snapshot is seen' 'echo new >"$work/new" && same new "$(copy -- cat "$work/new")"'
check 'the clock is right' '
    t=$(copy -- date +%s) && now=$(date +%s) && [ $((now - t)) -lt 20 ] && [ $((t - now)) -lt 5 ]'
check 'with a terminal' 'same "$(printf "/dev/pts/0\r")" "$(copy --tty -- tty)"'
check 'what a copy writes to the disk is seen by nobody else' '
    same after "$(copy -- sh -c "echo after | dd of=/dev/vda conv=notrunc 2>/dev/null; sync; echo 3 >/proc/sys/vm/drop_caches; head -n 1 /dev/vda")" &&
    same before "$(copy -- head -n 1 /dev/vda)" && same before "$(head -n 1 "$work/disk" | tr -d "\0")"'
check 'random numbers, boot and network addresses differ' '
    for i in 1 2 3; do
        copy -- sh -c "head -c 16 /dev/urandom | od -An -tx1; cat /sys/class/net/e*/address" >"$work/id$i" || exit 1
        [ "$(wc -l <"$work/id$i")" = 2 ] || { cat "$work/id$i"; exit 1; }
    done
    [ "$(cat "$work"/id? | sort -u | wc -l)" = 6 ] || { cat "$work"/id?; exit 1; }'
check 'several at once: each tells its number' '
    "$lodge" fork "$work/ready" -n 4 --timeout 100 -- sh -c "echo I am \$LODGE_FORK" >"$work/o" &&
    same "0: I am 0 1: I am 1 2: I am 2 3: I am 3" "$(sort "$work/o" | tr "\n" " " | sed "s/ \$//")"'
check 'the first that fails gives the exit code, and all are named' '
    is 3 "$lodge" fork "$work/ready" -n 3 --timeout 100 -- sh -c "[ \$LODGE_FORK = 0 ] || exit \$((LODGE_FORK + 2))" 2>"$work/e" &&
    grep -q "2 of 3 guests did not end with 0: 1 (3) 2 (4)" "$work/e"'
forked=$booted
for i in 1 2 3; do
    begun=$(date +%s%N); copy -- true; took=$(($(date +%s%N) - begun))
    forked=$((took < forked ? took : forked))
done
echo "# boot to snapshot $((booted / 1000000)) ms, copy with command $((forked / 1000000)) ms"

refused() { local words=$1; shift; is 125 "$@" </dev/null >"$work/o" 2>"$work/e" && grep -q -- "$words" "$work/e" || { cat "$work/e"; return 1; }; }
check 'no command' 'refused "waits for its command" copy'
check 'lodge restore without one' 'refused "waits for its command" "$lodge" restore "$work/ready"'
check 'another root' 'refused "has booted with another" copy --root /usr -- true'
check 'a device more' 'refused "devices can.t be added" copy --rng -- true'
check 'a folder that is not empty' 'refused "new or empty folder" "$lodge" run --prepare "$work/ready"'
check 'a command with --prepare' 'refused "lodge run --from" "$lodge" run --prepare "$work/new1" -- true && [ ! -e "$work/new1" ]'
finish
