#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# virtio-gpu with virgl=on: OpenGL in the guest, by Mesa's virgl, carried out by the host's (llvmpipe).
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/gpu.sh"

start -m 1G --gpu virgl=on,width=640,height=480
check 'the stock driver finds 3D' 'tell "dmesg | grep drm; dmesg | grep -q \"features: +virgl\" && ls /dev/dri/renderD128"'
or_end
tell 'echo 0 >/sys/class/vtconsole/vtcon1/bind; true'
if command -v kmscube >/dev/null; then
    check 'kmscube draws through Mesa: its renderer is virgl' '
        tell "painter stdbuf -oL kmscube -D /dev/dri/card0 --count=100000; for n in \$(seq 100); do grep -qi renderer /tmp/q && break; [ -d /proc/\$p ] || break; sleep 0.5; done; grep -qi \"renderer.*virgl\" /tmp/q" || { tail -n 60 "$work/out"; exit 1; }'
    # Shaded, so of many colours, before one plain grey.
    cube() {
        shot "$1" && python3 -c '
import sys
data = open(sys.argv[1], "rb").read()[-3 * 640 * 480:]
pixels = [data[i:i + 3] for i in range(0, len(data), 3)]
grey = pixels.count(b"\x80\x80\x80")
assert 0.5 < grey / len(pixels) < 0.97, grey
assert pixels[0] == pixels[-1] == b"\x80\x80\x80", pixels[0]
assert len(set(pixels)) > 200, len(set(pixels))' "$work/$1"
    }
    check 'a cube is on the screen' 'wait_for 60 cube cube.ppm || { cube cube.ppm; exit 1; }'
    check 'and it turns' 'turned() { cube other.ppm && ! cmp -s "$work/cube.ppm" "$work/other.ppm"; }; wait_for 40 turned'
    check 'paused, it stands; then it turns again' '
        ctl stop && shot a.ppm && sleep 1 && shot b.ppm && cmp "$work/a.ppm" "$work/b.ppm"; status=$?; ctl cont
        turned() { shot b.ppm && ! cmp -s "$work/a.ppm" "$work/b.ppm"; }; [ $status = 0 ] && wait_for 40 turned'
    tell 'kill $p; exec 8>&-; wait'
else
    skip 'kmscube draws through Mesa' 'no kmscube'
fi
if command -v glmark2-es2-drm >/dev/null; then
    check 'glmark2 ends, with a score, by virgl' '
        tell "timeout 75 glmark2-es2-drm --off-screen -s 160x120 -b clear:duration=1 -b build:duration=1 >/tmp/glmark2 2>&1; grep -qi \"renderer.*virgl\" /tmp/glmark2 && grep -q \"glmark2 Score\" /tmp/glmark2 || { tail -n 25 /tmp/glmark2; false; }" || { tail -n 40 "$work/out"; exit 1; }'
else
    skip 'glmark2 ends, with a score' 'no glmark2-es2-drm'
fi
check 'no complaints of the guest about its GPU' 'tell "! dmesg | grep -v Speculative | grep -E \"response 0x12|WARNING:|BUG:\""'
end
status=$?
check 'the guest ends well' 'same 0 "$status"'
finish
