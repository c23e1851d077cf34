set -e
for n in h r s; do
    ip netns add $NAME-$n
    ip -n $NAME-$n link set lo up
    ip netns exec $NAME-$n sysctl -qw net.ipv4.ping_group_range="0 2147483647" net.ipv6.conf.default.accept_dad=0 \
        net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv6.conf.all.disable_ipv6=0
done
ip link add h0 netns $NAME-h type veth peer name r0 netns $NAME-r
ip link add r1 netns $NAME-r mtu 1400 type veth peer name s0 netns $NAME-s mtu 1400
at() { ip -n $NAME-$1 addr add $3 dev $2; }
at h h0 192.0.2.1/24; at r r0 192.0.2.2/24; at r r1 198.51.100.1/24
for a in 9 53 54 55 56; do at s s0 198.51.100.$a/24; done
at6() { ip -n $NAME-$1 addr add $3 dev $2 nodad; }
at6 h h0 2001:db8:1::1/64; at6 r r0 2001:db8:1::2/64; at6 r r1 2001:db8:2::1/64; at6 s s0 2001:db8:2::9/64
for end in "h h0" "r r0" "r r1" "s s0"; do set -- $end; ip -n $NAME-$1 link set $2 up; done
ip netns exec $NAME-r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip -n $NAME-h route add default via 192.0.2.2
ip -n $NAME-h -6 route add default via 2001:db8:1::2
ip -n $NAME-s route add default via 198.51.100.1
ip -n $NAME-s -6 route add default via 2001:db8:2::1
# A metadata service, as clouds have it.
ip -n $NAME-r addr add 169.254.169.254/32 dev lo
# Networks about which the router complains.
ip -n $NAME-r route add unreachable 203.0.113.0/24
ip -n $NAME-r route add prohibit 203.0.114.0/24
ip -n $NAME-r -6 route add unreachable 2001:db8:bad::/48
# The interfaces are up once they run.
for i in $(seq 100); do
    ip netns exec $NAME-h ping -n -c1 -W1 198.51.100.9 >/dev/null 2>&1 &&
        ip netns exec $NAME-h ping -n -c1 -W1 2001:db8:2::9 >/dev/null 2>&1 && exit 0
    sleep 0.1
done
exit 1
