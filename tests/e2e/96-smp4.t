#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest with four CPUs. Late, as all with several (95-smp.t).
. "$(dirname "$0")/lib.sh"

in_guest 'four CPUs' --cpus=4 --memory=1G <<'END'
check 'four, on their own cores' 'same 4 "$(nproc)" && same "0 1 2 3" "$(cat /sys/devices/system/cpu/cpu?/topology/core_id | sort | xargs)"'
check 'all work' 'for i in 0 1 2 3; do taskset -c $i true || exit 1; done'
END
finish
