# What a server needs to take clients' packets out of tunnels: a part of dsr-server.sh, into which `lb4 rules` puts its text.
# shellcheck shell=sh disable=SC2034,SC2154 # variables are the whole script's

# By these its parts are known. Both the filters' preference and their handle's place are nobody else's habit.
TUNNEL_TABLE=lb4_tunnel
PREFERENCE=4164
# tc pins the program's counters there, by a name that has the network namespace in it: those of one host do not share them.
PINS=/sys/fs/bpf/tc/globals
COUNTERS=lb4_gue_$(printf '%08x' "${namespace%]}")
COUNTER_NAMES='total_packets accepted_syn_packets accepted_last_resort_packets accepted_established_packets accepted_syn_cookie_packets
  forwarded_to_self_packets forwarded_to_alternate_packets dropped_packets dropped_destination_packets dropped_hop_packets'
CONF4=/proc/sys/net/ipv4/conf

# The interfaces that tunnels may arrive by: asked for once, as all that starts programs.
arrivals=''

# Whether tunnels are any matter here: wanted, or left from another configuration.
tunnels_matter() {
  [ -n "$TUNNELED" ] || [ -e "$STATE/tunnels" ] || return 1
  [ -n "$arrivals" ] || arrivals=$(devices)
}

# ---- which way to unwrap -------------------------------------------------------------------------------------------

# choose_unwrapping: the one that is wanted, or that is installed, else bpf: it alone gives a second chance
choose_unwrapping() {
  tunnels_matter || return 0
  [ -n "$GUE_PORTS" ] || UNWRAP=''
  [ -n "$GUE_PORTS" ] && [ -z "$UNWRAP" ] || return 0
  UNWRAP=bpf
  [ ! -e "$STATE/fou" ] || UNWRAP=fou
}

# kernel_tunnels: the kernel's own interfaces that unwrap: tunl0 for IPv4 inside, sit0 for IPv6
kernel_tunnels() {
  [ -n "$IPIP" ] || [ "$UNWRAP" = fou ] || return 0
  [ -z "$(first_vip)" ] || printf 'tunl0\n'
  case $TUNNELED in *:*) printf 'sit0\n' ;; esac
}

# others_use LINK: it was up before the first install. It unwraps all that has no tunnel of its own, so what comes by it may be theirs (pods' of Calico, say).
others_use() {
  case $(noted "link-$1") in
    up*) return 0 ;;
    down*) return 1 ;;
  esac
  is_up "$1"
}

# our_tunnels: kernel_tunnels that nobody else uses, and such ones that are to go and stand yet
our_tunnels() {
  wanted=$(kernel_tunnels)
  for link in tunl0 sit0; do
    case $wanted in *$link*) ;; *) [ -n "$(noted "link-$link")" ] || continue ;; esac
    others_use "$link" || printf '%s\n' "$link"
  done
}

# first_vip: of IPv4
first_vip() {
  for pair in $TUNNELED; do
    case $pair in *:*) ;; *) printf '%s\n' "${pair%>*}"; return 0 ;; esac
  done
}

# ---- the BPF program -----------------------------------------------------------------------------------------------

# Interfaces where tunnels may arrive, and those where lb4 has a filter or had begun to.
gue_devices() {
  printf '%s\n' "$arrivals"
  for device in $(noted_gue); do is_arrival "$device" || printf '%s\n' "$device"; done
}

is_arrival() {
  case "
$arrivals
" in *"
$1
"*) return 0 ;; esac
  return 1
}

noted_gue() {
  for file in "$STATE"/gue-*; do
    [ -e "$file" ] && printf '%s\n' "${file##*/gue-}"
  done
}

# gue_filter DEVICE: the name of what stands there at lb4's preference
gue_filter() {
  tc filter show dev "$1" ingress pref $PREFERENCE 2>/dev/null | sed -n 's/.* handle 0x1 \([^ ]*\):\[[^ ]*\] .*/\1/p'
}

gue_filters() {
  for device in $(gue_devices); do gue_filter "$device" | sed "s/^/bpf $device /"; done
}

wanted_filters() {
  [ "$UNWRAP" = bpf ] || return 0
  for device in $arrivals; do printf 'bpf %s %s\n' "$device" "$PROGRAM"; done
}

