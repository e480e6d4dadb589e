#!/bin/sh
# The firewall rules of a load balancer that runs lb4 in passthrough or DSR mode.
#
#   sh FILE install|remove|status [--dry-run]
#
#   install   put the rules in place; run again, it changes only what differs, and takes away rules
#             of lb4 that this configuration no longer has
#   remove    take away every rule of lb4, and put back what install changed
#   status    one line a rule: present, missing, stale, or shadowed by somebody else's; exit 0 when nothing is missing or
#             shadowed, else 3
#   --dry-run say what would be done and change nothing
#
# Exit: 0 done · 1 failed · 2 usage · 3 status found something missing · 77 no privilege, or no iptables.
# LB4_IPTABLES names another iptables: iptables-nft, iptables-legacy, or a path (NAME-save and NAME-restore go with it).
#
# Why. lb4 reads frames from a packet socket, which gets a copy: the kernel still sees the original, owns no such
# connection and would answer it with a reset. So the raw table drops it, after the copy and before conntrack:
#   - what clients send to a frontend;
#   - in passthrough, what servers answer to the ports that lb4 connects from (33768-61000). Health checks use
#     32768-33767 and are ordinary sockets of this host: their replies must pass, hence the tight match.
# The kernel must not give those ports to its own connections either: they are added to ip_local_reserved_ports.
#
# Nothing is ever half applied: all rules change in one iptables-restore transaction, ours are known by their
# comment, and what there was before is kept in /run/lb4 for this network namespace.

# >>> lb4 configuration: `lb4 rules` writes what stands between these two lines
MODE=''      # passthrough or dsr
FRONTENDS='' # VIP:PORT …
RETURNS=''   # SERVER:PORT>SOURCE …, the source address that lb4 uses towards that server; passthrough only
# <<< lb4 configuration

# shellcheck source=/dev/null
. "${0%/*}/common.sh" # `lb4 rules` puts its text here

IPTABLES=${LB4_IPTABLES:-iptables}
CLIENT_PORTS=33768-61000
TAG='-m comment --comment lb4 -j DROP'
RESERVED=/proc/sys/net/ipv4/ip_local_reserved_ports
action=''
fresh='' # set when none of our rules was there yet

# ---- rules ---------------------------------------------------------------------------------------------------------

# Every rule of this configuration, one a line, spelled as iptables-save spells it, so that text compares.
wanted_rules() {
  for frontend in $FRONTENDS; do
    printf '%s\n' "-d ${frontend%:*}/32 -p tcp -m tcp --dport ${frontend#*:} $TAG"
  done
  [ "$MODE" = passthrough ] || return 0
  for tuple in $RETURNS; do
    server=${tuple%>*}
    printf '%s\n' "-s ${server%:*}/32 -d ${tuple#*>}/32 -p tcp -m tcp --sport ${server#*:} --dport 33768:61000 $TAG"
  done
}

is_nft() {
  case $("$IPTABLES" --version 2>&1) in *nf_tables*) return 0 ;; *) return 1 ;; esac
}

# The raw table as iptables-save spells it.
saved_rules() {
  # iptables-legacy creates the table by looking at it, and a table that is not there has no rules.
  is_nft || grep -qsx raw /proc/net/ip_tables_names || return 0
  saved=$("$IPTABLES-save" -t raw 2>&1) || fail "$IPTABLES-save" "$saved"
  # Rules of nft's own may hide the table from iptables: then ours seem to be gone, and each install would add them again.
  case $saved in *' is incompatible, use '*) stop 1 'the raw table has rules that nft added and iptables cannot read: move them to a table of their own' ;; esac
  printf '%s\n' "$saved"
}

