# SPDX-License-Identifier: GPL-2.0-or-later
# Shell library of the end-to-end scripts, in the manner of git's: each script sources it, calls check for
# each behaviour, and ends with finish. Output is TAP.
#
#   . "$(dirname "$0")/lib.sh"
#   check 'true gives 0' 'guest true'
#   finish
#
# In a check's commands: $lodge is the program, $work a folder of the script's own, and every check runs in
# a subshell whose output is shown when it fails. Scripts run where KVM works: the host, or the lab.

set -u
here=$(dirname "$(realpath "$0")")
LODGE_BUILD=${LODGE_BUILD:-$here/../../build}
lodge=$LODGE_BUILD/lodge/lodge
mkinitramfs=$LODGE_BUILD/guest-images/mkinitramfs
release=$(uname -r)
kernel=/boot/vmlinuz-$release
work=$(mktemp -d "${TMPDIR:-/tmp}/lodge-e2e.XXXXXX")
tests=0
failures=0

cleanup() {
    # Only what this script's shell started.
    for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
    rm -rf "$work"
}
trap cleanup EXIT

# Emulation is slow: a guest gets this long before it counts as hung.
: "${guest_timeout:=90}"

# guest [OPTION...] COMMAND...: one command in a guest; words before the command that begin with - are
# options of lodge run (each with its value as --name=value).
guest() {
    local options=()
    while [ "${1#-}" != "$1" ]; do options+=("$1"); shift; done
    "$lodge" run --timeout "$guest_timeout" "${options[@]}" -- "$@"
}

# status COMMAND...: prints the exit status.
status() { "$@"; echo $?; }

# is EXPECTED COMMAND...: does it end with that exit status?
is() {
    local expected=$1 got; shift
    "$@"; got=$?
    [ "$got" -eq "$expected" ] || { echo "exit status $got, expected $expected: $*"; return 1; }
}

# same EXPECTED GOT
same() { [ "$1" = "$2" ] || { printf 'expected: %s\ngot:      %s\n' "$1" "$2"; return 1; }; }

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local deadline=$(($(date +%s) + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$deadline" ] || { echo "waited in vain for: $*"; return 1; }
        sleep 0.1
    done
}

# busybox_initrd FILE INIT-SCRIPT-TEXT [MODULE...]: a classic initramfs, busybox and a script as /init.
busybox_initrd() {
    local file=$1 text=$2 modules=(); shift 2
    for module in "$@"; do modules+=(--module "$module"); done
    printf '#!/bin/sh\n%s\n' "$text" >"$work/init-script" && chmod 755 "$work/init-script" &&
        "$mkinitramfs" -o "$file" --kernel "$release" --busybox "${modules[@]}" --file "$work/init-script:/script"
}

# check NAME COMMANDS
check() {
    tests=$((tests + 1))
    local output begun=${EPOCHREALTIME/./}
    if output=$( (eval "$2") 2>&1); then
        echo "ok $tests - $1"
    else
        failures=$((failures + 1))
        printf '%s\n' "$output" | tail -n 30 | sed 's/^/# /'
        echo "not ok $tests - $1"
    fi
    [ -z "${LODGE_E2E_TIMES-}" ] || echo "# $(((${EPOCHREALTIME/./} - begun) / 1000)) ms"
}

# skip NAME REASON
skip() { tests=$((tests + 1)); echo "ok $tests - $1 # SKIP $2"; }

finish() { echo "1..$tests"; exit $((failures > 0)); }
