#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Shared folders with the stock 9p driver: everything a file system does, in each caching mode; trees that
# compare equal on both sides; read-only; what lies outside. The guest's part is share-in-guest.
. "$(dirname "$0")/lib.sh"
inside=$here/share-in-guest
guest_timeout=150

# results FILE PREFIX: a test for each line that share-in-guest has printed.
results() {
    local line
    grep -q '^ok ' "$1" || check "$2: the guest reports" "cat '$1' '$1.err'; false"
    while read -r line; do
        case $line in
            "ok "*) check "$2: ${line#ok }" true ;;
            "not ok "*) check "$2: ${line#not ok }" "cat '$1.err'; false" ;;
        esac
    done <"$1"
}

mkdir -p "$work"/{rw,ro/d,outside,escape,tree/many,back}
echo contents >"$work/ro/f" && chmod 644 "$work/ro/f"
echo secret >"$work/outside/secret"
ln -s ../outside "$work/escape/out"
for i in $(seq 150); do head -c $((i * 97)) /dev/urandom >"$work/tree/many/$i"; done
ln "$work/tree/many/1" "$work/tree/hard"
ln -s many/2 "$work/tree/soft"
mkfifo "$work/tree/fifo"
head -c 3000000 /dev/urandom >"$work/tree/big"
printf x >"$work/tree/$(printf 'odd \377name')"
chmod 4711 "$work/tree/big"
[ "$(id -u)" = 0 ] && chown 1234:4321 "$work/tree/many/3" && mknod "$work/tree/null" c 1 3

share="--share=path=$work"
guest $share/rw,tag=rw $share/ro,tag=ro,readonly $share/tree,tag=tree,readonly $share/back,tag=back $share/escape,tag=escape sh -c "
    mkdir -p /mnt/tree /mnt/back
    for cache in none mmap loose; do $inside check rw \$cache >/run/\$cache; done
    $inside readonly ro >/run/readonly
    $inside escape escape >/run/escape
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose tree /mnt/tree &&
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none back /mnt/back &&
    $inside manifest /mnt/tree >/mnt/back/manifest && cp -a /mnt/tree /mnt/back/copy
    cd /run && tar -cf - none mmap loose readonly escape" >"$work/results.tar" 2>"$work/err" </dev/null
mkdir "$work/results" && tar -C "$work/results" -xf "$work/results.tar"
for part in none mmap loose readonly escape; do
    cp "$work/err" "$work/results/$part.err"
    results "$work/results/$part" "$part"
done
check 'the guest sees the tree as the host does' '"$inside" manifest "$work/tree" | diff -a - "$work/back/manifest"'
check 'what the guest copied is the same tree' '
    seconds() { sed "s/^\(.* [0-9]*\)[0-9]\{9\} b/\1 b/"; }
    "$inside" manifest "$work/back/copy" | seconds >"$work/copied" && seconds <"$work/back/manifest" | diff -a "$work/copied" -'
check 'the read-only folder is as it was' 'same "d f" "$(ls "$work/ro" | xargs)" && same contents "$(cat "$work/ro/f")"'
check 'the neighbour is as it was' 'same secret "$(ls "$work/outside")" && same secret "$(cat "$work/outside/secret")"'
check 'what the host writes is seen at once' '
    mkdir "$work/live" && echo before >"$work/live/f"
    guest $share/live,tag=live sh -c "
        mkdir -p /mnt/live && mount -t 9p -o trans=virtio,version=9p2000.L live /mnt/live && cat /mnt/live/f
        while [ ! -e /mnt/live/done ]; do sleep 0.1; done; cat /mnt/live/f" >"$work/out" </dev/null &
    wait_for 90 grep -q before "$work/out" && echo after >"$work/live/new" && mv "$work/live/new" "$work/live/f" && touch "$work/live/done"
    wait && same "before after" "$(xargs <"$work/out")"'
check 'a folder that is not there is one line with the remedy' '
    is 125 guest $share/none,tag=x true 2>"$work/err"; same 1 "$(wc -l <"$work/err")" && grep -q "no such directory" "$work/err"'
finish