# Something else of that preference is not ours to replace.
check_preference() {
  other=$(tc filter show dev "$1" ingress pref $PREFERENCE 2>/dev/null | grep handle | grep -v ' lb4-gue-')
  [ -z "$other" ] || stop 1 "$1 has a filter of preference $PREFERENCE that is not lb4's: tc filter show dev $1 ingress"
}

unpack_program() {
  scratch=$(mktemp -d) || stop 1 'mktemp -d failed'
  printf '%s\n' "$OBJECT" | base64 -d 2>/dev/null | gzip -dc | sed "s/lb4_gue_00000000/$COUNTERS/g" >"$scratch/$PROGRAM"
  [ -s "$scratch/$PROGRAM" ] || { rm -rf "$scratch"; stop 1 'the program in this script is damaged'; }
}

# program_fails OUTPUT: why this kernel or this tc does not take it
program_fails() {
  rm -rf "$scratch"
  reason=$(printf '%s\n' "$1" | grep -viE '^(libbpf: )?(prog|map|elf|-- )|^ *$|^[0-9]+: ' | head -n 1)
  stop 77 "tc cannot load the program that unwraps packets (${reason:-$(first_reason "$1")}): it needs Linux 5.10 and iproute2 with libbpf; without a second chance --dialect fou does"
}

# gue_install_at DEVICE
gue_install_at() {
  check_preference "$1"
  case $(ip -o link show dev "$1" 2>/dev/null) in
    *link/ether*) ;;
    *) stop 1 "$1 has no Ethernet header, which the program expects: name interfaces in LB4_DEVICES, or use --dialect fou" ;;
  esac
  if ! tc qdisc show dev "$1" | grep -qE '^qdisc (clsact|ingress) '; then
    note "gue-$1" clsact
    must tc qdisc add dev "$1" clsact
  fi
  [ -n "$(noted "gue-$1")" ] || note "gue-$1" filter
  filter="tc filter replace dev $1 ingress pref $PREFERENCE handle 1 protocol ip bpf direct-action object-file $scratch/$PROGRAM section tc"
  # shellcheck disable=SC2086 # words on purpose
  do_it $filter || program_fails "$errors"
}

# gue_remove_at DEVICE: our qdisc stays where somebody else has filters there
gue_remove_at() {
  made=$(noted "gue-$1") || made=''
  [ -z "$(gue_filter "$1")" ] || must tc filter del dev "$1" ingress pref $PREFERENCE
  if [ "$made" = clsact ] && [ -z "$(tc filter show dev "$1" ingress 2>/dev/null | grep -v " pref $PREFERENCE ")$(tc filter show dev "$1" egress 2>/dev/null)" ]; then
    ! tc qdisc show dev "$1" 2>/dev/null | grep -q '^qdisc clsact ' || must tc qdisc del dev "$1" clsact
  fi
  forget "gue-$1"
}

gue_install() {
  [ -n "$arrivals" ] || stop 1 'no interface where tunnels arrive: name it in LB4_DEVICES'
  comparison=$(differences "$(wanted_filters)" "$(gue_filters)")
  case $comparison in
    *'missing '*)
      unpack_program
      # A map of another version's would not fit; counters begin anew.
      case $(gue_filters) in *" $PROGRAM"*) ;; *) drop_counters ;; esac
      for device in $arrivals; do gue_install_at "$device"; done
      rm -rf "$scratch"
      ;;
  esac
  for device in $(noted_gue); do is_arrival "$device" || gue_remove_at "$device"; done
}

gue_remove() {
  for device in $(gue_devices); do gue_remove_at "$device"; done
  drop_counters
}

drop_counters() {
  [ ! -e "$PINS/$COUNTERS" ] || must rm -f "$PINS/$COUNTERS"
}

