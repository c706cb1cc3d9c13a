# SPDX-License-Identifier: GPL-2.0-or-later
# What the scripts of vmxnet3 share: servers in their network namespace (network.sh), and functions for the guests.
# To be sourced after lib.sh.
guest_timeout=250
cd "$work" || exit 1

serve() { socat -t 20 "TCP-LISTEN:$1,fork,reuseaddr" "SYSTEM:$2" & }
head -c 4M /dev/urandom >data
sum=$(sha256sum <data)
# One way (-U), and from a file: in both ways socat leaves off half a second after its program has ended, though the
# guest that stands still has not taken all.
socat -U TCP-LISTEN:5002,fork,reuseaddr "OPEN:$work/data,rdonly" &
serve 5001 sha256sum
iperf3 -s -p 5201 >iperf.log 2>&1 &
iperf3 -s -p 5202 >iperf2.log 2>&1 &
export sum
# What a guest needs to use them: HOST is where they are.
cat >functions <<'END'
take() { same "$sum" "$(socat -u "TCP:$HOST:5002" - | sha256sum)"; }
give() { head -c 4M /dev/urandom >given; same "$(sha256sum <given)" "$(socat -t 20 - "TCP:$HOST:5001" <given)"; }
reach() { busybox ping -c 2 -W 5 "${1-$HOST}"; }
counter() { ethtool -S eth0 | sed -n "s/^ *$1: //p" | awk '{ n += $1 } END { print n + 0 }'; }
set_up() { ip addr replace 10.77.0.2/24 dev eth0 && ip link set eth0 up && wait_for 10 reach; }
quiet() { ! dmesg -l emerg,alert,crit,err,warn | grep -iE 'vmxnet|eth0|BUG|WARNING: CPU|hung'; }
END
export functions=$work/functions
