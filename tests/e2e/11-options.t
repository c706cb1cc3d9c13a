#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Bad input on the command line: one line that names the option, the value and what is allowed; exit
# status 125; no file, socket, tap or process stays. And what is printed from the option tables.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
mkdir seen folder folder/empty
touch seen/out seen/err
echo "just text" >text
truncate -s 1M disk.img
export LODGE_E2E=$work # marks our processes, by their environment

# Everything that a failed run could leave: files below $work, interfaces, UNIX sockets, programs.
leftovers() {
    shopt -s globstar dotglob nullglob
    local found=("$work"/** /sys/class/net/*) pid comm line
    for pid in /proc/[0-9]*; do
        { read -r comm <"$pid/comm"; } 2>/dev/null && [ "$comm" = lodge ] &&
            grep -qz "^LODGE_E2E=$work$" "$pid/environ" && found+=("$pid")
    done
    while read -r line; do
        [ "${line#*"$work"}" = "$line" ] || found+=("$line")
    done </proc/net/unix
    printf '%s\n' "${found[@]}"
}

# refused WORD... :: OPTION...: lodge run with these options fails as it should, and its line has the words.
refused() {
    local words=() word line lines before after
    until [ "$1" = :: ]; do words+=("$1"); shift; done
    shift
    before=$(leftovers)
    is 125 timeout 20 "$lodge" run "$@" >seen/out 2>seen/err </dev/null || { cat seen/err; return 1; }
    after=$(leftovers)
    same "$before" "$after" || return 1
    [ ! -s seen/out ] || { echo "on stdout:"; cat seen/out; return 1; }
    mapfile -t lines <seen/err
    [ ${#lines[@]} -eq 1 ] || { echo "not one line:"; cat seen/err; return 1; }
    line=${lines[0]}
    for word in 'lodge: ' "${words[@]}"; do
        [ "${line#*"$word"}" != "$line" ] || { echo "no '$word' in: $line"; return 1; }
    done
}

# What a machine is made of fails without making a guest's initramfs first, which takes its time.
part_refused() {
    local words=()
    until [ "$1" = :: ]; do words+=("$1"); shift; done
    shift
    refused "${words[@]}" :: -k "$kernel" -i text "$@"
}

# ---- the command line itself ----
check 'an unknown option, with the one that was meant' 'refused --memroy "did you mean --memory?" :: --memroy 1G'
check 'an unknown letter' 'refused "unknown option -z" "lodge run --help" :: -z'
check 'a value that is missing' 'refused "--kernel needs a value" :: --kernel'
check 'a value where none is taken' 'refused "-v takes no value" "foo" :: -vfoo'
check 'a stray word' 'refused "stray" "after --" :: stray'
check 'no command after --' 'refused "no command after --" :: --'
check 'an initrd and a command' 'refused --initrd command :: -i text -- true'
check 'an unknown subcommand' 'is 125 "$lodge" rum 2>err && grep -q "rum.*run" err'

# ---- values ----
check 'too little memory' 'refused "--memory 12M:" "64M to 1T" :: -m 12M'
check 'memory that is no size' 'refused "--memory banana:" "512M or 2G" :: -m banana'
check 'memory of half a page' 'refused "--memory 100000K:" mebibytes :: -m 100000K'
check 'less memory than the kernel needs' 'refused "MiB of memory, the guest has 64" "(-m)" :: -m 64M'
check 'no CPU' 'refused "--cpus 0:" "1 to 64" :: -c 0'
check 'too many CPUs' 'refused "--cpus 65:" "1 to 64" :: -c 65'
check 'CPUs that are no number' 'refused "--cpus two:" "1 to 64" :: -c two'
check 'a boot protocol that is none' 'refused "--boot bios:" "auto, linux64, pvh, pvh-unpacked" :: --boot bios'
check 'a time-out of zero' 'refused "--timeout 0:" "more than 0" :: --timeout 0'
check 'a time-out that is no number' 'refused "--timeout soon:" "seconds" :: --timeout soon'
check 'a log level that is none' 'refused --log loud "error, warn, info or debug" :: --log loud'
check 'a trace event that is none' 'refused --trace nosuchevent "devices --trace" :: --trace nosuchevent'
check 'an option given twice' 'refused engine=threads "already given as" uring :: --disk disk.img,engine=uring,engine=threads'
check 'a KVM device that is none' 'refused /dev/null "not a KVM device" :: --kvm /dev/null'
check 'a KVM device that is not there' 'refused /dev/nokvm "does not exist" :: --kvm /dev/nokvm'

# ---- kernel, initrd, modules ----
check 'no kernel there' 'refused "kernel /no/kernel" "No such file" :: -k /no/kernel'
check 'a folder as kernel' 'refused "kernel folder" "is a directory" :: -k folder'
check 'a text as kernel' 'refused "kernel text" "not a kernel" :: -k text'
check 'a text as kernel, with an initrd' 'refused "kernel text" "not a kernel" :: -k text -i text'
check 'a program as kernel' 'refused "kernel /bin/true" "not a kernel" :: -k /bin/true'
check 'half a kernel' 'head -c 3M "$kernel" >half && refused "kernel half" "truncated" :: -k half -i text'
check 'a kernel with a hole of garbage' '
    cp "$kernel" bad && head -c 64K /dev/urandom | dd of=bad bs=64K seek=40 conv=notrunc status=none &&
    refused "kernel bad" corrupt :: -k bad -i text --boot pvh-unpacked'
check 'no initrd there' 'refused "initrd /no/initrd" "No such file" :: -i /no/initrd'
check 'a module that the kernel does not have' 'refused nosuchmodule "has no module" :: --module nosuchmodule -- true'

# ---- disks ----
check 'a missing disk' 'part_refused --disk path=no.img "truncate -s" :: --disk no.img'
check 'a folder in place of a disk' 'part_refused --disk path=folder "is a directory" --share :: --disk path=folder'
check 'a disk without a block' 'part_refused --disk path=text "less than one block" :: --disk text'
check 'an unknown key, with the one that was meant' 'part_refused --disk "'"'readnly'"' (did you mean '"'readonly'"'?)" "allowed: path," :: --disk disk.img,readnly'
check 'a value that is not among the choices' 'part_refused --disk engine=aio "auto, uring, threads" :: --disk disk.img,engine=aio'
check 'a switch that is neither on nor off' 'part_refused --disk readonly=maybe "on or off" :: --disk disk.img,readonly=maybe'
check 'a number out of range' 'part_refused --disk queues=65 "1 to 64" :: --disk disk.img,queues=65'
check 'a queue size that is no power of two' 'part_refused --disk queue-size=100 "power of two" :: --disk disk.img,queue-size=100'
check 'a serial number that is too long' 'part_refused --disk serial=123456789012345678901 "20" :: --disk disk.img,serial=123456789012345678901'
check 'the same disk twice' 'part_refused --disk path=disk.img "in use" readonly=on :: --disk disk.img --disk disk.img'
check 'an id twice' 'part_refused --disk id=a "taken" :: --disk disk.img,id=a,readonly --disk disk.img,id=a,readonly'
check 'a slot twice' 'part_refused "slot" "taken by disk0" :: --disk disk.img,slot=3,readonly --disk disk.img,slot=3,readonly'
if [ "$(id -u)" -eq 0 ]; then
    # Root may write to a file of mode 0444; not to one on a read-only file system.
    check 'a read-only disk opened for writing' '
        refused_there() { mount --bind disk.img disk.img && mount -o remount,ro,bind disk.img && part_refused --disk path=disk.img readonly=on :: --disk disk.img; }
        export -f refused part_refused refused_there leftovers is same; export lodge work kernel
        unshare --mount --propagation private bash -c refused_there'
else
    check 'a read-only disk opened for writing' 'chmod 444 disk.img && part_refused --disk path=disk.img readonly=on :: --disk disk.img; status=$?; chmod 644 disk.img; exit $status'
fi

# ---- other devices ----
check 'a device type that is none' 'part_refused --device virtio-bkl "did you mean '"'virtio-blk'"'?" "lodge devices" :: --device virtio-bkl,path=disk.img'
check 'a second device where there is one' 'part_refused "pvpanic" "there is pvpanic0" :: --device pvpanic --device pvpanic'
check 'a third serial port' 'part_refused --serial "two serial ports" :: --serial type=null --serial type=null --serial type=null'
check 'a serial port to a file without a name' 'part_refused --serial type=file path= :: --serial type=file'
check 'a serial port to nowhere' 'part_refused --serial path=no/where "No such file" :: --serial type=file,path=no/where'
check 'a share of nothing' 'part_refused --share path=no "no such directory" :: --share path=no,tag=t'
check 'a share of a file' 'part_refused --share path=text "not a directory" :: --share path=text,tag=t'
check 'a share without a tag' 'part_refused --share tag= missing :: --share path=folder'
check 'two shares of one tag' 'part_refused --share tag=t "taken by share0" :: --share path=folder,tag=t --share path=folder,tag=t'
check 'a network that is none' 'part_refused --net type=bridge "user, tap, stream, dgram, null" :: --net type=bridge'
check 'a forward that is none' 'part_refused --net hostfwd "tcp::2222-:22" :: --net type=user,hostfwd=2222'
check 'a MAC address that is none' 'part_refused --net mac=01:00:00:00:00:01 unicast :: --net type=null,mac=01:00:00:00:00:01'
check 'a tap name that is too long' 'part_refused --net ifname=0123456789abcdef "15" :: --net type=tap,ifname=0123456789abcdef'
check 'nobody at the other end of a socket' 'part_refused --net path=no.sock "server=on" :: --net type=stream,path=no.sock'

# ---- where lodge writes ----
check 'a control socket in no folder' 'part_refused --control no/socket "No such file" :: --control no/socket'
check 'a control socket over a file' 'part_refused --control text "not a socket" :: --control text'
check 'a control socket with too long a name' 'part_refused --control "107 bytes" :: --control "$work/$(printf "%0120d" 0)"'
check 'a result in no folder' 'part_refused --result no/result "No such file" :: --result no/result'
check 'a result over a folder' 'part_refused --result folder "is a directory" :: --result folder'
check 'a log in no folder' 'part_refused --log-file no/log "No such file" :: --log-file no/log'
check 'what was opened before the failing option is gone' '
    part_refused --disk no.img :: --control socket --log-file log --trace-file trace --serial type=file,path=serial \
        --serial type=socket,path=serial2 --device virtio-console,type=pty,path=pty --net type=null,pcap=capture \
        --net type=stream,path=net,server=on --disk disk.img --disk no.img'
[ -w /dev/net/tun ] && [ "$(id -u)" -eq 0 ] && check 'and so is a tap' 'part_refused --disk no.img :: --net type=tap,ifname=lodge-e2e --disk no.img'
check 'and a forwarded port is free again' '
    part_refused --disk no.img :: --net type=user,hostfwd=tcp:127.0.0.1:45123-:22 --disk no.img &&
    python3 -c "import socket; socket.create_server((\"127.0.0.1\", 45123))"'

# ---- in use by another lodge ----
"$lodge" run --timeout 60 -k "$kernel" -i text --serial type=null --control busy --disk disk.img </dev/null 2>/dev/null &
holder=$!
check 'a disk in use by another lodge' 'wait_for 20 test -S busy && refused --disk path=disk.img "in use" readonly=on :: --disk disk.img'
check 'a busy control socket' 'refused --control busy "lodge ctl busy quit" :: --control busy'
check 'the other one was not disturbed' '"$lodge" ctl busy query-status | grep -q running && "$lodge" ctl busy quit'
wait "$holder"
check 'a control socket that nobody serves any more is replaced' '
    socat UNIX-LISTEN:stale - </dev/null & wait_for 10 test -S stale; kill -9 $!; wait $! 2>/dev/null; [ -S stale ] &&
    part_refused --disk no.img :: --control stale --disk no.img; part_refused "MiB of memory" :: --control stale -m 64M; [ ! -e stale ]'

# ---- JSON ----
all_options() {
    "$lodge" run --dry-run -k "$kernel" -m 300 -c 2 -p 'a "b c",\' -p d --no-reboot --timeout 7.5 -e 'A=b"c' -e HOME --rwdir "$work/folder" \
        --disk disk.img,serial=1,fault-size=4K --net type=user,hostfwd=tcp::2222-:22,hostfwd=udp::2223-:23 --share 'path=fol,,der,tag=x' \
        --serial type=file,path=s --module loop "$@" -- sh -c 'echo "x" \ ä' ''
}
check 'what --dry-run prints comes back from --config' '
    all_options >1.json && "$lodge" run --dry-run --config 1.json >2.json && cmp 1.json 2.json &&
    python3 -c "
import json
c = json.load(open(\"1.json\"))
assert c[\"memory\"] == \"300\" and c[\"cpus\"] == 2 and c[\"command\"] == [\"sh\", \"-c\", \"echo \\\"x\\\" \\\\ ä\", \"\"], c
assert [d for d in c[\"devices\"] if d.get(\"tag\") == \"x\"][0][\"path\"] == \"fol,der\", c
assert c[\"params\"] == [\"a \\\"b c\\\",\\\\\", \"d\"], c"'
check '--dry-run makes nothing' 'before=$(leftovers); all_options --control c --log-file l >/dev/null && same "$before" "$(leftovers)"'
json() { printf '%s' "$1" >config.json; shift; refused "$@" :: --config config.json; }
check 'a configuration that is not there' 'refused --config no.json "No such file" :: --config no.json'
check 'a configuration that is no JSON' 'json "{\"memory\": " --config config.json'
check 'a configuration that is no object' 'json "[]" --config "JSON object"'
check 'an unknown key in it' 'json "{\"memroy\": \"1G\"}" "did you mean '"'memory'"'?"'
check 'a value of another type' 'json "{\"cpus\": {}}" "--cpus {}" "must be"'
check 'a list that is none' 'json "{\"rwdir\": \"x\"}" rwdir && refused rwdir :: --config config.json --rwdir y'
check 'a command that is no list of words' 'json "{\"command\": [1, {}]}" command strings && json "{\"command\": []}" command'
check 'devices that are none' 'json "{\"devices\": {}}" devices array && json "{\"devices\": [{\"device\": []}]}" "devices[0]" device'
check 'a device with a bad key' 'json "{\"devices\": [{\"device\": \"rtc\"}, {\"device\": \"virtio-blk\", \"pth\": \"x\"}]}" "devices[1]" "did you mean '"'path'"'?"'
check 'a configuration of brackets only' '
    head -c 500000 /dev/zero | tr "\0" "[" >many && refused --config many :: --config many &&
    { printf "\x27\x22\x27"; cat many; } >deep.json && refused --config deep.json :: --config deep.json'

# ---- what the tables print ----
check 'help names every option' '"$lodge" run --help >help && for o in kernel disk control config dry-run timeout; do grep -q -- "--$o" help || exit 1; done'
check 'each device type has a manual' '
    "$lodge" devices | while read -r type rest; do [ "$("$lodge" devices "$type" | head -n 1 | cut -d" " -f1)" = "$type" ] || { echo "$type"; exit 1; }; done'
check 'a device type without one' 'is 125 "$lodge" devices virtio-bkl 2>err && grep -q virtio-bkl err'
check 'trace events are listed' '"$lodge" devices --trace | grep -q "^virtio_blk_"'
if command -v man >/dev/null; then
check 'the manual page is sound' '
    "$lodge" manual >lodge.1 && LC_ALL=C.UTF-8 MANROFFSEQ= man --warnings -E UTF-8 -l -Tutf8 -Z ./lodge.1 2>warnings >/dev/null; cat warnings; [ ! -s warnings ]'
check 'the manual page has options, devices, commands and exit codes' '
    man -l ./lodge.1 | col -b >page && for w in "--kernel FILE" virtio-net query-status 124 "EXIT STATUS"; do grep -qF -- "$w" page || { echo "no $w"; exit 1; }; done'
else
    skip 'the manual page is sound' 'man-db is not installed'
fi
check 'the completion completes' '
    "$lodge" completion >completion && . ./completion && COMP_WORDS=(lodge run --ker) COMP_CWORD=2 && _lodge && same --kernel "${COMPREPLY[*]}" &&
    COMP_WORDS=(lodge run --boot pvh) COMP_CWORD=3 && _lodge && same "pvh pvh-unpacked" "${COMPREPLY[*]}" &&
    COMP_WORDS=(lodge do) COMP_CWORD=1 && _lodge && same doctor "${COMPREPLY[*]}"'
check 'doctor is content where guests run' '"$lodge" doctor >doctor && grep -q "^ok *kvm" doctor && ! grep -q ^FAIL doctor'
check 'no process of ours is left' '! leftovers | grep ^/proc'
finish
