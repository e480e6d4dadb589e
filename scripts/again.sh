#!/bin/sh
# again.sh COMMAND…: runs the command up to three times, until it succeeds: a mirror, a registry or the way to it may fail for a moment.
set -u
for pause in 3 15 0; do
  "$@" && exit 0
  status=$?
  [ "$pause" = 0 ] || sleep "$pause"
done
exit "$status"
