#!/bin/sh
# What a server behind lb4 in passthrough mode needs where its backend has nat = "destination": its answers must leave through lb4, which
# puts the frontend's address back. Not needed where this server's way to all its clients leads through lb4 already. Nothing happens
# before somebody runs it: on the server, as root, after each boot and each change of lb4's file,
#
#   sh FILE install
#
# or from the balancer: lb4 rules --config=lb4.toml --for SERVER | ssh root@SERVER sh -s install
#
#   sh FILE install|remove|status [--dry-run]
#
#   install   put rules and route in place; run again, it changes only what differs
#   remove    take away everything of lb4 for servers
#   status    one line a rule: present, missing or stale; exit 0 when nothing is missing, else 3
#   --dry-run say what would be done and change nothing
#
# Exit: 0 done · 1 failed · 2 usage · 3 status found something missing · 77 no privilege, or a tool or kernel feature lacks.
# LB4_GATEWAY names another address of the balancer than the one below. It must be on one of this server's links: where routers stand
# between the two, they need such routes as well.
#
# Why. With nat = "destination" packets come from the clients themselves. What this server answers from SERVER:PORT goes by a routing table
# of its own, whose only route is lb4; everything else keeps its way: connections that this server opens itself, its other services. Those
# who speak to SERVER:PORT directly are answered through lb4 as well, which forwards what is not its own. What UDP and pings
# need beside: ICMP of this server, since it is about those, goes the same way.
# Rules by port are Linux 4.17's (ip-rule(8)). A network namespace holds the rules of one server address.

# >>> lb4 configuration: `lb4 rules` writes what stands between these two lines
SERVER=''  # this server's address
PORTS=''   # PORT[/PROTOCOL] …; a port alone is TCP's
GATEWAY='' # an address of the balancer that this server reaches it by
# <<< lb4 configuration

# shellcheck source=/dev/null
. "${0%/*}/common.sh" # `lb4 rules` puts its text here

GATEWAY=${LB4_GATEWAY:-$GATEWAY}
# Both the table's number and our rules' priority, by which they are known.
TABLE=4164
CONF=/proc/sys/net/ipv4/conf
action=''
port='' protocol='' # split_port sets them

# Every rule of this configuration, one a line, as `ip rule show` spells it; then the route, after `route`.
wanted() {
  about=''
  for word in $PORTS; do
    split_port "$word"
    case $protocol in
      tcp) ;;
      *) about=yes ;;
    esac
    [ "$protocol" = icmp ] || printf '%s\n' "from $SERVER ipproto $protocol sport $port lookup $TABLE"
  done
  [ -z "$about" ] || printf '%s\n' "from $SERVER ipproto icmp lookup $TABLE"
  [ -z "$PORTS" ] || printf '%s\n' "route default via $GATEWAY"
}

have() {
  # By numbers, since names of protocols and tables are what this host's files say; ip writes 6 or ipproto-6.
  ip -4 -N rule show pref $TABLE 2>/dev/null | sed -e 's/^[0-9]*:[[:space:]]*//' -e 's/[[:space:]]*$//' \
    -e 's/ipproto ipproto-/ipproto /' -e 's/ipproto 6 /ipproto tcp /' -e 's/ipproto 17 /ipproto udp /' -e 's/ipproto 1 /ipproto icmp /' -e '/^$/d'
  ip -4 route show table $TABLE 2>/dev/null | awk '/^default via / { print "route " $1 " " $2 " " $3; next } NF { print "route " $0 }'
}

check_gateway() {
  [ -n "$GATEWAY" ] || stop 1 "by which address this server reaches the balancer is not known: name it in LB4_GATEWAY"
  case $(ip -4 route get "$GATEWAY" 2>&1) in
    *' via '* | *unreachable*) stop 1 "$GATEWAY, the balancer, is on no link of this server: name another address of it in LB4_GATEWAY, or give the routers between such routes" ;;
    local*) stop 1 "$GATEWAY is an address of this server itself: name one of the balancer's in LB4_GATEWAY" ;;
  esac
}

# A table of that number that somebody else has filled.
check_table() {
  [ -z "$(noted nat-server)" ] || return 0
  others=$(have | head -n 1)
  [ -z "$others" ] || stop 1 "table or priority $TABLE is in use here, and not by lb4: $others"
}

# Packets of clients come from lb4, and this server's route to clients may be another one.
check_reverse_path() {
  in=$(ip -4 route get "$GATEWAY" 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p')
  out=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
  case $in in '' | "$out") return 0 ;; esac
  # The kernel takes the larger one.
  strict=$(cat "$CONF/all/rp_filter" "$CONF/$in/rp_filter" 2>/dev/null | sort -n | tail -n 1)
  [ "$strict" != 1 ] || warn "rp_filter is strict; clients are reached by ${out:-no route}, lb4 by $in: sysctl -w net.ipv4.conf.$in.rp_filter=2"
}

# change LINES: those of `differences`. New ones come before old ones go.
change() {
  printf '%s\n' "$1" | sed -n 's/^missing route //p' | while read -r route; do
    # shellcheck disable=SC2086 # words on purpose
    must ip -4 route replace $route table $TABLE
  done || exit $?
  printf '%s\n' "$1" | sed -n '/^missing route/d; s/^missing //p' | while read -r rule; do
    # shellcheck disable=SC2086
    must ip -4 rule add pref $TABLE $rule
  done || exit $?
  printf '%s\n' "$1" | sed -n '/^stale route/d; s/^stale //p' | while read -r rule; do
    # shellcheck disable=SC2086
    must ip -4 rule del pref $TABLE $rule
  done || exit $?
  # Where the new one did not take its place.
  printf '%s\n' "$1" | sed -n 's/^stale route //p' | while read -r route; do
    # shellcheck disable=SC2086
    do_it ip -4 route del $route table $TABLE || true
  done
}

# ---- commands ------------------------------------------------------------------------------------------------------

install_all() {
  check_host "$SERVER"
  check_gateway
  check_table
  note nat-server "$TABLE"
  change "$(differences "$(wanted)" "$(have)")"
  check_reverse_path
}

remove_all() {
  [ -n "$(noted nat-server)" ] || return 0
  PORTS=''
  change "$(differences '' "$(have)")"
  forget nat-server
  forget_state
}

status_all() {
  tell "$(differences "$(wanted)" "$(have)")"
}

main() {
  read_words "$@"
  [ -n "$SERVER" ] || not_filled_in
  need_root
  need ip 'apt-get install iproute2'
  "${action}_all"
}

main "$@"
