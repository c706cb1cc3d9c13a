#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter with its stock driver, over loopback: the tools of libibverbs, librdmacm and perftest, each
# with a server and a client in one guest; then the driver goes and comes back, also under traffic.
here=$(dirname "$(realpath "$0")")
. "${here%/proving}/lib.sh"
. "${here%/proving}/rdma.sh"
guest_timeout=170
need_pvrdma 'the stock driver'

in_guest pvrdma --memory=1G --rdma=backend=loopback -epvrdma_module="$pvrdma_module" <<END
$guest_rdma
load_pvrdma; loaded=\$?
check 'vmw_pvrdma binds' '[ \$loaded = 0 ] || { dmesg | tail -n 20; false; }'
check 'the port is active, with RoCE v2 GIDs' '
    ibv_devinfo -v | grep -q "PORT_ACTIVE" && grep -qx "RoCE v2" /sys/class/infiniband/\$dev/ports/1/gid_attrs/types/\$gid'
check 'RC' 'pair ibv_rc_pingpong -g \$gid -n 50'
check 'RC with events' 'pair ibv_rc_pingpong -g \$gid -n 50 -e'
check 'UD' 'pair ibv_ud_pingpong -g \$gid -n 50'
check 'SRQ' 'pair ibv_srq_pingpong -g \$gid -n 50 -q 4'
check 'perftest: send' 'bandwidth ib_send_bw -s 65536'
check 'perftest: send, with events' 'bandwidth ib_send_bw -s 4096 -e'
check 'perftest: send by UD' 'bandwidth ib_send_bw -s 1024 -c UD'
check 'perftest: send to an SRQ' 'bandwidth ib_send_bw -s 4096 --use-srq'
check 'perftest: write' 'bandwidth ib_write_bw -s 65536 -q 4'
check 'perftest: read' 'bandwidth ib_read_bw -s 65536'
check 'perftest: atomics' 'bandwidth ib_atomic_bw'
check 'rping: the connection manager, and data verified' '
    timeout 30 rping -s -a 10.0.2.15 -C 3 -V & server=\$!; sleep 1.5
    timeout 25 rping -c -a 10.0.2.15 -C 3 -V && wait \$server'
check 'a killed process leaves nothing that hurts' '
    ibv_rc_pingpong -g \$gid -n 1000000 >/dev/null & server=\$!; sleep 1.5
    ibv_rc_pingpong -g \$gid -n 1000000 127.0.0.1 >/dev/null & client=\$!; sleep 2
    kill -9 \$server \$client || exit 1; wait; pair ibv_rc_pingpong -g \$gid -n 20'
check 'the driver goes and comes back' '
    rmmod vmw_pvrdma && insmod \$pvrdma_module && pair ibv_rc_pingpong -g \$gid -n 20'
check 'the kernel has nothing to complain of' '! dmesg | grep -iE "pvrdma.*(fail|error|could not|unknown)|BUG:|WARNING: |Oops|Call Trace" | grep -vE "module verification|Return Stack Overflow: WARNING"'
END
finish
