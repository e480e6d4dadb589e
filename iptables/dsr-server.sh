#!/bin/sh
# shellcheck disable=SC2034 # what tunnel.sh alone reads
# What a server behind lb4 in DSR mode needs, so that it answers clients itself. Nothing happens before somebody runs it: on the
# server, as root, after each boot, and each change of lb4's frontends or, with dsr = "gue", of its servers,
#
#   sh FILE install
#
# or from the balancer: lb4 rules --dsr --config=lb4.toml --for SERVER | ssh root@SERVER sh -s install
#
#   sh FILE install|remove|status [--dry-run]
#
#   install   put the rules in place; run again, it changes only what differs
#   remove    take away everything of lb4 for servers, and put back what install changed
#   status    one line a rule: present, missing or stale; exit 0 when nothing is missing, else 3
#   --dry-run say what would be done and change nothing
#
# Exit: 0 done · 1 failed · 2 usage · 3 status found something missing · 77 no privilege, or a tool or kernel feature lacks.
# LB4_DEVICES="eth0 eth1" names the interfaces that answers leave by, for tc, or tunnels arrive by; else those with the server's address or a
# default route. LB4_MTU=1450 is what the way from the balancer takes, where that is less than these interfaces do; install notes it for later ones until a
# reboot, LB4_MTU= (empty) or remove.
#
# Why. In DSR the client's packets come through lb4, and the answers go straight to the client, who must see them come
# from the address that it asked: the frontend's, the VIP.
#   dsr = "nat"  lb4 sends packets on to the server's own address. What leaves SERVER:PORT gets the VIP as source, packet
#                by packet, after routing. Connection tracking cannot do that: to it, an answer has the address that the
#                request went to. So it is a stateless rewrite, in one of two dialects:
#                  nft  a chain after postrouting: no queue is touched, every interface is covered
#                  tc   filters at the root qdisc of each interface, with `action nat` (act_nat)
#                iptables has nothing but NAT by connection tracking, and refuses.
#                What goes to the VIP itself stays as it is: these are the answers to lb4's health checks, which come from
#                there. Connections of others straight to SERVER:PORT do not work meanwhile: their answers are rewritten, too.
#   dsr = "l2"   packets arrive with the VIP as destination, so the VIP stands on the loopback; nobody but lb4 may answer
#                ARP requests for it: arp_ignore and arp_announce. (A server that owns the VIP gets no packet from it: there
#                lb4's health checks come from another address of the balancer.)
#   dsr = "gue"  the same packets, VIP and all, inside of UDP (Generic UDP Encapsulation, as GLB sends it), or of IP ("ipip"): the VIP stands on
#   dsr = "ipip" the loopback, and something unwraps them:
#                  bpf  a program at tc ingress, of which this script has the object. What belongs to no connection of this server it
#                       sends on to the next server of the packet's list ("second chance"). iptables sees the client's packet alone, and so no
#                       rule of this server's keeps others than the balancer from sending to the port: the network has to
#                  fou  the kernel's own (modules fou, ipip and sit; of "ipip" in any case): no second chance
#                Clients must send smaller segments, so that they fit with what is around them: an nft rule lowers what SYN-ACKs allow (MSS).
#
# The server never answers ARP for a VIP, and needs a route to the clients. With strict rp_filter, that route must leave
# by the interface where lb4's packets arrive. For what was there before see /run/lb4, one directory a network namespace;
# a namespace holds the rules of one server address.

# >>> lb4 configuration: `lb4 rules` writes what stands between these two lines
SERVER=''   # this server's address
REWRITES='' # PORT[/PROTOCOL]>VIP …, for dsr = "nat"; a port alone is TCP's
LOOPBACK='' # VIP …, for dsr = "l2"
DIALECT=''  # nft or tc; empty: what works here, nft first
PROTOCOLS='' # NAME:NUMBER …, of the rewrites' protocols: tc knows no names
TUNNELED=''  # VIP>BYTES …, for dsr = "gue" and "ipip": what the tunnel adds to each packet
GUE_PORTS='' # PORT …, of UDP
IPIP=''      # yes or empty
UNWRAP=''    # bpf or fou; empty: what is there, else bpf
PROGRAM=''   # the name of OBJECT, by its content
OBJECT=''    # a BPF object, gzip and base64
# <<< lb4 configuration

# shellcheck source=/dev/null
. "${0%/*}/common.sh" # `lb4 rules` puts its text here
# shellcheck source=/dev/null
. "${0%/*}/tunnel.sh" # and here

