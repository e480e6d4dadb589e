#!/bin/sh
# One port of this host, spread over several of its processes by the kernel alone. `lb4 --fan-out` runs it by itself; without lb4, run as root:
#
#   sh FILE install
#
#   sh FILE install|remove|status [--dry-run]
#
#   install   put the rules in place; all change at once, and what stands already stays as it is
#   remove    take all of them away, of either dialect
#   status    one line a rule, then one a process: present, missing or stale; exit 0 when nothing is missing, else 3
#   --dry-run say what would be done and change nothing
#
# Exit: 0 done · 1 failed · 2 usage · 3 status found something missing · 77 no privilege, or no nft or iptables.
# LB4_IPTABLES names another iptables: iptables-nft, iptables-legacy, or a path; ip6tables goes by the same name.
#
# Why. A rule of the table nat meets the first packet of a connection, and gives it the port of one process; the kernel's connection tracking does so for
# all further ones. So connections stay with their process whatever becomes of the rules, and no process of lb4 has anything to do with them.
# REDIRECT goes to an address of the interface that the connection came by: processes must listen at all addresses, as status says. What is
# not tracked (NOTRACK) passes by. In nft the rules are a table of their own, which is nobody else's to write into: install makes it anew. With iptables they
# stand on top of the table nat, known by their comment. With the last rule that needs it the kernel's connection tracking is at rest, and connections that were
# spread break: so a port whose processes are all down or drain keeps a rule that does nothing else. At remove they break, where no other rule of this host needs it.

# >>> lb4 configuration: `lb4 rules` writes what stands between these two lines
DIALECT=''   # nft or iptables
TABLE=''     # nft: the table, as nft -f takes it; empty: nothing is to be spread
RULES=''     # iptables: 4|6 CHAIN RULE, one a line, as iptables-save spells it
PROCESSES='' # PROTOCOL:PORT …
# <<< lb4 configuration

# shellcheck source=/dev/null
. "${0%/*}/common.sh" # `lb4 rules` puts its text here

IPTABLES=${LB4_IPTABLES:-iptables}
IP6TABLES=${IPTABLES%iptables*}ip6tables${IPTABLES##*iptables}
TAG='-m comment --comment lb4'
TABLES='inet lb4_fan_out'
action='' # read_words sets it
tool='' family='' names='' # of_family sets them
saved='' # saved_by sets it

# ---- nft -----------------------------------------------------------------------------------------------------------

# marked: "MARK RULE" of each rule in a table as nft spells it
marked() {
  sed -n 's/^[[:space:]]*\(.*\) comment "lb4 \([0-9a-f]*\)".*$/\2 \1/p'
}

nft_have() {
  command -v nft >/dev/null || return 0
  # shellcheck disable=SC2086 # family and name
  nft list table $TABLES 2>/dev/null | marked
}

# By their marks: nft spells rules in another way than they were given.
nft_compare() {
  wanted=$(printf '%s\n' "$TABLE" | marked)
  have=$(nft_have)
  differences "$(printf '%s\n' "$wanted" | cut -d ' ' -f 1)" "$(printf '%s\n' "$have" | cut -d ' ' -f 1)" | while read -r state mark; do
    printf '%s %s\n' "$state" "$(printf '%s\n%s\n' "$wanted" "$have" | sed -n "s/^$mark //p" | head -n 1)"
  done
}

# nft_load TEXT WHAT
nft_load() {
  if [ -n "$dry_run" ]; then
    printf '# nft -f -\n%s\n' "$1"
    return 0
  fi
  errors=$(printf '%s\n' "$1" | nft -f - 2>&1) || fail "nft: $2" "$errors"
}

nft_install() {
  case $(nft_compare) in *'missing '* | *'stale '*) ;; *) return 0 ;; esac
  # shellcheck disable=SC2086
  own_anew $TABLES "$(nft list table $TABLES 2>/dev/null)"
  nft_load "${TABLE:-delete table $TABLES}" 'a table of family inet with NAT (Linux 5.2)'
}

