#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Guests with several CPUs. Few, short and last: in the lab they may run into a fault of the emulator that
# takes the lab down (docs/testing.md).
. "$(dirname "$0")/lib.sh"

# Without an invariant TSC (the lab's CPU has none), Linux trusts only that of a single CPU.
invariant=$(grep -m 1 -c constant_tsc /proc/cpuinfo)
export invariant
in_guest 'two CPUs' --cpus=2 -einvariant <<'END'
check 'two, on their own cores' 'same 2 "$(nproc)" && same "0 1" "$(cat /sys/devices/system/cpu/cpu?/topology/core_id | sort | xargs)"'
check 'both work' 'taskset -c 0 true && taskset -c 1 true && [ "$(sed -n "s/^ *RES: *\([0-9]*\) *\([0-9]*\) .*/\2/p" /proc/interrupts)" != "" ]'
check 'nothing is wrong with the clocks' '! dmesg | grep -iE "unstable|clocksource.*(skew|watchdog)|TSC.*warp" | { [ "$invariant" = 1 ] && cat || grep -v "TSCs unsynchronized"; }'
END
finish