# What the program has counted, of all processors: the kernel prints a pinned map for who reads it. And what the rules have of tunl0 and sit0.
tell_counters() {
  # shellcheck disable=SC2086 # family and name
  nft list table inet $TUNNEL_TABLE 2>/dev/null | sed -n 's/.*counter packets \([0-9]*\) .* comment "lb4 unwrapped .*/counter dropped_destination_packets_of_kernel_tunnels \1/p'
  [ "$UNWRAP" = bpf ] && [ -n "$(gue_filters)" ] || return 0
  text=$(cat "$PINS/$COUNTERS" 2>/dev/null)
  if [ -z "$text" ]; then
    printf 'counters are not readable here: no %s (mount -t bpf bpf /sys/fs/bpf before install)\n' "$PINS/$COUNTERS"
    return 0
  fi
  printf '%s\n' "$text" | awk -v names="$COUNTER_NAMES" '
    BEGIN { split(names, name, /[ \n]+/) }
    /^[0-9]+: / { at = $1 + 1; sum[at] = 0 }
    /cpu[0-9]+: / { sum[at] += $2 }
    END { for (i = 1; i in sum; i++) print "counter " name[i] " " sum[i] }'
}

# ---- the kernel's own way: fou, tunl0, sit0 --------------------------------------------------------------------------

fou_ports() {
  ip fou show 2>/dev/null | sed -n 's/^port \([0-9]*\) .*gue.*/\1/p'
}

our_fou_ports() {
  noted fou
}

wanted_fou() {
  [ "$UNWRAP" = fou ] && printf '%s\n' "$GUE_PORTS" | sed '/^$/d; s/^/fou /'
}

# Of ports that somebody else has opened for GUE those that are wanted are as good.
have_fou() {
  [ "$UNWRAP" = fou ] || [ -e "$STATE/fou" ] || return 0
  for port in $(fou_ports); do
    { our_fou_ports; wanted_fou | sed 's/^fou //'; } | grep -qx "$port" && printf 'fou %s\n' "$port"
  done
}

load_module() {
  [ -n "$dry_run" ] || modprobe -q "$1" 2>/dev/null
  return 0
}

fou_install() {
  [ "$UNWRAP" = fou ] || [ -e "$STATE/fou" ] || return 0
  comparison=$(differences "$(wanted_fou)" "$(have_fou)")
  for port in $(printf '%s\n' "$comparison" | sed -n 's/^missing fou //p'); do
    load_module fou
    note fou "$(printf '%s\n' "$(our_fou_ports)" "$port" | sed '/^$/d')"
    do_it ip fou add port "$port" gue || stop 77 "this kernel has no fou, by which it unwraps GUE ($(first_reason "$errors")): use --dialect bpf"
  done
  for port in $(printf '%s\n' "$comparison" | sed -n 's/^stale fou //p'); do fou_close "$port"; done
}

# fou_close PORT: if it was we who opened it
fou_close() {
  our_fou_ports | grep -qx "$1" || return 0
  must ip fou del port "$1"
  rest=$(our_fou_ports | grep -vx "$1")
  if [ -n "$rest" ]; then note fou "$rest"; else forget fou; fi
}

fou_remove() {
  for port in $(our_fou_ports); do
    if fou_ports | grep -qx "$port"; then fou_close "$port"; fi
  done
  forget fou
}

is_up() {
  case $(ip -o link show dev "$1" 2>/dev/null) in *[\<,]UP[,\>]*) return 0 ;; esac
  return 1
}

# rp_filter of an interface: the kernel takes the larger one of it and conf.all's. Loose (2) is the largest, and asks only for some way back, where
# the interface has an address: without one it drops all (fib_validate_source of the kernel). So tunl0 has a VIP, too.
reverse_path() {
  cat "$CONF4/$1/rp_filter" 2>/dev/null
}

# sit0 has only IPv6, which knows no rp_filter.
kernel_tunnel_compare() {
  for link in $(kernel_tunnels); do
    if is_up "$link"; then printf 'present link %s\n' "$link"; else printf 'missing link %s\n' "$link"; fi
    [ "$link" = tunl0 ] || continue
    if [ "$(reverse_path tunl0)" = 2 ] && [ -n "$(ip -4 -o address show dev tunl0)" ]; then
      printf 'present rp_filter of tunl0\n'
    else
      printf 'missing rp_filter of tunl0\n'
    fi
  done
  for link in tunl0 sit0; do
    [ -z "$(noted "link-$link")" ] || kernel_tunnels | grep -qx "$link" || printf 'stale link %s\n' "$link"
  done
}