nft_remove() {
  command -v nft >/dev/null || return 0
  # shellcheck disable=SC2086
  deletion=$(own_removal $TABLES)
  [ -z "$deletion" ] || nft_load "$deletion" 'delete table'
}

# ---- iptables ------------------------------------------------------------------------------------------------------

# of_family 4|6: sets tool, family (as nft calls it) and names (where the kernel lists the tables of iptables-legacy)
of_family() {
  case $1 in
    4) tool=$IPTABLES family=ip names=/proc/net/ip_tables_names ;;
    6) tool=$IP6TABLES family=ip6 names=/proc/net/ip6_tables_names ;;
  esac
}

# iptables_have 4|6: our rules there, "4 CHAIN RULE", in their order
iptables_have() {
  of_family "$1"
  command -v "$tool-save" >/dev/null || return 0
  # iptables-legacy makes the table by looking at it.
  is_nft || grep -qsx nat "$names" || return 0
  saved_by "$tool-save" nat
  case $saved in *"$TAG"*) ;; *) return 0 ;; esac
  for chain in PREROUTING OUTPUT; do printf '%s\n' "$saved" | sed -n "s/^-A \\($chain .* $TAG\\( -j REDIRECT .*\\)\\{0,1\\}\\)\$/$1 \\1/p"; done
}

# iptables_wanted 4|6: nothing of a family that this host has not
iptables_wanted() {
  [ "$1" = 4 ] || [ -e /proc/net/if_inet6 ] || return 0
  printf '%s\n' "$RULES" | sed -n "/^$1 /p"
}

# transaction HAVE WANTED: input of iptables-restore
transaction() {
  printf '*nat\n'
  printf '%s\n' "$1" | sed -n 's/^[46] /-D /p'
  printf '%s\n' "$2" | sed '/^$/d' | awk '{ chain = $2; sub(/^[46] [A-Z]* /, ""); print "-I " chain " " ++place[chain] " " $0 }'
  printf 'COMMIT\n'
}

# swap 4|6 HAVE WANTED: in one transaction; sets errors where it fails
swap() {
  [ "$2" != "$3" ] || return 0
  of_family "$1"
  if [ -n "$dry_run" ]; then
    printf '# %s-restore --noflush\n%s\n' "$tool" "$(transaction "$2" "$3")"
    return 0
  fi
  [ -n "$2" ] || remember_table "$1"
  errors=$(transaction "$2" "$3" | "$tool-restore" -w 5 --noflush 2>&1)
}

# iptables_swap WANTED4 WANTED6: both, or none
iptables_swap() {
  have4=$(iptables_have 4) || exit
  have6=$(iptables_have 6) || exit
  if swap 4 "$have4" "$1"; then
    swap 6 "$have6" "$2" && return 0
    reason=$errors
    swap 4 "$1" "$have4"
    errors=$reason
  fi
  [ -n "$have4" ] || tidy_table 4
  [ -n "$have6" ] || tidy_table 6
  of_family 4
  fail "$tool-restore" "$errors"
}

iptables_install() {
  need "$IPTABLES" 'apt-get install iptables, or name one in LB4_IPTABLES'
  wanted6=$(iptables_wanted 6)
  [ -z "$wanted6" ] || need "$IP6TABLES" 'apt-get install iptables, or name one in LB4_IPTABLES'
  iptables_swap "$(iptables_wanted 4)" "$wanted6"
}

iptables_remove() {
  command -v "$IPTABLES" >/dev/null || return 0
  iptables_swap '' ''
  tidy_table 4
  tidy_table 6
}

iptables_compare() {
  for number in 4 6; do
    have=$(iptables_have $number) || exit
    wanted=$(iptables_wanted $number)
    comparison=$(differences "$wanted" "$have")
    case $comparison in
      *'missing '* | *'stale '*) ;;
      *) [ "$have" = "$wanted" ] || comparison="$comparison
