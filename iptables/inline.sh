#!/bin/sh
# What a host needs that runs lb4 between interfaces (lb4 --inline). lb4 runs it by itself, except with --no-rules; then run, as root,
# before lb4 starts:
#
#   sh FILE install
#
#   sh FILE install|remove|status [--dry-run]
#
#   install   keep the kernel away from the interfaces, and from no others; run again, it changes only what differs
#   remove    take all of it away, and put back what install changed
#   status    one line a piece: present or missing; exit 0 when nothing is missing, else 3
#   --dry-run say what would be done and change nothing
#
# Exit: 0 done · 1 failed · 2 usage · 3 status found something missing · 77 no privilege, or no nft.
#
# Why. lb4 reads every frame of the interfaces from a packet socket, which gets a copy, and sends it on. The kernel still has the original:
# it would answer ARP for addresses of its other interfaces, forward, or reset. So the netdev table of nft drops it at ingress, after the
# copy and before anything else looks at it. And the kernel must send nothing of its own by them: with IPv6 it would (MLD, router
# solicitations), so that is switched off there, and switched on again at the end where it was.

# >>> lb4 configuration: `lb4 rules` writes what stands between these two lines
PORTS='' # names of interfaces
# <<< lb4 configuration

# shellcheck source=/dev/null
. "${0%/*}/common.sh" # `lb4 rules` puts its text here

action='' # read_words sets it

# Those that are there: one that comes later gets its part by another install.
present_ports() {
  for port in $PORTS; do [ -e "/proc/sys/net/ipv4/conf/$port" ] && printf '%s\n' "$port"; done
}

inline_table() {
  printf '%s\n' 'add table netdev lb4_inline' 'delete table netdev lb4_inline' 'table netdev lb4_inline {'
  number=0
  for port in $(present_ports); do
    number=$((number + 1))
    printf '  chain port%s {\n    type filter hook ingress device "%s" priority -500; policy drop;\n  }\n' "$number" "$port"
  done
  printf '}\n'
}

# drops PORT: whether the table has a chain there
drops() {
  case $table in *"device \"$1\""* | *"devices = { $1 }"* | *"devices = { \"$1\" }"*) return 0 ;; esac
  return 1
}

has_ipv6() {
  value=$(cat "/proc/sys/net/ipv6/conf/$1/disable_ipv6" 2>/dev/null) && [ "$value" = 0 ]
}

look() {
  table=$(nft list table netdev lb4_inline 2>/dev/null)
}

# Whether the table has a chain at one that is none of ours any more.
has_others() {
  chains=$(printf '%s\n' "$table" | grep -c 'hook ingress')
  [ "$chains" -gt "$(present_ports | grep -c .)" ]
}

# is_ours PORT
is_ours() {
  for own in $PORTS; do [ "$own" != "$1" ] || return 0; done
  return 1
}

# restore_ipv6: where it was switched off and the interface is none of ours any more
restore_ipv6() {
  left=''
  for port in $(noted inline-ipv6); do
    is_ours "$port" && left="$left $port" && continue
    if [ -n "$dry_run" ]; then
      printf '# net.ipv6.conf.%s.disable_ipv6 = 0\n' "$port"
    else
      [ ! -w "/proc/sys/net/ipv6/conf/$port/disable_ipv6" ] || printf '0\n' >"/proc/sys/net/ipv6/conf/$port/disable_ipv6"
    fi
  done
  [ "$left" = "$(noted inline-ipv6)" ] || [ -z "$(noted inline-ipv6)" ] || note inline-ipv6 "$left"
}

# What there was is noted once: after a crash it is what lb4 itself had set.
silence_ipv6() {
  known=$(noted inline-ipv6)
  for port in $(present_ports); do
    has_ipv6 "$port" || continue
    if [ -n "$dry_run" ]; then
      printf '# net.ipv6.conf.%s.disable_ipv6 = 1\n' "$port"
      continue
    fi
    case " $known " in *" $port "*) ;; *) known="$known $port" && note inline-ipv6 "$known" ;; esac
    errors=$( (printf '1\n' >"/proc/sys/net/ipv6/conf/$port/disable_ipv6") 2>&1) || fail "net.ipv6.conf.$port.disable_ipv6 = 1" "$errors"
  done
}

# leave_as_it_was NOTE: nft has changed nothing, so what an install before has put there, as NOTE says, goes on keeping the kernel away.
leave_as_it_was() {
  if [ -n "$table$1" ]; then
    note inline "${1:-$PORTS}"
  else
    undo_inline && forget_state
  fi
}

install_all() {
  look
  whole=yes
  for port in $(present_ports); do drops "$port" || whole=''; done
  ! has_others || whole=''
  if [ -z "$whole" ]; then
    if [ -n "$dry_run" ]; then
      printf '# nft -f -\n%s\n' "$(inline_table)"
    else
      last=$(noted inline)
      # First: whoever is killed in between has said what there is to take away.
      note inline "$PORTS"
      reason=$(inline_table | nft -f - 2>&1) || { leave_as_it_was "$last"; fail 'nft: a table of family netdev' "$reason"; }
    fi
  fi
  silence_ipv6
  restore_ipv6
}

remove_all() {
  if [ -n "$dry_run" ]; then
    [ ! -e "$STATE/inline" ] || printf '# nft delete table netdev lb4_inline\n'
    return 0
  fi
  undo_inline
  forget_state
}

status_all() {
  look
  comparison=''
  for port in $PORTS; do
    state=missing
    drops "$port" && ! has_ipv6 "$port" && state=present
    comparison="$comparison
$state nothing of the kernel's at $port"
  done
  tell "$comparison"
}

main() {
  read_words "$@"
  [ -n "$PORTS" ] || not_filled_in
  need_root
  need nft 'apt-get install nftables'
  "${action}_all"
}

main "$@"