kernel_tunnels_install() {
  for link in $(kernel_tunnels); do
    case $link in tunl0) load_module ipip ;; sit0) load_module sit ;; esac
    if [ -z "$dry_run" ] && [ -z "$(ip -o link show dev "$link" 2>/dev/null)" ]; then
      stop 77 "this kernel has no $link (modules ipip and sit), which unwraps packets"
    fi
    if ! is_up "$link"; then
      note "link-$link" "down $(reverse_path "$link")"
      must ip link set "$link" up
    elif [ -z "$(noted "link-$link")" ]; then
      note "link-$link" "up $(reverse_path "$link")"
    fi
    [ "$link" != tunl0 ] || loosen_tunl0
  done
  for link in tunl0 sit0; do kernel_tunnels | grep -qx "$link" || kernel_tunnel_remove "$link"; done
}

loosen_tunl0() {
  [ "$(reverse_path tunl0)" = 2 ] || set_reverse_path 2
  [ -n "$(ip -4 -o address show dev tunl0 2>/dev/null)" ] || must ip address add "$(first_vip)/32" dev tunl0 scope host label tunl0:lb4
}

# set_reverse_path VALUE
set_reverse_path() {
  if [ -n "$dry_run" ]; then printf '# net.ipv4.conf.tunl0.rp_filter = %s\n' "$1"; return 0; fi
  errors=$( (printf '%s\n' "$1" >"$CONF4/tunl0/rp_filter") 2>&1) || fail "net.ipv4.conf.tunl0.rp_filter = $1" "$errors"
}

# kernel_tunnel_remove LINK: as it was. The module stays, and its interface, which is down.
kernel_tunnel_remove() {
  was=$(noted "link-$1") || return 0
  if [ "$1" = tunl0 ]; then
    [ -z "$(ip -4 -o address show dev tunl0 label tunl0:lb4)" ] || must ip address flush dev tunl0 label tunl0:lb4
    [ "$(reverse_path tunl0)" != 2 ] || set_reverse_path "${was#* }"
  fi
  [ "${was% *}" != down ] || must ip link set "$1" down
  forget "link-$1"
}

# ---- segments that fit, packets that conntrack need not know, and what may be in a tunnel -----------------------------

# mtu_of DEVICE. /sys is another namespace's, maybe.
mtu_of() {
  ip -o link show dev "$1" 2>/dev/null | sed -n 's/.* mtu \([0-9]*\) .*/\1/p'
}

# told_mtu: what LB4_MTU says, or said at the last install; nothing: nobody has said anything, or "" takes it back
told_mtu() {
  printf '%s' "${LB4_MTU-$(noted mtu)}"
}

check_mtu() {
  case ${LB4_MTU:-1500} in
    *[!0-9]* | ??????*) ;;
    *) [ "${LB4_MTU:-1500}" -lt 576 ] || [ "${LB4_MTU:-1500}" -gt 65535 ] || return 0 ;;
  esac
  stop 2 "LB4_MTU=$LB4_MTU; allowed: bytes, 576 to 65535, or nothing, which forgets what it said before"
}

keep_mtu() {
  mtu=$(told_mtu)
  if [ -n "$mtu" ] && [ -n "$TUNNELED" ]; then note mtu "$mtu"; else forget mtu; fi
}

mtu_compare() {
  wanted=$(told_mtu)
  have=$(noted mtu)
  differences "${wanted:+mtu $wanted}" "${have:+mtu $have}"
}

# What the way here takes: the smallest interface does, or as was told, where a link between balancer and server takes less.
tunnel_mtu() {
  mtu=$(told_mtu)
  [ -z "$mtu" ] || { printf '%s\n' "$mtu"; return 0; }
  least=65535
  for device in $arrivals; do
    mtu=$(mtu_of "$device")
    [ "${mtu:-65535}" -ge "$least" ] || least=$mtu
  done
  printf '%s\n' "$least"
}

