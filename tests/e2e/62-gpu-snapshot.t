#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# virtio-gpu in a snapshot: the picture is there after a restore, and the guest draws on.
. "$(dirname "$0")/lib.sh"

# At each line of its console it fills the framebuffer with another byte.
busybox_initrd "$work/initrd" '
    mount -t proc proc /proc 2>/dev/null; mount -t sysfs sys /sys 2>/dev/null; mount -t devtmpfs dev /dev 2>/dev/null
    echo 0 >/sys/class/vtconsole/vtcon1/bind
    n=0
    while :; do
        n=$((n + 1))
        tr "\000" "\\0$((n * 11))" </dev/zero | head -c $((640 * 480 * 4)) >/dev/fb0 2>/dev/null
        echo "filled $n"
        read line || sleep 1
    done' virtio_pci virtio-gpu || echo "Bail out! no initramfs"

# filled N: is every pixel that of the Nth filling? The byte is octal N * 11.
filled() {
    "$lodge" ctl "$work/c" screendump "$work/now.ppm" && python3 -c '
import sys
data, n = open(sys.argv[1], "rb").read(), int(sys.argv[2])
byte, body = bytes([int(str(n * 11), 8)]), data[data.index(b"255\n") + 4:]
sys.exit(0 if data.startswith(b"P6\n640 480\n") and body == byte * (3 * 640 * 480) else f"not {byte}: {data[:20]} {body[:12]}")' "$work/now.ppm" "$1"
}
for blob in on off; do
    mkfifo "$work/keys"
    "$lodge" run -k "$kernel" -i "$work/initrd" -m 192M --timeout 100 --control "$work/c" --gpu "width=640,height=480,blob=$blob" \
        -p 'lodge.init=/script quiet' <"$work/keys" >"$work/out" 2>"$work/err" &
    guest=$!
    exec 7>"$work/keys"
    check "blob=$blob: the guest fills its screen" 'wait_for 60 grep -q "filled 1" "$work/out" && wait_for 10 filled 1 || { tail -n 5 "$work/out" "$work/err"; exit 1; }'
    check "blob=$blob: a snapshot" '"$lodge" ctl "$work/c" snapshot "$work/snap-$blob" stop=on'
    kill -9 $guest; wait $guest 2>/dev/null; exec 7>&-; rm -f "$work/c" "$work/keys"

    mkfifo "$work/keys"
    "$lodge" restore "$work/snap-$blob" --timeout 60 --control "$work/c" <"$work/keys" >"$work/out2" 2>"$work/err2" &
    guest=$!
    exec 7>"$work/keys"
    check "blob=$blob: restored, the picture is there" 'wait_for 30 filled 1 || { tail -n 5 "$work/out2" "$work/err2"; exit 1; }'
    echo >&7
    check "blob=$blob: and the guest draws on" 'wait_for 20 grep -q "filled 2" "$work/out2" && wait_for 10 filled 2 || { tail -n 5 "$work/out2" "$work/err2"; exit 1; }'
    kill -9 $guest; wait $guest 2>/dev/null; exec 7>&-; rm -f "$work/c" "$work/keys"
done
finish
