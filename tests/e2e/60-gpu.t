#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# virtio-gpu with the stock driver: text, framebuffer, DRM buffers, page flips, another size, a second screen,
# pause, unbind and bind; the pictures are compared pixel by pixel with what was drawn.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/gpu.sh"

start --gpu scanouts=2,width=800,height=600 --display "png,path=$work/follow.png,interval=2000"
check 'the stock driver is there, with two screens' '
    wait_for 20 sh -c "[ \"\$(\"$lodge\" ctl \"$sock\" query-displays | grep -c \"width. : 800\")\" = 2 ]"'
tell 'printf "\033[2J\033[H\033[?25l\033[32mHello, screen\033[0m" >/dev/tty1'
or_end
check 'text on the console is seen' 'wait_for 10 sh -c "\"$lodge\" ctl \"$sock\" screendump \"$work/text.png\" && python3 \"$picture\" text \"$work/text.png\" 13"'
check '--display png follows' 'wait_for 10 python3 "$picture" text "$work/follow.png" 13'
tell "python3 $picture fb 1"
check 'what is written to the framebuffer is shown, every pixel' 'shows 800x600 1'
check 'the guest draws on a DRM buffer' 'tell "painter python3 $picture drm 640x480 5; drawn 5"'
check 'a DRM buffer in another mode is shown, every pixel' 'shows 640x480 5'
check 'the other screen still shows its own' 'shot other.ppm 1 && [ "$(head -c 11 "$work/other.ppm" | sed -n 2p)" = "800 600" ]'
tell 'for n in 6 7; do echo flip >&8; drawn $n; done'
check 'page flips: the last one is shown' 'shows 640x480 7'
check 'stop: the picture stays, and cont goes on' 'ctl stop && shows_now 640x480 7 && ctl cont'
tell 'echo flip >&8; drawn 8'
check 'after cont the guest draws on' 'shows 640x480 8'
tell 'exec 8>&-; wait'
# connector N FILE TEXT: in the guest: until its file begins with that; it is probed again each time.
tell 'connector() { for i in $(seq 40); do echo detect >/sys/class/drm/card0-Virtual-$1/status; grep -q "^$3" /sys/class/drm/card0-Virtual-$1/$2 && return; sleep 0.2; done; head -n 3 /sys/class/drm/card0-Virtual-$1/$2; return 1; }'
check 'another size is announced: the driver prefers it' 'ctl set-display width=1111 height=777 && tell "connector 1 modes 1111x777"'
check 'an unplugged screen is disconnected' 'ctl set-display width=0 height=0 scanout=1 && tell "connector 2 status disconnected"'
check 'the driver can be unbound and bound again' '
    tell "echo 0 >/sys/class/vtconsole/vtcon1/bind; d=\$(basename \$(ls -d /sys/bus/virtio/drivers/virtio_gpu/virtio*)); cd /sys/bus/virtio/drivers/virtio_gpu; echo \$d >unbind; echo \$d >bind; cd /; ls /dev/dri/card*"'
check 'no complaints of the guest about its GPU' 'tell "! dmesg | grep -v Speculative | grep -E \"response 0x12|WARNING:|BUG:\""'
end
status=$?
check 'the guest ends well' 'same 0 "$status"'
finish