# "mss VIP BYTES" of each: what a client may send so that it fits with all headers and the tunnel's.
wanted_clamps() {
  mtu=$(tunnel_mtu)
  for pair in $TUNNELED; do
    case $pair in *:*) headers=60 ;; *) headers=40 ;; esac
    printf 'mss %s %s\n' "${pair%>*}" $((mtu - ${pair#*>} - headers))
  done
  [ "$UNWRAP" != fou ] || printf '%s\n' "$GUE_PORTS" | sed '/^$/d; s/^/untracked /'
  links=$(our_tunnels | tr '\n' ' ')
  [ -z "$links" ] || printf 'unwrapped %s\n' "${links% }"
}

# tunneled_vips 4|6: as nft takes a set
tunneled_vips() {
  for pair in $TUNNELED; do
    case $1,$pair in 4,*:* | 6,*.*) ;; *) printf '%s, ' "${pair%>*}" ;; esac
  done | sed 's/, $//'
}

# What these interfaces unwrap is what anybody has sent: for another address than clients call it would pass firewalls that see the tunnel alone. To the
# server's own address only a balancer's check comes. What comes by an interface that others use is not lb4's to drop.
unwrapped_rules() {
  links=$(our_tunnels | sed 's/.*/"&", /' | tr -d '\n')
  [ -n "$links" ] || return 0
  printf '    iifname != { %s } accept\n' "${links%, }"
  [ -z "$(tunneled_vips 4)" ] || printf '    ip daddr { %s } accept\n    ip daddr %s icmp type echo-request accept\n' "$(tunneled_vips 4)" "$SERVER"
  [ -z "$(tunneled_vips 6)" ] || printf '    ip6 daddr { %s } accept\n' "$(tunneled_vips 6)"
  wanted_clamps | sed -n 's/^unwrapped .*/    counter drop comment "lb4 &"/p'
}

tunnel_table() {
  printf 'add table inet %s\ndelete table inet %s\ntable inet %s {\n' $TUNNEL_TABLE $TUNNEL_TABLE $TUNNEL_TABLE
  printf '  chain clamp {\n    type filter hook output priority -150; policy accept;\n'
  wanted_clamps | while read -r what vip bytes; do
    [ "$what" = mss ] || continue
    case $vip in *:*) family=ip6 ;; *) family=ip ;; esac
    printf '    %s saddr %s tcp flags & (syn | rst) == syn tcp option maxseg size set %s comment "lb4 mss %s %s"\n' $family "$vip" "$bytes" "$vip" "$bytes"
  done
  printf '  }\n  chain untracked {\n    type filter hook prerouting priority -300; policy accept;\n'
  wanted_clamps | while read -r what port _; do
    [ "$what" = untracked ] || continue
    printf '    ip daddr %s udp dport %s notrack comment "lb4 untracked %s"\n' "$SERVER" "$port" "$port"
  done
  printf '  }\n  chain unwrapped {\n    type filter hook prerouting priority -300; policy accept;\n'
  unwrapped_rules
  printf '  }\n}\n'
}

have_clamps() {
  listing=$(nft_listing inet $TUNNEL_TABLE) || exit $?
  printf '%s\n' "$listing" | sed -n 's/.* comment "lb4 \(.*\)"$/\1/p'
}

clamp_compare() {
  have=$(have_clamps) || exit $?
  differences "$(wanted_clamps)" "$have"
}

clamp_install() {
  [ -n "$TUNNELED" ] || { clamp_remove; return 0; }
  comparison=$(clamp_compare) || exit $?
  case $comparison in *'missing '* | *'stale '*) ;; *) return 0 ;; esac
  if [ -n "$dry_run" ]; then
    printf '# nft -f -\n%s\n' "$(tunnel_table)"
    return 0
  fi
  errors=$(tunnel_table | nft -f - 2>&1) || fail nft "$errors"
}

clamp_remove() {
  listing=$(nft_listing inet $TUNNEL_TABLE) || exit $?
  [ -z "$listing" ] || must nft delete table inet $TUNNEL_TABLE
}

# ---- addresses of IPv6, which have no labels: ours are noted ---------------------------------------------------------

wanted_vips6() {
  for pair in $TUNNELED; do case $pair in *:*) printf '%s\n' "${pair%>*}" ;; esac; done
}

lo_vips6() {
  ip -6 -o address show dev lo | awk '{ sub(/\/.*/, "", $4); print $4 }'
}

