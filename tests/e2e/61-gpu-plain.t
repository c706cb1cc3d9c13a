#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# virtio-gpu without blobs, EDID and packed rings: transfers instead of flushes alone; and modetest's modes.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/gpu.sh"

start --gpu blob=off,edid=off,packed=off,width=800,height=600
tell "python3 $picture fb 3"
check 'without blobs: transfers show every pixel' 'shows 800x600 3'
if command -v modetest >/dev/null; then
    # Modes that every screen has; modetest draws bars and waits for its input to end.
    tell 'connector=$(modetest -M virtio_gpu -c | sed -n "s/^\([0-9]*\)\t.*connected.*/\1/p" | head -n 1); [ "$connector" ]'
    for mode in 640x480 1024x768; do
        tell "painter modetest -M virtio_gpu -s \$connector:$mode; sleep 3; cat /tmp/q"
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
end
status=$?
check 'the guest ends well' 'same 0 "$status"'
finish
