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

# A guest that does what it is told: each line of its input is a command; "did N STATUS" answers the Nth.
start() { # start OPTION...
    mkfifo "$work/tell"
    "$lodge" run --timeout 170 --control "$sock" "$@" -- bash -c '
        n=0; echo ready
        while IFS= read -r line; do n=$((n + 1)); eval "$line"; echo "did $n $?"; done' <"$work/tell" >"$work/out" 2>"$work/err" &
    guest=$!
    exec 7>"$work/tell"
    told=0
    wait_for 100 grep -q ready "$work/out" || { tail -n 20 "$work/err" | sed 's/^/# /'; echo 'not ok 1 - a guest with a GPU starts'; kill $guest; exit 1; }
}
end() { exec 7>&-; wait $guest; local status=$?; rm -f "$work/tell" "$sock"; return $status; }
# tell COMMAND: in the guest, and waits for it
tell() {
    told=$((told + 1)); echo "$1" >&7
    wait_for 40 grep -q "^did $told " "$work/out" || { tail -n 5 "$work/out" "$work/err"; return 1; }
    grep -q "^did $told 0" "$work/out" || { tail -n 5 "$work/out"; return 1; }
}
