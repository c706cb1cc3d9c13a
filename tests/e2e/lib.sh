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
# Debian's own programs first, here and in guests: another python3 has no pyverbs, and may be a shim of shell scripts.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
here=$(dirname "$(realpath "$0")")
LODGE_BUILD=${LODGE_BUILD:-${here%/proving}/../../build}
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

# wait_for SECONDS COMMAND...: until it succeeds. The seconds are those of a machine that has nothing else to do; one
# under load gets twice as long.
wait_for() {
    local deadline=$((EPOCHSECONDS + 2 * $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ "$EPOCHSECONDS" -lt "$deadline" ] || { echo "waited in vain for: $*"; return 1; }
        sleep 0.1
    done
}

# busybox_initrd FILE SCRIPT-TEXT [MODULE...]: an initramfs of busybox, modules, and a script that classic runs.
busybox_initrd() {
    local file=$1 text=$2 modules=(); shift 2
    for module in "$@"; do modules+=(--module "$module"); done
    printf '#!/bin/sh\n%s\n' "$text" >"$work/init-script" && chmod 755 "$work/init-script" &&
        "$mkinitramfs" -o "$file" --kernel "$release" --busybox "${modules[@]}" --file "$work/init-script:/script"
}

# classic INITRD [OPTION...]: boots one made by busybox_initrd, as kvmtool's users would: -k, -i, a console.
classic() {
    local initrd=$1; shift
    "$lodge" run --timeout "$guest_timeout" -k "$kernel" -i "$initrd" -p quiet -p lodge.init=/script "$@"
}

# registers SOCKET: what the vCPUs of a guest that hangs are at; a fault of the emulator is known by them.
registers() { timeout 20 "$lodge" ctl "$1" query-vcpus 2>&1 | sed 's/\\n/\n/g'; }

# give_up PID SOCKET: ends a guest that hangs, and the script.
give_up() {
    registers "$2" | sed 's/^/# /'
    kill "$1" 2>/dev/null; wait "$1" 2>/dev/null
    finish
}

# other_guest OPTION... -- COMMAND...: a guest in the background, $other, for the guests and checks that follow; it writes to
# $work/other.out and .err. When one of those fails, what it said is shown, and where it stands.
other_guest() {
    "$lodge" run --timeout $((guest_timeout + 15)) --control="$work/other.control" "$@" </dev/null >"$work/other.out" 2>"$work/other.err" &
    other=$!
}
show_other_guest() {
    [ -n "${other-}" ] || return
    echo 'the other guest:'
    tail -n 20 "$work/other.out" "$work/other.err"
    registers "$work/other.control"
}

# result FILE KEY: a top-level value of a --result file.
result() { sed -n "s/^  \"$2\" : \"\{0,1\}\(.*[^\",]\)\"\{0,1\},\{0,1\}\$/\1/p" "$1"; }

# in_guest TITLE [OPTION...] <<'END': one guest whose bash runs this script, in which check works as here,
# so that a boot serves many checks. TITLE begins their names. Variables to pass: -eNAME.
scripts=0
in_guest() {
    local title=$1 line status begun=${EPOCHREALTIME/./} ended= failed_before=$failures; shift
    scripts=$((scripts + 1))
    {
        declare -f is same wait_for guest_check
        echo 'check() { guest_check "$@"; }; work=$(mktemp -d); cd "$work"'
        cat
        echo 'echo "## end"'
    } >"$work/in-guest-$scripts"
    guest "$@" bash "$work/in-guest-$scripts" </dev/null >"$work/in-guest.out" 2>"$work/in-guest.err"
    status=$?
    while IFS= read -r line; do
        case $line in
        '## ok '*) tests=$((tests + 1)); echo "ok $tests - $title: ${line#'## ok '}" ;;
        '## not ok '*) tests=$((tests + 1)) failures=$((failures + 1)); echo "not ok $tests - $title: ${line#'## not ok '}" ;;
        '## end') ended=1 ;;
        *) echo "# $line" ;;
        esac
    done <"$work/in-guest.out"
    tests=$((tests + 1))
    if [ "$ended$status" = 10 ]; then
        echo "ok $tests - $title: the guest's script ran to its end"
    else
        failures=$((failures + 1))
        echo "# exit status $status"
        tail -n 40 "$work/in-guest.err" | sed 's/^/# /'
        echo "not ok $tests - $title: the guest's script ran to its end"
    fi
    [ "$failures" = "$failed_before" ] || show_other_guest | sed 's/^/# /'
    [ -z "${LODGE_E2E_TIMES-}" ] || echo "# $(((${EPOCHREALTIME/./} - begun) / 1000)) ms"
}
guest_check() { # what check is in a guest
    local output begun=${EPOCHREALTIME/./} verdict=ok
    output=$( (eval "$2") 2>&1 </dev/null) || verdict='not ok'
    [ "$verdict" = ok ] || printf '%s\n' "$output" | tail -n 30
    echo "## $verdict $1"
    [ -z "${LODGE_E2E_TIMES-}" ] || echo "$(((${EPOCHREALTIME/./} - begun) / 1000)) ms"
}

