#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# virtio consoles (hvc) on each backend, with the stock virtio_console driver, beside a command's own ports.
# A terminal's settings last as long as somebody has it open: with the guest's echo on, an echo behind the port would go on for ever.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
guest_timeout=60

# An echo behind a port; socat, when the guest's monitor has made its end
echo_on() { wait_for 60 test -e "$2" && exec socat "$1" EXEC:cat; }

in_guest 'file' --device=virtio-console,type=file,path=console.file <<'END'
check 'lines are written' 'exec 3<>/dev/hvc0; stty raw -echo <&3; seq 1000 >&3'
END
check 'file: it has the lines' 'seq 1000 | cmp - console.file'

echoes='
exec 3<>/dev/hvc0 && stty raw -echo <&3 || exit 1
for i in 1 2 3 4 5 6 7 8; do
    head -c 768 /dev/urandom | base64 -w 0 >sent && cat sent >&3 && timeout 20 head -c 1024 <&3 >back
    cmp sent back || exit 1
done'
export echoes
for kind in socket pty; do
    case $kind in socket) end=UNIX-CONNECT:console.socket ;; pty) end=FILE:console.pty,raw,echo=0 ;; esac
    echo_on $end console.$kind 2>/dev/null &
    in_guest $kind -eechoes --device=virtio-console,type=$kind,path=console.$kind <<'END'
check 'an echo of 8 KiB' 'bash -c "$echoes"'
END
done
finish
