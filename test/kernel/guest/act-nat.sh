#!/bin/sh
# tc … action nat rewrites a real TCP connection's addresses on a stock kernel: the client talks to 10.0.0.99, an address that
# nobody has. The server gets that as its own 10.0.0.2 (in DSR the balancer's work) and its replies leave as 10.0.0.99
# (in DSR the work of the script that `lb4 rules --for SERVER --dialect tc` writes).
set -eu
uname -r
node bin/lb4 --version
cd / && node /lb4/bin/lb4 doctor --dsr

ip netns add client
ip netns add server
ip link add eth0 netns client type veth peer name eth0 netns server
ip -n client addr add 10.0.0.1/24 dev eth0
ip -n server addr add 10.0.0.2/24 dev eth0
for name in client server; do
  ip -n $name link set lo up
  ip -n $name link set eth0 up
done
mac=$(ip netns exec server cat /sys/class/net/eth0/address)
ip -n client neigh add 10.0.0.99 lladdr "$mac" dev eth0

tc='tc -n server'
$tc qdisc add dev eth0 ingress
$tc filter add dev eth0 parent ffff: protocol ip prio 1 u32 match ip dst 10.0.0.99/32 action nat ingress 10.0.0.99/32 10.0.0.2
$tc qdisc add dev eth0 root handle 10: htb
$tc filter add dev eth0 parent 10: protocol ip prio 10 u32 match ip src 10.0.0.2/32 match ip sport 80 0xffff \
  action nat egress 10.0.0.2/32 10.0.0.99
grep -o '^act_nat ' /proc/modules

mkdir /tmp/www
head -c 1000000 /dev/urandom >/tmp/www/file
ip netns exec server httpd -p 10.0.0.2:80 -h /tmp/www
ip netns exec client curl -sS --max-time 200 --output /tmp/received http://10.0.0.99/file
cmp /tmp/www/file /tmp/received
$tc -s filter show dev eth0 parent 10: | grep -q 'Sent [1-9]'
echo 'the connection was rewritten both ways'