LABEL=lo:lb4
CONF=/proc/sys/net/ipv4/conf/all
TAKES_FILTERS=' htb hfsc prio drr ets qfq multiq cbq '
action=''
port='' protocol='' # split_port sets them

# ---- the rewrite, one line a rule, the same in both dialects -------------------------------------------------------

vips() {
  for rewrite in $REWRITES; do printf '%s\n' "${rewrite#*>}"; done | sort -u
}

# "keep VIP": what goes there stays as it is. "SERVER:PORT>VIP": what comes from there gets that source.
wanted_rewrites() {
  vips | sed 's/^/keep /'
  for rewrite in $REWRITES; do printf '%s\n' "$SERVER:$rewrite"; done
}

# ---- dialect nft ---------------------------------------------------------------------------------------------------

# As a file for nft: the whole table anew, in one transaction. 200: after the source NAT of others (100).
nft_table() {
  cat <<'END'
add table ip lb4
delete table ip lb4
table ip lb4 {
  chain dsr {
    type filter hook postrouting priority 200; policy accept;
    oifname "lo" accept
END
  wanted_rewrites | while read -r rule; do
    case $rule in
      keep*) printf '    ip daddr %s accept comment "lb4 %s"\n' "${rule#keep }" "$rule" ;;
      *)
        rewrite=${rule#*:}
        split_port "${rewrite%>*}"
        printf '    ip saddr %s %s sport %s ip saddr set %s comment "lb4 %s"\n' "$SERVER" "$protocol" "$port" "${rule#*>}" "$rule"
        ;;
    esac
  done
  printf '  }\n}\n'
}

# nft_listing FAMILY TABLE: its text; nothing when it is not there
nft_listing() {
  command -v nft >/dev/null || return 0
  listing=$(nft list table "$1" "$2" 2>&1) && { printf '%s\n' "$listing"; return 0; }
  case $listing in *'No such file'*) return 0 ;; esac
  fail nft "$listing"
}

nft_rewrites() {
  listing=$(nft_listing ip lb4) || exit $?
  foreign=$(printf '%s\n' "$listing" | grep -vE '^$|^#|^table ip lb4 \{|^.chain dsr \{|hook postrouting|oifname "lo" accept|comment "lb4 |^.?\}$')
  [ -z "$foreign" ] || stop 1 "table ip lb4 has something that is not lb4's: $(printf '%s' "$foreign" | head -n 1 | sed 's/^[[:space:]]*//')"
  printf '%s\n' "$listing" | sed -n 's/.* comment "lb4 \(.*\)"$/\1/p'
}

# Fails, with the reason in $errors, where this host cannot do it. --check asks the kernel and changes nothing.
nft_works() {
  command -v nft >/dev/null || { errors='nft not found: apt-get install nftables'; return 1; }
  errors=$(nft_table | nft --check -f - 2>&1)
}

nft_compare() {
  have=$(nft_rewrites) || exit $?
  differences "$(wanted_rewrites)" "$have"
}

nft_install() {
  comparison=$(nft_compare) || exit $?
  case $comparison in *'missing '* | *'stale '*) ;; *) return 0 ;; esac
  if [ -n "$dry_run" ]; then
    printf '# nft -f -\n%s\n' "$(nft_table)"
    return 0
  fi
  errors=$(nft_table | nft -f - 2>&1) || fail nft "$errors"
}

nft_remove() {
  listing=$(nft_listing ip lb4) || exit $?
  [ -n "$listing" ] || return 0
  nft_rewrites >/dev/null || exit $?
  must nft delete table ip lb4
}

# ---- dialect tc ----------------------------------------------------------------------------------------------------

# The interfaces that answers leave by.
devices() {
  [ -z "${LB4_DEVICES:-}" ] || { printf '%s\n' "$LB4_DEVICES" | tr ' ' '\n'; return 0; }
  {
    ip -4 -o address show to "$SERVER/32" | awk '{ print $2 }'
    ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p'
  } | sort -u | grep -vx lo
}

# The interfaces where lb4 has filters, or had begun to.
noted_devices() {
  for file in "$STATE"/tc-*; do
    [ -e "$file" ] && printf '%s\n' "${file##*/tc-}"
  done
}

# root_of DEVICE: KIND HANDLE of its root qdisc. Handle 0: is the kernel's own, which returns when another one goes.
root_of() {
  tc qdisc show dev "$1" 2>/dev/null | awk '$1 == "qdisc" && / root / { print $2, $3; exit }'
}

