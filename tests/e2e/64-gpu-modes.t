#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# virtio-gpu: every mode and format that the stock driver offers, by modetest; its cursor, as a VNC viewer
# gets it; keys, as evtest shows them.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/gpu.sh"

command -v modetest >/dev/null || { echo '1..0 # SKIP no modetest (Debian: libdrm-tests)'; exit 0; }
vnc=$work/vnc
rfb() { "$(dirname "$picture")/rfb" "$vnc" "$@"; }
# bars WIDTH HEIGHT: is that the screen, with the seven bars of modetest's pattern in their order?
bars() {
    shot bars.ppm && python3 -c '
import sys
data, width, height = open(sys.argv[1], "rb").read(), int(sys.argv[2]), int(sys.argv[3])
assert data.startswith(b"P6\n%d %d\n" % (width, height)), data[:20]
row = data[-3 * width * height:][3 * width * 9:]
got = [row[3 * (width * (2 * i + 1) // 14):][:3].hex() for i in range(7)]
assert got == ["c0c0c0", "c0c000", "00c0c0", "00c000", "c000c0", "c00000", "0000c0"], got' "$work/bars.ppm" "$1" "$2"
}

start --gpu width=800,height=600 --display "vnc=unix:$vnc"
tell 'connector=$(modetest -M virtio_gpu -c | sed -n "s/^\([0-9]*\)\t.*connected.*/\1/p" | head -n 1); [ "$connector" ]'
tell 'modes=$(modetest -M virtio_gpu -c | sed -n "s/^ *#[0-9]* \([0-9]*x[0-9]*\) .*/\1/p" | sort -u); formats=$(modetest -M virtio_gpu -p | sed -n "/^Planes:/,\$ s/^  formats: //p" | head -n 1); echo "modes" $modes; echo "formats" $formats'
or_end
modes=$(sed -n 's/^modes //p' "$work/out") formats=$(sed -n 's/^formats //p' "$work/out")
check 'the driver offers modes and formats' '[ "$(wc -w <<<"$modes")" -ge 5 ] && [ "$formats" ]; echo "$modes / $formats"'
for mode in $modes; do
    for format in $formats; do
        shown="${mode/x/ }"
        tell "painter modetest -M virtio_gpu -s \$connector:$mode@$format"
        check "modetest's bars in $mode, $format" 'wait_for 12 bars $shown || { bars $shown; grep . "$work/err" | tail -n 3; exit 1; }'
        tell 'exec 8>&-; wait'
    done
done
check 'a cursor, with its hot spot, reaches a VNC viewer' '
    tell "painter python3 $picture drm 800x600 5; drawn 5; echo cursor 20c040 >&8; drawn 20c040" && same "64x64+3+5 20c040" "$(rfb cursor)"'
check 'the picture itself is without it' 'shows 800x600 5'
tell 'exec 8>&-; wait'
if command -v evtest >/dev/null; then
    tell 'keyboard=$(grep -l keyboard /sys/class/input/event*/device/name | sed "s,.*/\(event[0-9]*\)/.*,\1,"); stdbuf -oL evtest /dev/input/$keyboard >/tmp/events & for i in $(seq 60); do grep -q Testing /tmp/events && break; sleep 0.2; done'
    check 'evtest sees a key' 'ctl send-key a && tell "for i in \$(seq 40); do grep -q \"KEY_A), value 0\" /tmp/events && break; sleep 0.2; done; grep -q \"KEY_A), value 1\" /tmp/events; s=\$?; kill %%; [ \$s = 0 ]"'
else
    skip 'evtest sees a key' 'no evtest'
fi
check 'no complaints of the guest about its GPU' 'tell "! dmesg | grep -v Speculative | grep -E \"response 0x12|WARNING:|BUG:\""'
end
status=$?
check 'the guest ends well' 'same 0 "$status"'
finish
