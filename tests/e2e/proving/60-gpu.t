#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# virtio-gpu with the stock driver: text, framebuffer, DRM buffers, modes, page flips, another size, a second
# screen, pause, unbind and bind; the pictures are compared pixel by pixel with what was drawn.
. "$(dirname "$(realpath "$0")")/../lib.sh"
picture=$(realpath "$here/picture" 2>/dev/null || realpath "$here/../picture")

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
    wait_for 60 grep -q ready "$work/out" || { tail -n 20 "$work/err" | sed 's/^/# /'; echo 'not ok 1 - a guest with a GPU starts'; kill $guest; exit 1; }
}
end() { exec 7>&-; wait $guest; local status=$?; rm -f "$work/tell" "$sock"; return $status; }
# tell COMMAND: in the guest, and waits for it
tell() {
    told=$((told + 1)); echo "$1" >&7
    wait_for 40 grep -q "^did $told " "$work/out" || { tail -n 5 "$work/out" "$work/err"; return 1; }
    grep -q "^did $told 0" "$work/out" || { tail -n 5 "$work/out"; return 1; }
}

start --gpu scanouts=2,width=1024,height=768 --display "png,path=$work/follow.png,interval=2000"
check 'the stock driver is there, with two screens' '
    wait_for 20 sh -c "[ \"\$(\"$lodge\" ctl \"$sock\" query-displays | grep -c \"width. : 1024\")\" = 2 ]"'
tell 'printf "\033[2J\033[H\033[?25l\033[32mHello, screen\033[0m" >/dev/tty1'
check 'text on the console is seen' 'wait_for 10 sh -c "\"$lodge\" ctl \"$sock\" screendump \"$work/text.png\" && python3 \"$picture\" text \"$work/text.png\" 13"'
check '--display png follows' 'wait_for 10 python3 "$picture" text "$work/follow.png" 13'
tell "python3 $picture fb 1"
check 'what is written to the framebuffer is shown, every pixel' 'shows 1024x768 1'
# A painter in the guest's background, with a FIFO of its own.
tell "mkfifo /tmp/p; python3 $picture drm 800x600 5 </tmp/p >/tmp/q 2>&1 & exec 8>/tmp/p; until grep -q 'drawn 5' /tmp/q; do sleep 0.1; done"
check 'a DRM buffer in another mode is shown, every pixel' 'shows 800x600 5'
check 'the other screen still shows its own' 'shot other.ppm 1 && [ "$(head -c 12 "$work/other.ppm" | sed -n 2p)" = "1024 768" ]'
tell 'for n in 6 7 8; do echo flip >&8; until grep -q "drawn $n" /tmp/q; do sleep 0.1; done; done'
check 'page flips: the last one is shown' 'shows 800x600 8'
check 'stop: the picture stays, and cont goes on' 'ctl stop && shows_now 800x600 8 && ctl cont'
tell 'echo flip >&8; until grep -q "drawn 9" /tmp/q; do sleep 0.1; done'
check 'after cont the guest draws on' 'shows 800x600 9'
tell 'exec 8>&-; wait'
check 'another size is announced: the driver prefers it' '
    ctl set-display width=1111 height=777 && tell "for i in \$(seq 60); do grep -q ^1111x777 /sys/class/drm/card0-Virtual-1/modes && break; sleep 0.2; done; grep -q ^1111x777 /sys/class/drm/card0-Virtual-1/modes"'
told=$(grep -c '^did ' "$work/out")
check 'an unplugged screen is disconnected' '
    ctl set-display width=0 height=0 scanout=1 && tell "for i in \$(seq 60); do grep -q ^disconnected /sys/class/drm/card0-Virtual-2/status && break; sleep 0.2; done; grep -q ^disconnected /sys/class/drm/card0-Virtual-2/status"'
told=$(grep -c '^did ' "$work/out")
check 'the driver can be unbound and bound again' '
    tell "echo 0 >/sys/class/vtconsole/vtcon1/bind; d=\$(basename \$(ls -d /sys/bus/virtio/drivers/virtio_gpu/virtio*)); cd /sys/bus/virtio/drivers/virtio_gpu; echo \$d >unbind; echo \$d >bind; cd /; ls /dev/dri/card*"'
told=$(grep -c '^did ' "$work/out")
check 'no complaints of the guest about its GPU' '! grep -iE "virtio.?gpu.*(error|fail|response 0x12)|WARNING:|BUG:" "$work/err"'
check 'the guest ends well' 'is 0 end'
exec 7>&-; wait $guest; rm -f "$work/tell" "$sock"

start --gpu blob=off,edid=off,packed=off
tell "python3 $picture fb 3"
check 'without blobs: transfers show every pixel' 'shows 1280x800 3'
if command -v modetest >/dev/null; then
    # Modes that every screen has; modetest draws bars and waits for its input to end.
    tell 'connector=$(modetest -M virtio_gpu -c | sed -n "s/^\([0-9]*\)\t.*connected.*/\1/p" | head -n 1)
        :'
    for mode in 640x480 1024x768; do
        tell "rm -f /tmp/p; mkfifo /tmp/p; modetest -M virtio_gpu -s \$connector:$mode </tmp/p >/tmp/q 2>&1 & exec 8>/tmp/p; sleep 2; cat /tmp/q"
        check "modetest shows its bars in $mode" '
            shot bars.ppm && [ "$(sed -n 2p "$work/bars.ppm" | head -c 20)" = "${mode/x/ }" ] &&
            python3 -c "
data = open(\"$work/bars.ppm\", \"rb\").read()[-3 * ${mode/x/ * }:]
colours = {data[i:i + 3] for i in range(0, 3 * ${mode%x*}, 3)}
assert {bytes((192, 192, 192)), bytes((192, 192, 0)), bytes((0, 192, 192)), bytes((0, 192, 0))} <= colours, colours"'
        tell 'exec 8>&-; wait'
    done
else
    skip 'modetest shows its bars' 'no modetest (Debian: libdrm-tests)'
fi
check 'the guest ends well without blobs' 'is 0 end'
finish
