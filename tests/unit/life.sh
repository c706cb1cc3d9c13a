# SPDX-License-Identifier: GPL-2.0-or-later
# What the scripts of whole lives share: lodges whose guest is tests/support/counter or writer, which any KVM can run.
# They are called with these programs: LODGE COUNTER WRITER TRAFFIC.
#
#   . "$(dirname "$0")/life.sh"; $lodge, $work, check NAME COMMANDS, finish
set -u
lodge=$(realpath "$1") counter=$(realpath "$2") writer=$(realpath "$3") traffic=$(realpath "$4") here=$(dirname "$(realpath "$0")")
work=$(mktemp -d "${TMPDIR:-/tmp}/lodge-life.XXXXXX")
cd "$work" || exit 1
count=0 failed=0
started=()
cleanup() {
    for pid in $(jobs -p); do kill -9 "$pid" 2>/dev/null; done
    rm -rf "$work"
}
trap cleanup EXIT

check() {
    count=$((count + 1))
    local output
    if output=$( (eval "$2") 2>&1 </dev/null); then
        echo "ok $count - $1"
    else
        failed=1
        printf '%s\n' "$output" | tail -n 30 | sed 's/^/# /'
        echo "not ok $count - $1"
    fi
}
finish() { echo "1..$count"; exit $failed; }
is() { local expected=$1 got; shift; "$@"; got=$?; [ "$got" -eq "$expected" ] || { echo "exit status $got, expected $expected: $*"; return 1; }; }
same() { [ "$1" = "$2" ] || { printf 'expected: %s\ngot:      %s\n' "$1" "$2"; return 1; }; }
wait_for() {
    local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000)); shift
    until "$@" >/dev/null 2>&1; do
        [ "${EPOCHREALTIME/./}" -lt $deadline ] || { echo "waited in vain for: $*"; return 1; }
        sleep 0.02
    done
}
refused() { # refused WORDS COMMAND...: does it end with 125 and say so?
    local words=$1; shift
    is 125 "$@" >refused.out 2>refused.err && grep -q -- "$words" refused.err || { cat refused.err; return 1; }
}

# The last whole number that a guest printed; how many there are to be at least; whether it goes on.
last() { sed -n 's/^count \([0-9a-f]\{8\}\)$/\1/p' "$1" | tail -n 1; }
first() { sed -n 's/^count \([0-9a-f]\{8\}\)$/\1/p' "$1" | head -n 1; }
number() { local n; n=$($1 "$2"); echo $((16#${n:-0})); }
reached() { [ "$(number last "$1")" -ge "$2" ]; }
goes_on() { wait_for 10 reached "$1" $(($(number last "$1") + 5)); }
# Every number once and in turn since the guest's last start (a reset may cut a line off), over all the
# files given, and nothing that the guest found wrong.
in_turn() {
    ! grep -h wrong "$@" && cat "$@" | awk '/start$/ { n = 0 } { line[n++] = $0 } END { for (i = 0; i < n; i++) print line[i] }' | sed -n 's/^count \([0-9a-f]\{8\}\)$/\1/p' >turn &&
        same "$(wc -l <turn)" $((16#$(tail -n 1 turn) - 16#$(head -n 1 turn) + 1)) && sort -c -u turn
}
ctl() { "$lodge" ctl "$@"; }
truncate -s 1M disk; echo x >initrd
base=(-m 64 --defaults off --allow-software-kvm --timeout 60 -k "$counter" -i initrd)
# guest OUT CONTROL OPTION...: in the background, its process id in $pid.
guest() {
    local out=$1 control=$2; shift 2
    "$lodge" run "${base[@]}" --serial type=stdio --control "$control" "$@" </dev/null >"$out" 2>"$out.err" &
    pid=$!
}
if ! "$lodge" run "${base[@]}" --serial type=file,path=probe --timeout 0.3 </dev/null >probe.out 2>&1 && ! grep -q count probe; then
    echo "1..0 # SKIP no KVM here: $(head -n 1 probe.out)"
    exit 0
fi
