#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A snapshot of a guest whose queue pairs are exchanging messages: the restored guest goes on with them, as does the
# one that was saved. Each round is a server and a client of ibv_rc_pingpong, with events; "count N" follows its end.
. "$(dirname "$0")/lib.sh"
. "$here/rdma.sh"
need_pvrdma 'snapshots of RDMA traffic'

cat >"$work/script" <<END
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
for nic in /sys/bus/pci/drivers/vmxnet3/0000:*/net/*; do ip link set \$(basename \$nic) up; done
modprobe ib_uverbs; insmod $pvrdma_module
for i in \$(seq 1000); do
    ibv_rc_pingpong -g 0 -n 300 -e >/dev/null & server=\$!
    for t in \$(seq 100); do # until it listens, on port 18515
        cat /proc/net/tcp /proc/net/tcp6 | grep -q ':4853 .* 0A ' && break
        sleep 0.1
    done
    ibv_rc_pingpong -g 0 -n 300 -e 127.0.0.1 >/dev/null || { echo "client failed in round \$i"; break; }
    wait \$server || { echo "server failed in round \$i"; break; }
    echo "count \$i."
done
sleep 1000
END
chmod 755 "$work/script"
"$lodge" run -m 512M --timeout 170 --control "$work/c" --rdma backend=loopback,net=type=null -p "lodge.init=$work/script" -p quiet \
    </dev/null >"$work/out" 2>"$work/err" &
guest=$!

check 'the guest exchanges messages' 'wait_for 60 counted "$work/out" 2 || { tail -n 20 "$work/out" "$work/err"; exit 1; }'
[ $failures = 0 ] || give_up $guest "$work/c"
sleep 2 # into the next round
check 'a snapshot in traffic, and the guest goes on' '
    "$lodge" ctl "$work/c" snapshot "$work/snap" && n=$(rounds "$work/out") && wait_for 40 counted "$work/out" $((n + 2)) &&
    ! grep failed "$work/out"'
saved=$(rounds "$work/out")
kill -9 $guest; wait $guest 2>/dev/null
check 'the restored guest goes on, too' '
    "$lodge" restore "$work/snap" --control "$work/c2" --timeout 80 </dev/null >"$work/out2" 2>&1 & pid=$!
    wait_for 60 counted "$work/out2" $saved; ok=$?
    [ $ok = 0 ] || registers "$work/c2"
    "$lodge" ctl "$work/c2" quit; wait $pid
    [ $ok = 0 ] && ! grep failed "$work/out2" || { tail -n 20 "$work/out2"; false; }'
finish
