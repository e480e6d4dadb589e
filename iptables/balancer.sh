#!/bin/sh
# The firewall rules of a load balancer that runs lb4 in passthrough or DSR mode. lb4 runs it by itself, except with --no-rules; then
# run on the balancer, as root, before lb4 starts and after each change of its file:
#
#   sh FILE install
#
#   sh FILE install|remove|status [--dry-run]
#
#   install   put the rules in place; run again, it changes only what differs, and takes away rules
#             of lb4 that this configuration no longer has
#   remove    take away every rule of lb4, and put back what install changed
#   status    one line a rule: present, missing or stale; exit 0 when nothing is missing, else 3
#   --dry-run say what would be done and change nothing
#
# Exit: 0 done · 1 failed · 2 usage · 3 status found something missing · 77 no privilege, or no iptables.
# LB4_IPTABLES names another iptables: iptables-nft, iptables-legacy, or a path (NAME-save and NAME-restore go with it).
#
# Why. lb4 reads frames from a packet socket, which gets a copy: the kernel still sees the original, owns no such
# connection and would answer it with a reset. So the raw table drops it, after the copy and before conntrack:
#   - what clients send to a frontend, and pings of addresses whose pings are lb4's. What answers those comes back to the kernel as well,
#     which ignores it, and needs no rule: this host may ping a server itself;
#   - in passthrough, what servers answer to the ports that lb4 connects from (CLIENT_PORTS). Health checks use
#     others and are ordinary sockets of this host: their replies must pass, hence the tight match;
#   - with nat = "destination" what servers answer clients, through this host: whatever leaves their ports for others than it. What of
#     that is not lb4's to translate lb4 sends on.
# That is the form raw. Where br_netfilter shows bridged frames to iptables (net.bridge.bridge-nf-call-iptables, or the bridge's own
# nf_call_iptables), they pass the raw table while they are still the bridge's, before there is a copy: a DROP there hides them from
# lb4. The form input lets them through the raw table untracked (so that no NAT of this host touches them), up to the packet socket,
# and drops them in INPUT of the mangle table (what servers answer clients, in FORWARD), the first to be asked once the copy is made. When the form changes, the new rules
# stand before the old ones go.
# Rules that go by ports see the first fragment of a datagram alone: the others would wait half a minute, in the kernel's bounded memory for
# fragments, for one that was dropped, here or at the client they are forwarded to, and once that is full all fragments are lost. So
# with UDP or pings one more rule, which matches nothing, has the kernel put fragments together before these rules, as it does for conntrack: whatever
# asks for sockets there needs them whole (xt_socket). Of the form input only what is forwarded needs it: INPUT comes after that.
# What lb4 sends goes past netfilter, but for packets whose next hop is not resolved yet or has no Ethernet: the kernel routes those,
# and NAT of this host (MASQUERADE towards the servers) would give them other addresses. A table of nft's own keeps them untracked.
# The kernel must not give those ports to its own connections either: they are added to ip_local_reserved_ports.
#
# Nothing is ever half applied: the rules of a table change in one transaction, and where that of another table fails, they are
# put back. Ours are known by their comment, and what there was before is kept in /run/lb4 for this network namespace.

# >>> lb4 configuration: `lb4 rules` writes what stands between these two lines
MODE=''      # passthrough or dsr
FRONTENDS='' # VIP:PORT[/PROTOCOL] …; a port alone is TCP's
RETURNS=''   # SERVER:PORT[/PROTOCOL]>SOURCE …, the source address that lb4 uses towards that server, or `clients`; passthrough only
ECHOES=''    # VIP …, addresses whose pings lb4 takes
PINGS=''     # SERVER>SOURCE …, servers that they go to, and the source address that lb4 uses towards them, or `clients`; passthrough only
CLIENT_PORTS='' # FIRST-LAST: what lb4 connects from in passthrough
FORM=''      # raw or input; empty: raw
WHY=''       # why that form is the right one on this host
# <<< lb4 configuration

# shellcheck source=/dev/null
. "${0%/*}/common.sh" # `lb4 rules` puts its text here

FORM=${FORM:-raw}
ECHOES=${ECHOES:-}
PINGS=${PINGS:-}
WHY=${WHY:-}
IPTABLES=${LB4_IPTABLES:-iptables}
TAG='-m comment --comment lb4'
# A source that nobody has.
GATHER='-s 255.255.255.255/32 -m socket'
# To one other host: neither to this one, nor to all or many on a server's link.
ELSEWHERE='-m addrtype --dst-type UNICAST'
RESERVED=/proc/sys/net/ipv4/ip_local_reserved_ports
action=''
cannot='' alone='' # why_refused sets them
port='' protocol='' # split_port sets them
recalled='' # recall sets it

