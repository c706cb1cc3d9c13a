#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter over verbs, on soft RoCE, when it goes wrong: what can't work is refused before the guest starts;
# what a guest had when it was reset in the middle of traffic is gone from the host; so is what a process of the guest
# was about to get when it was killed.
# lab: --rdma
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
guest_timeout=250
need_pvrdma 'what is left on the host'
need_soft_roce

# objects: how many the host has for processes, that is, for lodge.
printf '%s\n' '#!/bin/sh' 'for kind in pd cq qp mr; do rdma resource show $kind; done | grep -c " pid "' >"$work/objects"
chmod 755 "$work/objects"

# refused BACKEND MESSAGE [WRAPPER...]: one line, and status 125.
refused() {
    local backend=$1 message=$2; shift 2
    is 125 "$@" "$lodge" run -k "$kernel" -i /dev/null -m 256M --timeout 30 --rdma "$backend" 2>"$work/err" || { cat "$work/err"; return 1; }
    same 1 "$(wc -l <"$work/err")" && grep -F -- "$message" "$work/err" || { cat "$work/err"; return 1; }
}
check 'a device that is not there' 'refused backend=verbs,device=nosuch0 "the host has no such RDMA device; it has: rxe0"'
check 'a port that is not there' 'refused backend=verbs,device=rxe0,port=2 "the device has 1 port"'
check 'a GID that is not there' 'refused backend=verbs,device=rxe0,gid_index=100 "the port has no such GID"'
check 'a port that is down' '
    ip link set v0 down; refused backend=verbs,device=rxe0 "is down"; status=$?
    ip link set v0 up; wait_for 10 grep ACTIVE /sys/class/infiniband/rxe0/ports/1/state && exit $status'
check 'too little memory that may be locked' '
    ulimit -l 1024; refused backend=verbs,device=rxe0 "1 MiB of memory may be locked" setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock'

# A guest that resets itself whenever its two programs have been at it for a while.
cat >"$work/script" <<'END'
#!/bin/sh
mount -t proc proc /proc 2>/dev/null
echo "## up"
sleep 2
ip link set lo up; ip link set eth0 up; ip addr add 10.9.0.2/24 dev eth0
insmod /vmw_pvrdma.ko
for gid in 0 1 2 3; do case $(cat /sys/class/infiniband/*/ports/1/gids/$gid) in *:ffff:0a*) break ;; esac; done
ibv_rc_pingpong -g $gid -n 10000000 & sleep 2
ibv_rc_pingpong -g $gid -n 10000000 127.0.0.1 & sleep 3
echo "## traffic"
sleep 2
echo b >/proc/sysrq-trigger
END
chmod 755 "$work/script"
library=$(echo /usr/lib/*/libibverbs/libvmw_pvrdma-rdmav*.so)
"$mkinitramfs" -o "$work/initrd" --kernel "$release" --busybox --module vmxnet3 --module ib_uverbs --file "$work/script:/script" \
    --file "$pvrdma_module:/vmw_pvrdma.ko" --file "$library" --file /etc/libibverbs.d/vmw_pvrdma.driver --program "$(command -v ibv_rc_pingpong):/bin/ibv_rc_pingpong" ||
    echo 'Bail out! no initramfs'
says() { [ "$(grep -c "## $1" "$work/out")" -ge "$2" ]; }
"$lodge" run --timeout "$guest_timeout" --control "$work/control" -k "$kernel" -i "$work/initrd" -m 256M \
    --rdma=backend=verbs,device=rxe0 -p quiet -p lodge.init=/script </dev/null >"$work/out" 2>&1 & pid=$!
check 'a guest with traffic has objects on the host' '
    wait_for 60 says traffic 1 && "$work/objects" | tee "$work/first" && rdma resource show qp | grep "state RTS.* pid " || { cat "$work/out"; false; }'
check 'a reset in the middle of it frees them all' 'wait_for 60 says up 2 && same 0 "$("$work/objects")" || { rdma resource show; cat "$work/out"; false; }'
check 'and the guest comes back to the same' 'wait_for 60 says traffic 2 && same "$(cat "$work/first")" "$("$work/objects")" || { cat "$work/out"; false; }'
"$lodge" ctl "$work/control" quit >/dev/null
wait $pid
check 'when it ends, they are gone' 'same 0 "$("$work/objects")"'

socat TCP-LISTEN:5059,bind=127.0.0.1,fork,reuseaddr "SYSTEM:$work/objects" &
# Registers memory without two pages side by side, which takes the host long: a kill nearly always comes in between.
cat >"$work/greedy.py" <<'END'
import ctypes
import mmap
import random
import sys
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPCap, QPInitAttr
import pyverbs.enums as e

size = 32 << 20
memory = mmap.mmap(-1, size)
memory.madvise(mmap.MADV_NOHUGEPAGE)
for page in random.sample(range(size >> 12), size >> 12):
    memory[page << 12] = 1
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
context = Context(name=sys.argv[1])
pd, cq = PD(context), CQ(context, 100)
kept = []
print("begun", flush=True)
while True:
    kept.append(QP(pd, QPInitAttr(qp_type=e.IBV_QPT_RC, scq=cq, rcq=cq, cap=QPCap(max_send_wr=100, max_recv_wr=100))))
    MR(pd, size, 7, address=address).close()
    kept.append(MR(pd, 1 << 20, 7))
END
pvrdma_guest killed --memory=512M --rdma=backend=verbs,device=rxe0 -egreedy="$work/greedy.py" <<'END'
objects() { socat -u TCP:10.0.2.2:5059 -; }
expected='could not register mem region, error: -110' # whose process was killed meanwhile
check 'processes that are killed while they register memory and make queue pairs leave nothing' '
    before=$(objects)
    for time in 0.3 0.7 1.1 1.5; do
        /usr/bin/python3 $greedy $dev >begun & process=$!
        wait_for 20 grep -q begun begun; sleep $time; during=$(objects)
        kill -9 $process; wait $process; [ $? = 137 ] && [ $during -gt $before ] || { echo "$during objects, $before before"; exit 1; }
    done 2>/dev/null
    wait_for 10 eval "[ \$(objects) = $before ]" || { echo "before $before, after $(objects)"; exit 1; }'
check 'at least one was, in the middle of it' 'dmesg | grep "$expected"'
check 'the adapter works' 'pair ibv_rc_pingpong -g $gid -n 20'
END
check 'nothing of the guest is left on the host' nothing_left
finish
