# SPDX-License-Identifier: GPL-2.0-or-later
# What the scripts about RDMA share; sourced after lib.sh.

tree=$here/../..
pvrdma_module=$LODGE_BUILD/guest-images/modules/$release/vmw_pvrdma.ko
need_pvrdma() {
    [ -e "$pvrdma_module" ] && return
    skip "$1" "no driver for this kernel; run once: guest-images/modules/build --kernel $release vmw_pvrdma"
    finish
}

# The soft RoCE device rxe0, as tests/lab/enter --rdma makes it. On a machine that has none it is made, and goes with
# the script.
need_soft_roce() {
    ulimit -l unlimited
    [ -e /sys/class/infiniband/rxe0 ] && return
    if [ -e /sys/class/net/v0 ]; then
        echo "an interface v0 is there, but no rxe0: rdma link add rxe0 type rxe netdev NAME" >"$work/log"
    else
        trap 'cleanup; { rdma link delete rxe0; ip link delete v0; } 2>/dev/null' EXIT
        "$tree/tests/lab/inside" --rdma -- true >"$work/log" 2>&1 && return
    fi
    echo "1..0 # SKIP no soft RoCE: $(tail -n 1 "$work/log")"
    exit 0
}

# Guest side. load_pvrdma loads the driver; $dev and $gid are its device and the index of the IPv4 GID.
guest_rdma=$(cat <<'END'
load_pvrdma() {
    ip link set lo up && ip link set eth0 up
    modprobe -a ib_uverbs ib_umad rdma_ucm && insmod "$pvrdma_module" || return
    dev=$(ls /sys/class/infiniband | head -n 1)
    [ -n "$dev" ] || return
    for gid in 0 1 2 3 4 5; do
        case $(cat "/sys/class/infiniband/$dev/ports/1/gids/$gid") in *:ffff:0a*) return 0 ;; esac
    done
    return 1
}
# Waits for the server of a pingpong or of perftest (port 18515).
listening() { for _ in {1..100}; do grep -qs ':4853 .* 0A ' /proc/net/tcp /proc/net/tcp6 && return; sleep 0.1; done; }
# pair COMMAND...: a server and a client of the same command; fails when either does.
pair() {
    local server
    timeout 30 "$@" >server.out 2>&1 & server=$!
    listening
    timeout 25 "$@" 127.0.0.1 || { cat server.out; return 1; }
    wait "$server" || { cat server.out; return 1; }
}
# But for what matches $expected.
quiet() {
    ! dmesg | grep -iE "pvrdma.*(fail|error|could not|unknown)|BUG:|WARNING: |Oops|Call Trace" | grep -vE "module verification|Return Stack Overflow: WARNING${expected:+|$expected}"
}
bandwidth() { local tool=$1; shift; pair "$tool" -d "$dev" -x "$gid" -F --use_old_post_send -n 20 "$@"; }
# What every backend is to carry between two programs of one guest.
check_tools() {
    check 'RC' 'pair ibv_rc_pingpong -g $gid -n 50'
    check 'RC with events' 'pair ibv_rc_pingpong -g $gid -n 50 -e'
    check 'UD' 'pair ibv_ud_pingpong -g $gid -n 50'
    check 'SRQ' 'pair ibv_srq_pingpong -g $gid -n 50 -q 4'
    check 'UC, which the adapter lacks, is refused' '! timeout 10 ibv_uc_pingpong -g $gid -n 5 && ls /sys/class/infiniband/$dev'
    check 'perftest: send' 'bandwidth ib_send_bw -s 65536'
    check 'perftest: send, with events' 'bandwidth ib_send_bw -s 4096 -e'
    check 'perftest: send by UD' 'bandwidth ib_send_bw -s 1024 -c UD'
    check 'perftest: send to an SRQ' 'bandwidth ib_send_bw -s 4096 --use-srq'
    check 'perftest: write' 'bandwidth ib_write_bw -s 65536 -q 4'
    check 'perftest: read' 'bandwidth ib_read_bw -s 65536'
    check 'perftest: read, with events' 'bandwidth ib_read_bw -s 65536 -e'
    check 'perftest: atomics' 'bandwidth ib_atomic_bw'
    check 'perftest: atomics, with events' 'bandwidth ib_atomic_bw -e'
    check 'rping: the connection manager, and data verified' '
        timeout 30 rping -s -a 10.0.2.15 -C 3 -V & server=$!; sleep 1.5
        timeout 25 rping -c -a 10.0.2.15 -C 3 -V && wait $server'
    check 'a peer that is killed ends the other side, and hurts nothing else' '
        endless="ib_write_bw -d $dev -x $gid -F --use_old_post_send -s 4096 -n 1000000"
        $endless >/dev/null & server=$!; listening
        timeout 40 $endless 127.0.0.1 & client=$!; sleep 3
        kill -9 $server; wait $client; status=$?; echo "status $status"
        [ $status != 0 ] && [ $status != 124 ] && pair ibv_rc_pingpong -g $gid -n 20'
}
END
)

# pvrdma_guest TITLE [OPTION...] <<'END': in_guest, with the functions above, the driver loaded, and nothing in the
# kernel's log at the end.
pvrdma_guest() {
    local title=$1 script; shift
    script=$(cat)
    in_guest "$title" -epvrdma_module="$pvrdma_module" "$@" <<END
$guest_rdma
load_pvrdma; loaded=\$?
check 'vmw_pvrdma binds' '[ \$loaded = 0 ] || { dmesg | tail -n 20; false; }'
$script
check 'the kernel has nothing to complain of' quiet
END
}