# prio_taken DEVICE HANDLE
prio_taken() {
  tc filter show dev "$1" parent "$2" | grep -qE ' pref (1|10) '
}

# parent_for DEVICE: the handle to hang filters on; "new" for a root qdisc of our own
parent_for() {
  mine=$(noted "tc-$1")
  root=$(root_of "$1")
  kind=${root% *}
  handle=${root#* }
  case $handle in
    '') stop 1 "there is no interface $1" ;;
    0:) printf 'new\n'; return 0 ;;
    "${mine#htb }") printf '%s\n' "$handle"; return 0 ;;
  esac
  hint="take it away (tc qdisc del dev $1 root), or use --dialect nft"
  case $TAKES_FILTERS in *" $kind "*) ;; *) stop 1 "$1 has the root qdisc $root of its own, which takes no filters: $hint" ;; esac
  if prio_taken "$1" "$handle"; then stop 1 "$1 has the root qdisc $root with filters at prio 1 or 10: $hint"; fi
  printf '%s\n' "$handle"
}

# number_of PROTOCOL
number_of() {
  for pair in $PROTOCOLS; do [ "${pair%:*}" != "$1" ] || printf '%s\n' "${pair#*:}"; done
}

# One line a rule, for tc -batch. `continue` lets somebody else's classes still be chosen by their own filters.
# tc_filters DEVICE HANDLE
tc_filters() {
  filter="filter add dev $1 parent $2 protocol ip"
  # A kept packet ends here and takes the default class: the price of u32 having no "unless".
  for vip in $(vips); do
    printf '%s\n' "$filter prio 1 u32 match ip src $SERVER/32 match ip dst $vip/32 action ok"
  done
  for rewrite in $REWRITES; do
    split_port "${rewrite%>*}"
    from="match ip src $SERVER/32 match ip protocol $(number_of "$protocol") 0xff match ip sport $port 0xffff"
    printf '%s\n' "$filter prio 10 u32 $from action nat egress $SERVER/32 ${rewrite#*>} continue"
  done
}

# What is in the kernel, told as wanted_rewrites does. u32 shows its matches in hexadecimal, by offset.
# tc_rewrites DEVICE
tc_rewrites() {
  root=$(root_of "$1")
  [ "${root#* }" != 0: ] && [ -n "$(noted "tc-$1")" ] || return 0
  # shellcheck disable=SC2086 # words on purpose
  tc filter show dev "$1" parent "${root#* }" | awk -v protocols="$(printf '%s ' $PROTOCOLS)" '
    function byte(hex, at) { return (index(D, substr(hex, at, 1)) - 1) * 16 + index(D, substr(hex, at + 1, 1)) - 1 }
    function dotted(hex) { return byte(hex, 1) "." byte(hex, 3) "." byte(hex, 5) "." byte(hex, 7) }
    function finish() {
      if (nat != "") print from ":" port (protocol == "tcp" ? "" : "/" protocol) ">" nat
      else if (pass && to != "") print "keep " to
      from = to = port = protocol = nat = pass = ""
    }
    BEGIN {
      D = "0123456789abcdef"
      for (count = split(protocols, pair, " "); count > 0; count--) { split(pair[count], part, ":"); name[part[2]] = part[1] }
    }
    $1 == "filter" { finish(); ours = / pref (1|10) / }
    !ours { next }
    $1 == "match" && $4 == 8 { protocol = byte($2, 3); if (protocol in name) protocol = name[protocol] }
    $1 == "match" && $4 == 12 { from = dotted($2) }
    $1 == "match" && $4 == 16 { to = dotted($2) }
    $1 == "match" && $4 == 20 { port = byte($2, 1) * 256 + byte($2, 3) }
    / nat egress / { for (i = 1; i < NF - 1; i++) if ($i == "egress") nat = $(i + 2) }
    / gact action pass/ { pass = 1 }
    END { finish() }'
}

# Asks the kernel by an action that belongs to no filter, and takes it away at once.
tc_works() {
  command -v tc >/dev/null || { errors='tc not found: apt-get install iproute2'; return 1; }
  probe='nat egress 192.0.2.1/32 192.0.2.1'
  # shellcheck disable=SC2086 # words on purpose
  if errors=$(tc actions add action $probe index 1818375168 2>&1); then
    tc actions del action nat index 1818375168 2>/dev/null
    return 0
  fi
  errors="this kernel has no act_nat, which tc needs ($(first_reason "$errors"))"
  return 1
}