# check NAME COMMANDS
check() {
    tests=$((tests + 1))
    local output begun=${EPOCHREALTIME/./}
    : >"$work/.begun"
    if output=$( (eval "$2") 2>&1); then
        echo "ok $tests - $1"
    else
        failures=$((failures + 1))
        printf '%s\n' "$output" | tail -n 30 | sed 's/^/# /'
        { guests_ended; show_other_guest; } | sed 's/^/# /'
        echo "not ok $tests - $1"
    fi
    [ -z "${LODGE_E2E_TIMES-}" ] || echo "# $(((${EPOCHREALTIME/./} - begun) / 1000)) ms"
}

# guests_ended: what lodge said of guests that hung or died in this check, where that went to a file.
guests_ended() {
    find "$work" -maxdepth 1 -type f -newer "$work/.begun" -size -1024k -exec grep -hE -A 9 '^vCPU [0-9]+ |triple fault' {} + 2>/dev/null | head -n 40
}

# skip NAME REASON
skip() { tests=$((tests + 1)); echo "ok $tests - $1 # SKIP $2"; }

finish() { echo "1..$tests"; exit $((failures > 0)); }

# Of guests that write "count 1.", "count 2." and so on, to a file each time they run: the last number; is it at least N?
# rounds FILE; counted FILE N
rounds() { sed -n 's/^count \([0-9]*\)\..*/\1/p' "$1" | tail -n 1; }
counted() { local n; n=$(rounds "$1"); [ -n "$n" ] && [ "$n" -ge "$2" ]; }
# in_turn FILE...: is, from one to the next, each number the one before it plus 1? A guest may be cut off in a line, and
# end it elsewhere. Nothing may have been wrong.
in_turn() {
    cat "$@" >"$work/in-turn" && ! grep -E 'wrong|failed|no entropy' "$work/in-turn" &&
        sed -n 's/^count \([0-9]*\)\..*/\1/p' "$work/in-turn" |
        awk 'NR > 1 && $1 != last + 1 { print "after " last ": " $1; bad = 1 } { last = $1 } END { exit bad || NR < 2 }'
}

# For a guest's script, in a loop that counts i: round i goes to the disk, and is read back from there.
disk_round=$(cat <<'END'
printf "round %08d\n" $i | dd of=/dev/vda bs=512 seek=$((i % 64)) conv=notrunc,sync,fsync 2>/dev/null || { echo write-failed $i; break; }
echo 3 >/proc/sys/vm/drop_caches
got=$(dd if=/dev/vda bs=512 skip=$((i % 64)) count=1 2>/dev/null | head -c 14)
[ "$got" = "$(printf "round %08d" $i)" ] || { echo "wrong data: $got in round $i"; break; }
END
)
