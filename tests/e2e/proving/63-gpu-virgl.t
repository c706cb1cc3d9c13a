#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# virtio-gpu with virgl=on: OpenGL in the guest, by Mesa's virgl, carried out by the host's (llvmpipe).
. "$(dirname "$(realpath "$0")")/../lib.sh"
. "$(dirname "$(realpath "$0")")/../gpu.sh"

start -m 1G --gpu virgl=on,width=640,height=480
check 'the stock driver finds 3D' 'tell "dmesg | grep -q \"virgl.*+virgl\" && ls /dev/dri/renderD128"'
or_end
tell 'echo 0 >/sys/class/vtconsole/vtcon1/bind; true'
if command -v kmscube >/dev/null; then
    check 'kmscube draws through Mesa: its renderer is virgl' '
        tell "painter timeout 100 kmscube -D /dev/dri/card0 --count=100000; for n in \$(seq 200); do grep -q Rendered /tmp/q && break; [ -d /proc/\$p ] || break; sleep 0.4; done; cat /tmp/q; grep -qi \"renderer.*virgl\" /tmp/q" || { tail -n 60 "$work/out"; exit 1; }'
    check 'a cube is on the screen' 'shot cube.png; cp "$work/cube.png" "${LODGE_RESULTS:-$work}/cube.png" 2>/dev/null; shot cube.ppm && python3 -c "
data = open(\"$work/cube.ppm\", \"rb\").read()[-3 * 640 * 480:]
colours = {data[i:i + 3] for i in range(0, len(data), 3)}
assert len(colours) > 100, colours"'
    check 'a guest that draws in 3D refuses to be saved, and says why' '
        ! ctl snapshot "$work/snap" 2>"$work/refused" && grep -q 3D "$work/refused" || { cat "$work/refused"; exit 1; }'
    tell 'kill $p; exec 8>&-; wait'
else
    skip 'kmscube draws through Mesa' 'no kmscube'
fi
check 'no complaints of the guest about its GPU' 'tell "! dmesg | grep -v Speculative | grep -E \"response 0x12|WARNING:|BUG:\""'
end
status=$?
check 'the guest ends well' 'same 0 "$status"'
finish
