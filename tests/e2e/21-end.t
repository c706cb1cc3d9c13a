#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# How guests end, and what the shell sees: power-off, reset, triple fault, panic, debug exit, time-out, signals.
. "$(dirname "$0")/lib.sh"

# A classic guest: busybox, and what it is to do in the command line (do=...).
busybox_initrd "$work/initrd" '
    mount -t proc proc /proc 2>/dev/null; mount -t sysfs sys /sys 2>/dev/null; mount -t devtmpfs dev /dev 2>/dev/null
    echo GUEST-IS-UP
    case $(cat /proc/cmdline) in
    *do=poweroff*) poweroff -f ;;
    # What came before the driver opened the port is gone, as on any 16550.
    *do=read*) while read line; do [ "$line" = hello ] && break; done; echo "read: $line"; poweroff -f ;;
    *do=reboot*) reboot -f ;;
    *do=panic*) echo c >/proc/sysrq-trigger ;;
    *do=exit*) printf "\021" | dd of=/dev/port bs=1 seek=244 2>/dev/null ;;
    esac
    sleep 1000' '?pvpanic_pci' '?button' || echo "Bail out! no initramfs"

# classic OPTION... WHAT: boots it; its console is the output.
classic() {
    local what=${*: -1}
    "$lodge" run -k "$kernel" -i "$work/initrd" -m 256M --timeout "$guest_timeout" "${@:1:$#-1}" \
        -p "rdinit=/script quiet do=$what" </dev/null
}
reason() { sed -n 's/.*"reason" : "\([^"]*\)".*/\1/p' "$work/result"; }

check 'power-off gives 0' 'is 0 classic --result "$work/result" poweroff && same power-off "$(reason)"'
check 'a reset with --no-reboot gives 32' 'is 32 classic --no-reboot --result "$work/result" reboot && same reset "$(reason)"'
check 'a reset is carried out without it: the guest comes back, and again' '
    guest_timeout=60
    classic reboot >"$work/out" & pid=$!
    wait_for 55 sh -c "[ \$(grep -c GUEST-IS-UP \"$work/out\") -ge 3 ]"; ok=$?
    kill $pid; wait $pid; [ $ok = 0 ] || { cat "$work/out"; exit 1; }'
check 'a panic with the stock pvpanic driver gives 34' 'is 34 classic --result "$work/result" panic 2>"$work/err" && same panic "$(reason)" && grep -q "sysrq triggered crash" "$work/err"'
check 'a panic without pvpanic gives 34, too' 'is 34 classic --defaults off --serial type=stdio --result "$work/result" panic 2>"$work/err" && same panic "$(reason)"'
check 'a kernel without a root panics: 34, not a hang' '
    is 34 "$lodge" run -k "$kernel" -i /dev/null -m 256M --timeout "$guest_timeout" </dev/null 2>"$work/err" >"$work/out" ||
        { is 125 "$lodge" run -k "$kernel" -i /dev/null -m 256M </dev/null; }'
check 'the debug-exit port gives (value << 1) | 1' 'is 35 classic --result "$work/result" exit && same debug-exit "$(reason)"'
check 'a triple fault gives 33 and shows the registers' '
    printf "\017\013" >/dev/null # ud2, for the record: with no IDT it is a triple fault
    python3 - "$work/fault.elf" <<PY
import struct, sys
# A 64-bit ELF with a PVH note whose entry is one ud2: no IDT, so the CPU shuts down.
code = b"\x0f\x0b" * 8
note = struct.pack("<III", 4, 4, 18) + b"Xen\0" + struct.pack("<I", 0x1000000)
header = 64 + 2 * 56
elf = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 2, 64, 0, 0)
elf += struct.pack("<IIQQQQQQ", 1, 5, header, 0x1000000, 0x1000000, len(code), len(code), 4096)
elf += struct.pack("<IIQQQQQQ", 4, 4, header + len(code), 0, 0, len(note), len(note), 4)
open(sys.argv[1], "wb").write(elf + code + note)
PY
    is 33 "$lodge" run -k "$work/fault.elf" -i "$work/initrd" -m 256M --timeout 30 --result "$work/result" </dev/null 2>"$work/err" &&
        same triple-fault "$(reason)" && grep -q rip "$work/err"'
check 'a time-out gives 124 and shows where the guest is' '
    guest_timeout=8 is 124 classic --result "$work/result" nothing 2>"$work/err" && same timeout "$(reason)" && grep -q rip "$work/err"'
check 'input comes through a pipe' '
    (sleep 1; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo hello; sleep 1; done) |
        "$lodge" run -k "$kernel" -i "$work/initrd" -m 256M --timeout 60 -p "rdinit=/script quiet do=read" >"$work/out" && grep -q "read: hello" "$work/out"'
check 'a second SIGTERM ends a guest that does not listen to its power button' '
    "$lodge" run -k "$kernel" -i "$work/initrd" -m 256M --timeout 90 -p "rdinit=/script quiet do=nothing" </dev/null >"$work/out" & pid=$!
    wait_for 60 grep -q GUEST-IS-UP "$work/out" && kill -TERM $pid && sleep 1 && kill -0 $pid && kill -TERM $pid && is 143 wait $pid'
check 'the power button reaches a guest that listens' '
    "$lodge" run -m 256M --timeout 60 --control "$work/ctl" -- sh -c "trap \"echo button; exit 4\" TERM; echo ready; while :; do sleep 0.2; done" </dev/null >"$work/out" & pid=$!
    wait_for 50 grep -q ready "$work/out" && "$lodge" ctl "$work/ctl" system_powerdown && is 4 wait $pid && grep -q button "$work/out"'
check 'without a terminal, in a session of its own' 'setsid sh -c "\"$lodge\" run -k \"$kernel\" -i \"$work/initrd\" -m 256M --timeout 60 -p \"rdinit=/script quiet do=poweroff\" </dev/null >/dev/null 2>&1"'
finish