# shadows SAVED: one line, "shadowed by RULE", for each rule of somebody else that lets pass what one of ours below it is to drop.
# A match that is not understood here (a set, an interface, a negation) counts as one that may be true. Chains of others that are
# jumped to are left alone: whoever keeps them (Calico) puts their jump back on top.
shadows() {
  printf '%s\n' "$1" | awk -v tag=" $TAG" '
    function number(address,   p) { split(address, p, "."); return ((p[1] * 256 + p[2]) * 256 + p[3]) * 256 + p[4] }
    function meet(a, b,   x, y, bits) {
      if (a == "" || b == "") return 1
      split(a, x, "/"); split(b, y, "/")
      bits = x[2] < y[2] ? x[2] + 0 : y[2] + 0
      return int(number(x[1]) / 2 ^ (32 - bits)) == int(number(y[1]) / 2 ^ (32 - bits))
    }
    function overlap(a, b,   x, y) {
      if (a == "" || b == "") return 1
      if (split(a, x, ":") < 2) x[2] = x[1]
      if (split(b, y, ":") < 2) y[2] = y[1]
      return x[1] + 0 <= y[2] + 0 && y[1] + 0 <= x[2] + 0
    }
    # The value of an option; nothing where it is negated.
    function option(name,   i) {
      for (i = 3; i < NF; i++) if ($i == name && $(i - 1) != "!") return $(i + 1)
      return ""
    }
    !/^-A PREROUTING / { next }
    substr($0, length($0) - length(tag) + 1) == tag {
      for (i = 1; i <= count; i++) {
        if (told[i] || !meet(source[i], option("-s")) || !meet(destination[i], option("-d"))) continue
        if (!overlap(from[i], option("--sport")) || !overlap(to[i], option("--dport"))) continue
        told[i] = 1
        print "shadowed by " rule[i]
      }
      next
    }
    option("-j") ~ /^(ACCEPT|RETURN)$/ && option("-p") ~ /^(|all|tcp)$/ {
      rule[++count] = substr($0, length("-A PREROUTING ") + 1)
      source[count] = option("-s"); destination[count] = option("-d")
      from[count] = option("--sport"); to[count] = option("--dport")
    }'
}

# What differs, one line a rule: see differences and shadows.
compare() {
  saved=$(saved_rules) || exit $?
  differences "$(wanted_rules)" "$(printf '%s\n' "$saved" | sed -n "s/^-A PREROUTING \(.* $TAG\)\$/\1/p")"
  shadows "$saved"
}

# transaction COMPARISON: the same as input for iptables-restore; empty when nothing differs.
# Rules go to the top of the chain: below a general ACCEPT they would never match. Where one came above them, all move up.
transaction() {
  lines=$(printf '%s\n' "$1" | awk '
    { rule = $0; sub(/^[a-z]+ /, "", rule) }
    $1 == "shadowed" { move = 1 }
    $1 == "stale" { print "-D PREROUTING " rule }
    $1 == "missing" { print "-I PREROUTING " rule }
    $1 == "present" { kept[++count] = rule }
    END { if (move) for (i = 1; i <= count; i++) print "-D PREROUTING " kept[i] "\n-I PREROUTING " kept[i] }')
  [ -z "$lines" ] || printf '*raw\n%s\nCOMMIT\n' "$lines"
}

# commit TRANSACTION
commit() {
  [ -n "$1" ] || return 0
  if [ -n "$dry_run" ]; then
    printf '# %s-restore --noflush\n%s\n' "$IPTABLES" "$1"
    return 0
  fi
  errors=$(printf '%s\n' "$1" | "$IPTABLES-restore" -w 5 --noflush 2>&1)
}

# ---- an empty table that iptables-nft would leave behind -----------------------------------------------------------

# Without nft, or with iptables-legacy, there is nothing that could be taken away: the kernel keeps the empty table.
can_tidy() {
  is_nft && command -v nft >/dev/null
}

# remember_table COMPARISON: before our first rule, note what of `table ip raw` is not there yet.
remember_table() {
  case $1 in *'present '* | *'stale '*) return 0 ;; esac
  fresh=yes
  forget raw-table
  can_tidy || return 0
  if ! nft list table ip raw >/dev/null 2>&1; then
    note raw-table table
  elif ! nft list chain ip raw PREROUTING >/dev/null 2>&1; then
    note raw-table chain
  fi
}