vips6_compare() {
  [ -n "$(wanted_vips6)" ] || [ -e "$STATE/vips6" ] || return 0
  all=$(lo_vips6)
  have=$({ noted vips6; wanted_vips6; } | sort -u | while read -r vip; do printf '%s\n' "$all" | grep -xF "$vip"; done)
  differences "$(wanted_vips6)" "$have" | sed 's/ / lo /'
}

vips6_install() {
  comparison=$(vips6_compare)
  for vip in $(printf '%s\n' "$comparison" | sed -n 's/^missing lo //p'); do
    note vips6 "$({ noted vips6; printf '%s\n' "$vip"; } | sort -u)"
    must ip -6 address add "$vip/128" dev lo nodad
  done
  for vip in $(printf '%s\n' "$comparison" | sed -n 's/^stale lo //p'); do must ip -6 address del "$vip/128" dev lo; done
  left=$(noted vips6 | while read -r vip; do wanted_vips6 | grep -xF "$vip"; done)
  if [ -n "$left" ]; then note vips6 "$left"; else forget vips6; fi
}

# ---- all of it -----------------------------------------------------------------------------------------------------

# Unwrapped packets come in where no route leads to clients: with strict rp_filter the kernel drops them, and says nothing.
strict_devices() {
  [ "$UNWRAP" = bpf ] || return 0
  out=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
  for device in $arrivals; do
    [ "$device" != "${out:-$device}" ] || continue
    strict=$(cat "$CONF4/all/rp_filter" "$CONF4/$device/rp_filter" 2>/dev/null | sort -n | tail -n 1)
    [ "$strict" != 1 ] || printf '%s\n' "$device"
  done
}

check_tunnels() {
  if [ -n "$TUNNELED" ]; then
    need tc 'apt-get install iproute2'
    need nft 'apt-get install nftables'
  fi
  case $UNWRAP in
    '' | fou) return 0 ;;
    bpf) ;;
    *) not_filled_in ;;
  esac
  [ -n "$OBJECT" ] || stop 77 'this script was made by an lb4 without the program that unwraps packets: use --dialect fou'
  need gzip 'apt-get install gzip'
  need base64 'apt-get install coreutils'
}

# The way that is not wanted goes when the other one stands. tunl0 and sit0 are open only while the rules stand that limit what comes out of them: those
# come first, and of links that are gone they go last.
tunnels_install() {
  tunnels_matter || return 0
  note tunnels yes
  keep_mtu
  [ -z "$TUNNELED" ] || clamp_install
  case $UNWRAP in
    bpf) gue_install; fou_remove; kernel_tunnels_install ;;
    *) kernel_tunnels_install; fou_install; gue_remove ;;
  esac
  vips6_install
  case $TUNNELED:$dry_run in ?*:yes) ;; *) clamp_install ;; esac
  [ "$UNWRAP" != fou ] || warn 'fou gives no second chance: with balance = "glb" each drain or failed check breaks connections in silence; --dialect bpf does not'
  for link in $(kernel_tunnels); do
    ! others_use "$link" || warn "$link was up before, so others use it: what it unwraps is not limited to frontends' addresses; --dialect bpf (dsr = \"gue\") needs no $link"
  done
  for device in $(strict_devices); do
    warn "rp_filter is strict at $device, and clients are reached by another interface: sysctl -w net.ipv4.conf.$device.rp_filter=2"
  done
  [ -n "$TUNNELED" ] || forget tunnels
}

tunnels_remove() {
  tunnels_matter || return 0
  TUNNELED='' IPIP='' UNWRAP=''
  gue_remove
  fou_remove
  kernel_tunnels_install
  vips6_install
  clamp_remove
  forget mtu
  forget tunnels
}

# What is missing here loses packets in silence: without a clamp large ones, without an address all.
tunnels_compare() {
  tunnels_matter || return 0
  clamps=$(clamp_compare) || exit $?
  differences "$(wanted_filters)" "$(gue_filters)"
  if [ "$UNWRAP" = fou ] || [ -e "$STATE/fou" ]; then differences "$(wanted_fou)" "$(have_fou)"; fi
  kernel_tunnel_compare
  vips6_compare
  mtu_compare
  printf '%s\n' "$clamps"
  for device in $(strict_devices); do printf 'all shadowed by strict rp_filter of %s\n' "$device"; done
}
