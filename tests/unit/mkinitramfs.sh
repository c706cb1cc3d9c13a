#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# mkinitramfs.sh MKINITRAMFS: its command line, over a made-up module tree. TAP.
# shellcheck disable=SC2317 # check calls them
set -u

tool=$(readlink -f "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 99
count=0
failed=0

check() # name, then a condition to run
{
    count=$((count + 1))
    name=$1
    shift
    if "$@"; then echo "ok $count - $name"; else
        echo "not ok $count - $name"
        failed=1
        sed 's/^/# /' err
    fi
}

run()
{
    "$tool" "$@" >out 2>err
    status=$?
}

fails_with() { [ "$status" = "$1" ] && [ "$(wc -l <err)" = 1 ] && grep -q -- "$2" err; }
holds() { [ "$status" = 0 ] && grep -aq -- "$1" x.cpio; }

mkdir -p tree/kernel
for module in a b; do echo "text of $module" >tree/kernel/$module.ko; done
printf 'kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n' >tree/modules.dep
echo init >init
echo hello >file
printf '# list\n\na speed=9\n' >list

run -o x.cpio --init init --kernel ./tree --modules-from list --file file:/etc/greeting \
    --link greeting:/etc/link --directory /srv
check "an archive with a module, a file, a link and a folder is made" holds etc/greeting
check "what a module needs comes along, first" holds '/lodge/modules.d/kernel/b.ko$'
check "parameters stay with their module" holds '^/lodge/modules.d/kernel/a.ko speed=9$'
cp x.cpio y.cpio
run -o x.cpio --init init --kernel ./tree --modules-from list --directory /srv --link greeting:/etc/link \
    --file file:/etc/greeting
check "the same content gives the same bytes" cmp -s x.cpio y.cpio

rm x.cpio
run -o x.cpio --init init --kernel ./tree --module nowhere --module a --module '?not-needed' --module elsewhere
check "missing modules are all named" fails_with 1 'for: nowhere elsewhere$'
left() { [ ! -e x.cpio ]; }
check "nothing is left behind by a failure" left
run -o x.cpio --init init --kernel ./tree --module nowhere --module a --tolerate-missing
check "missing modules are tolerated on demand, and named" holds kernel/a.ko
check "the warning names them" grep -q 'no module nowhere' err
run -o x.cpio --init init --file /no/such/file
check "a missing file is named" fails_with 1 '/no/such/file'
run -o x.cpio --init /no/such/init
check "a missing init is named" fails_with 1 'init program of the guest.*/no/such/init'
run -o x.cpio --init init --kernel no-such-version --module a
check "a kernel without modules is named" fails_with 1 '/lib/modules/no-such-version'
run --init init
check "no output file is an error" fails_with 2 '-o FILE is missing'
run -o x.cpio extra
check "an argument too many is an error" fails_with 2 'unexpected argument extra'
run -o /no/such/folder/x.cpio --init init
check "an output folder that is not there is named" fails_with 1 '/no/such/folder'

echo "1..$count"
exit $failed