missing the order of these rules" ;;
    esac
    printf '%s\n' "$comparison"
  done
}

# ---- an empty table that iptables-nft would leave behind -----------------------------------------------------------

# remember_table 4|6: before our first rule, note what of its table is not there yet
remember_table() {
  can_tidy || return 0
  if ! nft list table "$family" nat >/dev/null 2>&1; then
    note "fan-out-$1" table
    return 0
  fi
  lacking=''
  for chain in PREROUTING OUTPUT; do nft list chain "$family" nat $chain >/dev/null 2>&1 || lacking="$lacking $chain"; done
  note "fan-out-$1" "${lacking:-nothing}"
}

# is_empty FAMILY chain|table NAME…: no rule, no chain of others, no policy but accept
is_empty() {
  shift
  ! nft list "$@" 2>/dev/null | grep -qEv '^#|^table ip6? nat \{$|^.chain (PREROUTING|INPUT|OUTPUT|POSTROUTING) \{$|^.*policy accept;$|^.?\}$|^$'
}

# tidy_table 4|6: what had to be made for our rules goes, where nobody else has put anything there
tidy_table() {
  [ -z "$dry_run" ] && can_tidy || return 0
  noted=$(noted "fan-out-$1") || return 0
  of_family "$1"
  case $noted in
    table) ! is_empty - table "$family" nat || drop_table "$tool" "$family" nat PREROUTING INPUT OUTPUT POSTROUTING ;;
    nothing) ;;
    *) for chain in $noted; do ! is_empty - chain "$family" nat "$chain" || drop_chain "$tool" nat "$chain"; done ;;
  esac
  forget "fan-out-$1"
}

# ---- processes -----------------------------------------------------------------------------------------------------

# heard PROTOCOL PORT: whether somebody listens, and where
heard() {
  case $1 in tcp) sockets=-Hltn ;; udp) sockets=-Hlun ;; esac
  addresses=$(ss "$sockets" "sport = :$2" 2>/dev/null | awk '{ sub(/:[0-9]+$/, "", $4); print $4 }' | sort -u | tr '\n' ' ')
  addresses=${addresses% }
  case " $addresses " in
    '  ') printf 'missing process at port %s/%s: nobody listens\n' "$2" "$1" ;;
    *' 0.0.0.0 '* | *' * '* | *' [::] '*) printf 'present process at port %s/%s\n' "$2" "$1" ;;
    *) printf 'missing process at port %s/%s, at all addresses: it listens at %s alone\n' "$2" "$1" "$addresses" ;;
  esac
}

processes() {
  command -v ss >/dev/null || return 0
  for process in $PROCESSES; do heard "${process%:*}" "${process#*:}"; done
}

# ---- commands ------------------------------------------------------------------------------------------------------

# The new ones stand before those of the other dialect go.
install_all() {
  case $DIALECT in
    nft) nft_install && iptables_remove ;;
    iptables) iptables_install && nft_remove ;;
  esac
  forget_state
}

remove_all() {
  nft_remove
  iptables_remove
  forget_state
}

status_all() {
  case $DIALECT in
    nft)
      comparison=$(nft_compare)
      other=$(iptables_have 4; iptables_have 6)
      ;;
    iptables)
      comparison=$(iptables_compare) || exit
      other=$(nft_have | cut -d ' ' -f 2-)
      ;;
  esac
  tell "$comparison
$(printf '%s\n' "$other" | sed -n 's/^./stale &/p')
$(processes)"
}

main() {
  read_words "$@"
  case $DIALECT in
    nft) [ "$action" = remove ] || need nft 'apt-get install nftables, or use --dialect iptables' ;;
    iptables) ;;
    *) not_filled_in ;;
  esac
  need_root
  "${action}_all"
}

main "$@"
