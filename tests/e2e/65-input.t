#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Input: the stock virtio_input driver, and keys and pointers by lodge ctl and by VNC, event by event.
. "$(dirname "$0")/lib.sh"

sock=$work/control vnc=$work/vnc
ctl() { "$lodge" ctl "$sock" "$@"; }
rfb() { "$(dirname "$0")/rfb" "$vnc" "$@"; }

# In the guest: prints the events of all our devices, but for repeats, which are the guest's own, until
# Esc is let go.
cat >"$work/events" <<'END'
import glob, os, select, struct
devices = {}
for path in sorted(glob.glob('/sys/class/input/event*')):
    with open(path + '/device/name') as f:
        name = f.read().strip()
    if name.startswith('Lodge'):
        devices[os.open('/dev/input/' + os.path.basename(path), os.O_RDWR)] = name.split()[2]
for fd, name in devices.items():
    if name == 'keyboard': # its Caps Lock LED
        os.write(fd, struct.pack('qqHHi', 0, 0, 0x11, 1, 1) + struct.pack('qqHHi', 0, 0, 0, 0, 0))
print('ready', flush=True)
done = False
while not done:
    for fd in select.select(list(devices), [], [])[0]:
        data = os.read(fd, 24 * 64)
        for at in range(0, len(data), 24):
            kind, code, value = struct.unpack('HHi', data[at + 16:at + 24])
            if kind in (1, 2, 3) and not (kind == 1 and value == 2):
                print(devices[fd], kind, code, value, flush=True)
            done |= (kind, code, value) == (1, 1, 0)
END
cat >"$work/guest" <<END
cat /proc/bus/input/devices
python3 $work/events
for device in /sys/bus/virtio/drivers/virtio_input/virtio*; do
    name=\${device##*/}
    echo \$name >/sys/bus/virtio/drivers/virtio_input/unbind && echo \$name >/sys/bus/virtio/drivers/virtio_input/bind && echo again \$name
done
python3 $work/events
END
"$lodge" run --timeout 150 --gpu width=640,height=480 --display vnc=unix:"$vnc" --control "$sock" --trace virtio_input_status \
    --device virtio-input,keyboard --device virtio-input,tablet --device virtio-input,mouse --device virtio-input,touch,serial=touch7 \
    -- sh "$work/guest" </dev/null >"$work/out" 2>"$work/err" &
pid=$!

# events_are COUNT-OF-READY LINES: what the guest has seen since it was ready for the Nth time.
seen() { awk -v n="$1" '/^ready$/ { count++; next } /^again/ { next } count == n { print }' "$work/out"; }
events_are() {
    wait_for 20 sh -c "[ \$(awk -v n=$1 '/^ready\$/ { c++; next } /^again/ { next } c == n' \"$work/out\" | wc -l) -ge $(printf '%s\n' "$2" | wc -l) ]"
    sleep 0.3
    same "$2" "$(seen "$1")"
}
so_far=
more() { so_far=$(printf '%s%s' "${so_far:+$so_far
}" "$1"); printf '%s' "$so_far" >"$work/so-far"; }
arrive() { events_are "$1" "$(cat "$work/so-far")"; }

check 'the guest runs and listens' 'wait_for 100 grep -q ^ready "$work/out" || { tail -n 25 "$work/out" "$work/err"; false; }'
check 'the stock driver has all four' '
    for name in keyboard tablet mouse "touch screen"; do grep -q "Name=\"Lodge virtio $name\"" "$work/out" || { echo "$name"; exit 1; }; done
    grep -q "Uniq=touch7" "$work/out" && grep -q "Handlers=.*kbd.*leds\|Handlers=.*leds.*kbd\|Handlers=sysrq kbd" "$work/out"'
check 'an LED reaches the host' 'wait_for 10 grep -q "virtio_input_status .*type=17 code=1 value=1" "$work/err"'

more 'keyboard 1 29 1
keyboard 1 46 1
keyboard 1 46 0
keyboard 1 29 0'
check 'send-key: a combination, in order' 'ctl send-key ctrl-c && arrive 1'
more 'keyboard 1 42 1
keyboard 1 35 1
keyboard 1 35 0
keyboard 1 42 0
keyboard 1 23 1
keyboard 1 23 0'
check 'send-key: text' 'ctl send-key text=Hi && arrive 1'
more 'tablet 3 0 16409
tablet 3 1 34
tablet 1 272 1
tablet 1 272 0
tablet 2 8 -1'
check 'pointer: a click and the wheel on the tablet' 'ctl pointer x=320 y=0 button=left && sleep 0.1 && ctl pointer wheel=-1 && arrive 1'
more 'mouse 2 0 -3
mouse 2 1 4'
check 'pointer: the mouse' 'ctl pointer motion=-3,4 && arrive 1'
more 'touch 3 57 0
touch 3 53 100
touch 3 54 200
touch 1 330 1
touch 3 0 100
touch 3 1 200
touch 3 57 -1
touch 1 330 0'
check 'pointer: a finger' 'ctl pointer finger=0 x=100 y=200 unit=absolute && arrive 1'
more 'keyboard 1 30 1
keyboard 1 30 0
tablet 3 0 32741
tablet 3 1 32732
tablet 1 273 1
tablet 1 273 0'
check 'VNC: keys and the pointer' 'rfb key a pointer 639 479 4 pointer 639 479 0 wait 0.5 && arrive 1'
more 'keyboard 1 56 1
keyboard 1 56 0'
check 'VNC: a viewer that leaves lets go' 'rfb down 0xffe9 wait 0.3 && arrive 1'
check 'VNC: the size, and pixels that are on the screen' '
    wait_for 20 ctl screendump "$work/screen.ppm" && ctl stop && ctl screendump "$work/screen.ppm" && rfb size picture "$work/vnc.ppm" >"$work/size"
    status=$?; ctl cont
    [ $status = 0 ] && same 640x480 "$(cat "$work/size")" && cmp "$work/screen.ppm" "$work/vnc.ppm"'
check 'VNC: viewers that die in the middle of an update' 'for i in 1 2 3 4 5; do rfb die || exit 1; done; rfb size'
more 'keyboard 1 1 1
keyboard 1 1 0'
check 'Esc ends the first round' 'ctl send-key esc && arrive 1'
check 'the driver is unbound and bound again' 'wait_for 40 sh -c "[ \$(grep -c ^ready \"$work/out\") = 2 ]" && same 4 "$(grep -c ^again "$work/out")"'
check 'keys arrive again' 'ctl send-key esc && events_are 2 "keyboard 1 1 1
keyboard 1 1 0"'
check 'the guest ends well' 'wait_for 40 sh -c "! kill -0 $pid" && ! grep -i "violation\|error:" "$work/err"'
finish
