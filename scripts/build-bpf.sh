#!/bin/sh
# Compiles what runs in kernels (native/bpf), which goes into the package: whoever installs lb4 needs no clang.
#   lb4.bpf.o     the fast path
#   server.bpf.o  what servers behind dsr = "gue" load; `lb4 rules` puts it into their script
# Where there is no clang here either, objects that are newer than their sources stay, and lb4 is built without them otherwise, which it says.
#
#   build-bpf.sh [--package]   --package: fails where lb4 would be without, unless LB4_WITHOUT_FAST_PATH is set
set -eu
package=${1:-}
cd "$(dirname "$0")/../native/bpf"
objects='lb4.bpf.o server.bpf.o'

# is_old OBJECT
is_old() {
  [ ! -e "$1" ] || [ -n "$(find . ../layout.h -newer "$1" -name '*.[ch]')" ]
}

old=''
for object in $objects; do if is_old "$object"; then old="$old $object"; fi; done
if [ -z "$old" ]; then exit 0; fi
for clang in clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14 none; do
  if command -v "$clang" >/dev/null 2>&1; then break; fi
done
if [ "$clang" = none ] || [ ! -e /usr/include/bpf/bpf_helpers.h ]; then
  # One of other sources decides otherwise than this lb4 does.
  # shellcheck disable=SC2086 # a list of words
  rm -f $objects
  echo 'without the fast path in the kernel, and without what servers behind dsr = "gue" load: both are compiled by clang with the headers of libbpf (packages clang, libbpf-dev)' >&2
  if [ "$package" != --package ] || [ -n "${LB4_WITHOUT_FAST_PATH:-}" ]; then exit 0; fi
  echo 'a package that lacks it lacks it for everybody: install these two, or set LB4_WITHOUT_FAST_PATH=1' >&2
  exit 1
fi
# asm/types.h is in a directory of its own for each processor; the program is the same for all of one byte order.
include=$(dirname "$(dirname "$(find /usr/include -path '*/asm/types.h' | head -n 1)")")
for object in $old; do
  # -g for BTF, by which libbpf finds the maps.
  "$clang" -O2 -g -target bpf -I"$include" -Wall -Wextra -Werror -c "${object%.o}.c" -o "$object.new"
  for strip in llvm-strip "llvm-strip${clang#clang}"; do
    if command -v "$strip" >/dev/null 2>&1; then "$strip" -g "$object.new"; break; fi
  done
  mv "$object.new" "$object"
done
