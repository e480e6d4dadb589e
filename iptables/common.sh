# What the scripts of lb4 share. `lb4 rules` puts this file into each script that it prints.
# shellcheck shell=sh disable=SC2034 # a script need not use all of it

set -u
LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH

# Starting a program is what costs time here, and each subshell half of that, so the shell does by itself what it can, and texts go to
# programs by here-documents, which take a process of their own only where they are long.
namespace=$(readlink /proc/self/ns/net) # net:[4026531840]
namespace=${namespace#*\[}
STATE=/run/lb4/netns-${namespace%]}
dry_run=''

# ---- telling -------------------------------------------------------------------------------------------------------

# stop CODE TEXT
stop() {
  printf 'lb4 rules: %s\n' "$2" >&2
  exit "$1"
}

warn() {
  printf 'lb4 rules: warning: %s\n' "$1" >&2
}

# first_reason OUTPUT: of what a failed tool printed, the first line that is no comment
first_reason() {
  printf '%s\n' "$1" | grep -v -e '^#' -e '^$' | head -n 1
}

# fail WHAT OUTPUT: a tool failed; its first line that is no warning says why
fail() {
  reason=$(first_reason "$2")
  case $reason in
    *'ermission denied'* | *'not permitted'* | *'ead-only file system'*) stop 77 "$1: $reason" ;;
    *) stop 1 "$1: ${reason:-failed}" ;;
  esac
}

# differences WANTED HAVE: one line a rule, "present RULE", "missing RULE", or "stale RULE" for what is ours but not
# wanted, or there twice. The lists have one rule a line.
differences() {
  awk '
    $0 == "=" { kind = "have"; next }
    $0 == "" { next }
    kind == "" { if (!($0 in wanted)) order[count++] = $0; wanted[$0] = 1; next }
    ($0 in wanted) && !($0 in seen) { seen[$0] = 1; print "present " $0; next }
    { print "stale " $0 }
    END { for (i = 0; i < count; i++) if (!(order[i] in seen)) print "missing " order[i] }' <<END
$1
=
$2
END
}

# tell COMPARISON: what status prints; exit 3 when something is missing, or does not take effect
tell() {
  sed '/^$/d' <<END
$1
END
  case $1 in *'missing '* | *'shadowed by '*) exit 3 ;; esac
}

# ---- iptables ------------------------------------------------------------------------------------------------------

variant='' # of iptables: nft or legacy

# is_nft: whether IPTABLES is that of nft; asked once, where it is not in a subshell
is_nft() {
  [ -n "$variant" ] || case $("$IPTABLES" --version 2>&1) in *nf_tables*) variant=nft ;; *) variant=legacy ;; esac
  [ "$variant" = nft ]
}

# saved_by COMMAND TABLE: sets saved to the table as iptables-save spells it. Its warnings apart: where iptables-legacy has tables, iptables-nft-save says so
# in the middle of a rule.
# shellcheck disable=SC2034 # not every script asks
saved_by() {
  saved=$("$1" -t "$2" 2>/dev/null) || fail "$1" "$("$1" -t "$2" 2>&1 >/dev/null)"
}

# can_tidy: without nft, or with iptables-legacy, there is nothing that could be taken away: the kernel keeps the empty table.
can_tidy() {
  is_nft && command -v nft >/dev/null
}

# drop_chain TOOL TABLE CHAIN: if it is empty. `nft delete chain` would take along what somebody else has just put there; iptables-nft has the kernel refuse
# that (NLM_F_NONREC). One that is older than 1.8.8 knows no such deletion: there the empty chain stays.
drop_chain() {
  "$1" -t "$2" -X "$3" 2>/dev/null
}

# drop_table TOOL FAMILY TABLE CHAIN…: if these chains are all that is in it, and empty. The kernel refuses where a chain of iptables' own is in it by then;
# chains and sets of other names that come between the caller's look and this would go with it: nft knows no deletion that takes an empty table alone.
drop_table() {
  case $3 in
    nat) standard='PREROUTING INPUT OUTPUT POSTROUTING' ;;
    raw) standard='PREROUTING OUTPUT' ;;
    *) standard='PREROUTING INPUT FORWARD OUTPUT POSTROUTING' ;;
  esac
  deletion="delete table $2 $3"
  for one in $standard; do
    case " $* " in *" $one "*) drop_chain "$1" "$3" "$one" ;; esac
    deletion="create chain $2 $3 $one
$deletion"
  done
  nft -f - 2>/dev/null <<END
$deletion
END
}

# others_in LISTING: the first line of a table of lb4's own, as nft lists it, that is not lb4's: our rules are known by their comments
others_in() {
  printf '%s\n' "$1" | sed -e 's/ # handle [0-9]*$//' -e 's/^[[:space:]]*//' |
    grep -vE '^$|^#|^table |^chain (prerouting|output) \{$|^type (nat|filter) hook .* policy accept;$|comment "lb4 [^"]*"$|^\}$' | head -n 1
}

