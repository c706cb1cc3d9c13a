#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# VNC viewers of a guest that draws: two at once, killed in the middle of an update, one that reads nothing,
# pause and resume. What a viewer gets is compared pixel by pixel with what was drawn.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/gpu.sh"

vnc=$work/vnc
rfb() { "$(dirname "$picture")/rfb" "$vnc" "$@"; }
# viewed SEED NAME: does a viewer get that picture, within a while?
viewed() { local n; for n in 1 2 3 4; do rfb picture "$work/$2.ppm" && python3 "$picture" check "$work/$2.ppm" 640x480 "$1" >"$work/$2.why" && return; sleep 0.5; done; cat "$work/$2.why"; return 1; }

start --gpu width=640,height=480 --display "vnc=unix:$vnc"
check 'the guest draws' 'tell "painter python3 $picture drm 640x480 5; drawn 5" && shows 640x480 5'
or_end
check 'two viewers at once see every pixel' 'viewed 5 one & one=$!; viewed 5 two && wait $one'
# Frames come as fast as the guest flips, while viewers come and go.
tell '(while sleep 0.5; do echo flip; done >&8) & flipper=$!'
check 'two viewers get updates while the guest draws' '
    rfb watch 4 >"$work/one" & one=$!; rfb watch 4 >"$work/two"; wait $one
    for n in one two; do [ "$(cut -d " " -f 1 "$work/$n")" -ge 2 ] || { cat "$work/$n"; exit 1; }; done'
check 'viewers killed in the middle of updates' 'rfb watch 30 & viewer=$!; rfb die; rfb die; kill -9 $viewer; rfb size'
check 'one that reads nothing keeps nobody waiting' '
    python3 -c "
import socket, time
s = socket.socket(socket.AF_UNIX); s.connect(\"$vnc\"); s.recv(12); s.sendall(b\"RFB 003.008\\n\"); time.sleep(0.5); s.sendall(b\"\\1\"); time.sleep(0.5); s.sendall(b\"\\1\"); time.sleep(0.5)
s.sendall(b\"\\3\\0\\0\\0\\0\\0\\2\\200\\1\\340\" * 50); time.sleep(30)" & deaf=$!
    sleep 2; rfb watch 1 && tell true; status=$?; kill $deaf; [ $status = 0 ]'
check 'paused: a viewer still sees a picture, and the same again' '
    ctl stop && rfb picture "$work/a.ppm" && rfb picture "$work/b.ppm" && cmp "$work/a.ppm" "$work/b.ppm"; status=$?; ctl cont; [ $status = 0 ]'
check 'after cont updates go on' 'rfb watch 3 >"$work/one"; [ "$(cut -d " " -f 1 "$work/one")" -ge 2 ] || { cat "$work/one"; exit 1; }'
tell 'kill $flipper; sleep 1; exec 8>&-; wait $p'
check 'another size reaches a viewer' 'tell "painter python3 $picture drm 800x600 9; drawn 9" && wait_for 10 sh -c "[ \"\$(\"$(dirname "$picture")/rfb\" \"$vnc\" size)\" = 800x600 ]"'
tell 'exec 8>&-; wait $p'
end
status=$?
check 'the guest ends well, whatever viewers did' 'same 0 "$status" && ! grep -iE "violation|error:" "$work/err"'
finish