# Host side: a guest's objects and the address that was added for it are gone.
nothing_left() {
    ! for kind in pd cq qp mr; do rdma resource show $kind; done | grep ' pid ' && ! ip addr show dev v0 | grep '10\.0\.2\.15'
}

# rdma-core's own tests (pyverbs) in a guest whose adapter stands on BACKEND (words for --rdma): those in the file
# pyverbs-pass must pass, but for the ones that match WITHOUT (an extended expression); of all others in the same files
# none may fail but the four whose cause is in driver or library, and those that match WITHOUT.
pyverbs() { # TITLE BACKEND [WITHOUT]
    local installed=/usr/share/doc/rdma-core/tests without=${3:-^$}
    [ -d $installed ] || { skip "rdma-core's tests" 'python3-pyverbs is not installed'; return; }

    # The package has them compressed; only the files that have something for this device are of use.
    mkdir -p "$work/pyverbs/tests"
    cp $installed/* "$work/pyverbs/tests" && gunzip -f "$work/pyverbs/tests"/*.gz
    find "$work/pyverbs/tests" -name 'test_*' | grep -vE '/test_(addr|atomic|cq|cq_events|cqex|device|fork|mr|pd|qp|relaxed_ordering)\.py$' | xargs rm

    # The library turns a queue of 2^32 - 1 entries into one; the driver reports no receive limits in RESET.
    local wanted excused="$without|test_query_rc_qp|test_query_ud_qp|test_create_raw_qp_ex_with_illegal_caps_max_send_wr|test_create_raw_qp_ex_with_illegal_caps_max_recv_wr"

    wanted=$(grep -v '^#' "$here/pyverbs-pass" | xargs -n 1 | grep -vE "$without" | xargs)

    pvrdma_guest "$1" --memory=2G --rdma="$2" --share=path="$work/pyverbs",tag=pyverbs -ewanted="$wanted" -eexcused="$excused" <<'END'
expected='failed to write request|could not' # many tests ask for what must be refused
mkdir tree && mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose pyverbs tree && cp -r tree here && cd here
timeout 150 /usr/bin/python3 tests/run_tests.py -v --dev $dev --port 1 --gid $gid >out 2>&1
# "NAME (CLASS) ... ok", or with the test's description on a line of its own before the verdict.
verdict() { awk -v "name=$1 (" 'index($0, name) == 1 { on = 1 } on && sub(/.* \.\.\. /, "") { print; exit }' out; }
for test in $wanted; do
    check "$test" "[ \"\$(verdict $test)\" = ok ] || { verdict $test; grep -aA25 \"^[EF].*: $test \" out; false; }"
done
check 'no other test fails' '! grep -aE "^(FAIL|ERROR): " out | grep -vE "$excused"'
END
}

# The adapter in a guest when much changes, on BACKEND (words for --rdma): the link goes down and comes back, the driver
# is taken off and comes back under traffic, 64 queue pairs at once, 1 GiB registered.
churn() { # TITLE BACKEND
    cat >"$work/flap" <<END
#!/bin/sh
"$lodge" ctl "$work/control" set-link vmxnet0 up=off; sleep 3; "$lodge" ctl "$work/control" set-link vmxnet0 up=on
END
    chmod 755 "$work/flap"
    socat TCP-LISTEN:5058,bind=127.0.0.1,fork,reuseaddr "SYSTEM:$work/flap" &

    pvrdma_guest "$1" --memory=2G --rdma="$2" --control="$work/control" <<'END'
port=/sys/class/infiniband/$dev/ports/1/state
function_1=$(basename "$(readlink -f /sys/class/infiniband/$dev/device)")
check '64 queue pairs' 'bandwidth ib_write_bw -s 4096 -q 64 -n 5'
check '1 GiB is registered' '/usr/bin/python3 -c "
import time
from pyverbs.device import Context
from pyverbs.pd import PD
from pyverbs.mr import MR
pd = PD(Context(name=\"$dev\"))
for i in range(2):
    begin = time.monotonic()
    mr = MR(pd, 1 << 30, 7)
    mr.write(\"x\", 1)
    mr.close()
    print(time.monotonic() - begin)"'
check 'the port goes down and comes back with the link' '
    socat -u OPEN:/dev/null TCP:10.0.2.2:5058; wait_for 10 grep DOWN $port && wait_for 10 grep ACTIVE $port &&
    wait_for 10 ip route get 10.0.2.2 && pair ibv_rc_pingpong -g $gid -n 20'
check 'the driver is taken off under traffic' '
    ibv_rc_pingpong -g $gid -n 1000000 >/dev/null & server=$!; listening
    ibv_rc_pingpong -g $gid -n 1000000 127.0.0.1 >/dev/null & client=$!; sleep 2
    echo $function_1 >/sys/bus/pci/drivers/vmw_pvrdma/unbind & unbind=$!; sleep 1
    kill -9 $server $client; wait $unbind && [ ! -e /sys/class/infiniband/$dev ]'
check 'and comes back' 'echo $function_1 >/sys/bus/pci/drivers/vmw_pvrdma/bind && pair ibv_rc_pingpong -g $gid -n 20'
check 'three times, right after traffic' '
    for i in 1 2 3; do
        ibv_rc_pingpong -g $gid -n 1000000 >/dev/null & server=$!; listening
        ibv_rc_pingpong -g $gid -n 1000000 127.0.0.1 >/dev/null & client=$!; sleep 1
        kill -9 $server $client; wait; rmmod vmw_pvrdma && insmod $pvrdma_module || exit 1
    done 2>/dev/null; pair ibv_rc_pingpong -g $gid -n 20'
END
}
