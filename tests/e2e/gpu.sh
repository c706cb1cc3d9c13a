# SPDX-License-Identifier: GPL-2.0-or-later
# Shell library of the scripts about virtio-gpu; after lib.sh.
#
#   start --gpu ...                  a guest that does what it is told
#   tell COMMAND                     in the guest, by its bash; waits until it is done
#   shows 800x600 5                  does its screen show that picture (tests/e2e/picture)?
#   end                              its exit status

picture=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/picture

sock=$work/control
ctl() { "$lodge" ctl "$sock" "$@"; }
# shot FILE [SCREEN]
shot() { ctl screendump "$work/$1" scanout="${2:-0}"; }
# shows SIZE SEED [SCREEN]: does it, within a while? A guest's flush may come late.
shows_now() { shot shows.ppm "${3:-0}" && python3 "$picture" check "$work/shows.ppm" "$1" "$2"; }
shows() { local n; for n in 1 2 3 4 5 6; do shows_now "$@" >"$work/why" 2>&1 && return; sleep 0.5; done; cat "$work/why"; return 1; }

# What the guest runs: each line of its input is a word and a command; "did WORD STATUS" is the answer. A
# painter is there in the background, fed by descriptor 8; drawn N waits until it says so.
guest_script='
    drawn() { for i in $(seq 100); do grep -q "drawn $1" /tmp/q && return; [ -d /proc/$p ] || break; sleep 0.3; done; cat /tmp/q; return 1; }
    painter() { rm -f /tmp/p /tmp/q; mkfifo /tmp/p; "$@" </tmp/p >/tmp/q 2>&1 & p=$!; exec 8>/tmp/p; }
    echo ready
    while read -r word line; do eval "$line"; echo "did $word $?"; done'
ready_or_ended() { grep -q ready "$work/out" || ! jobs -rp | grep -qx $guest; }
start() { # start OPTION...
    mkfifo "$work/tell"
    "$lodge" run --timeout 170 --control "$sock" "$@" -- bash -c "$guest_script" <"$work/tell" >"$work/out" 2>"$work/err" &
    guest=$!
    exec 7>"$work/tell"
    wait_for 100 ready_or_ended
    grep -q ready "$work/out" && return
    tail -n 20 "$work/err" | sed 's/^/# /'
    echo 'not ok 1 - a guest with a GPU starts'
    kill $guest 2>/dev/null
    exit 1
}
end() { exec 7>&-; wait $guest; local status=$?; rm -f "$work/tell" "$sock"; return $status; }
# tell COMMAND: in the guest, and waits for it
tell() {
    local word=$EPOCHREALTIME
    echo "$word $1" >&7
    wait_for 80 grep -q "^did $word " "$work/out" && grep -q "^did $word 0" "$work/out" && return
    echo "in the guest: $1"; tail -n 5 "$work/out"; tail -n 5 "$work/err"
    return 1
}
# Goes on only if all was well so far: what follows would wait in vain.
or_end() { [ $failures = 0 ] || { kill $guest; finish; }; }
