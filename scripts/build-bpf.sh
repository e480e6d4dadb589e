#!/bin/sh
# Compiles the fast path (native/bpf) to native/bpf/lb4.bpf.o, which goes into the package: whoever installs lb4 needs no clang. Where there is
# none here either, an object that is newer than its sources stays, and lb4 is built without one otherwise, which it says.
#
#   build-bpf.sh [--package]   --package: fails where lb4 would be without, unless LB4_WITHOUT_FAST_PATH is set
set -eu
package=${1:-}
cd "$(dirname "$0")/../native/bpf"
object=lb4.bpf.o

if [ -e "$object" ] && [ -z "$(find . ../layout.h -newer "$object" -name '*.[ch]')" ]; then exit 0; fi
for clang in clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14 none; do
  if command -v "$clang" >/dev/null 2>&1; then break; fi
done
if [ "$clang" = none ] || [ ! -e /usr/include/bpf/bpf_helpers.h ]; then
  # One of other sources decides otherwise than this lb4 does.
  rm -f "$object"
  echo 'without the fast path in the kernel: it is compiled by clang with the headers of libbpf (packages clang, libbpf-dev)' >&2
  if [ "$package" != --package ] || [ -n "${LB4_WITHOUT_FAST_PATH:-}" ]; then exit 0; fi
  echo 'a package that lacks it lacks it for everybody: install these two, or set LB4_WITHOUT_FAST_PATH=1' >&2
  exit 1
fi
# asm/types.h is in a directory of its own for each processor; the program is the same for all of one byte order.
include=$(dirname "$(dirname "$(find /usr/include -path '*/asm/types.h' | head -n 1)")")
# -g for BTF, by which libbpf finds the maps.
"$clang" -O2 -g -target bpf -I"$include" -Wall -Wextra -Werror -c lb4.bpf.c -o "$object.new"
for strip in llvm-strip "llvm-strip${clang#clang}"; do
  if command -v "$strip" >/dev/null 2>&1; then "$strip" -g "$object.new"; break; fi
done
mv "$object.new" "$object"