# own_removal FAMILY TABLE: for nft, how a table of lb4's own goes: as a whole, or our rules alone, by their handles, where somebody else has put something into
# it. What he puts there between this look and the deletion goes with it: nft knows no deletion that takes an empty chain or table alone.
own_removal() {
  listing=$(nft -a list table "$1" "$2" 2>/dev/null) || return 0
  others=$(others_in "$listing")
  if [ -z "$others" ]; then
    printf 'delete table %s %s\n' "$1" "$2"
    return 0
  fi
  warn "table $1 $2 stays, without lb4's rules: it has something that is not lb4's: $others"
  printf '%s\n' "$listing" | awk -v table="$1 $2" '
    $1 == "chain" { chain = $2 }
    / comment "lb4 [^"]*" # handle [0-9]+$/ { print "delete rule " table " " chain " handle " $NF }'
}

# own_anew FAMILY TABLE LISTING: told before a table of lb4's own is made anew
own_anew() {
  others=$(others_in "$3")
  [ -z "$others" ] || warn "table $1 $2 is made anew, and what is not lb4's goes: $others"
}

# ---- remembering ---------------------------------------------------------------------------------------------------

# make_state: mkdir -p fails where another network namespace's script takes away the empty directory above just then
make_state() {
  [ -d "$STATE" ] || mkdir -p "$STATE" 2>/dev/null || mkdir -p "$STATE"
}

# note NAME TEXT: write it down before the deed, so that a crash in between can be undone.
note() {
  [ -z "$dry_run" ] || return 0
  errors=$({ umask 077 && make_state && printf '%s\n' "$2" >"$STATE/$1"; } 2>&1) || fail "$STATE/$1" "$errors"
}

# noted NAME: what was written down; fails when nothing was
noted() {
  [ -e "$STATE/$1" ] || return
  while IFS= read -r noted_line; do printf '%s\n' "$noted_line"; done <"$STATE/$1"
}

# recall NAME: sets recalled to what was written down, of one line, in no subshell; fails when nothing was
# shellcheck disable=SC2034 # not every script asks
recall() {
  recalled=''
  [ -e "$STATE/$1" ] || return
  read -r recalled <"$STATE/$1" || :
}

# forget NAME
forget() {
  [ -n "$dry_run" ] || [ ! -e "$STATE/$1" ] || rm -f "$STATE/$1"
}

forget_state() {
  [ -d "$STATE" ] && rmdir "$STATE" 2>/dev/null && rmdir /run/lb4 2>/dev/null
  return 0
}

# ---- between interfaces --------------------------------------------------------------------------------------------

# undo_inline: what inline.sh has done goes, whichever script is run next: where lb4 was killed nobody else would take it away.
undo_inline() {
  [ -z "$dry_run" ] || return 0
  if [ -e "$STATE/inline" ]; then
    reason=$(nft delete table netdev lb4_inline 2>&1) || case $reason in
      *'No such file or directory'*) ;;
      *) fail 'nft delete table netdev lb4_inline' "$reason" ;;
    esac
    forget inline
  fi
  for interface in $(noted inline-ipv6); do
    [ ! -w "/proc/sys/net/ipv6/conf/$interface/disable_ipv6" ] || printf '0\n' >"/proc/sys/net/ipv6/conf/$interface/disable_ipv6"
  done
  forget inline-ipv6
}

# ---- ports ---------------------------------------------------------------------------------------------------------

# split_port PORT[/PROTOCOL]: sets port and protocol. A port alone is TCP's.
# shellcheck disable=SC2034 # not every script splits one
split_port() {
  case $1 in
    */*) port=${1%/*} protocol=${1#*/} ;;
    *) port=$1 protocol=tcp ;;
  esac
}

# ---- the command line ----------------------------------------------------------------------------------------------

usage() {
  stop 2 'usage: sh FILE install|remove|status [--dry-run]'
}

not_filled_in() {
  stop 2 'this is the template: lb4 rules --config=FILE prints it filled in'
}

# read_words WORD…: sets action and dry_run
read_words() {
  action=''
  for word in "$@"; do
    case $word in
      --dry-run) dry_run=yes ;;
      install | remove | status) [ -z "$action" ] || usage; action=$word ;;
      *) usage ;;
    esac
  done
  [ -n "$action" ] || usage
}

# Bits 12 and 13 of CapEff (capabilities(7)): who has these needs not be root.
need_root() {
  capabilities=0
  while read -r key value; do [ "$key" != CapEff: ] || capabilities=$value; done </proc/self/status
  [ $((0x$capabilities >> 12 & 3)) = 3 ] || stop 77 'needs root (CAP_NET_ADMIN and CAP_NET_RAW)'
}

# do_it COMMAND…: or say so
do_it() {
  if [ -n "$dry_run" ]; then
    printf '# %s\n' "$*"
    return 0
  fi
  errors=$("$@" 2>&1)
}

must() {
  do_it "$@" || fail "$*" "$errors"
}

# check_host ADDRESS: the script of a server is run on that server
check_host() {
  [ -z "$(ip -4 -o address show to "$1/32")" ] || return 0
  if [ -n "$dry_run" ]; then warn "$1 is not an address of this host"; else stop 1 "$1 is not an address of this host: this script is for that server"; fi
}

# need TOOL HOW: HOW to get it
need() {
  command -v "$1" >/dev/null || stop 77 "$1 not found: $2"
}