# holds_nothing chain|table NAME…: no rule, no other chain, the policy untouched. (`nft delete` would take rules along.)
holds_nothing() {
  ! nft list "$@" 2>/dev/null | grep -qEv '^#|^table ip raw \{$|^.chain PREROUTING \{$|^.*priority raw; policy accept;$|^.?\}$|^$'
}

tidy_table() {
  created=$(noted raw-table) || return 0
  if can_tidy; then
    holds_nothing chain ip raw PREROUTING && nft delete chain ip raw PREROUTING 2>/dev/null
    [ "$created" = table ] && holds_nothing table ip raw && nft delete table ip raw 2>/dev/null
  fi
  forget raw-table
}

# ---- reserved ports ------------------------------------------------------------------------------------------------

# ports_minus A B: the ports of list A that are not in list B; lists as the kernel writes them, "80,33768-61000".
ports_minus() {
  printf '%s\n%s\n' "$1" "$2" | awk '
    function mark(list, value,   i, n, p, part, ends) {
      n = split(list, part, ",")
      for (i = 1; i <= n; i++) {
        if (split(part[i], ends, "-") < 2) ends[2] = ends[1]
        for (p = ends[1] + 0; p <= ends[2] + 0; p++) set[p] = value
      }
    }
    NR == 1 { mark($0, 1) }
    NR == 2 { mark($0, 0) }
    END {
      for (p = 0; p <= 65535; p++) {
        if (!set[p]) continue
        first = p
        while (set[p + 1]) p++
        printf "%s%s", comma, first == p ? p : first "-" p
        comma = ","
      }
    }'
}

# write_reserved LIST
write_reserved() {
  if [ -n "$dry_run" ]; then
    printf '# net.ipv4.ip_local_reserved_ports = %s\n' "$1"
    return 0
  fi
  errors=$( (printf '%s\n' "$1" >"$RESERVED") 2>&1) || fail "net.ipv4.ip_local_reserved_ports = $1" "$errors"
}

unreserved() {
  ports_minus "$CLIENT_PORTS" "$(cat "$RESERVED")"
}

# Add our range, and note which ports of it are new. What the user had reserved is never ours to take away.
reserve_ports() {
  added=$(unreserved)
  [ -n "$added" ] || return 0
  note reserved-ports "$added"
  now=$(cat "$RESERVED")
  write_reserved "${now:+$now,}$added"
}

# Take away just what was added: the rest may have been changed meanwhile.
release_ports() {
  added=$(noted reserved-ports) || return 0
  now=$(cat "$RESERVED")
  left=$(ports_minus "$now" "$added")
  [ "$now" = "$left" ] || write_reserved "$left"
  forget reserved-ports
}

# ---- commands ------------------------------------------------------------------------------------------------------

install_all() {
  comparison=$(compare) || exit $?
  [ -n "$dry_run" ] || remember_table "$comparison"
  lacking=$(unreserved)
  if [ "$MODE" = passthrough ]; then reserve_ports; else release_ports; fi
  commit "$(transaction "$comparison")" && return 0
  reason=$errors
  [ "$MODE" = passthrough ] && [ -n "$lacking" ] && release_ports
  [ -n "$fresh" ] && tidy_table
  forget_state
  fail "$IPTABLES-restore" "$reason"
}

# Taking away is converging to no rules at all.
remove_all() {
  FRONTENDS='' RETURNS=''
  comparison=$(compare) || exit $?
  commit "$(transaction "$comparison")" || fail "$IPTABLES-restore" "$errors"
  release_ports
  [ -n "$dry_run" ] && return 0
  tidy_table
  forget_state
}

status_all() {
  comparison=$(compare) || exit $?
  if [ "$MODE" = passthrough ]; then
    state=present
    [ -z "$(unreserved)" ] || state=missing
    comparison="$comparison
$state reserved ports $CLIENT_PORTS"
  fi
  tell "$comparison"
}

main() {
  read_words "$@"
  case $MODE in passthrough | dsr) ;; *) not_filled_in ;; esac
  need_root
  for tool in "$IPTABLES" "$IPTABLES-save" "$IPTABLES-restore"; do
    need "$tool" 'apt-get install iptables, or name one in LB4_IPTABLES'
  done
  "${action}_all"
}

main "$@"