tc_compare() {
  for device in $(devices) $(noted_devices); do printf '%s\n' "$device"; done | sort -u | while read -r device; do
    wanted=''
    devices | grep -qxF "$device" && wanted=$(wanted_rewrites | sed "s/^/$device /")
    differences "$wanted" "$(tc_rewrites "$device" | sed "s/^/$device /")"
  done
}

# tc_install_at DEVICE. The commands go in one batch; when one fails, this interface is put back.
tc_install_at() {
  case $(differences "$(wanted_rewrites)" "$(tc_rewrites "$1")") in *'missing '* | *'stale '*) ;; *) return 0 ;; esac
  parent=$(parent_for "$1") || exit $?
  batch=''
  if [ "$parent" = new ]; then
    parent=10:
    note "tc-$1" 'htb 10:'
    batch="qdisc add dev $1 root handle 10: htb
"
  else
    [ -n "$(noted "tc-$1")" ] || note "tc-$1" "$parent"
    tc_clear "$1" "$parent"
  fi
  batch="$batch$(tc_filters "$1" "$parent")"
  if [ -n "$dry_run" ]; then
    printf '# tc -batch -\n%s\n' "$batch"
    return 0
  fi
  errors=$(printf '%s\n' "$batch" | tc -batch - 2>&1) && return 0
  reason=$errors
  tc_remove_at "$1"
  forget_state
  fail "tc on $1" "$reason"
}

# tc_clear DEVICE HANDLE: our filters, by their prio
tc_clear() {
  for prio in 1 10; do
    tc filter show dev "$1" parent "$2" | grep -q " pref $prio " || continue
    must tc filter del dev "$1" parent "$2" protocol ip prio $prio
  done
}

# tc_remove_at DEVICE: by what was noted. Our qdisc stays where somebody has hung classes or filters of his own on it.
tc_remove_at() {
  mine=$(noted "tc-$1") || return 0
  root=$(root_of "$1")
  if [ -n "$root" ] && [ "${root#* }" = "${mine#htb }" ]; then
    tc_clear "$1" "${root#* }"
    if [ "$mine" = 'htb 10:' ] && [ "$root" = 'htb 10:' ]; then
      others=$(tc class show dev "$1"; tc filter show dev "$1" parent 10: | grep -vE ' pref (1|10) |^[[:space:]]')
      if [ -z "$others" ]; then must tc qdisc del dev "$1" root; else warn "$1 keeps qdisc htb 10:, which has classes or filters"; fi
    fi
  fi
  forget "tc-$1"
}

tc_install() {
  found=$(devices)
  [ -n "$found" ] || stop 1 "no interface to answer by: name it in LB4_DEVICES"
  for device in $found; do tc_install_at "$device"; done
  for device in $(noted_devices); do
    printf '%s\n' "$found" | grep -qxF "$device" || tc_remove_at "$device"
  done
}

tc_remove() {
  for device in $(noted_devices); do tc_remove_at "$device"; done
}

# ---- which dialect -------------------------------------------------------------------------------------------------

# The configured one, else the one that is installed, else the first that works.
choose_dialect() {
  [ -z "$REWRITES" ] && return 0
  if [ "$DIALECT" = iptables ]; then
    stop 77 'iptables cannot do this: its NAT follows connections, and an answer leaves from the address that the request went to. Use --dialect nft or tc, or dsr = "l2"'
  fi
  [ -z "$DIALECT" ] || return 0
  listing=$(nft_listing ip lb4) || exit $?
  if [ -n "$listing" ]; then DIALECT=nft
  elif [ -n "$(noted_devices)" ]; then DIALECT=tc
  elif nft_works; then DIALECT=nft
  else
    nft_reason=$(first_reason "$errors")
    tc_works || stop 77 "neither nft nor tc can do this here, not found: nft: $nft_reason; tc: $(first_reason "$errors")"
    DIALECT=tc
  fi
}

rewrite_compare() {
  case $DIALECT in
    tc) tc_compare ;;
    *) nft_compare ;;
  esac
}

# The other dialect goes only after the new one stands: two of them do no harm, a rewritten packet matches no rule.
rewrite_install() {
  case $REWRITES:$DIALECT in
    :*) nft_remove; tc_remove ;;
    *:nft) nft_works || rewrite_lacks nft; nft_install; tc_remove ;;
    *:tc) tc_works || rewrite_lacks tc; tc_install; nft_remove ;;
  esac
}

rewrite_lacks() {
  case $errors in
    *'not found'* | *act_nat*) stop 77 "$errors" ;;
    *) fail "$1" "$errors" ;;
  esac
}

