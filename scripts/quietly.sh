#!/bin/sh
# quietly.sh WHAT COMMAND…: says WHAT in one line and runs the command; what that prints is shown only when it fails, all of it.
set -u
printf '\033[1m==>\033[0m %s\n' "$1"
shift

log=$(mktemp -t lb4-step.XXXXXX) || exit 1
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM

"$@" >"$log" 2>&1 && exit 0
status=$?
cat "$log" >&2
printf '\033[1m==>\033[0m failed (%s): %s\n' "$status" "$*" >&2
exit "$status"