# ---- rules ---------------------------------------------------------------------------------------------------------

# drop MATCH [CHAIN]: the rules that drop it, one a line; CHAIN of mangle is where frames of a bridge come to
drop() {
  case $FORM in
    input) printf '%s\n' "mangle ${2:-INPUT} $1 $TAG -j DROP" "$1 $TAG -j CT --notrack" ;;
    *) printf '%s\n' "$1 $TAG -j DROP" ;;
  esac
}

# gathers: whether fragments are to be put together before our rules
gathers() {
  case "${ECHOES:+/}$FRONTENDS$RETURNS" in */*) ;; *) return 1 ;; esac
  case $FORM:$RETURNS$PINGS in raw:* | *'>clients'*) ;; *) return 1 ;; esac
}

# cannot_gather: whether this kernel has refused that
cannot_gather() {
  gathers && noted no-socket >/dev/null
}

# Every rule of this configuration, one a line, spelled as iptables-save spells it, so that text compares. Those of raw PREROUTING
# stand as they are, those of mangle INPUT and FORWARD after these two words.
wanted_rules() {
  if gathers && ! cannot_gather; then printf '%s\n' "$GATHER $TAG -j DROP"; fi
  for frontend in $FRONTENDS; do
    split_port "${frontend#*:}"
    drop "-d ${frontend%:*}/32 -p $protocol -m $protocol --dport $port"
  done
  for address in $ECHOES; do
    drop "-d $address/32 -p icmp -m icmp --icmp-type 8"
  done
  [ "$MODE" = passthrough ] || return 0
  for tuple in $RETURNS; do
    server=${tuple%>*}
    split_port "${server#*:}"
    if [ "${tuple#*>}" = clients ]; then
      drop "-s ${server%:*}/32 -p $protocol -m $protocol --sport $port $ELSEWHERE" FORWARD
      continue
    fi
    drop "-s ${server%:*}/32 -d ${tuple#*>}/32 -p $protocol -m $protocol --sport $port --dport ${CLIENT_PORTS%-*}:${CLIENT_PORTS#*-}"
  done
  for pair in $PINGS; do
    [ "${pair#*>}" != clients ] || drop "-s ${pair%>*}/32 -p icmp -m icmp --icmp-type 0 $ELSEWHERE" FORWARD
  done
}

# in_table PLACE: sets table and chain to where our rules are, and prefix to what stands before one where those of all are in one list
in_table() {
  case $1 in
    raw) table=raw chain=PREROUTING prefix='' ;;
    mangle) table=mangle chain=INPUT prefix='mangle INPUT ' ;;
    forward) table=mangle chain=FORWARD prefix='mangle FORWARD ' ;;
  esac
}

# save TABLE: sets saved to it, as iptables-save spells it
save() {
  saved=''
  # iptables-legacy creates the table by looking at it, and a table that is not there has no rules.
  is_nft || grep -qsx "$1" /proc/net/ip_tables_names || return 0
  saved_by "$IPTABLES-save" "$1"
  # Rules of nft's own may hide the table from iptables: then ours seem to be gone, and each install would add them again.
  case $1:$FORM:$saved in
    raw:*' is incompatible, use '* | mangle:input:*' is incompatible, use '*)
      stop 1 "the $1 table has rules that nft added and iptables cannot read: move them to a table of their own" ;;
  esac
}

# ours PLACE SAVED: every rule of lb4 there, of either form
ours() {
  in_table "$1"
  start="-A $chain \\(.* $TAG -j"
  sed -n -e "s/^$start DROP\\)\$/$prefix\\1/p" -e "s/^$start CT --notrack\\)\$/$prefix\\1/p" <<END
$2
END
}

# shadows PLACE SAVED: one line, "shadowed by RULE", for each rule of somebody else that lets pass what one of ours below it is to drop.
# A match that is not understood here (a set, an interface, a negation) counts as one that may be true. Chains of others that are
# jumped to are left alone: whoever keeps them (Calico) puts their jump back on top.
shadows() {
  case $2 in *' -j ACCEPT'* | *' -j RETURN'*) ;; *) return 0 ;; esac
  in_table "$1"
  printf '%s\n' "$2" | awk -v ours=" $TAG -j (DROP|CT --notrack)\$" -v chain="$chain" -v prefix="$prefix" -v gather=" $GATHER " '
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
    $1 != "-A" || $2 != chain || index($0, gather) { next }
    $0 ~ ours {
      for (i = 1; i <= count; i++) {
        if (told[i] || (protocol[i] != "" && protocol[i] != option("-p")) || !meet(source[i], option("-s")) || !meet(destination[i], option("-d"))) continue
        if (!overlap(from[i], option("--sport")) || !overlap(to[i], option("--dport"))) continue
        if (type[i] != "" && type[i] != option("--icmp-type")) continue
        told[i] = 1
        print "shadowed by " prefix rule[i]
      }
      next
    }
    option("-j") ~ /^(ACCEPT|RETURN)$/ {
      rule[++count] = substr($0, length("-A " chain " ") + 1)
      protocol[count] = option("-p") == "all" ? "" : option("-p")
      source[count] = option("-s"); destination[count] = option("-d")
      from[count] = option("--sport"); to[count] = option("--dport"); type[count] = option("--icmp-type")
    }'
}

# read_tables: sets raw and mangle to what is in the kernel, and have to our rules there
read_tables() {
  save raw
  raw=$saved
  save mangle
  mangle=$saved
  have=''
  case $raw in *"$TAG"*) have=$(ours raw "$raw") ;; esac
  case $mangle in *"$TAG"*) have="$have
$(ours mangle "$mangle")
$(ours forward "$mangle")" ;; esac
}

# What differs, one line a rule: see differences and shadows.
compare() {
  differences "$(wanted_rules)" "$have"
  shadows raw "$raw"
  [ "$FORM" = raw ] || { shadows mangle "$mangle"; shadows forward "$mangle"; }
}

# transaction COMPARISON: the same as input for iptables-restore, which commits a table at a time; empty when nothing differs.
# New rules of mangle come first and old ones go last, so that at every moment one form holds.
# Rules go to the top of the chain: below a general ACCEPT they would never match. Where one came above them, all move up.
transaction() {
  case $1 in *missing* | *stale* | *shadowed*) ;; *) return 0 ;; esac
  awk '
    function block(table, lines) { if (lines != "") printf "*%s\n%sCOMMIT\n", table, lines }
    {
      rule = $0
      sub(/^(shadowed by|[a-z]+) /, "", rule)
      table = "raw"
      chain = "PREROUTING"
      if (sub(/^mangle INPUT /, "", rule)) { table = "mangle"; chain = "INPUT" }
      if (sub(/^mangle FORWARD /, "", rule)) { table = "mangle"; chain = "FORWARD" }
      insertion = "-I " chain " " rule "\n"
      deletion = "-D " chain " " rule "\n"
    }
    $1 == "missing" { fresh[table] = fresh[table] insertion }
    $1 == "stale" { old[table] = old[table] deletion }
    $1 == "present" { kept[table] = kept[table] deletion insertion }
    $1 == "shadowed" { move[table] = 1 }
    END {
      for (table in move) fresh[table] = fresh[table] kept[table]
      block("mangle", fresh["mangle"])
      block("raw", old["raw"] fresh["raw"])
      block("mangle", old["mangle"])
    }' <<END
$1
END
}

# restore TEXT
restore() {
  "$IPTABLES-restore" -w 5 --noflush 2>&1 <<END
$1
END
}

# commit TRANSACTION
commit() {
  [ -n "$1" ] || return 0
  if [ -n "$dry_run" ]; then
    printf '# %s-restore --noflush\n%s\n' "$IPTABLES" "$1"
    return 0
  fi
  errors=$(restore "$1")
}

# probe RULE: can the raw table have it? Tried in a chain of its own, which nothing leads to.
probe() {
  restore "*raw
:lb4-probe - [0:0]
$1
COMMIT" >/dev/null || return 1
  restore '*raw
-F lb4-probe
-X lb4-probe
COMMIT' >/dev/null
}

# why_refused: sets cannot and alone: whether CT, or what has fragments put together, is what failed. Asked with another rule as well, once,
# since a lock or a lack of privilege fails for any.
why_refused() {
  cannot='' alone=''
  [ "$FORM" = input ] || { gathers && ! cannot_gather; } || return 0
  probe '-A lb4-probe -j ACCEPT' || return 0
  [ "$FORM" = raw ] || probe '-A lb4-probe -j CT --notrack' || cannot=yes
  ! gathers || cannot_gather || probe "-A lb4-probe $GATHER -j DROP" || alone=yes
}

# ---- an empty table that iptables-nft would leave behind -----------------------------------------------------------

# fresh_tables COMPARISON: sets fresh to the places that have none of our rules yet, and get some
fresh_tables() {
  fresh=''
  case $1 in *'present -'* | *'stale -'*) ;; *) forget raw-table; case $1 in *'missing -'*) fresh=raw ;; esac ;; esac
  case $1 in *'present mangle I'* | *'stale mangle I'*) ;; *) forget mangle-table; case $1 in *'missing mangle I'*) fresh="$fresh mangle" ;; esac ;; esac
  case $1 in *'present mangle F'* | *'stale mangle F'*) ;; *) forget forward-table; case $1 in *'missing mangle F'*) fresh="$fresh forward" ;; esac ;; esac
}

# remember_tables PLACE…: before our first rule, note what of its table is not there yet.
remember_tables() {
  can_tidy || return 0
  for place in "$@"; do
    in_table "$place"
    if ! nft list table ip "$table" >/dev/null 2>&1; then
      note "$place-table" table
    elif ! nft list chain ip "$table" "$chain" >/dev/null 2>&1; then
      note "$place-table" chain
    fi
  done
}

# holds_nothing PLACE chain|table NAME…: no rule, no other chain, the policy untouched
holds_nothing() {
  in_table "$1"
  known="^#|^table ip $table \\{\$|^.chain $chain \\{\$|^.*priority $table; policy accept;\$|^.?\\}\$|^\$"
  shift
  ! nft list "$@" 2>/dev/null | grep -qEv "$known"
}

# tidy_tables PLACE…: what we had to create for them goes, where nobody else has put anything there.
tidy_tables() {
  for place in "$@"; do
    recall "$place-table" || continue
    in_table "$place"
    if can_tidy; then
      # With its only chain; or that one alone.
      if [ "$recalled" = table ] && holds_nothing "$place" table ip "$table"; then
        drop_table "$IPTABLES" ip "$table" "$chain"
      elif holds_nothing "$place" chain ip "$table" "$chain"; then
        drop_chain "$IPTABLES" "$table" "$chain"
      fi
    fi
    forget "$place-table"
  done
}

# ---- reserved ports ------------------------------------------------------------------------------------------------

# ports_minus A B: the ports of list A that are not in list B; lists as the kernel writes them, "80,33768-61000".
ports_minus() {
  [ "$1" != "$2" ] || return 0
  [ -n "$2" ] || { printf '%s' "$1"; return 0; }
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
  errors=$({ printf '%s\n' "$1" >"$RESERVED"; } 2>&1) || fail "net.ipv4.ip_local_reserved_ports = $1" "$errors"
}

unreserved() {
  ports_minus "$CLIENT_PORTS" "$(cat "$RESERVED")"
}

# reserve_ports LIST: what our range lacks is noted and added. What the user had reserved is never ours to take away.
reserve_ports() {
  [ -n "$1" ] || return 0
  note reserved-ports "$1"
  now=$(cat "$RESERVED")
  write_reserved "${now:+$now,}$1"
}

# Take away just what was added: the rest may have been changed meanwhile.
release_ports() {
  recall reserved-ports || return 0
  now=$(cat "$RESERVED")
  left=$(ports_minus "$now" "$recalled")
  [ "$now" = "$left" ] || write_reserved "$left"
  forget reserved-ports
}

# ---- what lb4 sends by the kernel's routing ------------------------------------------------------------------------

# protocols_of WORDS: sets protocols to those of their ports, each once
protocols_of() {
  protocols=''
  for word in $1; do
    split_port "${word%>*}"
    case " $protocols " in *" $protocol "*) ;; *) protocols="$protocols $protocol" ;; esac
  done
}

# pings_that_go, pings_that_are_shown, pings_that_come_back: elements of a set
pings_that_are_shown() {
  comma=''
  for pair in $PINGS; do
    [ "${pair#*>}" = clients ] || continue
    printf '%s' "$comma${pair%>*}"
    comma=', '
  done
}

pings_that_go() {
  comma=''
  for pair in $PINGS; do
    [ "${pair#*>}" != clients ] || continue
    printf '%s' "$comma${pair#*>} . ${pair%>*}"
    comma=', '
  done
}

pings_that_come_back() {
  comma=''
  for address in $ECHOES; do
    printf '%s' "$comma$address"
    comma=', '
  done
}

# what_leaves PROTOCOL, what_goes_to_servers PROTOCOL: elements of a set
what_leaves() {
  comma=''
  for frontend in $FRONTENDS; do
    split_port "${frontend#*:}"
    [ "$protocol" = "$1" ] || continue
    printf '%s' "$comma${frontend%:*} . $port"
    comma=', '
  done
}

# facing SOURCE|CLIENTS: sets faced to the words of RETURNS of one kind
facing() {
  faced=''
  for tuple in $RETURNS; do
    case $1:$tuple in
      clients:*'>clients' | sources:*'>'[!c]*) faced="$faced $tuple" ;;
    esac
  done
}

what_is_shown() {
  comma=''
  facing clients
  for tuple in $faced; do
    server=${tuple%>*}
    split_port "${server#*:}"
    [ "$protocol" = "$1" ] || continue
    printf '%s' "$comma${server%:*} . $port"
    comma=', '
  done
}

what_goes_to_servers() {
  comma=''
  facing sources
  for tuple in $faced; do
    server=${tuple%>*}
    split_port "${server#*:}"
    [ "$protocol" = "$1" ] || continue
    printf '%s' "$comma${tuple#*>} . ${server%:*} . $port"
    comma=', '
  done
}

# The whole table anew, in one transaction; of passthrough also what goes to the servers, from this host or, as it seems, from clients. A comment tells what it was made from.
untracked_table() {
  printf '%s\n' 'add table ip lb4_untracked' 'delete table ip lb4_untracked' 'table ip lb4_untracked {' '  chain output {' \
    '    type filter hook output priority -300; policy accept;'
  part=0
  for of in $leaving; do
    part=$((part + 1))
    printf '    ip saddr . %s sport { %s } notrack comment "%s %s/%s"\n' "$of" "$(what_leaves "$of")" "$mark" "$part" "$parts"
  done
  for of in $going; do
    part=$((part + 1))
    printf '    ip saddr . ip daddr . %s dport { %s } %s sport %s notrack comment "%s %s/%s"\n' \
      "$of" "$(what_goes_to_servers "$of")" "$of" "$CLIENT_PORTS" "$mark" "$part" "$parts"
  done
  for of in $showing; do
    part=$((part + 1))
    printf '    ip daddr . %s dport { %s } fib saddr type != local notrack comment "%s %s/%s"\n' "$of" "$(what_is_shown "$of")" "$mark" "$part" "$parts"
  done
  if [ -n "$ECHOES" ]; then
    part=$((part + 1))
    printf '    ip saddr { %s } icmp type echo-reply notrack comment "%s %s/%s"\n' "$(pings_that_come_back)" "$mark" "$part" "$parts"
  fi
  if [ -n "$pinged" ]; then
    part=$((part + 1))
    printf '    ip saddr . ip daddr { %s } icmp type echo-request notrack comment "%s %s/%s"\n' "$pinged" "$mark" "$part" "$parts"
  fi
  if [ -n "$shown" ]; then
    part=$((part + 1))
    printf '    ip daddr { %s } icmp type echo-request fib saddr type != local notrack comment "%s %s/%s"\n' "$shown" "$mark" "$part" "$parts"
  fi
  printf '  }\n}\n'
}

# look_untracked: sets leaving, going and showing (their protocols), pinged and shown (elements of sets), mark and parts, the number of its rules,
# and whole: yes, where every one is in it
look_untracked() {
  sum=$(printf '%s' "$FRONTENDS $RETURNS${ECHOES:+ $ECHOES}${PINGS:+ $PINGS}" | cksum)
  mark="lb4 ${sum%% *}${sum##* }"
  protocols_of "$FRONTENDS"
  leaving=$protocols
  facing sources
  protocols_of "$faced"
  going=$protocols
  facing clients
  protocols_of "$faced"
  showing=$protocols
  pinged='' shown=''
  if [ -n "$PINGS" ]; then pinged=$(pings_that_go) shown=$(pings_that_are_shown); fi
  # shellcheck disable=SC2086 # words on purpose
  set -- $leaving $going $showing ${ECHOES:+echoes} ${pinged:+pings} ${shown:+shown}
  parts=$# whole=yes part=0
  [ "$parts" -gt 0 ] || parts=1
  there=$(nft list table ip lb4_untracked 2>/dev/null)
  while [ "$part" -lt "$parts" ]; do
    part=$((part + 1))
    case $there in *"\"$mark $part/$parts\""*) ;; *) whole='' ;; esac
  done
}

# Without nft there is no such table: then NAT of this host may delay a connection, or break those over links without Ethernet.
untrack() {
  command -v nft >/dev/null || return 0
  if [ -z "$FRONTENDS$ECHOES" ]; then
    wanted=$(own_removal ip lb4_untracked)
    [ -n "$wanted" ] || return 0
  else
    look_untracked
    [ -z "$whole" ] || return 0
    [ -z "$there" ] || own_anew ip lb4_untracked "$there"
    wanted=$(untracked_table)
  fi
  if [ -n "$dry_run" ]; then
    printf '# nft -f -\n%s\n' "$wanted"
    return 0
  fi
  reason=$(nft -f - 2>&1 <<END
$wanted
END
  ) ||
    warn "what lb4 sends is tracked, and NAT of this host may change it: nft: $(first_reason "$reason")"
}

# ---- commands ------------------------------------------------------------------------------------------------------

install_all() {
  undo_inline
  read_tables
  before=$have
  comparison=$(compare)
  fresh_tables "$comparison"
  # shellcheck disable=SC2086 # words on purpose, here and below
  [ -n "$dry_run" ] || remember_tables $fresh
  lacking=''
  if [ "$MODE" = passthrough ]; then
    lacking=$(unreserved)
    reserve_ports "$lacking"
  else
    release_ports
  fi
  if commit "$(transaction "$comparison")"; then
    # What the other form has left empty.
    [ -n "$dry_run" ] || [ "$FORM" = input ] || tidy_tables mangle forward
    untrack
    ! cannot_gather || warn "$(refusal)"
    return 0
  fi
  reason=$errors
  put_back "$before"
  [ -z "$lacking" ] || release_ports
  why_refused
  # shellcheck disable=SC2086
  tidy_tables $fresh
  forget no-socket
  forget_state
  [ -z "$cannot" ] || stop 77 "this kernel has no CT target (xt_CT, CONFIG_NETFILTER_XT_TARGET_CT) for the rules in INPUT, which this host needs${WHY:+: $WHY}. Load it (modprobe xt_CT), or keep bridged frames out of iptables: sysctl -w net.bridge.bridge-nf-call-iptables=0"
  [ -n "$alone" ] || fail "$IPTABLES-restore" "$reason"
  # Without it the others do what they can, until they are taken away.
  note no-socket yes
  install_all
}

# Told by doctor as well.
refusal() {
  printf '%s' "this kernel has no xt_socket (CONFIG_NETFILTER_XT_MATCH_SOCKET). Unless conntrack is at work here, fragments whose first one is dropped fill its memory for them (net.ipv4.ipfrag_high_thresh), and then all fragments are lost. Load it (modprobe xt_socket), and restart lb4"
}

# put_back RULES: of a transaction that failed, one table may have been changed
put_back() {
  read_tables
  back=$(transaction "$(differences "$1" "$have")")
  [ -z "$back" ] || restore "$back" >/dev/null
}

# Taking away is converging to no rules at all.
remove_all() {
  undo_inline
  FRONTENDS='' RETURNS='' ECHOES='' PINGS=''
  untrack
  read_tables
  comparison=$(compare)
  commit "$(transaction "$comparison")" || fail "$IPTABLES-restore" "$errors"
  release_ports
  forget no-socket
  [ -n "$dry_run" ] && return 0
  tidy_tables raw mangle forward
  forget_state
}

status_all() {
  read_tables
  comparison=$(compare)
  if [ "$MODE" = passthrough ]; then
    state=present
    [ -z "$(unreserved)" ] || state=missing
    comparison="$comparison
$state reserved ports $CLIENT_PORTS"
  fi
  if [ -n "$FRONTENDS$ECHOES" ] && command -v nft >/dev/null; then
    look_untracked
    comparison="$comparison
$([ -n "$whole" ] && echo present || echo missing) nft table ip lb4_untracked"
  fi
  ! cannot_gather || printf 'refused %s: %s\n' "$GATHER" "$(refusal)"
  [ -z "$WHY" ] || printf 'form %s: %s\n' "$FORM" "$WHY"
  tell "$comparison"
}

main() {
  read_words "$@"
  case $MODE:$FORM in passthrough:raw | passthrough:input | dsr:raw | dsr:input) ;; *) not_filled_in ;; esac
  need_root
  for tool in "$IPTABLES" "$IPTABLES-save" "$IPTABLES-restore"; do
    need "$tool" 'apt-get install iptables, or name one in LB4_IPTABLES'
  done
  "${action}_all"
}

main "$@"