# ---- the VIP on the loopback ---------------------------------------------------------------------------------------

# Ours are known by their label. A VIP that somebody else put there is as good, and not ours to take away.
our_loopback() {
  ip -4 -o address show dev lo label $LABEL | awk '{ sub(/\/.*/, "", $4); print $4 }'
}

loopback_compare() {
  all=$(ip -4 -o address show dev lo | awk '{ sub(/\/.*/, "", $4); print $4 }')
  ours=$(our_loopback)
  have=$ours
  for vip in $LOOPBACK; do
    printf '%s\n' "$ours" | grep -qxF "$vip" || have="$have
$(printf '%s\n' "$all" | grep -xF "$vip")"
  done
  differences "$(printf '%s\n' "$LOOPBACK")" "$have" | sed 's/ / lo /'
  [ -n "$LOOPBACK" ] || return 0
  for setting in arp_ignore=1 arp_announce=2; do
    if [ "$(cat "$CONF/${setting%=*}")" -ge "${setting#*=}" ]; then printf 'present %s\n' "$setting"; else printf 'missing %s\n' "$setting"; fi
  done
}

# The kernel takes the larger of conf.all and conf.INTERFACE, so one value holds for all. A larger one is stricter still.
# raise NAME VALUE
raise() {
  now=$(cat "$CONF/$1")
  [ "$now" -lt "$2" ] || return 0
  note "$1" "$now"
  set_sysctl "$1" "$2"
}

# lower NAME VALUE: back to what it was, unless somebody has changed it since
lower() {
  was=$(noted "$1") || return 0
  [ "$(cat "$CONF/$1")" != "$2" ] || set_sysctl "$1" "$was"
  forget "$1"
}

set_sysctl() {
  if [ -n "$dry_run" ]; then
    printf '# net.ipv4.conf.all.%s = %s\n' "$1" "$2"
    return 0
  fi
  errors=$( (printf '%s\n' "$2" >"$CONF/$1") 2>&1) || fail "net.ipv4.conf.all.$1 = $2" "$errors"
}

# ARP is silenced before the first address is there, and speaks again after the last one is gone.
loopback_install() {
  if [ -n "$LOOPBACK" ]; then
    raise arp_ignore 1
    raise arp_announce 2
  fi
  comparison=$(loopback_compare) || exit $?
  for vip in $(printf '%s\n' "$comparison" | sed -n 's/^stale lo //p'); do must ip address del "$vip/32" dev lo; done
  for vip in $(printf '%s\n' "$comparison" | sed -n 's/^missing lo //p'); do
    must ip address add "$vip/32" dev lo scope host label $LABEL
  done
  [ -n "$LOOPBACK" ] || restore_arp
}

restore_arp() {
  lower arp_ignore 1
  lower arp_announce 2
}

# ---- commands ------------------------------------------------------------------------------------------------------

# Packets come from where the VIP is, answers leave by the default route.
check_reverse_path() {
  out=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
  for vip in $(vips); do
    device=$(ip -4 route get "$vip" 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p')
    case $device in '' | "${out:-$device}") continue ;; esac
    # The kernel takes the larger one.
    strict=$(cat "${CONF%/*}/all/rp_filter" "${CONF%/*}/$device/rp_filter" 2>/dev/null | sort -n | tail -n 1)
    [ "$strict" = 1 ] || continue
    warn "rp_filter is strict; clients are reached by $out, lb4 by $device: sysctl -w net.ipv4.conf.$device.rp_filter=2"
  done
}

install_all() {
  check_host "$SERVER"
  choose_dialect
  choose_unwrapping
  check_tunnels
  rewrite_install
  loopback_install
  tunnels_install
  check_reverse_path
  forget_state
}

remove_all() {
  LOOPBACK=''
  tunnels_remove
  tc_remove
  loopback_install
  nft_remove
  forget_state
}

status_all() {
  choose_dialect
  choose_unwrapping
  rewrites=$(rewrite_compare) || exit $?
  loopback=$(loopback_compare) || exit $?
  tunnels=$(tunnels_compare) || exit $?
  tell "$(printf '%s\n' "$rewrites" | sed "s/^[a-z]* /&${DIALECT:-nft} /")
$loopback
$tunnels
$(tell_counters)"
}

main() {
  read_words "$@"
  [ -n "$SERVER" ] || not_filled_in
  check_mtu
  case $DIALECT in '' | nft | tc | iptables) ;; *) not_filled_in ;; esac
  need_root
  need ip 'apt-get install iproute2'
  "${action}_all"
}

main "$@"
