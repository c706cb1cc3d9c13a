#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter over verbs, on soft RoCE, when much changes: the link goes down and comes back, the driver is
# taken off and comes back under traffic, 64 queue pairs at once, 1 GiB registered.
# lab: --rdma
here=$(dirname "$(realpath "$0")")
. "${here%/proving}/lib.sh"
. "${here%/proving}/rdma.sh"
guest_timeout=200
need_pvrdma 'the driver comes and goes'
need_soft_roce

cat >"$work/flap" <<END
#!/bin/sh
"$lodge" ctl "$work/control" set-link vmxnet0 up=off; sleep 3; "$lodge" ctl "$work/control" set-link vmxnet0 up=on
END
chmod 755 "$work/flap"
socat TCP-LISTEN:5058,bind=127.0.0.1,fork,reuseaddr "SYSTEM:$work/flap" &

in_guest verbs --memory=2G --rdma=backend=verbs,device=rxe0 --control="$work/control" -epvrdma_module="$pvrdma_module" <<END
$guest_rdma
load_pvrdma; loaded=\$?
port=/sys/class/infiniband/\$dev/ports/1/state
function_1=\$(basename "\$(readlink -f /sys/class/infiniband/\$dev/device)")
check 'vmw_pvrdma binds' '[ \$loaded = 0 ] || { dmesg | tail -n 20; false; }'
check '64 queue pairs' 'bandwidth ib_write_bw -s 4096 -q 64 -n 5'
check '1 GiB is registered' '/usr/bin/python3 -c "
import time
from pyverbs.device import Context
from pyverbs.pd import PD
from pyverbs.mr import MR
pd = PD(Context(name=\"\$dev\"))
for i in range(2):
    begin = time.monotonic()
    mr = MR(pd, 1 << 30, 7)
    mr.write(\"x\", 1)
    mr.close()
    print(time.monotonic() - begin)"'
check 'the port goes down and comes back with the link' '
    socat -u OPEN:/dev/null TCP:10.0.2.2:5058; wait_for 10 grep DOWN \$port && wait_for 10 grep ACTIVE \$port &&
    wait_for 10 ip route get 10.0.2.2 && pair ibv_rc_pingpong -g \$gid -n 20'
check 'the driver is taken off under traffic' '
    ibv_rc_pingpong -g \$gid -n 1000000 >/dev/null & server=\$!; listening
    ibv_rc_pingpong -g \$gid -n 1000000 127.0.0.1 >/dev/null & client=\$!; sleep 2
    echo \$function_1 >/sys/bus/pci/drivers/vmw_pvrdma/unbind & unbind=\$!; sleep 1
    kill -9 \$server \$client; wait \$unbind && [ ! -e /sys/class/infiniband/\$dev ]'
check 'and comes back' 'echo \$function_1 >/sys/bus/pci/drivers/vmw_pvrdma/bind && pair ibv_rc_pingpong -g \$gid -n 20'
check 'three times, right after traffic' '
    for i in 1 2 3; do
        ibv_rc_pingpong -g \$gid -n 1000000 >/dev/null & server=\$!; listening
        ibv_rc_pingpong -g \$gid -n 1000000 127.0.0.1 >/dev/null & client=\$!; sleep 1
        kill -9 \$server \$client; wait; rmmod vmw_pvrdma && insmod \$pvrdma_module || exit 1
    done 2>/dev/null; pair ibv_rc_pingpong -g \$gid -n 20'
check 'the kernel has nothing to complain of' quiet
END
check 'nothing of the guest is left on the host' '! rdma resource show qp | grep " pid "'
finish
