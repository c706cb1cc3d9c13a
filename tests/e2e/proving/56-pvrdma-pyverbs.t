#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The RDMA adapter under rdma-core's own tests (pyverbs), over loopback. The ones named in pyverbs-pass must pass;
# of all others in the same files none may fail but the four whose cause is in driver or library.
here=$(dirname "$(realpath "$0")")
. "${here%/proving}/lib.sh"
. "${here%/proving}/rdma.sh"
guest_timeout=170
need_pvrdma 'rdma-core'"'"'s tests'
installed=/usr/share/doc/rdma-core/tests
[ -d $installed ] || { skip "rdma-core's tests" 'python3-pyverbs is not installed'; finish; }

# The package has them compressed; only the files that have something for this device are of use.
mkdir -p "$work/pyverbs/tests"
cp $installed/* "$work/pyverbs/tests" && gunzip -f "$work/pyverbs/tests"/*.gz
find "$work/pyverbs/tests" -name 'test_*' | grep -vE '/test_(addr|atomic|cq|cq_events|cqex|device|fork|mr|pd|qp|relaxed_ordering)\.py$' | xargs rm

# The library turns a queue of 2^32 - 1 entries into one; the driver reports no receive limits in RESET.
excused='test_query_rc_qp|test_query_ud_qp|test_create_raw_qp_ex_with_illegal_caps_max_send_wr|test_create_raw_qp_ex_with_illegal_caps_max_recv_wr'

in_guest pyverbs --memory=2G --rdma=backend=loopback -epvrdma_module="$pvrdma_module" --share=path="$work/pyverbs",tag=pyverbs <<END
$guest_rdma
load_pvrdma; loaded=\$?
check 'vmw_pvrdma binds' '[ \$loaded = 0 ] || { dmesg | tail -n 20; false; }'
mkdir tree && mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose pyverbs tree && cp -r tree here && cd here
timeout 150 /usr/bin/python3 tests/run_tests.py -v --dev \$dev --port 1 --gid \$gid >out 2>&1
# "NAME (CLASS) ... ok", or with the test's description on a line of its own before the verdict.
verdict() { awk -v "name=\$1 (" 'index(\$0, name) == 1 { on = 1 } on && sub(/.* \.\.\. /, "") { print; exit }' out; }
for test in $(grep -v '^#' "${here%/proving}/pyverbs-pass" | xargs); do
    check "\$test" "[ \"\\\$(verdict \$test)\" = ok ] || { verdict \$test; grep -aA25 \"^[EF].*: \$test \" out; false; }"
done
check 'no other test fails' '! grep -aE "^(FAIL|ERROR): " out | grep -vE "$excused"'
END
finish
